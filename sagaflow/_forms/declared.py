"""What a declaration says: the type behind its aliases, the fields of a class and their types.

The one place where annotations become types, so that what writes a value and what reads it back
cannot disagree about them.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import (
    Annotated,
    Any,
    Final,
    ForwardRef,
    Generic,
    Literal,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

_MOST_ALIASES: Final = 100
"""How many aliases in a row may each stand for the next."""


def plain(declared: Any) -> Any:
    """Return the type that an alias, a NewType, ``Annotated`` or ``Final`` stands for.

    :raises NameError: if an alias uses a name that is not defined yet.
    :raises TypeError: if an alias stands for nothing but itself.
    """
    given = declared
    for _ in range(_MOST_ALIASES):
        origin = get_origin(declared)
        if isinstance(declared, NewType):
            declared = declared.__supertype__
        elif origin is Annotated:
            declared = declared.__origin__
        elif origin is Final:
            (declared,) = get_args(declared)
        elif _is_alias(declared):
            declared = declared.__value__
        elif _is_alias(origin):
            declared = bound(origin.__value__, _arguments(origin.__type_params__, declared))
        else:
            return _real(declared)
    raise TypeError(f"the alias {given} stands for nothing but itself")


def undefined(error: NameError | AttributeError, place: object) -> NameError:
    """Return the error for an annotation with an undefined name; the error says what to do.

    :param place: where the annotation is, unless *error* says that already.
    """
    if isinstance(error, _UndefinedError):
        return error
    return _UndefinedError(
        f"the annotation {error.name!r} cannot be resolved (in {place}): define or import that "
        "class at module level, outside of `if TYPE_CHECKING`",
        name=error.name,
    )


class _UndefinedError(NameError):
    pass


def _is_alias(declared: Any) -> bool:
    return type(declared).__name__ == "TypeAliasType"  # of typing or of typing_extensions


def _real(declared: Any) -> Any:
    """Return the real class, if freezegun has put a class of its own in its place."""
    if isinstance(declared, type) and declared.__module__.startswith("freezegun."):
        return next((cls for cls in declared.__mro__ if cls.__module__ == "datetime"), declared)
    return declared


def bound(declared: Any, arguments: Mapping[Any, Any]) -> Any:
    """Replace type variables by the types they stand for; other variables stay."""
    if isinstance(declared, TypeVar):
        return _meaning(declared, arguments)
    parameters = getattr(declared, "__parameters__", ())
    if isinstance(declared, type) or not parameters:  # a class itself stays as it is
        return declared
    return declared[tuple(_meaning(parameter, arguments) for parameter in parameters)]


def _meaning(variable: Any, arguments: Mapping[Any, Any]) -> Any:
    if variable in arguments:
        return arguments[variable]
    return variable.__default__ if has_default(variable) else variable


def has_default(variable: Any) -> bool:
    """Tell whether a type variable has a default (Python 3.13)."""
    tell: Callable[[], bool] | None = getattr(variable, "has_default", None)
    return tell is not None and tell()


def _variables(cls: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(cls, "__parameters__", ())
    return found


def undetermined(cls: Any) -> tuple[Any, ...]:
    """Return the type variables that stand for nothing if a class is named without arguments."""
    return tuple(variable for variable in _variables(cls) if not has_default(variable))


def _arguments(parameters: Any, declared: Any) -> dict[Any, Any]:
    return dict(zip(parameters, get_args(declared), strict=False))


def field_types(declared: Any) -> dict[str, Any]:
    """Return the types of all annotated names of a class, also of a generic one made for a type.

    :raises NameError: if a name in an annotation is not defined.
    :raises TypeError: if an annotation is no type, or names an alias that stands for itself.
    """
    cls: Any = get_origin(declared) or declared
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (
        NameError,
        AttributeError,
    ) as exc:  # AttributeError: of a module that is being imported
        raise undefined(exc, _field_that_names(cls, exc.name)) from exc
    except RecursionError:
        raise TypeError(
            f"an alias that an annotation of {cls.__name__} names stands for itself; {_RECURSIVE}"
        ) from None
    meant = _arguments_of_bases(cls, _arguments(_variables(cls), declared))
    owners = {name: base for base in reversed(cls.__mro__) for name in written_annotations(base)}
    return {name: bound(hint, meant.get(owners.get(name), {})) for name, hint in hints.items()}


def _field_that_names(cls: Any, missing: str | None) -> str:
    for base in cls.__mro__:
        for name, annotation in written_annotations(base).items():
            if missing is not None and re.search(rf"\b{re.escape(missing)}\b", str(annotation)):
                return f"{cls.__name__}.{name}"
    return str(cls.__name__)


def _arguments_of_bases(cls: type, arguments: dict[Any, Any]) -> dict[Any, dict[Any, Any]]:
    """Return for *cls* and each of its bases what the type variables of that class stand for.

    The variables are kept class by class, since two classes may use one variable for different
    things, as in ``class Swapped(Pair[U, T], Generic[T, U])``.
    """
    meant: dict[Any, dict[Any, Any]] = {cls: arguments} if arguments else {}
    for base in cls.__mro__:
        here = meant.get(base, {})
        for generic in vars(base).get("__orig_bases__", ()):
            origin: Any = get_origin(generic)
            parameters = _variables(origin)
            if origin is not Generic and parameters:
                given = (bound(argument, here) for argument in get_args(generic))
                meant.setdefault(origin, dict(zip(parameters, given, strict=False)))
    return meant


def written_annotations(cls: type) -> Mapping[str, Any]:
    """Return the annotations of *cls* itself as they are written; none is evaluated."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415

        return annotationlib.get_annotations(cls, format=annotationlib.Format.STRING)
    return dict(vars(cls).get("__annotations__", {}))


_RECURSIVE: Final = (
    "write a recursive alias with the statement `type` of Python 3.12, or declare an attrs class"
)


def unresolved(declared: Any) -> TypeError:
    """Return the error for a name or a type variable that stands for no type."""
    if isinstance(declared, TypeVar):
        return TypeError(
            f"nothing says what {declared} is: name it where the class is used, as in Box[int]"
        )
    name = declared.__forward_arg__ if isinstance(declared, ForwardRef) else declared
    return TypeError(f"{name!r} within it is no type yet; {_RECURSIVE}")


def is_unresolved(declared: Any) -> bool:
    """Tell whether *declared* is a name or a type variable instead of a type."""
    return isinstance(declared, ForwardRef | str | TypeVar)


# Kinds of types


def is_class(declared: Any, kind: type) -> bool:
    """Tell whether *declared* is a subclass of *kind*, with or without arguments."""
    cls = get_origin(declared) or declared
    return isinstance(cls, type) and issubclass(cls, kind)


def is_dynamic(declared: Any) -> bool:
    """Tell whether *declared* says nothing about a value."""
    return declared is Any or declared is object


def is_literal(declared: Any) -> bool:
    """Tell whether *declared* lists the values themselves."""
    return get_origin(declared) is Literal


def is_union(declared: Any) -> bool:
    """Tell whether *declared* is a union, or a type or None."""
    return get_origin(declared) in (Union, types.UnionType)


def members(union: Any) -> tuple[Any, ...]:
    """Return the members of a union once each; unions among them are taken apart.

    :raises TypeError: if the union is a member of itself.
    """
    found: list[Any] = []
    for member in _flat(union, (union,)):
        if member not in found:
            found.append(member)
    return tuple(found)


def _flat(union: Any, around: tuple[Any, ...]) -> list[Any]:
    found: list[Any] = []
    for argument in get_args(union):
        member = plain(argument)
        if not is_union(member):
            found.append(member)
        elif member in around:
            raise TypeError(f"the union {argument} is a member of itself")
        else:
            found += _flat(member, (*around, member))
    return found


def tag_of(member: Any) -> str:
    """Return the stored name of a type, which does not say where the type is defined."""
    member = _real(member)
    origin = get_origin(member)
    name = "Union" if is_union(member) else getattr(origin or member, "__name__", str(member))
    arguments = ", ".join(tag_of(argument) for argument in get_args(member))
    return f"{name}[{arguments}]" if arguments else f"{name}"


def is_enum(declared: Any) -> bool:
    """Tell whether *declared* is an enum."""
    return is_class(declared, Enum)
