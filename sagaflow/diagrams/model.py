"""What a diagram of a saga shows, whatever draws it.

A transition that stays, ignores or defers stands within its state; lines are transitions that leave
their state. A transition of ``during_any`` leaves one box of its own, rather than every state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from attrs import frozen

from sagaflow._definition.table import Action, TransitionRow, TransitionTable
from sagaflow._model.spans import span

_ANY = "any state"
_WITHIN = {Action.STAY: "stays", Action.IGNORE: "ignored", Action.DEFER: "deferred"}


class Shape(Enum):
    """What a node stands for."""

    START = "start"
    STATE = "state"
    FINAL = "final"
    ANY = "any"


@frozen(kw_only=True)
class Label:
    """The text of one transition.

    :ivar trigger: the event, or the delay of a timeout.
    :ivar guards: what must hold.
    :ivar step: its method, and what undoes it.
    :ivar passed: whether the saga on the trail took it.
    """

    trigger: str
    guards: str = ""
    step: str
    passed: bool = False


@frozen(kw_only=True)
class Node:
    """A place where a saga is.

    :ivar id: what edges call it.
    :ivar text: its name; empty for the start.
    :ivar within: the transitions that do not leave it.
    :ivar passed: whether the saga on the trail has been in this state.
    :ivar current: whether that saga is in this state now.
    """

    id: str
    text: str
    shape: Shape
    within: tuple[Label, ...] = ()
    passed: bool = False
    current: bool = False


@frozen(kw_only=True)
class Edge:
    """A line from one node to another, for all transitions between the two.

    :ivar compensates: whether the completed steps are undone on the way.
    """

    source: str
    target: str
    labels: tuple[Label, ...]
    compensates: bool

    @property
    def passed(self) -> bool:
        """Whether the saga on the trail came this way."""
        return any(label.passed for label in self.labels)


@frozen
class Step:
    """One transition that a stored saga has taken.

    :ivar source: the state before; None at the start.
    :ivar event: the name of the event's class, or ``timeout``.
    :ivar step: the method or attribute that declares the transition.
    :ivar target: the state after.
    """

    source: str | None
    event: str
    step: str
    target: str


@frozen
class Trail:
    """The path of one stored saga.

    :ivar name: what the saga is called.
    :ivar steps: the transitions that it has taken.
    :ivar state: where it is now.
    """

    name: str
    steps: tuple[Step, ...]
    state: str


@frozen(kw_only=True)
class Diagram:
    """A saga as a graph."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    trail: Trail | None = None

    def node(self, node_id: str) -> Node:
        """Return the node of that id."""
        return next(node for node in self.nodes if node.id == node_id)


def diagram_of(table: TransitionTable, trail: Trail | None = None) -> Diagram:
    """Return the diagram of a saga class.

    :param trail: the path to highlight.
    """
    rows = tuple(_once(table.rows))
    ids = {state.name: f"s{number}" for number, state in enumerate(table.states)}
    first = [row for row in rows if row.source is None]
    anywhere = [row for row in rows if row.from_any]
    visited = set[str]() if trail is None else _visited(trail)
    nodes = [
        Node(
            id="start",
            text="",
            shape=Shape.START,
            within=_within(first, table, trail),
            passed=trail is not None,
        )
    ]
    for state in table.states:
        here = [row for row in rows if row.source == state and not row.from_any]
        nodes.append(
            Node(
                id=ids[state.name],
                text=state.name,
                shape=Shape.FINAL if state.final else Shape.STATE,
                within=_within(here, table, trail),
                passed=state.name in visited,
                current=trail is not None and state.name == trail.state,
            )
        )
    if anywhere:
        nodes.append(
            Node(id="any", text=_ANY, shape=Shape.ANY, within=_within(anywhere, table, trail))
        )
    return Diagram(
        title=table.saga,
        nodes=tuple(nodes),
        edges=tuple(_edges(rows, ids, table, trail)),
        trail=trail,
    )


def _once(rows: Iterable[TransitionRow]) -> Iterator[TransitionRow]:
    """Yield each transition that ``during_any`` declares once, rather than for every state."""
    seen: set[object] = set()
    for row in rows:
        key = (row.step, row.event, row.after, row.line, row.targets)
        if row.from_any and key in seen:
            continue
        if row.from_any:
            seen.add(key)
        yield row


def _edges(
    rows: Iterable[TransitionRow],
    ids: dict[str, str],
    table: TransitionTable,
    trail: Trail | None,
) -> Iterator[Edge]:
    found: dict[tuple[str, str, bool], list[Label]] = {}
    for row in rows:
        for target in row.targets:
            source = "any" if row.from_any else "start"
            if not row.from_any and row.source is not None:
                source = ids[row.source.name]
            key = (source, ids[target.name], row.compensates)
            label = _label(row, table, passed=_took(trail, row, target.name))
            found.setdefault(key, []).append(label)
    for (start, end, compensates), labels in found.items():
        yield Edge(source=start, target=end, labels=_joined(labels), compensates=compensates)


def _within(
    rows: Iterable[TransitionRow], table: TransitionTable, trail: Trail | None
) -> tuple[Label, ...]:
    """Return the labels of the transitions that do not leave a state."""
    return _joined(
        _label(row, table, passed=_took(trail, row, None)) for row in rows if row.action in _WITHIN
    )


def _joined(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Return one label for all the events of one step."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    for label in labels:
        found.setdefault((label.guards, label.step, label.passed), []).append(label.trigger)
    return tuple(
        Label(trigger=", ".join(triggers), guards=guards, step=step, passed=passed)
        for (guards, step, passed), triggers in found.items()
    )


def _label(row: TransitionRow, table: TransitionTable, *, passed: bool) -> Label:
    trigger = f"after {span(row.after)}" if row.after is not None else _event(row)
    undone_by = table.compensations.get(row.step)
    step = (
        row.step if undone_by is None or row.event is None else f"{row.step}, undone by {undone_by}"
    )
    if row.action in (Action.IGNORE, Action.DEFER):
        step = _WITHIN[row.action]
    guards = " and ".join(getattr(guard, "__name__", "a guard") for guard in row.guards)
    return Label(trigger=trigger, guards=f"[{guards}]" if guards else "", step=step, passed=passed)


def _event(row: TransitionRow) -> str:
    return "" if row.event is None else row.event.__name__


def _visited(trail: Trail) -> set[str]:
    return {
        trail.state,
        *(s.source for s in trail.steps if s.source),
        *(s.target for s in trail.steps),
    }


def _took(trail: Trail | None, row: TransitionRow, target: str | None) -> bool:
    """Tell whether the saga took this transition, into that state if it leads to several."""
    if trail is None:
        return False
    return any(
        step.step == row.step
        and step.event == (_event(row) or "timeout")
        and (target is None or step.target == target)
        and (row.from_any or step.source == (None if row.source is None else row.source.name))
        for step in trail.steps
    )
