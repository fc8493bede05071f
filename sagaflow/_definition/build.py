"""From the declarations of a class and its bases to one transition table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import FunctionType
from typing import Any, TypeAlias

from attrs import frozen

from sagaflow._definition.chain import (
    COMPENSATED,
    TRANSITIONS,
    Compensated,
    Compensation,
    Declaration,
    Finished,
    Sources,
)
from sagaflow._definition.migrations import Migration, migration_of
from sagaflow._definition.origin import Origin
from sagaflow._definition.state import State
from sagaflow._definition.table import Action, Correlator, TransitionRow, TransitionTable
from sagaflow._model.errors import SagaDefinitionError

_Key: TypeAlias = tuple[State | None, type | None, timedelta | None, bool]


@frozen
class Layer:
    """What one class body declares, without what it inherits.

    :ivar states: the states among its class attributes.
    :ivar steps: its transitions, with the name of their method or attribute.
    :ivar compensations: its compensating methods and what they undo.
    :ivar migrations: how it brings stored data to the next schema, with the name of the method.
    """

    states: tuple[State, ...] = ()
    steps: tuple[tuple[str, Declaration], ...] = ()
    compensations: tuple[tuple[str, Compensated], ...] = ()
    migrations: tuple[tuple[str, Migration], ...] = ()


def read_layer(namespace: Mapping[str, Any]) -> Layer:
    """Collect what a class body declares."""
    states: list[State] = []
    steps: list[tuple[str, Declaration]] = []
    compensations: list[tuple[str, Compensated]] = []
    migrations: list[tuple[str, Migration]] = []
    for name, value in namespace.items():
        if isinstance(value, State):
            states.append(value)
        elif (migration := migration_of(value)) is not None:
            migration.origin.end(migration)
            migrations.append((name, migration))
        else:
            for transition in _transitions(value):
                transition.declaration.origin.end(transition)
                steps.append((name, transition.declaration))
            for compensation in _marks_of_compensation(value):
                compensation.compensated.origin.end(compensation)
                compensations.append((name, compensation.compensated))
    return Layer(tuple(states), tuple(steps), tuple(compensations), tuple(migrations))


def _transitions(value: object) -> tuple[Finished, ...]:
    if isinstance(value, Finished):
        return (value,)
    return tuple(vars(value).get(TRANSITIONS, ())) if isinstance(value, FunctionType) else ()


def _marks_of_compensation(value: object) -> tuple[Compensation[Any], ...]:
    return tuple(vars(value).get(COMPENSATED, ())) if isinstance(value, FunctionType) else ()


def build_table(
    cls: type, layers: Mapping[type, Layer], saga: str, correlate_by: Correlator | None
) -> TransitionTable:
    """Resolve what *cls* declares and inherits into one table.

    :param layers: the class and its bases, in method resolution order.
    :raises SagaDefinitionError: for a foreign state, two transitions for one state and event, a
        contradiction in ``by=``, or a compensation of something that is no step.
    """
    states = _states(cls, layers)
    rows = tuple(_rows(cls, layers, states))
    return TransitionTable(
        saga=saga,
        states=states,
        rows=rows,
        compensations=_compensations(cls, layers, rows),
        correlators=_correlators(cls, layers),
        correlate_by=correlate_by,
    )


def _states(cls: type, layers: Mapping[type, Layer]) -> tuple[State, ...]:
    """Return the class attributes, bases first, and the named states that only chains mention."""
    owned = [state for layer in reversed(tuple(layers.values())) for state in layer.states]
    identities = {id(state) for state in owned}
    adopted: list[State] = []
    for layer in layers.values():
        for step, declaration in layer.steps:
            for state in (*declaration.states, *declaration.targets):
                if id(state) in identities:
                    continue
                if not state.is_named:
                    raise declaration.origin.error(
                        "this chain uses a State() without a name: make it a class attribute of "
                        f'{cls.__name__}, or name it: State("paid")',
                        method=step,
                        saga=cls.__name__,
                    )
                if state.owner is not None:
                    raise declaration.origin.error(
                        f"the state {state.name!r} belongs to {state.owner}, not to "
                        f"{cls.__name__}: declare it here, or share one made outside with a name: "
                        f'State("{state.name}")',
                        method=step,
                        saga=cls.__name__,
                    )
                adopted.append(state)
    # A subclass may declare a state anew; a class attribute wins over a state made outside.
    by_name = {state.name: state for state in owned}
    for state in adopted:
        by_name.setdefault(state.name, state)
    return tuple(by_name.values())


def _rows(
    cls: type, layers: Mapping[type, Layer], states: tuple[State, ...]
) -> Iterator[TransitionRow]:
    """Yield the rows of every layer, less those that a nearer layer replaces."""
    current = {state.name: state for state in states}
    replaced_steps: set[str] = set()
    claimed: set[_Key] = set()
    kept: list[list[TransitionRow]] = []
    for layer in layers.values():
        mine: dict[_Key, list[TransitionRow]] = {}
        for step, declaration in layer.steps:
            if step in replaced_steps:
                continue
            for row in _expand(step, declaration, current):
                key = (row.source, row.event, row.after, row.from_any)
                if key in claimed:
                    continue
                earlier = mine.setdefault(key, [])
                if earlier and not earlier[-1].guards:
                    raise _ambiguous(cls, declaration.origin, row, earlier[-1])
                earlier.append(row)
        claimed.update(mine)
        replaced_steps.update(_declared(layer))
        kept.append([row for rows in mine.values() for row in rows])
    for rows in reversed(kept):
        yield from rows


def _declared(layer: Layer) -> set[str]:
    """Return the methods and attributes that a class body decorates or assigns."""
    return {name for name, _ in (*layer.steps, *layer.compensations)}


def _expand(
    step: str, declaration: Declaration, current: Mapping[str, State]
) -> Iterator[TransitionRow]:
    sources: tuple[State | None, ...]
    if declaration.sources is Sources.INITIAL:
        sources = (None,)
    elif declaration.sources is Sources.ANY:
        sources = tuple(state for state in current.values() if not state.final)
    else:
        sources = tuple(current[state.name] for state in declaration.states)
    for source in dict.fromkeys(sources):
        for event in dict.fromkeys(declaration.events) or (None,):
            yield TransitionRow(
                source=source,
                event=event,
                after=declaration.after,
                action=declaration.action,
                targets=tuple(current[target.name] for target in declaration.targets),
                guards=declaration.guards,
                compensates=declaration.compensates,
                step=step,
                from_any=declaration.sources is Sources.ANY,
                filename=declaration.origin.filename,
                line=declaration.origin.line,
            )


def _ambiguous(
    cls: type, origin: Origin, row: TransitionRow, earlier: TransitionRow
) -> SagaDefinitionError:
    if row.after is not None:
        return origin.error(
            f"{_trigger(row)} in state {getattr(row.source, 'name', None)!r} is already handled by "
            f"{earlier.step!r} (line {earlier.line}): give this one another delay, or remove it",
            method=row.step,
            saga=cls.__name__,
        )
    place = "at the start" if row.source is None else f"in state {row.source.name!r}"
    return origin.error(
        f"{_trigger(row)} {place} is already handled by {earlier.step!r} (line "
        f"{earlier.line}) without a guard, so this transition can never be taken: add "
        ".when(predicate) to that one, or remove one of them",
        method=row.step,
        saga=cls.__name__,
    )


def _trigger(row: TransitionRow) -> str:
    return f"the timeout of {row.after}" if row.event is None else row.event.__name__


def _compensations(
    cls: type, layers: Mapping[type, Layer], rows: tuple[TransitionRow, ...]
) -> dict[str, str]:
    undone_by: dict[str, str] = {}
    declared = {step for layer in layers.values() for step, _ in layer.steps}
    replaced: set[str] = set()
    for owner, layer in layers.items():
        here: dict[str, str] = {}
        for method, mark in layer.compensations:
            if method in replaced:
                continue
            step = _step_name(layers, mark.step)
            problem = _no_compensation(cls, mark, step, rows, here)
            if problem is None and step is not None:
                here[step] = method
            elif problem is not None and (owner is cls or step not in declared):
                raise mark.origin.error(problem, method=method, saga=cls.__name__)
        undone_by = here | undone_by
        replaced.update(_declared(layer))
    return undone_by


def _no_compensation(
    cls: type,
    mark: Compensated,
    step: str | None,
    rows: tuple[TransitionRow, ...],
    here: Mapping[str, str],
) -> str | None:
    """Return why a compensation has no step to undo, which may be if a subclass replaced it."""
    runs = (Action.GOTO, Action.BRANCH, Action.STAY)
    mine = [row for row in rows if row.step == step and row.action in runs]
    if step is None or not mine:
        described = getattr(mark.step, "__name__", repr(mark.step))
        return (
            f"{described!r} is no step of {cls.__name__}: compensates() takes a method "
            "that has a transition, or a transition that has a name"
        )
    if any(row.event is None for row in mine):
        return (
            f"the step {step!r} is a timeout, which acknowledges nothing: record what it does with "
            "ctx.add_compensation(...)"
        )
    if step in here:
        return f"the step {step!r} is already undone by {here[step]!r}: let one method do both"
    return None


def _step_name(layers: Mapping[type, Layer], step: object) -> str | None:
    for owner in layers:
        for name, value in vars(owner).items():
            if value is step:
                return name
    return None


def _correlators(cls: type, layers: Mapping[type, Layer]) -> dict[type, Correlator]:
    found: dict[type, Correlator] = {}
    for layer in layers.values():
        here: dict[type, Correlator] = {}
        for step, declaration in layer.steps:
            if declaration.by is None:
                continue
            for event in declaration.events:
                if here.setdefault(event, declaration.by) != declaration.by:
                    raise declaration.origin.error(
                        f"{event.__name__} has two different by= in {cls.__name__}, "
                        f"{here[event]!r} and {declaration.by!r}: keep one of them",
                        method=step,
                        saga=cls.__name__,
                    )
        found = here | found
    return found
