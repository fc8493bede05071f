"""From the migrations of a class and its bases to one checked chain of schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import getattr_static
from types import FunctionType

from attrs import field, frozen

from sagaflow._definition.body import Place
from sagaflow._definition.build import Layer
from sagaflow._definition.migrations import Migration, migration_problem
from sagaflow._definition.table import TransitionTable


@frozen
class MigrationStep:
    """One migration.

    :ivar name: of the static method, or of the attribute that only renames.
    :ivar runs: whether there is a method to run.
    """

    name: str
    runs: bool
    migration: Migration


def _composed(steps: tuple[MigrationStep, ...]) -> tuple[Mapping[str, str], ...]:
    """Return, for each earlier schema, the present names by the names of that schema."""
    return tuple(_renames(steps[first:]) for first in range(len(steps)))


def _renames(steps: Iterable[MigrationStep]) -> Mapping[str, str]:
    names: dict[str, str] = {}
    for step in steps:
        renamed = step.migration.renamed
        names = {old: renamed.get(new, new) for old, new in names.items()}
        names = {**renamed, **names}
    return names


@frozen
class Evolution:
    """How stored sagas of a class are brought to its present schema.

    :ivar schema: the present one.
    :ivar steps: the migrations; the first is from schema 1.
    """

    schema: int = 1
    steps: tuple[MigrationStep, ...] = ()
    _since: tuple[Mapping[str, str], ...] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_since", _composed(self.steps))

    def names_since(self, schema: int) -> Mapping[str, str]:
        """Return the present names of all that was renamed since *schema*, by the old names."""
        return self._since[schema - 1] if schema < self.schema else {}

    def names_of(self, name: str) -> frozenset[str]:
        """Return every name that stored sagas may have for the state that is called *name* now."""
        former = (old for names in self._since for old, new in names.items() if new == name)
        return frozenset((name, *former))

    def present(self, name: str) -> str:
        """Return the present name of a state that was once called *name*."""
        for names in self._since:
            if name in names:
                return names[name]
        return name


def build_evolution(
    place: Place, cls: type, layers: Mapping[type, Layer], table: TransitionTable, schema: int
) -> Evolution:
    """Collect the migrations of *cls* and its bases and check that nothing is missing.

    :raises SagaDefinitionError: for a gap, two migrations for one step, one that leads beyond the
        schema, one with the wrong parameters, or a new name that the class does not have.
    """
    found = _nearest(cls, layers)
    for from_, step in found.items():
        if from_ >= schema:
            raise step.migration.origin.error(
                f"this migration leads to schema {from_ + 1}, but the class has schema {schema}: "
                f"write class {cls.__name__}(Saga, schema={from_ + 1})",
                method=step.name,
                saga=cls.__name__,
            )
        value = getattr_static(cls, step.name)
        problem = migration_problem(value) if step.runs else None
        if problem is not None:  # an override without a decorator
            raise place.error(problem, step.name)
    for from_ in range(1, schema):
        if from_ not in found:
            raise place.error(
                f"schema={schema} needs a way from schema {from_}: declare "
                f"@migrates({from_}, {from_ + 1}) on a static method, or assign "
                f"migrates({from_}, {from_ + 1}) to an attribute if no data changes"
            )
    steps = tuple(found[from_] for from_ in range(1, schema))
    _check_names(cls, steps, table)
    return Evolution(schema, steps)


def _nearest(cls: type, layers: Mapping[type, Layer]) -> dict[int, MigrationStep]:
    """Return the migrations by the schema they take; what a subclass declares wins."""
    found: dict[int, MigrationStep] = {}
    for layer in layers.values():
        here: dict[int, MigrationStep] = {}
        for name, migration in layer.migrations:
            from_ = migration.from_
            earlier = here.get(from_)
            if earlier is not None:
                raise migration.origin.error(
                    f"the step from schema {from_} is already taken by {earlier.name!r} (line "
                    f"{earlier.migration.origin.line}): let one of them do both",
                    method=name,
                    saga=cls.__name__,
                )
            runs = not isinstance(getattr_static(cls, name), Migration)
            here[from_] = MigrationStep(name, runs, migration)
        found = here | found
    return found


def _check_names(cls: type, steps: tuple[MigrationStep, ...], table: TransitionTable) -> None:
    states = {state.name for state in table.states}
    names: set[str] = states | {row.step for row in table.rows} | set(_methods(cls))
    for number, step in enumerate(steps, 1):
        later = _renames(steps[number:])
        for old, new in step.migration.renamed.items():
            present = later.get(new, new)
            problem: str | None = None
            if present not in names:
                problem = (
                    f"renamed= leads from {old!r} to {present!r}, which is neither a state nor a "
                    f"step nor a method of {cls.__name__}: name what took its place"
                )
            elif present in states and old in states:
                problem = (
                    f"renamed= says that {old!r} is called {present!r} now, but the class has a "
                    f"state {old!r}: old and new sagas could not be told apart; rename that one"
                )
            if problem is not None:
                raise step.migration.origin.error(problem, method=step.name, saga=cls.__name__)


def _methods(cls: type) -> Iterable[str]:
    for owner in cls.__mro__:
        yield from (name for name, value in vars(owner).items() if isinstance(value, FunctionType))
