"""What is stored of a saga class, at a glance: lists and counts, without the sagas themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import NoneType
from typing import Any, Final, TypeAlias, TypeVar, cast
from uuid import UUID

from attrs import define, field, frozen
from bson import Int64, ObjectId

from sagaflow._codec.reading import instant_in, mapping_in, number_in, own_id_in, perhaps, text_in
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import SagaId
from sagaflow._model.record import CompensationStatus, Status, SuspensionReason, TimerKind
from sagaflow._model.shown import shown

T = TypeVar("T")

UNFINISHED: Final = (Status.ACTIVE, Status.COMPENSATING, Status.SUSPENDED)


@frozen(kw_only=True)
class Selection:
    """Which sagas to list: the sagas that meet every condition.

    :ivar statuses: the saga has one of these statuses.
    :ivar states: the saga is in one of these states, by their stored names; None for any state.
    :ivar unchanged_since: the saga last changed before this instant; None for any.
    :ivar due_before: the saga has had work to do since this instant or longer; None for any. Such
        sagas are listed by when they had work to do, otherwise sagas are listed by their last
        change.
    """

    statuses: tuple[Status, ...] = UNFINISHED
    states: frozenset[str] | None = None
    unchanged_since: datetime | None = None
    due_before: datetime | None = None

    def takes(self, summary: Summary) -> bool:
        """Tell whether a saga meets every condition."""
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
    :ivar reason: why the saga is suspended, if it is.
    :ivar damaged: what is wrong with the saga's document, if anything is. Then the version is 0, an
        instant that could not be read lies before all time, and a value that is no id is shown as a
        text.
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
    damaged: str | None = None


@frozen(kw_only=True)
class Unreadable:
    """A stored document that its class leaves alone, or whose data does not fit the class.

    :ivar shown_id: what stands in the place of its id, as an error shows it.
    :ivar correlation_id: its id, if it is one.
    :ivar error: the error for code that reads it: a `DamagedDocumentError`, `NewerSchemaError`,
        `UnknownStateError` or `SerializationError`.
    """

    shown_id: str
    correlation_id: SagaId | None
    error: SagaflowError


class Part(Enum):
    """The part of a saga that a trait is about."""

    STATE = "state"
    """The state that it is in."""
    GOAL = "goal"
    """The state that it enters after its compensation."""
    TIMER = "timer"
    COMPENSATION = "compensation"
    """A step that may still have to be undone."""
    PARKED = "parked"
    OUTGOING = "outgoing"
    DAMAGED = "damaged"
    """A part of the document that cannot be read; its trait says nothing else about it."""


@frozen(kw_only=True)
class Trait:
    """What sagas that still have something to do have in common, and how often it is found.

    :ivar state: the state that the sagas are in.
    :ivar schema: the version of the data that the sagas are stored with.
    :ivar name: the name of the goal or the timer, or of the method that undoes a step.
    :ivar kind: the kind of a timer.
    :ivar delay: the delay of a timeout.
    :ivar message: the type of the event or command that is stored with the part.
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
"""The attributes by which traits are told apart, beside the part that they are about."""

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
"""The array of a document that holds each part, and the paths to attributes in an element."""

_NEEDED: Final[Mapping[Part, tuple[str, ...]]] = {
    Part.GOAL: ("name",),
    Part.TIMER: ("name", "kind"),
    Part.COMPENSATION: ("name",),
    Part.PARKED: ("message",),
    Part.OUTGOING: ("message",),
}
"""The attributes that every trait of a part has, unless the document is damaged."""

_PLAIN: Final = frozenset({str, int, bool, Int64, UUID, ObjectId, NoneType})
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


def summary_of(document: Mapping[str, Any]) -> Summary | None:
    """Return what a list shows of *document*, as far as it can be read.

    :return: None if the document has no state or no known status: no list would show it.
    """
    try:
        state, status = text_in(document, "state"), Status(document["status"])
    except Exception:  # noqa: BLE001 - a stranger's document
        return None
    try:
        suspension = perhaps(mapping_in, document, "suspension")
        return Summary(
            correlation_id=own_id_in(document),
            state=state,
            status=status,
            version=number_in(document, "version"),
            created_at=instant_in(document, "created_at"),
            updated_at=instant_in(document, "updated_at"),
            finished_at=perhaps(instant_in, document, "finished_at"),
            wake=perhaps(instant_in, document, "wake"),
            reason=None if suspension is None else SuspensionReason(suspension["reason"]),
        )
    except Exception as exc:  # noqa: BLE001 - a stranger's document
        return Summary(
            correlation_id=id_of(document) or shown(document.get("_id")),
            state=state,
            status=status,
            version=0,
            created_at=_NEVER,
            updated_at=_or_none(instant_in, document, "updated_at") or _NEVER,
            wake=_or_none(instant_in, document, "wake"),
            damaged=f"the field {exc} is missing" if isinstance(exc, KeyError) else str(exc),
        )


def id_of(document: Mapping[str, Any]) -> SagaId | None:
    """Return the id of a document; None if what stands there is no id."""
    return _or_none(lambda found, _: own_id_in(found), document, "_id")


def _or_none(
    read: Callable[[Mapping[str, Any], str], T], document: Mapping[str, Any], name: str
) -> T | None:
    try:
        return read(document, name)
    except Exception:  # noqa: BLE001 - a stranger's document
        return None


def _traits_of(document: Mapping[str, Any]) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Yield the parts of one document, each with the stored values of its trait."""
    shared = {name: document.get(path[1:]) for name, path in SHARED.items()}
    yield Part.STATE, shared
    if "goal" in document:
        yield Part.GOAL, shared | {"name": document["goal"]}
    for part, (array, paths) in ARRAYS.items():
        stored: object = document.get(array, ())
        elements = cast("Sequence[object]", stored) if isinstance(stored, list | tuple) else ()
        if stored is not elements:
            yield Part.DAMAGED, {}
        for element in elements:
            found = {name: _get(element, path) for name, path in paths.items()}
            if part is Part.COMPENSATION:
                status = _get(element, "status")
                if status in (CompensationStatus.DONE.value, CompensationStatus.SKIPPED.value):
                    continue
            yield part, shared | found


def trait(part: Part, values: Mapping[str, Any], count: int, examples: Iterable[object]) -> Trait:
    """Return a trait made of stored values; its part is `Part.DAMAGED` if they cannot be read.

    :param examples: stored ids; a value that is no id is left out.
    """
    ids = tuple(dict.fromkeys(one for e in examples if (one := id_of({"_id": e})) is not None))
    try:
        kind = None if values.get("kind") is None else TimerKind(values["kind"])
        delay = perhaps(number_in, values, "delay")
        found = Trait(
            part=part,
            state=text_in(values, "state"),
            status=Status(values["status"]),
            schema=perhaps(number_in, values, "schema") or 1,
            name=perhaps(text_in, values, "name"),
            kind=kind,
            delay=None if delay is None else timedelta(microseconds=delay),
            message=perhaps(text_in, values, "message"),
            count=count,
            examples=ids,
        )
    except Exception:  # noqa: BLE001 - a stranger's document
        found = None
    if found is None or any(getattr(found, name) is None for name in _NEEDED.get(part, ())):
        return Trait(
            part=Part.DAMAGED,
            state="",
            status=Status.ACTIVE,
            schema=1,
            count=count,
            examples=ids,
        )
    return found


_Counted: TypeAlias = tuple[Mapping[str, Any], int, object, object]
"""The values, how often they were found, and the smallest and the largest id."""


@define
class Tally:
    """Counts what documents have in common, one after the other."""

    _found: dict[tuple[Any, ...], _Counted] = field(
        factory=dict[tuple[Any, ...], _Counted], init=False
    )

    def add(self, document: Mapping[str, Any], *, finished: bool) -> None:
        """Count a document.

        :param finished: whether to count the state of a saga that has nothing left to do.
        """
        ended = document.get("status") == Status.FINISHED.value and "wake" not in document
        here: object = document.get("_id")
        for part, values in _traits_of(document):
            if ended and not (finished and part is Part.STATE):
                continue
            key = (part, *(_plain(values.get(name)) for name in FIELDS))
            _, count, least, greatest = self._found.get(key, (values, 0, here, here))
            self._found[key] = (
                values,
                count + 1,
                min(least, here, key=_order),
                max(greatest, here, key=_order),
            )

    def traits(self) -> Iterator[Trait]:
        """Yield the traits that were counted, each with its count."""
        for (part, *_), (values, count, least, greatest) in self._found.items():
            yield trait(part, values, count, (least, greatest))


def _order(stored: object) -> tuple[str, Any]:
    """Return a key by which ids of several kinds can be compared."""
    return (type(stored).__name__, _plain(id_of({"_id": stored}) or shown(stored)))


def _plain(value: object) -> Any:
    """Return a hashable key that tells a stored value from others, itself hashable or not."""
    kind = type(value)
    return value if kind in _PLAIN else f"{kind.__name__} {shown(value)}"


def _get(element: object, path: str) -> Any:
    found: Any = element
    for name in path.split("."):
        found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, Mapping) else None
    return found
