"""Waiting for a saga: whoever takes it there, and for no longer than was said."""

from __future__ import annotations

import pickle
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    Instance,
    MemoryRepository,
    MessageId,
    Orchestrator,
    Saga,
    SagaflowError,
    SagaId,
    SagaRepository,
    ServerUnavailableError,
    State,
    Status,
    WaitError,
    WaitTimeoutError,
    during,
    during_any,
    initially,
)
from sagaflow._codec.elements import Document
from sagaflow.testing import ManualClock
from tests.semantics.support import Away, Passing
from tests.virtual_time import run_in_virtual_time

RUNTIMES = ("asyncio", "trio")
LONG = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@frozen
class Placed:
    order: str


@frozen
class Paid:
    order: str


@frozen
class Closed:
    order: str


class Order(Saga, correlate_by="order"):
    paying = State()
    paid = State()
    closed = State(final=True)
    expired = State(final=True)

    start = initially.on(Placed).goto(paying)
    pay = during(paying).on(Paid).goto(paid)
    close = during_any.on(Closed).goto(closed)

    @during(paying).after(timedelta(minutes=1)).goto(expired)
    def expire(self, ctx: Context) -> None:
        raise RuntimeError("no")


class Counting(Passing):
    """Counts looks, and fails them on demand."""

    def __init__(self, inner: SagaRepository, away: Away | None = None) -> None:
        super().__init__(inner)
        self.looks = 0
        self.away = away or Away()

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        self.looks += 1
        await self.away.fail(None)
        return await super().load_document(saga, correlation_id, message_id=message_id)


# What is stored here, and elsewhere


@pytest.mark.anyio
async def test_saga_that_has_ended_is_there_at_once(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Order], repository, clock=clock)
    await orchestrator.handle(Placed("o"))
    waiting = await orchestrator.wait_for(Order, "o", state=Order.paying)
    assert (waiting.state, waiting.status) == (Order.paying, Status.ACTIVE)
    await orchestrator.handle(Closed("o"))
    ended = await orchestrator.wait_for(Order, "o", finished=True)
    assert (ended.state, ended.status) == (Order.closed, Status.FINISHED)
    assert ended == await orchestrator.find(Order, "o")
    assert await orchestrator.wait_for(Order, "o", state="closed") == ended


@pytest.mark.anyio
async def test_saga_of_another_process_is_waited_for(
    repository: SagaRepository, clock: ManualClock
) -> None:
    web, worker = (Orchestrator([Order], repository, clock=clock) for _ in range(2))
    found: list[Instance[Order]] = []

    async def wait() -> None:
        found.append(await web.wait_for(Order, "o", state=Order.paid, timeout=LONG))
        found.append(await web.wait_for(Order, "o", finished=True, timeout=LONG))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)  # for what is not there yet
            await worker.handle(Placed("o"))
            await worker.handle(Paid("o"))
            while not found:
                await anyio.sleep(0.002)
            await worker.handle(Closed("o"))
    assert [instance.state for instance in found] == [Order.paid, Order.closed]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("whose", ["own", "another's"])
def test_how_long_after_the_write_it_returns(runtime: str, whose: str) -> None:
    """At once if this process writes, and otherwise by the next look."""
    ended, returned = 0.0, 0.0

    async def program() -> None:
        nonlocal ended, returned
        repository = MemoryRepository()
        orchestrator = Orchestrator([Order], repository)
        writer = orchestrator if whose == "own" else Orchestrator([Order], repository)

        async def end() -> None:
            nonlocal ended
            await writer.handle(Placed("o"))
            await anyio.sleep(12.3)
            await writer.handle(Closed("o"))
            ended = anyio.current_time()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            await orchestrator.wait_for(Order, "o", finished=True)
            returned = anyio.current_time()

    run_in_virtual_time(runtime, program)
    late = returned - ended
    assert late == 0 if whose == "own" else 0 < late <= 0.25


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_stored_while_it_looks_is_not_overlooked(runtime: str) -> None:
    """What the look finds is older than that."""

    async def program() -> float:
        store = MemoryRepository()

        class Late(Passing):
            async def load_document(
                self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
            ) -> Document | None:
                found = await super().load_document(saga, correlation_id, message_id=message_id)
                await anyio.sleep(1)
                return found

        orchestrator = Orchestrator([Order], Late(store))
        await orchestrator.handle(Placed("o"))
        begun = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: orchestrator.wait_for(Order, "o", state=Order.paid))
            await anyio.sleep(0.5)
            await orchestrator.handle(Paid("o"))
        return anyio.current_time() - begun

    assert run_in_virtual_time(runtime, program) == pytest.approx(2)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_looks_become_rare(runtime: str) -> None:
    """And what is stored of the saga meanwhile costs no look, unless it is what is waited for."""

    async def program() -> int:
        repository = MemoryRepository()
        counting = Counting(repository)
        orchestrator = Orchestrator([Order], counting, hot_sagas=10)
        await orchestrator.handle(Placed("o"))
        with pytest.raises(WaitTimeoutError):
            await orchestrator.wait_for(Order, "o", finished=True, timeout=timedelta(minutes=1))
        return counting.looks

    # At the longest pause on average there would be 320 of them; with a short one, thousands.
    assert 240 <= run_in_virtual_time(runtime, program) <= 400


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_step_on_the_way_costs_no_look(runtime: str) -> None:
    async def program() -> tuple[int, int]:
        counting = Counting(MemoryRepository())
        orchestrator = Orchestrator([Order], counting)
        await orchestrator.handle(Placed("o"))
        before = on_the_way = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: orchestrator.wait_for(Order, "o", finished=True))
            await anyio.sleep(0.001)
            before = counting.looks
            await orchestrator.handle(Paid("o"))
            await anyio.lowlevel.checkpoint()
            on_the_way = counting.looks - before
            await orchestrator.handle(Closed("o"))
        return on_the_way, counting.looks - before

    assert run_in_virtual_time(runtime, program) == (0, 1)


# What does not come


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_timeout_says_how_the_saga_is(runtime: str) -> None:
    async def program() -> tuple[WaitTimeoutError, WaitTimeoutError, float]:
        orchestrator = Orchestrator([Order], MemoryRepository())
        begun = anyio.current_time()
        with pytest.raises(WaitTimeoutError) as missing:
            await orchestrator.wait_for(Order, "o", finished=True, timeout=SECOND)
        took = anyio.current_time() - begun
        await orchestrator.handle(Placed("o"))
        with pytest.raises(WaitTimeoutError) as waiting:
            await orchestrator.wait_for(Order, "o", state=Order.paid, timeout=SECOND)
        return missing.value, waiting.value, took

    missing, waiting, took = run_in_virtual_time(runtime, program)
    assert took == pytest.approx(1)
    assert isinstance(missing, SagaflowError)
    assert isinstance(missing, TimeoutError)
    assert (missing.state, waiting.state) == (None, "paying")
    assert (missing.timeout, missing.saga, missing.correlation_id) == (SECOND, "Order", "o")
    assert str(missing).startswith(
        "Order 'o' was not finished within 0:00:01: there is no such saga, or it has been removed."
    )
    assert str(waiting).startswith(
        "Order 'o' was not in the state 'paid' within 0:00:01: it is active in the state 'paying'."
    )
    assert str(pickle.loads(pickle.dumps(waiting))) == str(waiting)  # noqa: S301


@pytest.mark.anyio
async def test_suspended_saga_is_not_waited_for(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Until an operator has seen to it."""
    orchestrator = Orchestrator([Order], repository, clock=clock)
    await orchestrator.handle(Placed("o"))
    clock.advance(timedelta(minutes=1))
    for _ in range(2):
        await orchestrator.run_due()  # fails, and then for too long
        clock.advance(timedelta(days=2))
    with anyio.fail_after(20), pytest.raises(WaitError, match="it is suspended in the state") as no:
        await orchestrator.wait_for(Order, "o", finished=True, timeout=LONG)
    assert no.value.state == "paying"
    found = await orchestrator.wait_for(Order, "o", state=Order.paying)  # it is there, after all
    assert found.status is Status.SUSPENDED
    await orchestrator.cancel(Order, "o", state=Order.closed)
    ended = await orchestrator.wait_for(Order, "o", finished=True)
    assert ended.state == Order.closed


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_saga_that_is_suspended_here_is_waited_for_no_longer(runtime: str) -> None:
    async def program() -> float:
        clock = ManualClock()
        orchestrator = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock)
        await orchestrator.handle(Placed("o"))
        clock.advance(timedelta(minutes=1))
        await orchestrator.run_due()
        clock.advance(timedelta(days=2))
        suspended = raised = 0.0

        async def suspend() -> None:
            nonlocal suspended
            await anyio.sleep(12.3)
            await orchestrator.run_due()
            suspended = anyio.current_time()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(suspend)
            with pytest.raises(WaitError, match="suspended"):
                await orchestrator.wait_for(Order, "o", finished=True, timeout=LONG)
            raised = anyio.current_time()
        return raised - suspended

    assert run_in_virtual_time(runtime, program) == 0


@pytest.mark.anyio
async def test_saga_that_has_ended_elsewhere_is_not_waited_for(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Order], repository, clock=clock)
    await orchestrator.handle(Placed("o"))
    await orchestrator.handle(Closed("o"))
    said = "until it is in the state 'expired', but it has ended in the state 'closed'"
    with anyio.fail_after(20), pytest.raises(WaitError, match=said):
        await orchestrator.wait_for(Order, "o", state=Order.expired, timeout=LONG)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_outage_is_waited_out(runtime: str) -> None:
    async def program() -> WaitTimeoutError:
        away = Away()
        orchestrator = Orchestrator([Order], Counting(MemoryRepository(), away))
        await orchestrator.handle(Placed("o"))
        away.error = ServerUnavailableError("away")

        async def recover() -> None:
            await anyio.sleep(5)
            away.error = None

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(recover)
            await orchestrator.wait_for(Order, "o", state=Order.paying)
            assert away.error is None
        away.error = ServerUnavailableError("away")
        with pytest.raises(WaitTimeoutError) as waited:
            await orchestrator.wait_for(Order, "o", finished=True, timeout=SECOND)
        away.error, away.silent = None, True
        with pytest.raises(WaitTimeoutError):
            await orchestrator.wait_for(Order, "o", finished=True, timeout=SECOND)
        return waited.value

    assert isinstance(run_in_virtual_time(runtime, program).__cause__, ServerUnavailableError)


@pytest.mark.anyio
async def test_nobody_is_remembered_who_waits_no_longer(
    clock: ManualClock, anyio_backend: str
) -> None:
    del anyio_backend
    orchestrator = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock)
    watches = orchestrator._parts.store.watches  # pyright: ignore[reportPrivateUsage]
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(lambda: orchestrator.wait_for(Order, "o", finished=True))
        await anyio.wait_all_tasks_blocked()
        assert len(watches.waiting) == 1
        tasks.cancel_scope.cancel()
    assert watches.waiting == {}


@pytest.mark.anyio
async def test_what_cannot_be_waited_for_is_refused(anyio_backend: str) -> None:
    del anyio_backend
    orchestrator = Orchestrator([Order], MemoryRepository())
    with pytest.raises(SagaflowError, match="has no state 'gone'; it has: paying"):
        await orchestrator.wait_for(Order, "o", state="gone")
    with pytest.raises(ValueError, match="timeout must be more than nothing"):
        await orchestrator.wait_for(Order, "o", finished=True, timeout=timedelta(0))
    for nothing in ({}, {"finished": True, "state": Order.paid}, {"finished": False}):
        with pytest.raises(ValueError, match="either finished=True or state="):
            await orchestrator.wait_for(Order, "o", **nothing)  # pyright: ignore[reportArgumentType, reportCallIssue]
