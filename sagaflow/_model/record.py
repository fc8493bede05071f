"""A saga as it is stored, as frozen values.

Business data, message bodies and arguments are in stored form here: what the codec made of them.
They are never changed in place. What in them is secret cannot be told without their classes, so
they are not shown at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import field, frozen

from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.redaction import Secret
from sagaflow._model.value import value


class Status(Enum):
    """What a saga is doing."""

    ACTIVE = "active"
    COMPENSATING = "compensating"
    SUSPENDED = "suspended"
    FINISHED = "finished"
    EMBRYO = "embryo"
    """Not started yet: it only keeps events that arrived before their saga. Queries skip it."""


class CompensationStatus(Enum):
    """How far the compensation of a step is."""

    PENDING = "pending"
    DONE = "done"
    SKIPPED = "skipped"


@value(kw_only=True)
class StoredMessage:
    """A message in stored form.

    :ivar type: the name under which the orchestrator knows its class.
    :ivar body: its fields.
    """

    type: str
    body: Secret[Mapping[str, object]] = field(repr=False)


@value(kw_only=True)
class OutgoingMessage:
    """A message that waits in the saga until the bus has accepted it.

    :ivar id: the same on every delivery.
    :ivar sequence: counts the messages of a saga from 1; they leave in this order.
    :ivar kind: ``command`` or ``event``.
    :ivar message: the message itself, in stored form.
    :ivar causation_id: the id of the message that was handled when this one was sent.
    :ivar headers: what else travels with it, in stored form.
    :ivar created_at: when it was stored.
    :ivar undoes: the id of the recorded compensation that sent it; None if a handler did.
    """

    id: str
    sequence: int
    kind: str
    message: StoredMessage
    causation_id: MessageId
    headers: object = field(factory=dict[str, object])
    created_at: datetime
    undoes: str | None = None


@frozen(kw_only=True)
class Failing:
    """Work that has failed and is tried again.

    :ivar attempts: how often it has failed.
    :ivar since: when it failed first.
    :ivar due: when it is tried again.
    :ivar error: what the last failure said.
    """

    attempts: int
    since: datetime
    due: datetime
    error: str


class TimerKind(Enum):
    """What a timer does when it is due."""

    TIMEOUT = "timeout"
    """It takes the transition that ``.after()`` declares for its state."""
    EVENT = "event"
    """It hands the saga an event that a handler scheduled."""
    DEFAULT = "default"
    """It suspends the saga, which has waited longer than the class allows."""


@frozen(kw_only=True)
class Timer:
    """Something that happens to a saga at an instant.

    :ivar id: the message id of what happens.
    :ivar name: what it is called, or the step that a timeout takes; a scheduled name is unique.
    :ivar due: when.
    :ivar kind: what happens.
    :ivar delay: how long after entering its state a timeout elapses.
    :ivar event: the scheduled event, in stored form.
    :ivar causation_id: the message that was handled when the timer was armed.
    :ivar headers: what came along with that message and goes along with what the timer causes, in
        stored form.
    :ivar failing: how its handler has failed so far.
    """

    id: str
    name: str
    due: datetime
    kind: TimerKind
    delay: timedelta | None = None
    event: StoredMessage | None = None
    causation_id: MessageId
    headers: object = field(factory=dict[str, object])
    failing: Failing | None = None


@frozen(kw_only=True)
class ParkedEvent:
    """An event that the saga has accepted and will handle later.

    :ivar id: its message id.
    :ivar message: the event, in stored form.
    :ivar headers: what goes along with the messages that it causes, in stored form.
    :ivar parked_at: when it was accepted.
    :ivar offered: the version of the saga in which it was last found to have to wait.
    :ivar failing: how its handler has failed so far.
    """

    id: MessageId
    message: StoredMessage
    headers: object = field(factory=dict[str, object])
    parked_at: datetime
    offered: int = 0
    failing: Failing | None = None


class SuspensionReason(Enum):
    """Why a saga is suspended."""

    HANDLER = "handler"
    """The handler of an event or a timer kept failing."""
    COMPENSATION = "compensation"
    """Undoing a step kept failing."""
    MESSAGE = "message"
    """The bus kept refusing a message."""
    TIMEOUT = "timeout"
    """It waited in its state for longer than the class's ``timeout=``."""


@frozen(kw_only=True)
class Suspension:
    """Why a saga stands still until an operator decides.

    :ivar reason: what kept failing.
    :ivar subject: the message id, the compensation's id or the timer's id that it is about.
    :ivar error: the traceback, or what the failure said.
    :ivar since: when the saga was suspended.
    """

    reason: SuspensionReason
    subject: MessageId
    error: str
    since: datetime


@value(kw_only=True)
class Lease:
    """Who is doing what is due. It saves work, no more: safety is the conditional write alone.

    :ivar owner: the orchestrator.
    :ivar until: when others may take over.
    """

    owner: str
    until: datetime


@frozen(kw_only=True)
class RecordedCompensation:
    """A step that was completed, and how to undo it.

    :ivar id: tells it apart within the saga.
    :ivar step: the step, or the step whose handler added it.
    :ivar method: the name of the saga's method that undoes it.
    :ivar event: what the step handled; None for an added compensation.
    :ivar arguments: what the method is called with, in stored form; None for a declared one.
    :ivar message_id: the message that the step handled.
    :ivar headers: what came along with that message and goes along with what undoing it causes, in
        stored form.
    :ivar status: whether it is done.
    :ivar failing: how undoing it has failed so far.
    """

    id: str
    step: str
    method: str
    event: StoredMessage | None = None
    arguments: Secret[tuple[object, ...] | None] = field(default=None, repr=False)
    message_id: MessageId
    headers: object = field(factory=dict[str, object])
    status: CompensationStatus = CompensationStatus.PENDING
    failing: Failing | None = None


class HistoryKind(Enum):
    """What happened to a saga."""

    EVENT = "event"
    """An event took a transition."""
    TIMEOUT = "timeout"
    """The timeout of a state took its transition."""
    COMPENSATION = "compensation"
    """A step was undone."""
    ATTEMPT = "attempt"
    """A handler, or the undoing of a step, failed."""
    PARKED = "parked"
    """An event was kept for later."""
    DROPPED = "dropped"
    """A timer or an event that was kept came to nothing; the step says why."""
    SUSPENDED = "suspended"
    """The saga stands still until an operator decides."""
    OPERATOR = "operator"
    """An operator decided; the step says what."""
    OTHER = "other"
    """None of these: perhaps something that only later code knows."""


TRANSITIONS: Final = (HistoryKind.EVENT, HistoryKind.TIMEOUT)
"""What the history calls a transition, whatever its step is called."""


@value(kw_only=True)
class HistoryEntry:
    """One write of a saga.

    :ivar at: when.
    :ivar event: the name of the event's class, or ``compensation``.
    :ivar step: the transition that was taken, or the step that was undone.
    :ivar source: the state before; None at the start.
    :ivar target: the state after.
    :ivar message_id: the message that was handled.
    :ivar version: the version that this write made.
    :ivar token: tells this write from any other.
    :ivar attempt: which attempt succeeded, or failed, counted from 1.
    :ivar kind: what happened.
    :ivar compensates: whether that has the completed steps undone.
    """

    at: datetime
    event: str
    step: str
    source: str | None
    target: str
    message_id: MessageId
    version: int
    token: str
    attempt: int = 1
    kind: HistoryKind = HistoryKind.EVENT
    compensates: bool = False


@frozen(kw_only=True, slots=False)
class SagaRecord:
    """A saga as it is stored.

    :ivar incarnation: tells lives of one correlation id apart, after a deletion.
    :ivar token: of the last write, to find out whether a write whose answer was lost took place.
    :ivar goal: the state to enter after the compensation; only while there is one.
    :ivar cancelled: whether an operator ends the saga with that.
    :ivar data: the fields of the saga, in stored form.
    :ivar sequence: of the last outgoing message.
    :ivar inbox: the ids of handled messages, oldest first. A read for one message holds that
        message's id at most.
    :ivar history: the last writes, oldest first. Not read when an event is handled.
    :ivar timers: what happens later.
    :ivar parked: accepted events that wait, in the order of their arrival.
    :ivar sending: how sending the first message of the outbox has failed so far.
    :ivar suspension: why the saga is suspended; only while it is.
    :ivar wake: when there is work to do, at the latest; None when there is none.
    :ivar lease: who is doing it.
    :ivar stored: as it was read, if it has been brought to a later schema since and not written.
    :ivar fault: why it could not be brought to the schema of its class, if so.
    """

    correlation_id: SagaId
    incarnation: str
    version: int
    token: str
    schema: int = 1
    state: str
    status: Status = Status.ACTIVE
    goal: str | None = None
    cancelled: bool = False
    data: Secret[Mapping[str, object]] = field(repr=False)
    sequence: int = 0
    inbox: tuple[MessageId, ...] = ()
    outbox: tuple[OutgoingMessage, ...] = ()
    compensations: tuple[RecordedCompensation, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    timers: tuple[Timer, ...] = ()
    parked: tuple[ParkedEvent, ...] = ()
    sending: Failing | None = None
    suspension: Suspension | None = None
    wake: datetime | None = None
    lease: Lease | None = None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    expire_at: datetime | None = None
    stored: SagaRecord | None = field(default=None, eq=False, repr=False)
    fault: Exception | None = field(default=None, eq=False, repr=False)


def has_expired(expire_at: object, now: datetime) -> bool:
    """Tell whether what is to be removed at *expire_at* counts as gone, removed already or not.

    When a store does remove it is its own affair: MongoDB looks for such documents once a minute.
    """
    return isinstance(expire_at, datetime) and expire_at <= now


if TYPE_CHECKING:
    from attrs import evolve as evolve  # noqa: PLC0414 - checkers know its signature
else:

    def evolve(value: Any, /, **changes: object) -> Any:
        """Return a copy of *value* with some fields changed, as `attrs.evolve` does.

        Of a saga it is made as a whole: what goes through every field takes ten times as long.
        """
        if type(value) is not SagaRecord:
            return attrs.evolve(value, **changes)
        after = _new(SagaRecord)
        _assign(after, "__dict__", value.__dict__ | changes)
        return after

    _new, _assign = object.__new__, object.__setattr__
