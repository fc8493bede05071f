"""``migrates(1, 2)``: how the data of a stored saga gets from one schema to the next."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Final, TypeAlias, TypeVar, cast

from attrs import frozen

from sagaflow._definition.chain import lost
from sagaflow._definition.origin import Origin
from sagaflow._model.errors import SagaDefinitionError

MigrationFunction: TypeAlias = Callable[[dict[str, Any]], dict[str, Any] | None]
FunctionT = TypeVar("FunctionT", bound=MigrationFunction)

_MIGRATES: Final = "__sagaflow_migrates__"


@frozen(eq=False)
class Migration:
    """A decorator for a static method that changes stored data, or a class attribute.

    :ivar from_: the schema that it takes.
    :ivar renamed: the new names of states, steps and methods, by their old ones.
    :ivar origin: where it was declared.
    """

    from_: int
    renamed: Mapping[str, str]
    origin: Origin

    def __call__(self, function: FunctionT, /) -> FunctionT:
        """Mark a static method as this migration and return it unchanged."""
        problem = migration_problem(function)
        plain = getattr(function, "__func__", function)
        if problem is not None:
            raise self.origin.error(problem, method=getattr(plain, "__name__", None))
        if _MIGRATES in plain.__dict__:
            raise self.origin.error(
                "this method is a migration already: give each step one of its own",
                method=plain.__name__,
            )
        plain.__dict__[_MIGRATES] = self
        return function

    def unused(self) -> SagaDefinitionError:
        """Return the error for a migration with neither a method nor a name."""
        return lost(self.origin, f"migrates({self.from_}, {self.from_ + 1})", "migration")


def migrates(from_: int, to: int, *, renamed: Mapping[str, str] | None = None) -> Migration:
    """Declare how a saga that is stored with schema *from_* is brought to schema *to*.

    Put the migration on a static method that takes the stored fields as a dict, and changes that
    dict or returns another; or assign it to a class attribute, where only names have changed. The
    method is called when such a saga is read; the next write of the saga stores the result.

    :param from_: the schema of the stored saga.
    :param to: the next one, ``from_ + 1``.
    :param renamed: new names of states, steps and compensating methods, by their old ones.
    :raises SagaDefinitionError: if that is not one step up, or *renamed* maps no names to names.
    """
    origin = Origin.of_caller()
    for number in (from_, to):
        if type(number) is not int or number < 1:
            raise origin.error(f"migrates() takes two positive ints, not {number!r}")
    if to != from_ + 1:
        raise origin.error(
            f"migrates({from_}, {to}) is no single step: declare migrates({from_}, {from_ + 1}) "
            "and the steps that follow"
        )
    given: Any = {} if renamed is None else renamed
    if not isinstance(given, Mapping) or not _are_names(cast("Mapping[object, object]", given)):
        raise origin.error(f"renamed= maps old names to new ones, not {given!r}")
    migration = Migration(from_, dict(cast("Mapping[str, str]", given)), origin)
    origin.begin(migration)
    return migration


def _are_names(given: Mapping[object, object]) -> bool:
    return all(isinstance(name, str) and name for pair in given.items() for name in pair)


def migration_of(value: object) -> Migration | None:
    """Return the migration that an attribute of a class body is, if it is one."""
    if isinstance(value, Migration):
        return value
    if not isinstance(value, staticmethod):
        return None
    plain: Any = cast("staticmethod[..., object]", value).__func__
    found: Migration | None = getattr(plain, _MIGRATES, None)
    return found


def migration_problem(function: object) -> str | None:
    """Tell what keeps *function* from being called with the stored fields, if anything."""
    plain = getattr(function, "__func__", None)
    if not isinstance(function, staticmethod) or not isinstance(plain, FunctionType):
        return (
            "a migration is a static method, since there is no saga yet: put @staticmethod "
            "between @migrates(...) and def"
        )
    if inspect.iscoroutinefunction(plain) or inspect.isgeneratorfunction(plain):
        return "a migration only changes a dict: make it a plain def, without await and yield"
    positional = plain.__code__.co_argcount
    required = positional - len(plain.__defaults__ or ())
    keywords = plain.__code__.co_kwonlyargcount - len(plain.__kwdefaults__ or {})
    if positional != 1 or required > 1 or keywords:
        return "a migration takes the stored fields and nothing else: def name(data)"
    return None
