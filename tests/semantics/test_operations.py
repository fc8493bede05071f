"""What an operator can do: retry, resume, skip, cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from attrs import field

from sagaflow import (
    CompensationStatus,
    MemoryBus,
    OperationError,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaRepository,
    State,
    Status,
    SuspensionReason,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.patient import (
    FAULTS,
    HOUR,
    SOON,
    Booking,
    Failed,
    Faults,
    Noted,
    Opened,
    Paid,
    Release,
    Reserved,
    log_of,
    orchestrator,
    suspended_by_a_note,
    until_suspended,
)
from tests.semantics.support import PausesAfterRead, stored_bytes

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def faults() -> Faults:
    FAULTS.__init__()  # type: ignore[misc]
    return FAULTS


async def test_retry_tries_the_event_again_and_then_the_parked_ones(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        await suspended_by_a_note(runner, bus, clock, faults)
        await runner.retry(Booking, "b")
        found = await runner.find(Booking, "b")
        assert found is not None and found.status is Status.ACTIVE and found.suspension is None
        assert found.saga.log[-2:] == ["noted 1", "noted 2"]
        audit = [entry for entry in found.history if entry.event == "operator"]
        assert [entry.step for entry in audit] == ["retry"]


async def test_retry_that_fails_waits_again_before_it_suspends(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        await suspended_by_a_note(runner, bus, clock, faults)
        faults.noted = ValueError("still none")
        await runner.retry(Booking, "b")
        found = await runner.find(Booking, "b")
        assert found is not None and found.status is Status.ACTIVE
        assert await until_suspended(runner, clock) is SuspensionReason.HANDLER


async def test_resume_leaves_the_work_to_the_background(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        await suspended_by_a_note(runner, bus, clock, faults)
        await runner.resume(Booking, "b")
        assert "noted 1" not in await log_of(runner)
        assert await runner.run_due() == 1
        assert (await log_of(runner))[-2:] == ["noted 1", "noted 2"]


async def test_skip_drops_the_event_and_goes_on(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        await suspended_by_a_note(runner, bus, clock, faults)
        await runner.skip(Booking, "b")
        log = await log_of(runner)
        assert "noted 1" not in log and log[-1] == "noted 2"


async def test_compensation_that_keeps_failing_is_suspended_with_its_step_pending(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    runner = orchestrator(repository, clock, retry=SOON)
    for event in (Opened("b"), Reserved("b"), Paid("b")):
        await runner.handle(event)
    faults.release = OSError("closed")
    await runner.handle(Failed("b"))
    assert await until_suspended(runner, clock) is SuspensionReason.COMPENSATION
    found = await runner.find(Booking, "b")
    assert found is not None
    assert [entry.status for entry in found.compensations] == [CompensationStatus.PENDING]
    faults.release = None
    await runner.retry(Booking, "b")
    found = await runner.find(Booking, "b")
    assert found is not None and found.state == Booking.failed
    assert [entry.status for entry in found.compensations] == [CompensationStatus.DONE]


async def test_skipped_compensation_is_marked_and_the_saga_enters_its_goal(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    runner = orchestrator(repository, clock, retry=SOON)
    for event in (Opened("b"), Reserved("b")):
        await runner.handle(event)
    faults.release = OSError("closed")
    await runner.handle(Failed("b"))
    await until_suspended(runner, clock)
    await runner.skip(Booking, "b")
    found = await runner.find(Booking, "b")
    assert found is not None and found.state == Booking.failed
    assert found.status is Status.FINISHED
    assert [entry.status for entry in found.compensations] == [CompensationStatus.SKIPPED]


async def test_timeout_that_keeps_failing_is_suspended_and_retried(
    repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    runner = orchestrator(repository, clock, retry=SOON)
    await runner.handle(Opened("b"))
    faults.timeout = OSError("closed")
    clock.advance(HOUR)
    await runner.run_due()
    assert await until_suspended(runner, clock) is SuspensionReason.HANDLER
    faults.timeout = None
    await runner.retry(Booking, "b")
    found = await runner.find(Booking, "b")
    assert found is not None and found.state == Booking.expired


async def test_message_that_the_bus_keeps_refusing_suspends_and_can_be_skipped(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()  # nobody handles Release
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        for event in (Opened("b"), Reserved("b"), Failed("b")):
            await runner.handle(event)
        assert await until_suspended(runner, clock) is SuspensionReason.MESSAGE
        found = await runner.find(Booking, "b")
        assert found is not None and len(found.outbox) == 1
        assert (await runner.handle(Noted("b"))).kind is OutcomeKind.FINISHED
        await runner.skip(Booking, "b")
        found = await runner.find(Booking, "b")
        assert found is not None and found.outbox == () and found.status is Status.FINISHED
        assert await runner.run_due() == 0  # nothing keeps it awake


async def test_message_that_the_bus_refused_is_sent_on_retry(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        for event in (Opened("b"), Reserved("b"), Failed("b")):
            await runner.handle(event)
        await until_suspended(runner, clock)
        received: list[Release] = []
        bus.subscribe(Release, received.append)
        await runner.retry(Booking, "b")
        assert received == [Release("b")]


async def test_cancel_undoes_what_was_done_and_ends_the_saga(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    for event in (Opened("b"), Reserved("b"), Noted("b", "late")):
        await runner.handle(event)
    await runner.cancel(Booking, "b", state=Booking.failed)
    found = await runner.find(Booking, "b")
    assert found is not None
    assert (found.state, found.status) == (Booking.failed, Status.FINISHED)
    assert found.saga.log[-1] == "released"
    assert found.timers == () and found.parked == ()
    assert "cancel" in [entry.step for entry in found.history]
    assert (await runner.handle(Paid("b"))).kind is OutcomeKind.FINISHED


async def test_cancel_without_a_state_ends_the_saga_where_it_is(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    await runner.cancel(Booking, "b")
    found = await runner.find(Booking, "b")
    assert found is not None
    assert (found.state, found.status) == (Booking.opened, Status.FINISHED)
    assert found.finished_at == clock.now()


@pytest.mark.parametrize("action", ["retry", "skip", "cancel"])
async def test_what_follows_may_be_left_to_the_background(
    action: str, repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    """As whoever has neither the bus nor the services wants it."""
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        await suspended_by_a_note(runner, bus, clock, faults)
        before = await log_of(runner)
        await getattr(runner, action)(Booking, "b", wait=False)
        found = await runner.find(Booking, "b")
        assert found is not None and found.suspension is None
        assert found.saga.log == before
        assert await runner.run_due() == 1
        assert await log_of(runner) != before


@pytest.mark.parametrize("action", ["retry", "resume", "skip", "cancel"])
async def test_what_a_tool_leaves_to_workers_is_theirs_at_once(
    action: str, repository: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    """A process without a background would keep them off until its lease ends."""
    bus = MemoryBus()
    async with orchestrator(repository, clock, bus=bus, retry=SOON) as runner:
        await suspended_by_a_note(runner, bus, clock, faults)
        before = await log_of(runner)
    tool = orchestrator(repository, clock, bus=bus)
    waits = {} if action == "resume" else {"wait": False}
    await getattr(tool, action)(Booking, "b", **waits)
    assert await log_of(tool) == before
    free = repository.due("Booking", clock.now(), unclaimed=True)
    assert [key async for key in free] == ["b"]


async def test_operation_that_is_overtaken_once_sees_what_the_other_has_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await orchestrator(repository, clock).handle(Opened("b"))
    pausing = PausesAfterRead(repository)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orchestrator(pausing, clock).cancel, Booking, "b")
        await pausing.has_read.wait()
        await orchestrator(repository, clock).handle(Reserved("b"))
        pausing.go_on.set()
    found = await repository.find(Booking, "b")
    assert found is not None
    assert found.saga.log == ["opened", "reserved", "released"]


async def test_skip_of_the_step_before_a_state_that_is_gone_is_refused(
    memory: SagaRepository, clock: ManualClock, faults: Faults
) -> None:
    """Without that state, the saga would compensate for ever, with nothing left to do."""

    class Shorter(Saga, name="Booking", correlate_by="key"):
        reserved = State()
        closed = State(final=True)
        log: list[str] = field(factory=list[str])
        reserve = initially.on(Reserved).goto(reserved)
        close = during(reserved).on(Opened).goto(closed)

    runner = orchestrator(memory, clock, retry=SOON)
    for event in (Opened("b"), Reserved("b")):
        await runner.handle(event)
    faults.release = OSError("closed")
    await runner.handle(Failed("b"))
    assert await until_suspended(runner, clock) is SuspensionReason.COMPENSATION
    before = await stored_bytes(memory, Booking, "b")
    newer = Orchestrator([Shorter], memory, clock=clock, background=False)
    with pytest.raises(OperationError, match=r"leads to the state 'failed', which .* put it back"):
        await newer.skip(Shorter, "b")
    assert await stored_bytes(memory, Booking, "b") == before
    await runner.skip(Booking, "b")
    found = await runner.find(Booking, "b")
    assert found is not None and found.status is Status.FINISHED


Operation = Callable[[Orchestrator, str], Awaitable[None]]


@pytest.mark.parametrize("name", ["retry", "resume", "skip"])
async def test_operation_on_a_saga_that_is_not_suspended_is_refused(
    repository: SagaRepository, clock: ManualClock, name: str
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    operation: Callable[..., Awaitable[None]] = getattr(runner, name)
    with pytest.raises(OperationError, match=f"Booking 'b': cannot {name}, since it is active"):
        await operation(Booking, "b")
    with pytest.raises(OperationError, match=f"there is no such saga to {name}"):
        await operation(Booking, "unknown")


async def test_cancel_of_a_saga_that_has_ended_or_into_a_wrong_state_is_refused(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    with pytest.raises(OperationError, match="its final states: closed, expired, failed"):
        await runner.cancel(Booking, "b", state=Booking.paid)
    await runner.handle(Failed("b"))
    with pytest.raises(OperationError, match="cannot cancel, since it has ended"):
        await runner.cancel(Booking, "b")
