"""Finds what a saga class leaves open: allowed, but worth a look before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Final

from sagaflow._definition.saga import Saga, definition_of
from sagaflow._definition.state import State
from sagaflow._definition.table import Action, TransitionRow
from sagaflow.inspection.finding import Finding

_RUNS: Final = (Action.GOTO, Action.BRANCH, Action.STAY)


def open_ends(saga_type: type[Saga]) -> Iterator[Finding]:
    """Yield what *saga_type* leaves open: events, times and steps that nobody thought of."""
    yield from _unhandled(saga_type)
    yield from _guarded(saga_type)
    yield from _without_timeout(saga_type)
    yield from _without_compensation(saga_type)


def _unhandled(saga_type: type[Saga]) -> Iterator[Finding]:
    """Yield the events that the saga knows and a state does not take."""
    table = saga_type.table
    for state in _waiting(saga_type):
        for event in table.events:
            if not table.candidates(state.name, event):
                yield Finding(
                    saga=table.saga,
                    kind="unhandled",
                    state=state.name,
                    subject=event.__name__,
                    problem=f"{event.__name__} in state {state.name!r} is UNHANDLED: declare a "
                    "transition, .ignore() it, or .defer() it if it may come early",
                )


def _guarded(saga_type: type[Saga]) -> Iterator[Finding]:
    """Yield the events that a state takes, but not whatever its guards say."""
    table = saga_type.table
    for state in _waiting(saga_type):
        for event in table.events:
            rows = table.candidates(state.name, event)
            if not rows or not all(row.guards for row in rows):
                continue
            yield Finding(
                saga=table.saga,
                kind="guarded",
                state=state.name,
                subject=event.__name__,
                place=_place(rows[-1]),
                problem=f"{event.__name__} in state {state.name!r} is UNHANDLED where no guard "
                "holds: declare a last transition without .when()",
            )


def _without_timeout(saga_type: type[Saga]) -> Iterator[Finding]:
    if definition_of(saga_type).options.timeout is not None:
        return
    for state in _waiting(saga_type):
        if not saga_type.table.timeouts(state.name):
            yield Finding(
                saga=saga_type.table.saga,
                kind="no_timeout",
                state=state.name,
                problem=f"nothing ends the wait in state {state.name!r} if no event comes: declare "
                f"during({state.name}).after(...), or class {saga_type.__name__}(..., timeout=...)",
            )


def _without_compensation(saga_type: type[Saga]) -> Iterator[Finding]:
    """Yield the steps that send commands and that a compensation would leave done.

    A step sends if its code, or that of a method which it names, uses an attribute `send`.
    """
    table = saga_type.table
    seen = set[str]()
    for row in table.rows:
        if row.step in seen or not _may_be_undone(row):
            continue
        seen.add(row.step)
        names = _names(saga_type, row.step)
        if "send" not in names or "add_compensation" in names or row.step in table.compensations:
            continue
        remedy = (
            "call ctx.add_compensation(...) in it"
            if row.event is None
            else f"write a method @compensates({row.step}), or call ctx.add_compensation(...)"
        )
        yield Finding(
            saga=table.saga,
            kind="no_compensation",
            subject=row.step,
            place=_place(row),
            problem=f"the step {row.step!r} sends commands and nothing undoes them: {remedy}, "
            "unless a later step's compensation does",
        )


def _may_be_undone(row: TransitionRow) -> bool:
    """Tell whether a saga goes on after this step, so that it may have to be undone."""
    ends = bool(row.targets) and all(target.final for target in row.targets)
    return row.action in _RUNS and not row.compensates and not ends


def _waiting(saga_type: type[Saga]) -> tuple[State, ...]:
    return tuple(state for state in saga_type.table.states if not state.final)


def _names(saga_type: type[Saga], step: str) -> set[str]:
    """Return the names that the code of a step uses, and that of the methods among them."""
    found, waiting = set[str](), [step]
    done = set[str]()
    while waiting:
        name = waiting.pop()
        function = getattr(saga_type, name, None)
        if name in done or not isinstance(function, FunctionType):
            continue
        done.add(name)
        here = set(_used(function.__code__))
        found |= here
        waiting += here
    return found


def _used(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _used(constant)


def _place(row: TransitionRow) -> tuple[str, int]:
    return (row.filename, row.line)
