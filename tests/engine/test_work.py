"""What a saga has to do, in which order, and when it wakes for it."""

from __future__ import annotations

import pytest
from attrs import evolve

from sagaflow import Status, StepStatus, Suspension, SuspensionReason
from sagaflow._engine.work import Fire, Offer, Undo, earliest, next_offer, next_work
from sagaflow._engine.writing import is_leased_to_others, scheduled_for_work
from sagaflow.record import Lease, SagaRecord
from tests.engine.support import (
    HOUR,
    LATER,
    LEASE,
    MINUTE,
    NOW,
    OWNER,
    SECOND,
    failing,
    machine,
    outgoing,
    record,
    step,
    timer,
    waiting,
    write,
)

MACHINE = machine()
OTHERS = Lease(owner="another process", until=LATER + SECOND)


def suspended(reason: SuspensionReason, **changes: object) -> SagaRecord:
    why = Suspension(reason=reason, subject="x", error="no", since=NOW)
    return record(status=Status.SUSPENDED, suspension=why, **changes)


def test_idle_saga_has_nothing_to_do() -> None:
    assert next_work(record(), MACHINE, NOW) is None
    assert earliest(record(), MACHINE) is None


def test_timer_is_due_at_its_instant_and_not_before() -> None:
    armed = record(timers=(timer(),))
    assert next_work(armed, MACHINE, LATER - SECOND) is None
    assert next_work(armed, MACHINE, LATER) == Fire(timer())
    assert earliest(armed, MACHINE) == LATER


def test_what_is_due_longest_comes_first() -> None:
    first, second = timer("first", NOW + SECOND), timer("second", NOW + MINUTE)
    armed = record(timers=(second, first), parked=(waiting(),), updated_at=NOW + 2 * SECOND)
    assert next_work(armed, MACHINE, LATER) == Fire(first)
    assert next_work(evolve(armed, timers=(second,)), MACHINE, LATER) == Offer(waiting())
    assert earliest(armed, MACHINE) == NOW + SECOND


def test_parked_event_is_due_at_once_or_when_it_is_tried_again() -> None:
    assert earliest(record(parked=(waiting(),)), MACHINE) == NOW
    failed = record(parked=(waiting(failing=failing(due=NOW + HOUR)),))
    assert earliest(failed, MACHINE) == NOW + HOUR
    assert next_work(failed, MACHINE, LATER) is None


def test_event_that_would_only_be_deferred_again_is_not_offered() -> None:
    """The state `ready` defers it without asking; in `held`, a guard is asked once a version."""
    deferred, other = waiting(1, "Noted"), waiting(2, "Paid")
    assert next_offer(record(parked=(deferred,)), MACHINE) is None
    assert next_offer(record(parked=(deferred, other)), MACHINE) == other
    assert next_offer(record(state="held", parked=(deferred,)), MACHINE) == deferred
    asked = waiting(1, "Noted", offered=3)
    assert next_offer(record(state="held", parked=(asked,)), MACHINE) is None
    assert next_offer(record(state="held", parked=(asked,), version=4), MACHINE) == asked


def test_event_that_failed_holds_up_those_behind_it() -> None:
    failed, other = waiting(1, "Noted", offered=3, failing=failing()), waiting(2, "Paid")
    assert next_offer(record(parked=(failed, other)), MACHINE) == failed


def test_event_of_a_class_that_is_gone_is_offered_so_that_somebody_learns_of_it() -> None:
    unknown = waiting(1, "Removed", offered=3)
    assert next_offer(record(parked=(unknown,)), MACHINE) == unknown


def test_compensation_comes_before_anything_else() -> None:
    undoing = record(
        status=Status.COMPENSATING,
        goal="done",
        compensations=(step(1), step(2)),
        timers=(timer("early", NOW),),
        parked=(waiting(),),
    )
    assert next_work(undoing, MACHINE, LATER) == Undo(step(2))
    failed = evolve(undoing, compensations=(step(1), step(2, failing=failing(due=NOW + HOUR))))
    assert next_work(failed, MACHINE, LATER) is None
    assert earliest(failed, MACHINE) == NOW + HOUR
    over = evolve(undoing, compensations=(step(1, StepStatus.DONE),))
    assert next_work(over, MACHINE, LATER) is None


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.FINISHED, Status.EMBRYO])
def test_saga_that_does_not_run_fires_and_offers_nothing(status: Status) -> None:
    still = record(status=status, timers=(timer("a", NOW),), parked=(waiting(),))
    assert next_work(still, MACHINE, LATER) is None
    assert earliest(still, MACHINE) is None


# Messages


def test_message_is_due_at_once_or_when_it_is_offered_again() -> None:
    assert earliest(record(outbox=(outgoing(),)), MACHINE) == NOW
    refused = record(outbox=(outgoing(),), sending=failing(due=NOW + HOUR))
    assert earliest(refused, MACHINE) == NOW + HOUR
    assert earliest(record(sending=failing(due=NOW + HOUR)), MACHINE) is None


@pytest.mark.parametrize("reason", SuspensionReason)
def test_suspended_saga_still_sends_unless_that_is_why(reason: SuspensionReason) -> None:
    found = earliest(suspended(reason, outbox=(outgoing(),)), MACHINE)
    assert found == (None if reason is SuspensionReason.MESSAGE else NOW)


# Leases


def test_who_writes_what_is_due_at_once_leases_it() -> None:
    after = scheduled_for_work(record(parked=(waiting(),)), MACHINE, write())
    assert (after.wake, after.lease) == (NOW, Lease(owner=OWNER, until=LATER + LEASE))


def test_what_is_due_later_is_leased_to_nobody() -> None:
    armed = record(timers=(timer(due=LATER + SECOND),), lease=OTHERS)
    after = scheduled_for_work(armed, MACHINE, write())
    assert (after.wake, after.lease) == (LATER + SECOND, None)
    idle = scheduled_for_work(record(wake=NOW, lease=OTHERS), MACHINE, write())
    assert (idle.wake, idle.lease) == (None, None)


def test_lease_of_others_on_sending_is_left_to_them() -> None:
    sending = record(outbox=(outgoing(),), lease=OTHERS)
    assert scheduled_for_work(sending, MACHINE, write()).lease == OTHERS
    more = evolve(sending, parked=(waiting(),))  # whoever writes does that
    assert scheduled_for_work(more, MACHINE, write()).lease == Lease(
        owner=OWNER, until=LATER + LEASE
    )
    ended = scheduled_for_work(sending, MACHINE, write(LATER + HOUR)).lease
    assert ended is not None and ended.owner == OWNER


@pytest.mark.parametrize(
    ("lease", "leased"),
    [
        (None, False),
        (OTHERS, True),
        (evolve(OTHERS, owner=OWNER), False),
        (evolve(OTHERS, until=LATER), False),
    ],
)
def test_lease_counts_for_others_until_it_ends(lease: Lease | None, leased: bool) -> None:
    assert is_leased_to_others(record(lease=lease), OWNER, LATER) is leased
