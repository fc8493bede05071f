"""What a handler's run makes of a record: the new record that one write stores."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attrs import frozen

from sagaflow._definition.state import State
from sagaflow._engine.work import Fire, Machine, Offer, pending, still_waiting
from sagaflow._engine.writing import (
    Sent,
    Write,
    entered,
    left,
    scheduled_for_work,
    timer_id,
    with_messages,
    written,
)
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import (
    CompensationStatus,
    Failing,
    HistoryKind,
    ParkedEvent,
    RecordedCompensation,
    SagaRecord,
    Status,
    StoredMessage,
    Timer,
    TimerKind,
    evolve,
)
from sagaflow._model.value import value

COMPENSATION: Final = "compensation"
"""The word in the history instead of an event's name, where a step was undone."""


@frozen(kw_only=True)
class Undoing:
    """A compensation that a handler's run records, in stored form."""

    method: str
    event: StoredMessage | None = None
    arguments: tuple[object, ...] | None = None


@frozen(kw_only=True)
class Scheduled:
    """An event that a handler scheduled, in stored form."""

    name: str
    event: StoredMessage
    due: datetime


@value(kw_only=True)
class Run:
    """What a handler's run came to, in stored form.

    :ivar step: the transition that was taken.
    :ivar event: the name of the event's class.
    :ivar message_id: the id of the event's message.
    :ivar headers: the headers of all messages that the run causes, in stored form.
    :ivar target: the state to enter; None to stay.
    :ivar compensate: whether the completed steps are undone first.
    :ivar data: the fields of the saga after the run.
    :ivar sent: the messages that the handler sent.
    :ivar undoing: the compensations that undo the step.
    :ivar scheduled: the events that the handler scheduled; an event replaces an earlier one of its
        name.
    :ivar unscheduled: the names of the scheduled events that were cancelled; this happens before
        the new events are scheduled.
    """

    step: str
    event: str
    message_id: MessageId
    headers: object
    target: State | None
    compensate: bool
    data: Mapping[str, object]
    sent: tuple[Sent, ...] = ()
    undoing: tuple[Undoing, ...] = ()
    scheduled: tuple[Scheduled, ...] = ()
    unscheduled: frozenset[str] = frozenset()


Source = Fire | Offer | None
"""Where an event comes from: a timer of the saga, its parked events, or (None) outside."""


def embryo(correlation_id: SagaId, incarnation: str, machine: Machine, write: Write) -> SagaRecord:
    """Return the record of a saga that has not started; an empty one is never stored."""
    return SagaRecord(
        correlation_id=correlation_id,
        incarnation=incarnation,
        version=0,
        token=write.token,
        schema=machine.options.schema,
        state="",
        status=Status.EMBRYO,
        data={},
        created_at=write.now,
        updated_at=write.now,
    )


def concluded(
    record: SagaRecord, run: Run, source: Source, machine: Machine, write: Write
) -> SagaRecord:
    """Return *record* after a handler's run.

    Its inbox and history hold what the write appends to the stored ones, and nothing else.
    """
    is_new = record.status is Status.EMBRYO
    is_timeout = isinstance(source, Fire) and source.timer.event is None
    after = written(
        record if source is None else consumed(record, source),
        write,
        kind=HistoryKind.TIMEOUT if is_timeout else HistoryKind.EVENT,
        event=run.event,
        step=run.step,
        message_id=run.message_id,
        target=None if run.target is None or run.compensate else run.target.name,
        attempt=1 if source is None else attempt_of(source),
        compensates=run.compensate,
    )
    compensations = record.compensations
    if run.undoing:
        compensations = (*compensations, *_recorded(run, after.version))
    after = evolve(
        after,
        inbox=(run.message_id,) if source is None else (),
        created_at=write.now if is_new else record.created_at,
        expire_at=None if is_new else record.expire_at,
        data=run.data,
        compensations=compensations,
        timers=_timers(after, run) if after.timers or run.scheduled else (),
    )
    after = with_messages(after, run.sent, run.message_id, run.headers, write.now)
    if run.compensate and pending(after) is not None:
        goal = record.state if run.target is None else run.target.name
        after = evolve(left(after), status=Status.COMPENSATING, goal=goal)
    elif run.target is not None:
        after = entered(after, run.target, run.message_id, run.headers, machine, write.now)
    return scheduled_for_work(after, machine, write)


def dropped(
    record: SagaRecord, source: Fire | Offer, why: str, machine: Machine, write: Write
) -> SagaRecord:
    """Return *record* without a timer or parked event that means nothing any more.

    :param why: why it means nothing, for the history.
    """
    event, subject = described(source)
    held = evolve(record, parked=still_waiting(record, machine, record.version + 1))
    after = written(
        consumed(held, source),
        write,
        kind=HistoryKind.DROPPED,
        event=event,
        step=why,
        message_id=subject,
    )
    return scheduled_for_work(after, machine, write)


def undone(
    record: SagaRecord,
    entry: RecordedCompensation,
    data: Mapping[str, object],
    sent: tuple[Sent, ...],
    goal: State,
    machine: Machine,
    write: Write,
) -> SagaRecord:
    """Return *record* after *entry* was undone; in *goal*, if no step is left to undo."""
    attempt = 1 if entry.failing is None else entry.failing.attempts + 1
    after = written(
        record,
        write,
        kind=HistoryKind.COMPENSATION,
        event=COMPENSATION,
        step=entry.step,
        message_id=entry.message_id,
        attempt=attempt,
    )
    after = with_compensation(after, evolve(entry, status=CompensationStatus.DONE, failing=None))
    after = with_messages(
        evolve(after, data=data),
        sent,
        entry.message_id,
        entry.headers,
        write.now,
        undoes=entry.id,
    )
    return scheduled_for_work(compensated(after, entry, goal, machine, write), machine, write)


def compensated(
    record: SagaRecord, entry: RecordedCompensation, goal: State, machine: Machine, write: Write
) -> SagaRecord:
    """Return *record* in its goal if no step is left to undo after *entry*."""
    if pending(record) is not None:
        return record
    return entered(record, goal, entry.message_id, entry.headers, machine, write.now)


def with_compensation(record: SagaRecord, entry: RecordedCompensation) -> SagaRecord:
    """Return *record* with *entry* in the place of the recorded compensation with its id."""
    replaced = tuple(entry if old.id == entry.id else old for old in record.compensations)
    return evolve(record, compensations=replaced)


def consumed(record: SagaRecord, source: Source) -> SagaRecord:
    """Return *record* without the timer or parked event that *source* names."""
    match source:
        case None:
            return record
        case Fire(timer):
            return evolve(record, timers=tuple(t for t in record.timers if t.id != timer.id))
        case Offer(event):
            return evolve(record, parked=tuple(e for e in record.parked if e.id != event.id))


def described(source: Fire | Offer) -> tuple[str, MessageId]:
    """Return what the history says of a timer or parked event: its event and its id."""
    match source:
        case Fire(timer):
            return ("timeout" if timer.event is None else timer.event.type, timer.id)
        case Offer(event):
            return (event.message.type, event.id)


def failing_of(source: Source) -> Failing | None:
    """Return how a timer or parked event has failed so far."""
    match source:
        case None:
            return None
        case Fire(timer):
            return timer.failing
        case Offer(event):
            return event.failing


def attempt_of(source: Source) -> int:
    """Return the number of the attempt at *source* that is made now, counted from 1."""
    failing = failing_of(source)
    return 1 if failing is None else failing.attempts + 1


def parked(
    record: SagaRecord, event: ParkedEvent, source: Source, machine: Machine, write: Write
) -> SagaRecord:
    """Return *record* with *event* behind the other parked events, or where it was before.

    An event that the saga scheduled comes before the events that were parked after it was due.

    :param event: the event to keep; it holds its failure, if it waits because it has failed.
    """
    after = written(
        record,
        write,
        kind=HistoryKind.PARKED,
        event=event.message.type,
        step="parked",
        message_id=event.id,
    )
    waiting = evolve(event, offered=after.version)
    others = still_waiting(record, machine, after.version)
    if isinstance(source, Offer):
        where = tuple(waiting if old.id == event.id else old for old in others)
        return scheduled_for_work(evolve(after, parked=where), machine, write)
    place = len(others)
    if isinstance(source, Fire):
        later = (n for n, other in enumerate(others) if other.parked_at > event.parked_at)
        place = next(later, place)
    after = evolve(
        consumed(after, source),
        inbox=(event.id,) if source is None else (),
        parked=(*others[:place], waiting, *others[place:]),
    )
    if record.status is Status.EMBRYO:
        after = evolve(after, expire_at=record.created_at + machine.options.early_events)
    return scheduled_for_work(after, machine, write)


def _recorded(run: Run, version: int) -> list[RecordedCompensation]:
    return [
        RecordedCompensation(
            id=f"{version}.{number}",
            step=run.step,
            method=undo.method,
            event=undo.event,
            arguments=undo.arguments,
            message_id=run.message_id,
            headers=run.headers,
        )
        for number, undo in enumerate(run.undoing, 1)
    ]


def _timers(record: SagaRecord, run: Run) -> tuple[Timer, ...]:
    """Return the timers after a handler's run; *record* has the version of the run already."""
    replaced = run.unscheduled | {event.name for event in run.scheduled}
    kept = [
        timer
        for timer in record.timers
        if timer.kind is not TimerKind.EVENT or timer.name not in replaced
    ]
    scheduled = [
        Timer(
            id=timer_id(record, 100 + number),
            name=event.name,
            due=event.due,
            kind=TimerKind.EVENT,
            event=event.event,
            causation_id=run.message_id,
            headers=run.headers,
        )
        for number, event in enumerate(run.scheduled)
    ]
    return (*kept, *scheduled)
