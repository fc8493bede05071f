"""What one write makes of a record."""

from __future__ import annotations

from datetime import timedelta

import pytest
from attrs import evolve

from sagaflow import CompensationStatus, HistoryKind, RecordedCompensation, Status, Timer
from sagaflow._engine.conclusion import (
    Scheduled,
    Undoing,
    concluded,
    dropped,
    embryo,
    parked,
    undone,
)
from sagaflow._engine.failure import failed
from sagaflow._engine.work import Fire, Offer, Undo, pending
from sagaflow._engine.writing import Sent
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import Lease, SagaRecord, TimerKind
from tests.engine.support import (
    HOUR,
    LATER,
    LEASE,
    NOW,
    OWNER,
    SECOND,
    Order,
    failing,
    machine,
    outgoing,
    record,
    run,
    step,
    stored,
    timeout,
    timer,
    waiting,
    write,
)

DAY = timedelta(days=1)
OWN_LEASE = Lease(owner=OWNER, until=LATER + LEASE)


def test_start_makes_version_1_in_the_target_state() -> None:
    fresh = embryo("o", "life", machine(), write(NOW))
    after = concluded(fresh, run(target=Order.ready), None, machine(), write(NOW))
    assert (after.version, after.state, after.status) == (1, "ready", Status.ACTIVE)
    assert (after.incarnation, after.token, after.data) == ("life", "second", {"total": 2})
    assert (after.created_at, after.updated_at, after.inbox) == (NOW, NOW, ("m",))
    (entry,) = after.history
    assert (entry.source, entry.target, entry.version) == (None, "ready", 1)


def test_start_after_early_events_was_created_now_and_does_not_expire() -> None:
    early = parked(
        embryo("o", "life", machine(), write(NOW)), waiting(), None, machine(), write(NOW)
    )
    after = concluded(early, run(target=Order.ready), None, machine(), write())
    assert (after.created_at, after.expire_at, after.version) == (LATER, None, 2)
    assert [event.id for event in after.parked] == ["p1"]


def test_staying_changes_data_and_version_only() -> None:
    after = concluded(record(), run(), None, machine(), write())
    (entry,) = after.history
    assert after == record(
        version=4,
        token="second",
        data={"total": 2},
        inbox=("m",),
        updated_at=LATER,
        history=(entry,),
    )
    assert (entry.at, entry.event, entry.step, entry.attempt) == (LATER, "Paid", "pay", 1)
    assert (entry.source, entry.target, entry.token) == ("ready", "ready", "second")


def test_final_state_finishes_the_saga_and_drops_what_was_to_come() -> None:
    before = record(timers=(timer(),), parked=(waiting(name="Noted"),))
    after = concluded(before, run(target=Order.done), None, machine(), write())
    assert (after.state, after.status, after.finished_at) == ("done", Status.FINISHED, LATER)
    assert (after.expire_at, after.timers, after.parked, after.wake) == (None, (), (), None)
    gone, entry = after.history
    assert (entry.source, entry.target) == ("ready", "done")
    assert (gone.kind, gone.message_id) == (HistoryKind.DROPPED, "p1")


def test_finished_saga_is_retained_for_its_time() -> None:
    retaining = machine(retain=DAY)
    after = concluded(record(), run(target=Order.done), None, retaining, write())
    assert after.expire_at == LATER + DAY
    assert concluded(record(), run(), None, retaining, write()).expire_at is None


def test_messages_are_numbered_on_and_wake_the_saga() -> None:
    taken = run(sent=(Sent("command", stored()), Sent("event", stored())), headers={"trace": 1})
    after = concluded(record(outbox=(outgoing(2),)), taken, None, machine(), write())
    assert [message.id for message in after.outbox] == ["life-2", "life-3", "life-4"]
    assert after.outbox[1] == evolve(
        outgoing(3), kind="command", causation_id="m", headers={"trace": 1}, created_at=LATER
    )
    assert (after.sequence, after.wake, after.lease) == (4, LATER, OWN_LEASE)


def test_refusal_of_a_message_that_has_left_is_forgotten_with_the_next_one() -> None:
    taken = run(sent=(Sent("event", stored()),))
    gone = concluded(record(sending=failing()), taken, None, machine(), write())
    assert (gone.sending, gone.wake) == (None, LATER)
    later = failing(due=LATER + HOUR)
    kept = concluded(record(outbox=(outgoing(),), sending=later), taken, None, machine(), write())
    assert (kept.sending, kept.wake) == (later, LATER + HOUR)


def test_completed_steps_are_recorded_in_order() -> None:
    taken = run(
        undoing=(
            Undoing(method="refund", event=stored()),
            Undoing(method="free", arguments=(1,)),
        )
    )
    after = concluded(record(compensations=(step(1),)), taken, None, machine(), write())
    assert after.compensations == (
        step(1),
        RecordedCompensation(id="4.1", step="pay", method="refund", event=stored(), message_id="m"),
        RecordedCompensation(id="4.2", step="pay", method="free", arguments=(1,), message_id="m"),
    )
    assert (after.status, after.wake) == (Status.ACTIVE, None)


def test_compensation_keeps_the_state_until_it_is_over() -> None:
    before = record(compensations=(step(1),), timers=(timer(), timeout()))
    after = concluded(before, run(target=Order.done, compensate=True), None, machine(), write())
    assert (after.state, after.goal, after.status) == ("ready", "done", Status.COMPENSATING)
    assert (after.finished_at, after.wake, after.lease) == (None, LATER, OWN_LEASE)
    assert after.timers == (timer(),)  # the timeout has left with its state
    staying = concluded(before, run(compensate=True), None, machine(), write())
    assert (staying.goal, staying.status) == ("ready", Status.COMPENSATING)


@pytest.mark.parametrize("steps", [(), (step(1, CompensationStatus.DONE),)])
def test_compensation_without_anything_to_undo_is_over_at_once(
    steps: tuple[RecordedCompensation, ...],
) -> None:
    before = record(compensations=steps)
    after = concluded(before, run(target=Order.done, compensate=True), None, machine(), write())
    assert (after.state, after.goal, after.status) == ("done", None, Status.FINISHED)
    assert after.wake is None


# Timers


def test_timeouts_are_armed_on_entering_their_state() -> None:
    after = concluded(record(), run(target=Order.held), None, machine(), write())
    assert after.timers == tuple(
        Timer(
            id=f"life-4-timer-{number}",
            name=name,
            due=LATER + number * HOUR,
            kind=TimerKind.TIMEOUT,
            delay=number * HOUR,
            causation_id="m",
        )
        for number, name in enumerate(("remind", "expire"), 1)
    )
    assert (after.wake, after.lease) == (LATER + HOUR, None)


def test_timeouts_stay_with_their_state_and_go_when_it_is_left() -> None:
    held = record(state="held", timers=(timer(), timeout()))
    assert concluded(held, run(), None, machine(), write()).timers == (timer(), timeout())
    assert concluded(held, run(target=Order.ready), None, machine(), write()).timers == (timer(),)


def test_state_that_is_entered_again_starts_its_timeouts_anew() -> None:
    held = record(state="held", timers=(timeout(),))
    after = concluded(held, run(target=Order.held), None, machine(), write())
    assert [found.due for found in after.timers] == [LATER + HOUR, LATER + 2 * HOUR]


def test_timeout_of_the_class_is_for_states_without_their_own() -> None:
    patient = machine(timeout=HOUR)
    after = concluded(record(), run(target=Order.ready), None, patient, write())
    (armed,) = after.timers
    assert (armed.kind, armed.due, armed.id) == (
        TimerKind.DEFAULT,
        LATER + HOUR,
        "life-4-timer-0",
    )
    held = concluded(after, run(target=Order.held), None, patient, write())
    assert [found.name for found in held.timers] == ["remind", "expire"]


def test_instants_of_timers_are_cut_to_what_the_database_keeps() -> None:
    odd = machine(timeout=timedelta(microseconds=1_999))
    after = concluded(record(), run(target=Order.ready), None, odd, write())
    assert after.timers[0].due == LATER + timedelta(milliseconds=1)
    assert after.wake == after.timers[0].due


def test_scheduled_event_replaces_the_one_of_its_name() -> None:
    taken = run(
        scheduled=(
            Scheduled(name="a", event=stored(), due=LATER + HOUR),
            Scheduled(name="b", event=stored(), due=LATER + 2 * HOUR),
        )
    )
    before = record(timers=(timer("a"), timer("c", LATER + DAY)))
    after = concluded(before, taken, None, machine(), write())
    assert [(found.name, found.id) for found in after.timers] == [
        ("c", "timer-c"),
        ("a", "life-4-timer-100"),
        ("b", "life-4-timer-101"),
    ]
    assert after.timers[1].causation_id == "m"
    assert after.wake == LATER + HOUR


def test_cancelling_takes_scheduled_events_only() -> None:
    held = record(state="held", timers=(timer("remind"), timer("other"), timeout("remind")))
    after = concluded(held, run(unscheduled=frozenset({"remind"})), None, machine(), write())
    assert after.timers == (timer("other"), timeout("remind"))


def test_write_that_applies_a_timer_removes_it() -> None:
    fired = timer("a", failing=failing(2))
    before = record(timers=(fired, timer("b")))
    after = concluded(before, run(), Fire(fired), machine(), write())
    assert after.timers == (timer("b"),)
    assert after.inbox == ()  # no message came from outside
    assert after.history[0].attempt == 3


# Parked events


def test_write_that_applies_a_parked_event_removes_it() -> None:
    offered = waiting(1, failing=failing(4))
    after = concluded(
        record(parked=(offered, waiting(2, "Noted"))), run(), Offer(offered), machine(), write()
    )
    assert [event.id for event in after.parked] == ["p2"]
    assert (after.inbox, after.history[0].attempt) == ((), 5)


def test_parked_event_comes_behind_the_others_and_is_remembered() -> None:
    before = record(parked=(waiting(1, "Noted"),))
    after = parked(before, waiting(2, "Noted"), None, machine(), write())
    assert after.parked == (waiting(1, "Noted"), waiting(2, "Noted", offered=4))
    assert (after.inbox, after.version, after.data) == (("p2",), 4, {"total": 1})
    assert (after.history[0].event, after.history[0].step) == ("Noted", "parked")
    assert (after.wake, after.expire_at) == (None, None)


def test_event_that_is_deferred_again_keeps_its_place() -> None:
    first, second = waiting(1), waiting(2)
    before = record(state="held", parked=(first, second))
    after = parked(before, first, Offer(first), machine(), write())
    assert after.parked == (waiting(1, offered=4), second)
    assert after.inbox == ()


def test_timer_whose_event_is_deferred_becomes_a_parked_event() -> None:
    fired = timer("Noted", event=stored("Noted"))
    before = record(timers=(fired,))
    after = parked(
        before, evolve(waiting(1, "Noted"), id=fired.id), Fire(fired), machine(), write()
    )
    assert ([event.id for event in after.parked], after.timers) == ([fired.id], ())


def test_early_event_makes_a_document_that_expires() -> None:
    fresh = embryo("o", "life", machine(), write(NOW))
    brief = machine(early_events=HOUR)
    after = parked(fresh, waiting(1, "Noted"), None, brief, write(NOW))
    assert (after.status, after.state, after.version) == (Status.EMBRYO, "", 1)
    assert (after.expire_at, after.wake, after.inbox) == (NOW + HOUR, None, ("p1",))
    more = parked(after, waiting(2, "Noted"), None, brief, write())
    assert more.expire_at == NOW + HOUR  # not prolonged


def test_event_that_means_nothing_any_more_is_dropped_and_told() -> None:
    offered = waiting(1)
    after = dropped(record(parked=(offered,)), Offer(offered), "unhandled", machine(), write())
    (entry,) = after.history
    assert (after.parked, after.data, after.version) == ((), {"total": 1}, 4)
    assert (entry.event, entry.step, entry.message_id) == ("Paid", "unhandled", "p1")


def test_timeout_that_means_nothing_any_more_is_dropped_and_told() -> None:
    gone = timeout("gone")
    held = record(state="held", timers=(gone, timeout()))
    after = dropped(held, Fire(gone), "no longer declared", machine(), write())
    (entry,) = after.history
    assert (after.timers, after.wake) == ((timeout(),), NOW + HOUR)
    assert (entry.event, entry.step, entry.message_id) == ("timeout", "no longer declared", "gone")


# Compensation


def test_last_step_that_is_not_undone_is_next() -> None:
    first, second, third = step(1), step(2), step(3, CompensationStatus.DONE)
    assert pending(record(compensations=(first, second, third))) == second
    assert pending(record(compensations=(first, step(2, CompensationStatus.SKIPPED)))) == first
    assert pending(record(compensations=(third,))) is None
    assert pending(record()) is None


def compensating(*steps: RecordedCompensation) -> SagaRecord:
    return record(status=Status.COMPENSATING, goal="done", compensations=steps)


def test_undone_step_is_done_and_the_next_is_due() -> None:
    tried = step(2, failing=failing())
    sent = (Sent("command", stored()),)
    after = undone(
        compensating(step(1), tried), tried, {"total": 0}, sent, Order.done, machine(), write()
    )
    assert after.compensations == (step(1), step(2, CompensationStatus.DONE))
    assert (after.state, after.goal, after.status) == ("ready", "done", Status.COMPENSATING)
    assert (after.version, after.data, after.wake) == (4, {"total": 0}, LATER)
    assert (after.inbox, after.lease) == ((), OWN_LEASE)  # no message was handled
    (message,) = after.outbox
    assert (message.id, message.causation_id) == ("life-3", "m2")
    (entry,) = after.history
    assert (entry.event, entry.step, entry.message_id) == ("compensation", "s2", "m2")
    assert entry.attempt == 2


def test_last_undone_step_enters_the_goal() -> None:
    before = compensating(step(1), step(2, CompensationStatus.DONE))
    after = undone(before, step(1), {}, (), Order.done, machine(retain=DAY), write())
    assert (after.state, after.goal, after.status) == ("done", None, Status.FINISHED)
    assert (after.finished_at, after.expire_at) == (LATER, LATER + DAY)
    assert (after.history[0].target, after.wake) == ("done", None)


def test_compensation_with_an_open_goal_leaves_the_saga_active_and_arms_its_timeouts() -> None:
    after = undone(compensating(step(1)), step(1), {}, (), Order.held, machine(), write())
    assert (after.state, after.goal, after.status) == ("held", None, Status.ACTIVE)
    assert (after.finished_at, len(after.timers)) == (None, 2)


def test_cancelled_saga_ends_whatever_state_its_compensation_leads_to() -> None:
    before = evolve(compensating(step(1)), goal="ready", cancelled=True)
    after = undone(before, step(1), {}, (), Order.ready, machine(), write())
    assert (after.state, after.status, after.finished_at) == ("ready", Status.FINISHED, LATER)


def test_nothing_is_changed_in_place() -> None:
    before = evolve(compensating(step(1)), parked=(waiting(),), timers=(timer(),))
    copy = evolve(before)
    concluded(before, run(sent=(Sent("event", stored()),)), None, machine(), write())
    undone(before, step(1), {}, (Sent("event", stored()),), Order.done, machine(), write())
    failed(before, Undo(step(1)), "no", RetryPolicy(initial_delay=SECOND), 0.5, machine(), write())
    dropped(before, Fire(timer()), "unhandled", machine(), write())
    assert before == copy


def test_write_of_an_upgraded_saga_makes_it_one_that_was_stored_as_it_is() -> None:
    upgraded = record(stored=record(schema=1), schema=2)
    assert concluded(upgraded, run(), None, machine(), write()).stored is None
