"""What a saga has to do, in which order, and when it wakes for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sagaflow import CompensationStatus, RetryPolicy, Status, Suspension, SuspensionReason, Timer
from sagaflow._engine.conclusion import concluded, consumed, dropped, parked
from sagaflow._engine.failure import failed
from sagaflow._engine.work import (
    Fire,
    Offer,
    Undo,
    earliest,
    has_timer_before,
    next_offer,
    next_work,
)
from sagaflow._engine.writing import is_leased_to_others, scheduled_for_work, without_sent
from sagaflow._model.record import Lease, SagaRecord
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
    run,
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


def test_what_arose_first_comes_first_whenever_the_saga_was_written_last() -> None:
    first, second = timer("first", NOW + SECOND), timer("second", NOW + MINUTE)
    armed = record(timers=(second, first), updated_at=NOW + HOUR)
    early, late = waiting(), waiting(parked_at=NOW + 2 * SECOND)
    assert next_work(armed, MACHINE, LATER) == Fire(first)
    assert earliest(armed, MACHINE) == NOW + SECOND
    with_late = evolve(armed, parked=(late,))
    assert next_work(with_late, MACHINE, NOW + HOUR) == Fire(first)
    assert next_work(evolve(with_late, timers=(second,)), MACHINE, NOW + HOUR) == Offer(late)
    assert next_work(evolve(armed, parked=(early,)), MACHINE, NOW + HOUR) == Offer(early)


def test_clock_that_is_fast_does_not_put_an_event_behind_what_was_armed_later() -> None:
    ahead = record(parked=(waiting(parked_at=NOW + HOUR),), timers=(timer(due=NOW + MINUTE),))
    assert next_work(ahead, MACHINE, NOW) == Offer(waiting(parked_at=NOW + HOUR))
    assert earliest(ahead, MACHINE) == NOW


FAILED = failing(due=NOW + HOUR)
INSTANTS = st.sampled_from([NOW, NOW + SECOND, NOW + 2 * SECOND, NOW + MINUTE])
ARISING = st.lists(st.tuples(st.booleans(), INSTANTS), min_size=1, max_size=6)


@given(ARISING, INSTANTS, st.integers(0, 5))
def test_work_is_done_in_the_order_in_which_it_arose_and_what_failed_holds_up_the_rest(
    arising: list[tuple[bool, datetime]], written_at: datetime, number: int
) -> None:
    """Whatever is taken out after it was done, what is next arose no later than all the rest."""
    timers = tuple(timer(f"t{n}", at) for n, (is_timer, at) in enumerate(arising) if is_timer)
    instants = sorted(at for is_timer, at in arising if not is_timer)
    parked = tuple(waiting(n, parked_at=at) for n, at in enumerate(instants))
    busy = record(timers=timers, parked=parked, updated_at=max([written_at, *instants]))
    for _ in arising[:number]:
        if (work := next_work(busy, MACHINE, NOW + HOUR)) is None:
            break
        busy = consumed(busy, cast("Fire | Offer", work))
    work, wake = next_work(busy, MACHINE, NOW + HOUR), earliest(busy, MACHINE)
    rest = [*(timer.due for timer in busy.timers), *(event.parked_at for event in busy.parked)]
    if work is None or wake is None:
        assert (work, wake, rest) == (None, None, [])
        return
    arisen = work.timer.due if isinstance(work, Fire) else cast("Offer", work).event.parked_at
    assert arisen == min(rest)
    assert next_work(busy, MACHINE, wake) == work
    assert next_work(busy, MACHINE, wake - SECOND) is None
    match work:
        case Fire(due):
            tried = tuple(evolve(t, failing=FAILED) if t is due else t for t in busy.timers)
            held = evolve(busy, timers=tried)
        case Offer(event):
            offered = tuple(evolve(e, failing=FAILED) if e is event else e for e in busy.parked)
            held = evolve(busy, parked=offered)
        case _:
            raise AssertionError(work)
    assert next_work(held, MACHINE, NOW + HOUR - SECOND) is None
    assert earliest(held, MACHINE) == NOW + HOUR
    again = next_work(held, MACHINE, NOW + HOUR)
    assert consumed(held, cast("Fire | Offer", again)) == consumed(busy, work)


@pytest.mark.parametrize(
    ("armed", "accepted", "before"),
    [
        (timer(due=LATER), LATER + SECOND, True),
        (timer(due=LATER), LATER, False),
        (timer(due=LATER, failing=failing()), LATER, True),
        (timer(due=LATER), NOW, False),
    ],
)
def test_timer_comes_before_an_event_that_is_accepted_after_it_was_due(
    armed: Timer, accepted: datetime, before: bool
) -> None:
    assert has_timer_before(record(timers=(armed,)), accepted) is before
    still = record(timers=(armed,), status=Status.SUSPENDED)
    assert not has_timer_before(still, accepted)


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


def test_events_that_guards_have_deferred_are_asked_again_only_after_a_change() -> None:
    """Parking one, or a failure, changes nothing that they are asked about."""
    asked = record(state="held", parked=(waiting(1, "Noted", offered=3), waiting(2, "Noted")))
    first = parked(asked, waiting(2, "Noted"), Offer(waiting(2, "Noted")), MACHINE, write())
    assert [event.offered for event in first.parked] == [4, 4]
    more = parked(first, waiting(3, "Noted"), None, MACHINE, write())
    tried = evolve(more, timers=(timer(due=NOW),))
    failed_once = failed(tried, Fire(timer(due=NOW)), "no", RetryPolicy(), 0, MACHINE, write())
    gone = dropped(tried, Fire(timer(due=NOW)), "unhandled", MACHINE, write())
    for after in (first, more, failed_once, gone):
        assert next_offer(after, MACHINE) is None
    noted = concluded(more, run(), None, MACHINE, write())
    assert next_offer(noted, MACHINE) == more.parked[0]


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
    over = evolve(undoing, compensations=(step(1, CompensationStatus.DONE),))
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


@pytest.mark.parametrize("sent", [(), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("lease", [None, OTHERS, evolve(OTHERS, until=LATER)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"timers": (timer(due=LATER + SECOND),)},
        {"parked": (waiting(),)},
        {"sending": failing(due=LATER + SECOND)},
        {"sending": failing(due=LATER + SECOND), "timers": (timer(due=NOW),)},
        {"status": Status.FINISHED, "finished_at": LATER},
    ],
)
def test_without_what_was_sent_a_saga_is_due_when_the_rest_is(
    changes: dict[str, Any], lease: Lease | None, sent: tuple[int, ...]
) -> None:
    messages = (outgoing(1), outgoing(2))
    waits = record(outbox=messages, lease=lease, updated_at=LATER, **changes)
    after = scheduled_for_work(waits, MACHINE, write())
    left = tuple(message for message in messages if message.sequence not in sent)
    expected = scheduled_for_work(evolve(waits, outbox=left), MACHINE, write())
    ids = {message.id for message in messages} - {message.id for message in left}
    assert without_sent(after, ids, MACHINE, write()) == expected


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
