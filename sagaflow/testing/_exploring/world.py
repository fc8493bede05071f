"""All there is between two steps of a history: what is stored, what was sent, what is to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

from attrs import evolve, field, frozen

from sagaflow._codec.documents import decode_record
from sagaflow._codec.elements import Document
from sagaflow._codec.instance import Instance, read_instance
from sagaflow._definition.saga import Saga
from sagaflow._engine.correlation import correlate
from sagaflow._engine.outcome import OutcomeKind
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import SagaRecord, Status
from sagaflow.testing._exploring.steps import Advance, Deliver, Retry, Silence, Step

SagaT = TypeVar("SagaT", bound=Saga)

AnsweringEvents: TypeAlias = tuple[object, ...]
"""The events that a participant sends for one command: usually one; none if it never answers."""

AnswersByClass: TypeAlias = Mapping[type, Callable[[Any], object]]
"""For each class of commands, a function that makes the answer to one."""

Invariant: TypeAlias = Callable[[Instance[SagaT], Sequence[object]], bool | None]


@frozen(kw_only=True)
class InFlight:
    """Events that have not reached the saga yet.

    :ivar id: what their message ids begin with.
    :ivar answers: what may come, one of them.
    :ivar optional: whether it may never come.
    :ivar answer_to: the saga to whose command this is an answer; None if it comes by itself.
    """

    id: str
    answers: tuple[AnsweringEvents, ...]
    optional: bool = False
    answer_to: MessageId | None = None


@frozen
class Delivered:
    """An event that has reached the saga, and what became of it, if that is known."""

    message_id: MessageId
    event: object
    kind: OutcomeKind | None


@frozen(kw_only=True)
class Accepted:
    """A message that the bus has accepted."""

    id: MessageId
    correlation_id: SagaId
    body: object


@frozen(kw_only=True)
class World:
    """All there is between two steps.

    :ivar documents: the sagas as they are stored. They are never changed.
    :ivar promised: the messages that the saga must not lose any more.
    :ivar broken: the methods that raise whenever they are called.
    :ivar undoing: the messages that undo something, and which step that is.
    """

    documents: tuple[Document, ...] = ()
    now: datetime
    pending: tuple[InFlight, ...] = ()
    delivered: tuple[Delivered, ...] = ()
    sent: tuple[Accepted, ...] = ()
    promised: frozenset[MessageId] = frozenset()
    broken: frozenset[str] = frozenset()
    undoing: Mapping[MessageId, str] = field(factory=dict[MessageId, str])

    @cached_property
    def records(self) -> tuple[SagaRecord, ...]:
        """The sagas, taken apart."""
        return tuple(decode_record(document) for document in self.documents)

    @property
    def wake(self) -> datetime | None:
        """When something is due next; None if nothing is to come by itself."""
        return min((r.wake for r in self.records if r.wake is not None), default=None)

    @property
    def is_finished(self) -> bool:
        """Whether there are sagas, and all of them have ended and have nothing left to do."""
        return bool(self.records) and all(
            record.finished_at is not None and record.wake is None for record in self.records
        )

    def key(self) -> str:
        """Return what tells this world from others, as far as what may still happen in it.

        Times and ids differ without meaning anything; of timers and parked events, only the order
        counts.
        """
        return repr(
            (
                [_meaning(record) for record in self.records],
                sorted(repr((p.answers, p.optional)) for p in self.pending),
                [(message.body, self.undoing.get(message.id)) for message in self.sent],
                sorted(self.broken),
            )
        )


@frozen
class Move:
    """A step that may be taken now, and what it takes out of the world."""

    step: Step
    pending: InFlight | None = None
    answer: AnsweringEvents = ()

    @property
    def is_counted_on(self) -> bool:
        """Whether the world will take it some time if nothing else happens."""
        return self.pending is None or not self.pending.optional

    @property
    def is_unasked(self) -> bool:
        """Whether it is an event that answers no command."""
        return self.pending is not None and self.pending.answer_to is None


def moves(saga: type[Saga], world: World) -> Iterator[Move]:
    """Yield all that may happen next, if nothing goes wrong."""
    for pending in world.pending:
        for answer in pending.answers:
            if not answer:
                yield Move(Silence(pending.id), pending)
            for number, event in enumerate(answer):
                message_id = pending.id
                if pending.answer_to is not None:
                    message_id += f"/{type(event).__name__}"
                says_itself = correlate(saga.table, event, None) is not None
                found = None if says_itself else pending.answer_to
                deliver = Deliver(event, message_id, correlation_id=found)
                yield Move(deliver, pending, (*answer[:number], *answer[number + 1 :]))
    if world.wake is not None:
        yield Move(Advance())
    for record in world.records:
        if record.status is Status.SUSPENDED:
            yield Move(Retry(record.correlation_id))


def without(world: World, move: Move) -> World:
    """Return *world* after what *move* stands for has reached the saga."""
    if move.pending is None:
        return world
    at = world.pending.index(move.pending)
    rest = tuple(
        evolve(move.pending, id=f"{move.pending.id}+{number}", answers=((event,),))
        for number, event in enumerate(move.answer, 1)
    )
    return evolve(world, pending=(*world.pending[:at], *rest, *world.pending[at + 1 :]))


def instances(saga: type[SagaT], world: World) -> Iterator[Instance[SagaT]]:
    """Yield the sagas that have started."""
    for document, record in zip(world.documents, world.records, strict=True):
        if record.status is not Status.EMBRYO:
            yield read_instance(saga, document)


def to_come(events: Sequence[object], optional: Sequence[object] = ()) -> tuple[InFlight, ...]:
    """Return *events* as what is to come; the id of each is its class's name and a number."""
    names: list[str] = []
    found: list[InFlight] = []
    for event in (*events, *optional):
        names.append(type(event).__name__)
        made = f"{names[-1]}-{names.count(names[-1])}"
        found.append(InFlight(id=made, answers=((event,),), optional=len(found) >= len(events)))
    return tuple(found)


def _meaning(record: SagaRecord) -> object:
    timers = sorted(record.timers, key=lambda timer: timer.due)
    arising = [
        *((timer.due, f"timer {timer.name}") for timer in timers),
        *((event.parked_at, event.message.type) for event in record.parked),
    ]
    return (
        record.correlation_id,
        record.state,
        record.status,
        record.goal,
        record.data,
        [message.message for message in record.outbox],
        [(timer.name, timer.event) for timer in timers],
        [(entry.step, entry.method, entry.event, entry.status) for entry in record.compensations],
        [event.message for event in record.parked],
        # What arose first is done first: of two sagas with the same timers and events, too.
        [what for _, what in sorted(arising)],
        record.suspension and record.suspension.reason,
        # A step that nothing undoes may be held against the saga later.
        sorted({(e.step, e.target) for e in record.history if e.source != e.target}),
    )
