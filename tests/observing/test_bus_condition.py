"""How the bus is, as observers are told and as metrics show it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from attrs import define

from sagaflow import MemoryBus, MemoryRepository, Orchestrator
from sagaflow.observing import BusCondition, Observer
from sagaflow.testing import ManualClock
from tests.observing.shop import Order, Placed, Told
from tests.observing.spans import Telemetry
from tests.semantics.support import Published, RecordingBus

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
WELL = timedelta(0)


@define(kw_only=True)
class Broker(RecordingBus):
    """A bus that tells of its broker, as those between processes do."""

    service: str = "orders"
    down_since: datetime | None = None


async def conditions(bus: Any, clock: ManualClock, *, background: bool = False) -> list[Any]:
    """Return what an orchestrator tells of its bus once it was entered."""
    told = Told()
    store = MemoryRepository(clock=clock)
    async with Orchestrator(
        [Order], store, bus=bus, clock=clock, background=background, observers=told
    ):
        await anyio.wait_all_tasks_blocked()
    return [fact for fact in told.facts if isinstance(fact, BusCondition)]


@pytest.mark.parametrize("background", [False, True])
async def test_observers_are_told_of_a_broker_that_is_down(
    clock: ManualClock, background: bool
) -> None:
    bus = Broker(down_since=clock.now())
    clock.advance(7 * SECOND)
    found = await conditions(bus, clock, background=background)
    assert found == [BusCondition(bus="orders", down_for=7 * SECOND, silent_for=WELL)]
    bus.down_since = clock.now() + SECOND  # by a clock that is ahead
    assert [condition.down_for for condition in await conditions(bus, clock)] == [WELL]
    bus.down_since = None
    assert [condition.down_for for condition in await conditions(bus, clock)] == [WELL]


async def test_bus_that_does_not_tell_is_named_by_its_class(clock: ManualClock) -> None:
    found = await conditions(MemoryBus(), clock)
    assert found == [BusCondition(bus="MemoryBus", down_for=WELL, silent_for=WELL)]


async def test_without_a_bus_nothing_is_told_of_one(clock: ManualClock) -> None:
    assert await conditions(None, clock) == []


async def test_metrics_show_a_bus_that_is_down_and_says_nothing(clock: ManualClock) -> None:
    """The same as `Orchestrator.health` says; one that is well is shown as well."""
    telemetry, well, offered = Telemetry(), Telemetry(), anyio.Event()
    bus, store = Broker(down_since=clock.now()), MemoryRepository(clock=clock)

    async def hang(_: Published) -> None:
        offered.set()
        await anyio.sleep_forever()

    def entered(observer: Observer) -> Orchestrator:
        return Orchestrator(
            [Order], store, bus=bus, clock=clock, background=False, observers=observer
        )

    async with entered(well.observer()):
        await anyio.wait_all_tasks_blocked()
    assert well.counts("sagaflow.bus.down", "bus") == {("orders",): 0}
    assert well.counts("sagaflow.bus.silent", "bus") == {("orders",): 0}

    bus.on_publish = hang
    async with anyio.create_task_group() as tasks:
        orders = entered(telemetry.observer())
        tasks.start_soon(orders.handle, Placed("o"))
        await offered.wait()
        clock.advance(20 * SECOND)
        async with orders:
            await anyio.wait_all_tasks_blocked()
            assert telemetry.counts("sagaflow.bus.down", "bus") == {("orders",): 20}
            assert telemetry.counts("sagaflow.bus.silent", "bus") == {("orders",): 20}
            assert not (await orders.health()).ok
            tasks.cancel_scope.cancel()


async def test_bus_that_fails_to_say_how_it_is_does_no_harm(clock: ManualClock) -> None:
    class Careless(RecordingBus):
        @property
        def down_since(self) -> datetime | None:
            raise RuntimeError("not connected")

    assert await conditions(Careless(), clock) == []
