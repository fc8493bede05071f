"""The path of a stored saga, from its history."""

from __future__ import annotations

from collections.abc import Iterable

from sagaflow._definition.table import TransitionRow, TransitionTable
from sagaflow._model.record import TRANSITIONS, HistoryEntry, HistoryKind
from sagaflow.diagrams.model import Step, Trail


def trail_of(
    table: TransitionTable,
    name: str,
    history: Iterable[HistoryEntry],
    state: str,
    goal: str | None = None,
) -> Trail:
    """Return the path that *history* tells.

    A transition that undoes steps stays where it is until the last one is undone; its path leads
    to where it goes then.

    :param name: what the saga is called in the picture.
    :param history: the writes of the saga; only the last ones, if there were many.
    :param state: where it is.
    :param goal: where it goes after the compensation that is under way.
    """
    steps: list[Step] = []
    turned: HistoryEntry | None = None
    undoing = {(row.step, row.source.name) for row in table.rows if row.compensates and row.source}
    known = {row.step for row in table.rows}
    for entry in history:
        if entry.kind is HistoryKind.COMPENSATION:
            if turned is not None and entry.source != entry.target:
                steps.append(_step(table, turned, entry.target))
                turned = None
        elif entry.kind in TRANSITIONS and entry.step in known:
            if turned is not None:  # it has stayed where it was
                steps.append(_step(table, turned, turned.target))
            compensates = entry.compensates or (entry.step, entry.source) in undoing
            turned = entry if compensates and entry.source == entry.target else None
            if turned is None:
                steps.append(_step(table, entry, entry.target))
    if turned is not None:
        steps.append(_step(table, turned, goal or turned.target))
    return Trail(name, tuple(steps), state)


def _step(table: TransitionTable, entry: HistoryEntry, target: str) -> Step:
    """Return what an entry tells; an event of a subclass counts as what the class declares."""
    declared = {_name(row) for row in table.rows if row.step == entry.step}
    event = entry.event
    if event not in declared and len(declared) == 1:
        (event,) = declared
    return Step(entry.source, event, entry.step, target)


def _name(row: TransitionRow) -> str:
    return "timeout" if row.event is None else row.event.__name__
