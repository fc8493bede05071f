"""Orchestrator.health(): what a probe learns, in bounded time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from sagaflow import (
    Health,
    MemoryRepository,
    Orchestrator,
    RetryPolicy,
    Saga,
    SagaId,
    SagaRepository,
    ServerUnavailableError,
)
from sagaflow._codec.selection import Selection, Summary
from sagaflow._runtime.backlogs import Backlogs
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.store import Store
from sagaflow.observing import Backlog
from sagaflow.testing import ManualClock
from tests.observing.shop import Order, Paid, Placed, Told, shop
from tests.processes import process_at
from tests.semantics.support import Away, Interrupted, Passing, RecordingBus

pytestmark = pytest.mark.anyio


async def test_without_background_there_are_no_workers_to_be_alive(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orders = Orchestrator([Order], repository, clock=clock)
    assert await orders.health() == Health(
        workers_alive=None,
        last_sweep=None,
        late=timedelta(0),
        store_reachable=True,
        outage_since=None,
    )
    async with Orchestrator([Order], repository, clock=clock, background=False) as entered:
        health = await entered.health()
        assert (health.workers_alive, health.ok) == (None, True)


async def test_lateness_is_that_of_the_oldest_work(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orders = Orchestrator([Order], repository, clock=clock, bus=RecordingBus())
    await orders.handle(Placed("a"))
    clock.advance(timedelta(minutes=1))
    await orders.handle(Placed("b"))
    assert (await orders.health()).late == timedelta(0)  # all is sent, and no timer is due
    clock.advance(timedelta(minutes=5, seconds=2))
    assert (await orders.health()).late == timedelta(minutes=1, seconds=2)
    await orders.run_due()
    assert (await orders.health()).late == timedelta(0)


async def test_workers_are_alive_from_the_beginning_to_the_end() -> None:
    repository = MemoryRepository()
    poll_interval = timedelta(milliseconds=10)
    async with Orchestrator([Order], repository, bus=shop(), poll_interval=poll_interval) as orders:
        await anyio.wait_all_tasks_blocked()
        assert (await orders.health()).workers_alive is True
        while (await orders.health()).last_sweep is None:
            await anyio.sleep(0.005)
        assert (await orders.health()).ok
    health = await orders.health()
    assert (health.workers_alive, health.store_reachable, health.ok) == (False, True, False)


async def test_store_that_fails_is_not_reachable(clock: ManualClock) -> None:
    away = Away(ServerUnavailableError("nobody there"))
    store = Interrupted(MemoryRepository(clock=clock), due=away.fail)
    orders = Orchestrator([Order], store, clock=clock)
    health = await orders.health()
    assert (health.store_reachable, health.late, health.ok) == (False, None, False)
    with pytest.raises(ServerUnavailableError):
        await orders.run_due()
    away.error = None
    assert (await orders.health()).ok


@pytest.mark.parametrize("entered", [False, True])
async def test_store_that_does_not_answer_in_time_is_not_reachable(
    clock: ManualClock, entered: bool
) -> None:
    """Nor is it asked again as long as it has not answered."""
    away = Away()
    away.silent = True
    store = Interrupted(MemoryRepository(clock=clock), due=away.fail)
    orders = Orchestrator([Order], store, clock=clock, background=False)
    if not entered:
        assert not (await orders.health(within=timedelta(milliseconds=10))).store_reachable
        return
    async with orders:
        for _ in range(3):
            health = await orders.health(within=timedelta(milliseconds=10))
            assert (health.store_reachable, health.late) == (False, None)
        assert away.asked == 1


async def test_outage_has_a_beginning(clock: ManualClock) -> None:
    away = Away(ServerUnavailableError("nobody there"))
    store = Interrupted(MemoryRepository(clock=clock), due=away.fail)
    poll_interval = timedelta(milliseconds=1)
    async with Orchestrator([Order], store, clock=clock, poll_interval=poll_interval) as orders:
        while (await orders.health()).outage_since is None:
            await anyio.sleep(0.001)
        assert (await orders.health()).outage_since == clock.now()


async def test_observers_are_told_of_the_backlog(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus: Any = RecordingBus(refusal=RuntimeError("full"))
    impatient = RetryPolicy(max_age=timedelta(minutes=1))
    for order in ("a", "b", "c"):
        await Orchestrator([Order], repository, clock=clock, bus=bus).handle(Placed(order))
    clock.advance(timedelta(minutes=6))
    await Orchestrator([Order], repository, clock=clock, bus=bus, retry=impatient).handle(Paid("c"))
    told = Told()
    async with Orchestrator(
        [Order], repository, clock=clock, observers=told, poll_interval=timedelta(hours=1)
    ):
        while not told.facts:
            await anyio.sleep(0.001)
    (backlog,) = told.facts
    assert isinstance(backlog, Backlog)
    assert (backlog.saga, backlog.due, backlog.suspended) == ("Order", 2, 1)
    assert backlog.outbox_age == timedelta(minutes=6)
    assert timedelta(minutes=5) < backlog.late <= timedelta(minutes=6)


async def test_nothing_is_told_of_a_backlog_that_the_store_does_not_count(
    clock: ManualClock,
) -> None:
    class Uncounted(Passing):
        def summaries(
            self, saga_type: type[Saga], selection: Selection
        ) -> AsyncGenerator[Summary, None]:
            counted.set()
            raise ServerUnavailableError("nobody there")

    told, counted = Told(), anyio.Event()
    store = Uncounted(MemoryRepository(clock=clock))
    async with Orchestrator(
        [Order], store, clock=clock, observers=told, poll_interval=timedelta(hours=1)
    ):
        await counted.wait()
        await anyio.wait_all_tasks_blocked()
    assert told.facts == []


async def test_backlog_is_counted_up_to_a_thousand(clock: ManualClock) -> None:
    class Many(Passing):
        read = 0

        async def due(
            self,
            saga: str,
            now: datetime,
            *,
            unclaimed: bool,
            schema: int | None = None,
            limit: int | None = None,
        ) -> AsyncIterator[SagaId]:
            for number in range(limit or 1_000_000):
                yield number

        async def load_document(self, saga: str, correlation_id: SagaId, *, message_id: Any) -> Any:
            self.read += 1

    many = Many(MemoryRepository())
    process = process_at(clock)
    store = Store(process=process, repository=many)
    looking = Backlogs(process=process, store=store, outages=Outages(clock=clock), sagas=(Order,))
    backlogs = await looking.due(None, timedelta(seconds=60))
    assert backlogs is not None
    (backlog,) = backlogs
    assert (backlog.due, many.read, backlog.late) == (1_000, 10, timedelta(0))
