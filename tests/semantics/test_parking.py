"""Events that wait: deferred, early, behind a failure, behind a compensation."""

from __future__ import annotations

import anyio
import pytest

from sagaflow import (
    LimitExceededError,
    Limits,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    SagaRepository,
    Status,
    SuspensionReason,
)
from sagaflow.testing import ManualClock
from tests.semantics.patient import (
    FAULTS,
    HOUR,
    MINUTE,
    Booking,
    Failed,
    Faults,
    Noted,
    Opened,
    Paid,
    Reserved,
    log_of,
    orchestrator,
)
from tests.semantics.support import PausesAfterRead, stored

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def faults() -> Faults:
    FAULTS.__init__()  # type: ignore[misc]
    return FAULTS


async def paid(runner: Orchestrator, key: str = "b") -> None:
    for event in (Opened(key), Reserved(key), Paid(key)):
        await runner.handle(event)


async def test_deferred_event_is_offered_after_the_next_transition(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    outcome = await runner.handle(Noted("b", "1"))
    assert (outcome.kind, outcome.state) == (OutcomeKind.DEFERRED, Booking.opened)
    await runner.handle(Noted("b", "2"))
    await runner.handle(Reserved("b"))
    assert await log_of(runner) == ["opened", "reserved"]
    await runner.handle(Paid("b"))
    assert await log_of(runner) == ["opened", "reserved", "paid", "noted 1", "noted 2"]
    found = await runner.find(Booking, "b")
    assert found is not None and found.parked == ()


async def test_deferred_event_survives_a_restart(
    repository: SagaRepository, clock: ManualClock
) -> None:
    first = orchestrator(repository, clock)
    await first.handle(Opened("b"))
    await first.handle(Noted("b", "1"), headers={"trace": "t-1"})
    found = await first.find(Booking, "b")
    assert found is not None and found.parked[0].headers == {"trace": "t-1"}
    second = orchestrator(repository, clock)
    await second.handle(Reserved("b"))
    await second.handle(Paid("b"))
    assert (await log_of(second))[-1] == "noted 1"


async def test_parked_event_that_comes_again_is_a_duplicate(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    await runner.handle(Noted("b", "1"), message_id="n-1")
    again = await runner.handle(Noted("b", "1"), message_id="n-1")
    assert again.kind is OutcomeKind.DUPLICATE
    await runner.handle(Reserved("b"))
    await runner.handle(Paid("b"))
    assert (await runner.handle(Noted("b", "1"), message_id="n-1")).kind is OutcomeKind.DUPLICATE
    assert (await log_of(runner)).count("noted 1") == 1


async def test_early_event_waits_for_its_saga(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    outcome = await runner.handle(Noted("b", "early"), message_id="n-1")
    assert (outcome.kind, outcome.state, outcome.version) == (OutcomeKind.DEFERRED, None, 0)
    assert await runner.find(Booking, "b") is None
    assert set((await repository.count_by_state(Booking)).values()) == {0}
    assert [i async for i in repository.find_stale(Booking, HOUR)] == []
    assert (await runner.handle(Noted("b"), message_id="n-1")).kind is OutcomeKind.DUPLICATE
    assert (await runner.handle(Paid("b"))).kind is OutcomeKind.NOT_FOUND
    assert (await runner.handle(Opened("b"))).kind is OutcomeKind.STARTED
    await runner.handle(Reserved("b"))
    await runner.handle(Paid("b"))
    assert (await log_of(runner))[-1] == "noted early"


async def test_saga_was_created_when_it_started_not_when_its_first_event_came_early(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Noted("b", "early"))
    clock.advance(MINUTE)
    await runner.handle(Opened("b"))
    found = await runner.find(Booking, "b")
    assert found is not None
    assert (found.created_at, found.saga.log) == (clock.now(), ["opened"])


async def test_saga_that_starts_while_its_early_events_expire_is_not_lost(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """One process finds them expired; another has started the saga before it acts on that."""
    await orchestrator(repository, clock).handle(Noted("b", "early"))
    pausing = PausesAfterRead(repository)
    ahead = ManualClock(clock.now() + HOUR)
    late = orchestrator(pausing, ahead)
    outcomes: list[OutcomeKind] = []

    async def note_again() -> None:
        outcomes.append((await late.handle(Noted("b", "late"))).kind)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(note_again)
        await pausing.has_read.wait()
        await paid(orchestrator(repository, clock))
        pausing.go_on.set()
    assert outcomes == [OutcomeKind.STAYED]
    assert await log_of(late) == ["opened", "reserved", "paid", "noted early", "noted late"]


async def test_expired_events_are_neither_offered_nor_taken_for_duplicates(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Also when the database has not removed them yet."""
    runner = orchestrator(repository, clock)
    await runner.handle(Noted("b", "early"), message_id="n-1")
    late = orchestrator(repository, ManualClock(clock.now() + HOUR))
    again = await late.handle(Noted("b", "again"), message_id="n-1")
    assert again.kind is OutcomeKind.DEFERRED
    document = await stored(repository, Booking, "b")
    assert document is not None
    assert [event["body"]["text"] for event in document["parked"]] == ["again"]
    assert document["expire_at"] == clock.now() + 2 * HOUR
    await paid(late)
    assert await log_of(late) == ["opened", "reserved", "paid", "noted again"]


async def test_early_event_whose_saga_never_comes_is_forgotten_in_time(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Noted("b", "early"))
    clock.advance(HOUR)
    for event in (Opened("b"), Reserved("b"), Paid("b")):
        await runner.handle(event)
    assert await log_of(runner) == ["opened", "reserved", "paid"]
    found = await runner.find(Booking, "b")
    assert found is not None
    assert found.parked == ()


async def test_event_from_the_bus_whose_handler_fails_is_tried_again(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus) as runner:
        await paid(runner)
        faults.noted = ValueError("no paper")
        await bus.publish(Noted("b", "1"), message_id="n-1")
        found = await runner.find(Booking, "b")
        assert found is not None and found.status is Status.ACTIVE
        (waiting,) = found.parked
        assert waiting.failing is not None and waiting.failing.attempts == 1
        assert "no paper" in waiting.failing.error
        # What comes later waits behind it, in order.
        assert (await runner.handle(Noted("b", "2"))).kind is OutcomeKind.DEFERRED
        faults.noted = None
        clock.advance(MINUTE)
        await runner.run_due()
        assert (await log_of(runner))[-2:] == ["noted 1", "noted 2"]
        found = await runner.find(Booking, "b")
        assert found is not None and found.history[-2].attempt == 2


async def test_event_that_keeps_failing_suspends_its_saga_only(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    bus = MemoryBus()
    retry = RetryPolicy(max_age=5 * MINUTE)
    async with orchestrator(repository, clock, bus=bus, retry=retry) as runner:
        await paid(runner)
        await paid(runner, "other")
        faults.noted = ValueError("no paper")
        await bus.publish(Noted("b", "1"), message_id="n-1")
        for _ in range(10):
            clock.advance(MINUTE)
            await runner.run_due()
        found = await runner.find(Booking, "b")
        assert found is not None and found.status is Status.SUSPENDED
        assert found.suspension is not None
        assert found.suspension.reason is SuspensionReason.HANDLER
        assert found.suspension.subject == "n-1"
        assert "Traceback" in found.suspension.error and "no paper" in found.suspension.error
        assert found.parked[0].message.body == {"key": "b", "text": "1"}
        assert (await runner.handle(Noted("b", "2"))).kind is OutcomeKind.SUSPENDED
        faults.noted = None
        assert (await runner.handle(Noted("other", "1"))).kind is OutcomeKind.STAYED
        ran = len(faults.ran)
        clock.advance(HOUR)
        assert await runner.run_due() == 0
        assert len(faults.ran) == ran


async def test_event_that_arrives_during_a_compensation_is_parked(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    runner = orchestrator(repository, clock)
    await paid(runner)
    faults.release = OSError("closed")
    assert (await runner.handle(Failed("b"))).kind is OutcomeKind.COMPENSATING
    assert (await runner.handle(Noted("b", "1"))).kind is OutcomeKind.DEFERRED
    faults.release = None
    clock.advance(MINUTE)
    await runner.run_due()
    found = await runner.find(Booking, "b")
    assert found is not None and found.status is Status.FINISHED and found.parked == ()
    assert "noted 1" not in found.saga.log


async def test_more_parked_events_than_allowed_are_refused(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = Orchestrator(
        [Booking], repository, clock=clock, background=False, limits=Limits(max_parked=2)
    )
    await runner.handle(Opened("b"))
    await runner.handle(Noted("b", "1"))
    await runner.handle(Noted("b", "2"))
    with pytest.raises(LimitExceededError, match=r"3 parked events; 2 are allowed"):
        await runner.handle(Noted("b", "3"))
    found = await runner.find(Booking, "b")
    assert found is not None and len(found.parked) == 2


async def test_saga_that_another_process_starts_in_a_forgotten_document_is_not_lost(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Noted("b", "early"))
    clock.advance(HOUR)
    document = await repository.load_document("Booking", "b", message_id=None)
    if document is None:  # the memory repository removes it at once
        return
    # Still there, as before the database's own clean-up: both find it and one of them wins.
    await runner.handle(Opened("b"))
    assert (await orchestrator(repository, clock).handle(Noted("b", "2"))).kind is (
        OutcomeKind.DEFERRED
    )
    assert await log_of(runner) == ["opened"]
