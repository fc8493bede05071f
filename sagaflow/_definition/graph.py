"""Checks over the graph of states: what starts, what is reached, what has a way out."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from sagaflow._definition.state import State
from sagaflow._definition.table import Action, TransitionRow, TransitionTable


@frozen
class Flaw:
    """Something wrong with the graph.

    :ivar problem: what is wrong, and what to do.
    :ivar name: the state or step at fault, if there is one.
    :ivar row: the transition at fault, if there is one.
    """

    problem: str
    name: str | None = None
    row: TransitionRow | None = None


def flaws(table: TransitionTable) -> Iterator[Flaw]:
    """Yield what is wrong with the graph of *table*."""
    if not table.initial:
        yield Flaw("no transition starts this saga: add initially.on(Event).goto(state)")
        return
    for row in table.rows:
        if row.source is not None and row.source.final and row.action is not Action.IGNORE:
            yield Flaw(
                f"{row.source.name!r} is final, so nothing leaves it: end the chain with "
                ".ignore(), or make the state State()",
                row.step,
                row,
            )
    reached = _reached(table)
    for state in table.states:
        if state not in reached:
            yield Flaw(
                f"nothing reaches the state {state.name!r}: add a transition that enters it, "
                "or remove it",
                state.name,
            )
        elif not state.final and not _leaves(table, state):
            yield Flaw(
                f"the state {state.name!r} has no way out and is not final: add a transition that "
                "leaves it, or make it State(final=True)",
                state.name,
            )


def _reached(table: TransitionTable) -> set[State]:
    reached: set[State] = set()
    waiting = [target for row in table.initial for target in row.targets]
    while waiting:
        state = waiting.pop()
        if state in reached:
            continue
        reached.add(state)
        waiting.extend(
            target for row in table.rows if row.source == state for target in row.targets
        )
    return reached


def _leaves(table: TransitionTable, state: State) -> bool:
    return any(
        target != state for row in table.rows if row.source == state for target in row.targets
    )
