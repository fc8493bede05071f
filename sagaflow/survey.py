"""What is stored of a saga class, at a glance: lists and counts, without the sagas themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from attrs import define, field, frozen

from sagaflow.ids import SagaId
from sagaflow.record import Status, StepStatus, SuspensionReason, TimerKind

UNFINISHED: Final = (Status.ACTIVE, Status.COMPENSATING, Status.SUSPENDED)


@frozen(kw_only=True)
class Selection:
    """Which sagas to list; those that meet all that is said.

    :ivar statuses: what they are doing; any of these.
    :ivar states: where they are, by the names that are stored; any of these, or any at all.
    :ivar unchanged_since: they last changed before that.
    :ivar due_before: there was work to do on them before that. They come in the order of that
        instant, others in the order of their last change.
    """

    statuses: tuple[Status, ...] = UNFINISHED
    states: frozenset[str] | None = None
    unchanged_since: datetime | None = None
    due_before: datetime | None = None

    def takes(self, summary: Summary) -> bool:
        """Tell whether a saga is among them."""
        return (
            summary.status in self.statuses
            and (self.states is None or summary.state in self.states)
            and (self.unchanged_since is None or summary.updated_at < self.unchanged_since)
            and (
                self.due_before is None
                or (summary.wake is not None and summary.wake <= self.due_before)
            )
        )


@frozen(kw_only=True)
class Summary:
    """One saga in a list.

    :ivar wake: when there is work to do, at the latest; None when there is none.
    :ivar reason: why it is suspended, if it is.
    """

    correlation_id: SagaId
    state: str
    status: Status
    version: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    wake: datetime | None = None
    reason: SuspensionReason | None = None


class Part(Enum):
    """What of a saga a trait is about."""

    STATE = "state"
    """The state that it is in."""
    GOAL = "goal"
    """The state that it enters after its compensation."""
    TIMER = "timer"
    COMPENSATION = "compensation"
    """A step that may still have to be undone."""
    PARKED = "parked"
    OUTGOING = "outgoing"


@frozen(kw_only=True)
class Trait:
    """Something that sagas which still have something to do have in common, and how many do.

    :ivar state: the state that they are in.
    :ivar schema: the version of the data that they are stored with.
    :ivar name: of the timer, or the method that undoes a step.
    :ivar kind: of a timer.
    :ivar delay: of a timeout.
    :ivar message: the type of the event or command that is stored with it.
    :ivar count: how many there are: sagas, timers, steps, events, messages.
    :ivar examples: the smallest and the largest id of these sagas.
    """

    part: Part
    state: str
    status: Status
    schema: int
    name: str | None = None
    kind: TimerKind | None = None
    delay: timedelta | None = None
    message: str | None = None
    count: int = 1
    examples: tuple[SagaId, ...] = ()


FIELDS: Final = ("state", "status", "schema", "name", "kind", "delay", "message")
"""What traits have in common, apart from what they are about."""

SHARED: Final[Mapping[str, str]] = {"state": "$state", "status": "$status", "schema": "$schema"}

ARRAYS: Final[Mapping[Part, tuple[str, Mapping[str, str]]]] = {
    Part.TIMER: (
        "timers",
        {"name": "name", "kind": "kind", "delay": "delay", "message": "event.type"},
    ),
    Part.COMPENSATION: ("compensations", {"name": "method", "message": "event.type"}),
    Part.PARKED: ("parked", {"message": "type"}),
    Part.OUTGOING: ("outbox", {"message": "type"}),
}
"""Where in a document each part is, and where in an element what a trait says of it."""


def summary_of(document: Mapping[str, Any]) -> Summary:
    """Return what a list shows of *document*."""
    suspension = document.get("suspension")
    stored: Any = document["_id"]
    return Summary(
        correlation_id=int(stored) if isinstance(stored, int) else stored,
        state=document["state"],
        status=Status(document["status"]),
        version=document["version"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        finished_at=document.get("finished_at"),
        wake=document.get("wake"),
        reason=None if suspension is None else SuspensionReason(suspension["reason"]),
    )


def _traits_of(document: Mapping[str, Any]) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Yield what there is to say about one document, with the values as they are stored."""
    shared = {name: document.get(path[1:]) for name, path in SHARED.items()}
    yield Part.STATE, shared
    if "goal" in document:
        yield Part.GOAL, shared | {"name": document["goal"]}
    for part, (array, paths) in ARRAYS.items():
        for element in document.get(array, ()):
            if part is Part.COMPENSATION and element["status"] != StepStatus.PENDING.value:
                continue
            yield part, shared | {name: _get(element, path) for name, path in paths.items()}


def trait(part: Part, values: Mapping[str, Any], count: int, examples: Iterable[SagaId]) -> Trait:
    """Return a trait from values as they are stored."""
    kind, delay = values.get("kind"), values.get("delay")
    return Trait(
        part=part,
        state=values["state"],
        status=Status(values["status"]),
        schema=values.get("schema") or 1,
        name=values.get("name"),
        kind=None if kind is None else TimerKind(kind),
        delay=None if delay is None else timedelta(microseconds=delay),
        message=values.get("message"),
        count=count,
        examples=tuple(dict.fromkeys(int(e) if isinstance(e, int) else e for e in examples)),
    )


@define
class Tally:
    """Counts what documents have in common, one after the other."""

    _found: dict[tuple[Any, ...], tuple[int, SagaId, SagaId]] = field(
        factory=dict[tuple[Any, ...], tuple[int, SagaId, SagaId]], init=False
    )

    def add(self, document: Mapping[str, Any], *, finished: bool) -> None:
        """Count a document.

        :param finished: whether to count the state of one for which there is nothing left to do.
        """
        ended = document.get("status") == Status.FINISHED.value and "wake" not in document
        here: SagaId = document["_id"]
        for part, values in _traits_of(document):
            if ended and not (finished and part is Part.STATE):
                continue
            key = (part, *(values.get(name) for name in FIELDS))
            count, least, greatest = self._found.get(key, (0, here, here))
            self._found[key] = (
                count + 1,
                min(least, here, key=_order),
                max(greatest, here, key=_order),
            )

    def traits(self) -> Iterator[Trait]:
        """Yield what was counted."""
        for (part, *values), (count, least, greatest) in self._found.items():
            yield trait(part, dict(zip(FIELDS, values, strict=True)), count, (least, greatest))


def _order(correlation_id: SagaId) -> tuple[str, Any]:
    """Return what ids of several kinds can be compared by."""
    return (type(correlation_id).__name__, correlation_id)


def _get(element: Mapping[str, Any], path: str) -> Any:
    found: Any = element
    for name in path.split("."):
        found = None if found is None else found.get(name)
    return found
