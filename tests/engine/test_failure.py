"""What failures and operators make of a record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from sagaflow import (
    CompensationStatus,
    RetryPolicy,
    SagaId,
    State,
    Status,
    Suspension,
    SuspensionReason,
)
from sagaflow._engine.failure import (
    attempts_of,
    cancelled,
    failed,
    resumed,
    skipped,
    timed_out,
    undeliverable,
)
from sagaflow._engine.work import Fire, Machine, Offer, Undo, Work, next_work
from sagaflow._engine.writing import Write
from sagaflow._model.record import Failing, RecordedCompensation, SagaRecord, TimerKind
from tests.engine.support import (
    HOUR,
    LATER,
    MINUTE,
    NOW,
    SECOND,
    Order,
    failing,
    machine,
    outgoing,
    record,
    step,
    timeout,
    timer,
    waiting,
    write,
)

POLICY = RetryPolicy(initial_delay=4 * SECOND, max_delay=MINUTE, max_age=HOUR)
IMPATIENT = RetryPolicy(max_age=MINUTE)
DEFAULT = timer("timeout", kind=TimerKind.DEFAULT, delay=HOUR, event=None)

UNDO, FIRE, OFFER = Undo(step(2)), Fire(timer()), Offer(waiting(1))


def busy(work: Work | None = None, **changes: Any) -> SagaRecord:
    """Return a saga that has this work to do, among other."""
    plain = record(
        timers=(timer("other", NOW + 9 * HOUR),), parked=(waiting(9, "Noted"),), **changes
    )
    match work:
        case Undo(entry):
            undoing = (step(1), entry)
            return evolve(plain, status=Status.COMPENSATING, goal="done", compensations=undoing)
        case Fire(fired):
            return evolve(plain, timers=(fired, *plain.timers))
        case Offer(offered):
            return evolve(plain, parked=(offered, *plain.parked))
        case None:
            return plain


def tried(work: Work, failing: Failing) -> Work:
    """Return the same work, which has failed before."""
    match work:
        case Undo(entry):
            return Undo(evolve(entry, failing=failing))
        case Fire(fired):
            return Fire(evolve(fired, failing=failing))
        case Offer(offered):
            return Offer(evolve(offered, failing=failing))


def suspended(reason: SuspensionReason, subject: SagaId, before: SagaRecord) -> SagaRecord:
    why = Suspension(reason=reason, subject=subject, error="no", since=NOW)
    return evolve(before, status=Status.SUSPENDED, suspension=why)


@pytest.mark.parametrize("work", [UNDO, FIRE, OFFER])
def test_what_fails_is_tried_again_later_and_nothing_else_changes(work: Work) -> None:
    before = busy(work)
    after = failed(before, work, "no", POLICY, 0.5, machine(), write())
    due = LATER + 2 * SECOND
    again = tried(work, Failing(attempts=1, since=LATER, due=due, error="no"))
    assert next_work(after, machine(), due) == again
    assert next_work(after, machine(), due - SECOND) is None
    assert (after.version, after.status, after.wake) == (4, before.status, due)
    assert (after.data, after.state, after.goal) == (before.data, "ready", before.goal)
    assert len(after.timers) == len(before.timers)
    assert len(after.parked) == len(before.parked)
    assert after.compensations[:-1] == before.compensations[:-1]


@pytest.mark.parametrize(
    ("work", "event", "named", "subject"),
    [
        (UNDO, "compensation failed", "s2", "m2"),
        (FIRE, "Paid", "failed", "timer-Paid"),
        (Fire(timeout()), "timeout", "failed", "remind"),
        (OFFER, "Paid", "failed", "p1"),
    ],
)
def test_history_tells_what_failed_and_how_often(
    work: Work, event: str, named: str, subject: str
) -> None:
    work = tried(work, failing(attempts=2))
    (entry,) = failed(busy(work), work, "no", POLICY, 1, machine(), write()).history
    assert (entry.event, entry.step, entry.message_id) == (event, named, subject)
    assert entry.attempt == attempts_of(work) == 3


@pytest.mark.parametrize(
    ("work", "reason", "subject"),
    [
        (UNDO, SuspensionReason.COMPENSATION, "2.1"),
        (FIRE, SuspensionReason.HANDLER, "timer-Paid"),
        (OFFER, SuspensionReason.HANDLER, "p1"),
    ],
)
def test_what_fails_for_too_long_suspends_the_saga(
    work: Work, reason: SuspensionReason, subject: str
) -> None:
    work = tried(work, failing(since=NOW))
    before = busy(work)
    after = failed(before, work, "still no", IMPATIENT, 0.5, machine(), write())
    assert after.status is Status.SUSPENDED
    assert after.suspension == Suspension(
        reason=reason, subject=subject, error="still no", since=LATER
    )
    assert after.wake is None  # nobody tries it again by itself
    assert [e.status for e in after.compensations] == [e.status for e in before.compensations]


@pytest.mark.parametrize("work", [UNDO, FIRE, OFFER])
def test_first_attempt_is_counted_from_1(work: Work) -> None:
    assert attempts_of(work) == 1


def test_saga_that_waited_longer_than_its_class_allows_is_suspended() -> None:
    before = record(timers=(DEFAULT, timer()))
    after = timed_out(before, Fire(DEFAULT), machine(timeout=HOUR), write())
    assert after.suspension == Suspension(
        reason=SuspensionReason.TIMEOUT,
        subject=DEFAULT.id,
        error="nothing happened in the state 'ready' for 1:00:00",
        since=LATER,
    )
    assert (after.timers, after.wake) == ((timer(),), None)


def test_message_that_is_refused_for_too_long_suspends_the_saga() -> None:
    refused = failing(attempts=9)
    after = undeliverable(record(outbox=(outgoing(1), outgoing(2))), refused, machine(), write())
    assert after.suspension == Suspension(
        reason=SuspensionReason.MESSAGE, subject="life-1", error="no", since=LATER
    )
    assert (after.sending, after.wake, len(after.outbox)) == (refused, None, 2)


# What operators decide


def stuck(work: Work) -> SagaRecord:
    """Return a saga that *work* has suspended."""
    match work:
        case Undo(entry):
            return suspended(SuspensionReason.COMPENSATION, entry.id, busy(work))
        case Fire(fired):
            return suspended(SuspensionReason.HANDLER, fired.id, busy(work))
        case Offer(offered):
            return suspended(SuspensionReason.HANDLER, offered.id, busy(work))


OLD = failing(attempts=7, since=NOW - HOUR, due=LATER + HOUR)
FAILED = [tried(work, OLD) for work in (UNDO, FIRE, OFFER)]


@pytest.mark.parametrize("work", FAILED)
def test_resumed_saga_tries_what_failed_now_and_with_new_patience(work: Work) -> None:
    after = resumed(stuck(work), "retry", machine(), write())
    assert after.suspension is None
    again = tried(work, evolve(OLD, since=LATER, due=LATER))
    assert next_work(after, machine(), LATER) == again
    assert after.status is (Status.COMPENSATING if isinstance(work, Undo) else Status.ACTIVE)
    (entry,) = after.history
    assert (entry.event, entry.step, after.wake) == ("operator", "retry", LATER)


@pytest.mark.parametrize("work", FAILED[1:])
def test_skipped_event_or_timer_is_gone_and_the_rest_goes_on(work: Work) -> None:
    before = stuck(work)
    assert before.suspension is not None
    after = skipped(before, None, machine(), write())
    assert (after.timers, after.parked) == (busy().timers, busy().parked)
    assert (after.status, after.suspension) == (Status.ACTIVE, None)
    gone, entry = after.history
    assert (entry.event, entry.step) == ("operator", "skip")
    assert (gone.event, gone.step, gone.message_id) == (
        "Paid",
        "skipped",
        before.suspension.subject,
    )


@pytest.mark.parametrize("goal", [Order.done, None])
def test_skipped_step_is_marked_and_the_one_before_is_next(goal: State | None) -> None:
    after = skipped(stuck(FAILED[0]), goal, machine(), write())
    assert [entry.status for entry in after.compensations] == [
        CompensationStatus.PENDING,
        CompensationStatus.SKIPPED,
    ]
    assert (after.status, after.goal) == (Status.COMPENSATING, "done")
    assert next_work(after, machine(), LATER) == Undo(step(1))


@pytest.mark.parametrize("work", [UNDO, FIRE, OFFER])
def test_what_has_no_failure_of_its_own_is_due_as_before(work: Work) -> None:
    """An operator may have mended the document by hand."""
    after = resumed(stuck(work), "resume", machine(), write())
    assert after.suspension is None
    assert next_work(after, machine(), LATER) == work


def test_last_skipped_step_enters_the_goal() -> None:
    before = evolve(stuck(FAILED[0]), compensations=(step(2, failing=OLD),))
    after = skipped(before, Order.done, machine(), write())
    assert (after.state, after.status, after.finished_at) == ("done", Status.FINISHED, LATER)


Decision = Callable[[SagaRecord, Machine, Write], SagaRecord]


def _retry(before: SagaRecord, with_machine: Machine, with_write: Write) -> SagaRecord:
    return resumed(before, "retry", with_machine, with_write)


def _skip(before: SagaRecord, with_machine: Machine, with_write: Write) -> SagaRecord:
    return skipped(before, None, with_machine, with_write)


@pytest.mark.parametrize(("decide", "left"), [(_retry, [1, 2]), (_skip, [2])])
def test_refused_message_is_due_at_once_again_or_left_out_by_the_same_write(
    decide: Decision, left: list[int]
) -> None:
    before = suspended(
        SuspensionReason.MESSAGE,
        "life-1",
        record(outbox=(outgoing(1), outgoing(2)), sending=OLD),
    )
    after = decide(before, machine(), write())
    assert (after.sending, after.wake, after.status) == (None, LATER, Status.ACTIVE)
    assert [message.sequence for message in after.outbox] == left


def test_nothing_is_left_to_send_once_the_only_message_is_skipped() -> None:
    before = suspended(SuspensionReason.MESSAGE, "life-2", record(outbox=(outgoing(2),)))
    after = _skip(before, machine(), write())
    assert (after.outbox, after.wake, after.lease) == ((), None, None)


def test_message_of_a_finished_saga_leaves_it_finished() -> None:
    ended = record(state="done", finished_at=NOW, outbox=(outgoing(2),), sending=OLD)
    after = resumed(
        suspended(SuspensionReason.MESSAGE, "life-2", ended), "resume", machine(), write()
    )
    assert (after.status, after.wake) == (Status.FINISHED, LATER)


@pytest.mark.parametrize("decide", [_retry, _skip])
def test_saga_that_waited_too_long_waits_as_long_again(decide: Decision) -> None:
    before = suspended(SuspensionReason.TIMEOUT, "timer-timeout", record(timers=(timer(),)))
    after = decide(before, machine(timeout=HOUR), write())
    assert [(found.name, found.due) for found in after.timers] == [
        ("Paid", LATER),
        ("timeout", LATER + HOUR),
    ]


def test_cancelled_saga_undoes_its_steps_first() -> None:
    before = evolve(stuck(OFFER), compensations=(step(1),), sending=OLD)
    after = cancelled(before, Order.done, machine(), write())
    assert (after.status, after.goal, after.state) == (Status.COMPENSATING, "done", "ready")
    assert (after.cancelled, after.timers, after.parked) == (True, (), ())
    assert (after.suspension, after.sending, after.finished_at) == (None, None, None)
    assert next_work(after, machine(), LATER) == Undo(step(1))


@pytest.mark.parametrize("steps", [(), (step(1),)])
def test_cancelled_saga_still_sends_what_undoes_a_step(
    steps: tuple[RecordedCompensation, ...],
) -> None:
    """That step is undone, and will not be again: without the message nobody would do it."""
    refund = evolve(outgoing(2), undoes="2.1")
    before = record(outbox=(outgoing(1), refund, outgoing(3)), sending=OLD, compensations=steps)
    after = cancelled(before, Order.done, machine(retain=HOUR), write())
    assert (after.outbox, after.wake, after.expire_at) == ((refund,), LATER, None)


def test_cancelled_saga_without_steps_ends_at_once() -> None:
    after = cancelled(busy(outbox=(outgoing(2),)), Order.done, machine(retain=HOUR), write())
    assert (after.state, after.status, after.finished_at) == ("done", Status.FINISHED, LATER)
    assert (after.expire_at, after.timers, after.parked) == (LATER + HOUR, (), ())
    assert after.outbox == ()  # what the bus has not taken is withdrawn
    gone, entry = after.history
    assert (entry.source, entry.target, entry.step) == ("ready", "done", "cancel")
    assert (gone.event, gone.message_id) == ("Noted", "p9")  # it was accepted
