"""What failures make of a record: another attempt later, a suspension, an operator's decision."""

from __future__ import annotations

from datetime import datetime
from typing import Final, assert_never

from sagaflow._definition.state import State
from sagaflow._engine.backoff import failed_again, is_too_old
from sagaflow._engine.conclusion import (
    COMPENSATION,
    attempt_of,
    compensated,
    consumed,
    described,
    failing_of,
    with_compensation,
)
from sagaflow._engine.work import Fire, Machine, Offer, Undo, Work, pending, still_waiting
from sagaflow._engine.writing import (
    CANCELLED,
    SKIPPED,
    Write,
    default_timer,
    finished,
    left,
    scheduled_for_work,
    without_effect,
    without_parked,
    written,
)
from sagaflow._model.ids import MessageId
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import (
    CompensationStatus,
    Failing,
    HistoryKind,
    SagaRecord,
    Status,
    Suspension,
    SuspensionReason,
    evolve,
)

_REASONS: Final = {
    Undo: SuspensionReason.COMPENSATION,
    Fire: SuspensionReason.HANDLER,
    Offer: SuspensionReason.HANDLER,
}


def failed(
    record: SagaRecord,
    work: Work,
    error: str,
    policy: RetryPolicy,
    random: float,
    machine: Machine,
    write: Write,
) -> SagaRecord:
    """Return *record* after *work* has failed: with the next attempt to come, or suspended.

    :param error: what went wrong, in words.
    :param policy: for how long the work may fail before the saga is suspended.
    :param random: a number from 0 up to 1.
    """
    before = work.entry.failing if isinstance(work, Undo) else failing_of(work)
    failing = failed_again(before, error, write.now, policy, random)
    event, subject = _named(work)
    step = work.entry.step if isinstance(work, Undo) else "failed"
    after = written(
        record,
        write,
        kind=HistoryKind.ATTEMPT,
        event=event,
        step=step,
        message_id=subject,
        attempt=failing.attempts,
    )
    after = evolve(after, parked=still_waiting(record, machine, after.version))
    after = _with_failing(after, work, failing)
    if is_too_old(failing, write.now, policy):
        after = _suspended(after, _REASONS[type(work)], _subject(work), error, write.now)
    return scheduled_for_work(after, machine, write)


def timed_out(record: SagaRecord, work: Fire, machine: Machine, write: Write) -> SagaRecord:
    """Return *record* suspended, since it waited longer than its class allows."""
    after = written(
        record,
        write,
        kind=HistoryKind.SUSPENDED,
        event="timeout",
        step="suspended",
        message_id=work.timer.id,
    )
    after = evolve(after, timers=tuple(t for t in after.timers if t.id != work.timer.id))
    error = f"nothing happened in the state {record.state!r} for {work.timer.delay}"
    after = _suspended(after, SuspensionReason.TIMEOUT, work.timer.id, error, write.now)
    return scheduled_for_work(after, machine, write)


def undeliverable(
    record: SagaRecord, failing: Failing, machine: Machine, write: Write
) -> SagaRecord:
    """Return *record* suspended, since the bus kept refusing its first message."""
    message = record.outbox[0]
    after = written(
        record,
        write,
        kind=HistoryKind.SUSPENDED,
        event=message.message.type,
        step="suspended",
        message_id=message.id,
    )
    after = evolve(after, sending=failing)
    after = _suspended(after, SuspensionReason.MESSAGE, message.id, failing.error, write.now)
    return scheduled_for_work(after, machine, write)


def resumed(record: SagaRecord, action: str, machine: Machine, write: Write) -> SagaRecord:
    """Return *record* no longer suspended: the work that failed is due now.

    It may fail for as long again before the saga is suspended.

    :param action: what the operator did, for the history.
    """
    suspension = _suspension(record)
    after = _lifted(record, action, write)
    for work in _subjects(after, suspension):
        failing = work.entry.failing if isinstance(work, Undo) else failing_of(work)
        if failing is not None:
            after = _with_failing(after, work, evolve(failing, since=write.now, due=write.now))
    after = evolve(after, sending=None)
    return scheduled_for_work(_waiting_again(after, suspension, machine, write), machine, write)


def skipped(record: SagaRecord, goal: State | None, machine: Machine, write: Write) -> SagaRecord:
    """Return *record* no longer suspended and without the work or message that failed.

    :param goal: the state after the compensation, if one is under way.
    """
    suspension = _suspension(record)
    after = _lifted(record, "skip", write)
    for work in _subjects(after, suspension):
        match work:
            case Undo(entry):
                skip = evolve(entry, status=CompensationStatus.SKIPPED)
                after = with_compensation(after, skip)
                if goal is not None:
                    after = compensated(after, entry, goal, machine, write)
            case Fire() | Offer():
                after = without_effect(consumed(after, work), [described(work)], SKIPPED)
            case _:
                assert_never(work)
    if suspension.reason is SuspensionReason.MESSAGE:
        outbox = tuple(message for message in after.outbox if message.id != suspension.subject)
        after = evolve(after, outbox=outbox)
    after = evolve(after, sending=None)
    return scheduled_for_work(_waiting_again(after, suspension, machine, write), machine, write)


def cancelled(record: SagaRecord, goal: State, machine: Machine, write: Write) -> SagaRecord:
    """Return *record* cancelled: its completed steps are undone, and then it ends in *goal*.

    Messages of its handlers that the bus has not accepted yet are withdrawn. Messages that undo a
    step are sent nevertheless: that step counts as undone and will not be undone again.
    """
    after = _decided(record, "cancel", write)
    after = evolve(
        left(after),
        suspension=None,
        cancelled=True,
        timers=(),
        outbox=tuple(message for message in after.outbox if message.undoes is not None),
        sending=None,
    )
    after = without_parked(after, CANCELLED)
    if pending(after) is None:
        own = evolve(after.history[-1], target=goal.name)
        history = (*after.history[:-1], own)
        after = finished(evolve(after, state=goal.name, history=history), write.now)
    else:
        after = evolve(after, status=Status.COMPENSATING, goal=goal.name)
    return scheduled_for_work(after, machine, write)


def _suspended(
    record: SagaRecord, reason: SuspensionReason, subject: MessageId, error: str, now: datetime
) -> SagaRecord:
    suspension = Suspension(reason=reason, subject=subject, error=error, since=now)
    return evolve(record, status=Status.SUSPENDED, suspension=suspension)


def _suspension(record: SagaRecord) -> Suspension:
    assert record.suspension is not None  # noqa: S101 - the caller has checked the status
    return record.suspension


def _decided(record: SagaRecord, action: str, write: Write) -> SagaRecord:
    return written(
        record,
        write,
        kind=HistoryKind.OPERATOR,
        event="operator",
        step=action,
        message_id=write.token,
        compensates=action == "cancel",
    )


def _lifted(record: SagaRecord, action: str, write: Write) -> SagaRecord:
    after = _decided(record, action, write)
    if record.finished_at is not None:
        status = Status.FINISHED
    else:
        status = Status.ACTIVE if record.goal is None else Status.COMPENSATING
    return evolve(after, status=status, suspension=None)


def _waiting_again(
    record: SagaRecord, suspension: Suspension, machine: Machine, write: Write
) -> SagaRecord:
    if suspension.reason is not SuspensionReason.TIMEOUT:
        return record
    armed = default_timer(record, write.token, {}, machine, write.now)
    return evolve(record, timers=(*record.timers, *armed))


def _subjects(record: SagaRecord, suspension: Suspension) -> tuple[Work, ...]:
    found: list[Work] = [Undo(e) for e in record.compensations if e.id == suspension.subject]
    found += [Fire(timer) for timer in record.timers if timer.id == suspension.subject]
    found += [Offer(event) for event in record.parked if event.id == suspension.subject]
    return tuple(found)


def _with_failing(record: SagaRecord, work: Work, failing: Failing) -> SagaRecord:
    match work:
        case Undo(entry):
            return with_compensation(record, evolve(entry, failing=failing))
        case Fire(timer):
            again = evolve(timer, failing=failing)
            timers = tuple(again if t.id == timer.id else t for t in record.timers)
            return evolve(record, timers=timers)
        case Offer(event):
            waiting = evolve(event, failing=failing)
            parked = tuple(waiting if e.id == event.id else e for e in record.parked)
            return evolve(record, parked=parked)


def _named(work: Work) -> tuple[str, MessageId]:
    if isinstance(work, Undo):
        return (f"{COMPENSATION} failed", work.entry.message_id)
    event, subject = described(work)
    return (event, subject)


def _subject(work: Work) -> MessageId:
    return work.entry.id if isinstance(work, Undo) else described(work)[1]


def attempts_of(work: Work) -> int:
    """Return the number of the next attempt at *work*, counted from 1."""
    if isinstance(work, Undo):
        return 1 if work.entry.failing is None else work.entry.failing.attempts + 1
    return attempt_of(work)
