"""The parts that every write of a saga has: version, history, messages, timers, ``wake``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

from sagaflow._definition.state import State
from sagaflow._engine.work import Machine, earliest_of, first_work
from sagaflow._model.clock import to_milliseconds
from sagaflow._model.ids import MessageId
from sagaflow._model.record import (
    HistoryEntry,
    HistoryKind,
    Lease,
    OutgoingMessage,
    SagaRecord,
    Status,
    StoredMessage,
    Timer,
    TimerKind,
    evolve,
)
from sagaflow._model.value import value

ENDED: Final = "the saga has ended"
CANCELLED: Final = "the saga is cancelled"
SKIPPED: Final = "skipped"
"""These three tell in the history why an accepted event was dropped without being handled."""
WITHOUT_EFFECT: Final = frozenset({ENDED, CANCELLED, SKIPPED})


@value(kw_only=True)
class Write:
    """What tells one write from another.

    :ivar token: a text that no other write has.
    :ivar now: the instant of the write.
    :ivar owner: the name of the orchestrator that makes the write.
    :ivar lease: how long others leave the work that is due at once to the owner; None if the owner
        leaves that work to the others.
    :ivar sends: whether the owner sends messages; if not, others need not wait for that.
    """

    token: str
    now: datetime
    owner: str
    lease: timedelta | None
    sends: bool = True


@value
class Sent:
    """A message that a handler sent, in stored form."""

    kind: str
    message: StoredMessage


def written(  # noqa: PLR0913 - what an entry of the history tells
    record: SagaRecord,
    write: Write,
    *,
    kind: HistoryKind,
    event: str,
    step: str,
    message_id: MessageId,
    target: str | None = None,
    attempt: int = 1,
    compensates: bool = False,
) -> SagaRecord:
    """Return *record* with one more version.

    Its inbox and history hold what the write appends to the stored ones, and nothing else.

    :param kind: what kind of thing happens.
    :param event: what happens: the name of the event's class, or a word where there is no event.
    :param step: the method that runs, or a word where no method runs.
    :param target: the state that the saga is about to enter; None if it stays, so far.
    :param compensates: whether the completed steps are undone because of this.
    """
    version = record.version + 1
    entry = HistoryEntry(
        at=write.now,
        event=event,
        step=step,
        source=record.state or None,
        target=record.state if target is None else target,
        message_id=message_id,
        version=version,
        token=write.token,
        attempt=attempt,
        kind=kind,
        compensates=compensates,
    )
    return evolve(
        record,
        version=version,
        token=write.token,
        updated_at=write.now,
        inbox=(),
        history=(entry,),
        stored=None,
    )


def without_effect(
    record: SagaRecord, events: Iterable[tuple[str, MessageId]], why: str
) -> SagaRecord:
    """Return *record* with entries in its history for accepted events that are dropped.

    These entries precede the entry of the write itself: the history is bounded and loses its
    oldest entries first, so that the entry of the write stays longest.

    :param events: the name of each event's class and its message id.
    :param why: why the events are dropped.
    """
    own = record.history[-1]
    entries = tuple(
        HistoryEntry(
            at=own.at,
            event=event,
            step=why,
            source=record.state or None,
            target=record.state,
            message_id=message_id,
            version=own.version,
            token=own.token,
            kind=HistoryKind.DROPPED,
        )
        for event, message_id in events
    )
    return evolve(record, history=(*record.history[:-1], *entries, own)) if entries else record


def without_parked(record: SagaRecord, why: str) -> SagaRecord:
    """Return *record* without the events that wait in it; its history tells of each."""
    waiting = [(event.message.type, event.id) for event in record.parked]
    return evolve(without_effect(record, waiting, why), parked=()) if waiting else record


def with_messages(
    record: SagaRecord,
    sent: tuple[Sent, ...],
    causation_id: MessageId,
    headers: object,
    now: datetime,
    *,
    undoes: str | None = None,
) -> SagaRecord:
    """Return *record* with these messages at the end of its outbox.

    :param undoes: the id of the recorded compensation that sent the messages, if one did.
    """
    if not sent and (record.outbox or record.sending is None):
        return record
    messages = [
        OutgoingMessage(
            id=f"{record.incarnation}-{sequence}",
            sequence=sequence,
            kind=message.kind,
            message=message.message,
            causation_id=causation_id,
            headers=headers,
            created_at=now,
            undoes=undoes,
        )
        for sequence, message in enumerate(sent, record.sequence + 1)
    ]
    return evolve(
        record,
        outbox=(*record.outbox, *messages),
        sequence=record.sequence + len(messages),
        sending=record.sending if record.outbox else None,
    )


def left(record: SagaRecord) -> SagaRecord:
    """Return *record* without the timeouts of its state."""
    return evolve(record, timers=_scheduled(record)) if record.timers else record


def _scheduled(record: SagaRecord) -> tuple[Timer, ...]:
    """Return the timers that stay when the saga leaves its state."""
    return tuple([timer for timer in record.timers if timer.kind is TimerKind.EVENT])


def entered(
    record: SagaRecord,
    state: State,
    causation_id: MessageId,
    headers: object,
    machine: Machine,
    now: datetime,
) -> SagaRecord:
    """Return *record* in *state*: its timeouts are armed; a final state ends the saga.

    :param headers: the headers of the messages that the timeouts cause, in stored form.
    """
    name = state.name
    history = tuple([e if e.target == name else evolve(e, target=name) for e in record.history])
    after = evolve(
        record,
        state=name,
        status=Status.ACTIVE,
        goal=None,
        history=history,
        timers=_scheduled(record) if record.timers else (),
    )
    if state.final or record.cancelled:
        return finished(after, now)
    armed = _armed(after, causation_id, headers, machine, now)
    return evolve(after, timers=(*after.timers, *armed)) if armed else after


def finished(record: SagaRecord, now: datetime) -> SagaRecord:
    """Return *record* at its end: nothing is to come but the sending of its messages.

    The events that wait come to nothing, and its history says so.
    """
    alone = without_parked(record, ENDED) if record.parked else record
    return evolve(alone, status=Status.FINISHED, timers=(), finished_at=now)


def kept_until(record: SagaRecord, machine: Machine, now: datetime) -> datetime | None:
    """Return when a saga that has ended may be removed; None as long as anybody may need it.

    A saga is kept for ``retain=`` after its last message was sent. A suspended saga waits for an
    operator, who could neither see nor mend it if it were gone.
    """
    if record.outbox or record.suspension is not None:
        return None
    retain = machine.options.retain
    if record.expire_at is None and retain is not None:
        return now + retain
    return record.expire_at


def default_timer(
    record: SagaRecord, causation_id: MessageId, headers: object, machine: Machine, now: datetime
) -> tuple[Timer, ...]:
    """Return the timer of the class's ``timeout=``, if its state has no timeout of its own."""
    delay = machine.options.timeout
    if delay is None or machine.table.timeouts(record.state):
        return ()
    return (
        Timer(
            id=timer_id(record, 0),
            name="timeout",
            due=to_milliseconds(now + delay),
            kind=TimerKind.DEFAULT,
            delay=delay,
            causation_id=causation_id,
            headers=headers,
        ),
    )


def timer_id(record: SagaRecord, number: int) -> str:
    """Return the id of a timer that the write of *record* arms."""
    return f"{record.incarnation}-{record.version}-timer-{number}"


def scheduled_for_work(record: SagaRecord, machine: Machine, write: Write) -> SagaRecord:
    """Return *record* with ``wake``, and with a lease if there is work to be done at once.

    The process that writes also does that work, without claiming the saga; the lease only keeps
    others from doing the same work. If there are only messages to send, and another process has a
    lease for that, its lease stays. Where the owner leaves the work to others, no lease of its own
    keeps them from that. Of a saga that has ended, ``expire_at`` says until when it is
    kept.
    """
    now = write.now
    first = first_work(record, machine)
    wake = earliest_of(record, first)
    lease: Lease | None = None
    if wake is not None and wake <= now:
        sending_only = first is None or first.due > now
        if sending_only and is_leased_to_others(record, write.owner, now):
            lease = record.lease
        elif write.lease is not None and (write.sends or not sending_only):
            lease = Lease(owner=write.owner, until=now + write.lease)
    # A document of early events, whose saga has not started, keeps the expiry that it has.
    expire_at = record.expire_at
    if record.finished_at is not None:
        expire_at = kept_until(record, machine, now)
    return evolve(record, wake=wake, lease=lease, expire_at=expire_at)


def without_sent(
    record: SagaRecord, sent: Collection[str], machine: Machine, write: Write
) -> SagaRecord:
    """Return *record* without the messages that have been sent, with ``wake`` as it is then."""
    left = tuple([message for message in record.outbox if message.id not in sent])
    if len(left) == len(record.outbox):
        return record
    after = evolve(record, outbox=left)
    # As long as a message is left to send, the saga is due at the same instant as before.
    return after if left else scheduled_for_work(after, machine, write)


def is_leased_to_others(record: SagaRecord, owner: str, now: datetime) -> bool:
    """Tell whether somebody else holds a lease on the saga that has not run out."""
    lease = record.lease
    return lease is not None and lease.owner != owner and lease.until > now


def _armed(
    record: SagaRecord, causation_id: MessageId, headers: object, machine: Machine, now: datetime
) -> tuple[Timer, ...]:
    rows = machine.table.timeouts(record.state)
    if not rows:
        return default_timer(record, causation_id, headers, machine, now)
    return tuple(
        Timer(
            id=timer_id(record, number),
            name=row.step,
            due=to_milliseconds(now + row.after),
            kind=TimerKind.TIMEOUT,
            delay=row.after,
            causation_id=causation_id,
            headers=headers,
        )
        for number, row in enumerate(rows, 1)
        if row.after is not None
    )
