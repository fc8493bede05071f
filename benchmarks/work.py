"""How much work sagaflow has, by public names only: an earlier commit is measured with it too."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from statistics import median
from types import FrameType
from typing import Any

import anyio

from benchmarks.measuring import Measurement
from benchmarks.orders import (
    EVENTS_PER_ORDER,
    Order,
    OrderSaga,
    command_bus,
    measure_orders,
    orders,
    run_order,
)
from sagaflow import MemoryRepository, Orchestrator

_DUE = 10
_LOOKS = 25
_COUNTED = 50


def in_memory(*, number: int, runtime: str = "asyncio") -> Measurement:
    """Handle events with everything on: message ids, versions, history, outbox and bus."""

    async def measure(run: Callable[[Order], Awaitable[None]]) -> Measurement:
        return await measure_orders(run, number)

    return anyio.run(_orchestrated, measure, backend=runtime)


def counted(*, number: int) -> Measurement:
    """Do the same, and count the calls of some more orders, which would slow down the others."""

    async def measure(run: Callable[[Order], Awaitable[None]]) -> Measurement:
        timed = await measure_orders(run, number)
        return Measurement({**timed.metrics, **await _calls(run)})

    return anyio.run(_orchestrated, measure)


def calls() -> Measurement:
    """Count the calls of an event in memory, in the four-step order, without timing anything."""

    async def measure(run: Callable[[Order], Awaitable[None]]) -> Measurement:
        for order in orders(_COUNTED, prefix="before"):
            await run(order)
        return Measurement(await _calls(run))

    return anyio.run(_orchestrated, measure)


async def _orchestrated(
    measure: Callable[[Callable[[Order], Awaitable[None]]], Awaitable[Measurement]],
) -> Measurement:
    async with Orchestrator([OrderSaga], MemoryRepository(), bus=command_bus()) as orchestrator:

        async def run(order: Order) -> None:
            await run_order(orchestrator, order)

        return await measure(run)


async def _calls(run: Callable[[Order], Awaitable[None]]) -> dict[str, float]:
    """Return how many functions an event calls, and how many of them are written in Python."""
    calls = {"call": 0, "c_call": 0}

    def count(_: FrameType, event: str, __: object) -> None:
        if event in calls:
            calls[event] += 1

    counting = orders(_COUNTED, prefix="counted")
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for order in counting:
            await run(order)
    finally:
        sys.setprofile(before)
    events = _COUNTED * EVENTS_PER_ORDER
    return {"calls": sum(calls.values()) / events, "python_calls": calls["call"] / events}


def look(*, stored: int) -> Measurement:
    """Time a look for work that is due, while so many other timers are pending."""
    return anyio.run(_look, stored)


async def _look(stored: int) -> Measurement:
    repository, now = MemoryRepository(), datetime.now(UTC).replace(microsecond=0)
    saga = OrderSaga.table.saga
    document = await _some_document(repository, saga)
    for index in range(stored):
        later = now + timedelta(hours=1, seconds=index)
        await repository.insert_document(saga, document | {"_id": f"timer-{index}", "wake": later})
    for index in range(_DUE):
        due = now - timedelta(seconds=index)
        await repository.insert_document(saga, document | {"_id": f"due-{index}", "wake": due})
    taken: list[float] = []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        found = repository.due(saga, now, unclaimed=True, limit=_DUE)
        ids = [one async for one in found]
        taken.append((time.perf_counter() - began) * 1e6)
        if ids != [f"due-{index}" for index in reversed(range(_DUE))]:
            raise RuntimeError(f"{ids} are said to be due")
    return Measurement({"look": median(taken)})


async def _some_document(repository: MemoryRepository, saga: str) -> dict[str, Any]:
    orchestrator = Orchestrator([OrderSaga], repository, bus=command_bus())
    (order,) = orders(1)
    await orchestrator.handle(order.events[0], message_id=order.message_ids[0])
    async with aclosing(repository.find_by_state(OrderSaga, OrderSaga.awaiting_payment)) as found:
        (instance,) = [one async for one in found]
    document = await repository.load_document(saga, instance.correlation_id, message_id=None)
    if document is None:
        raise RuntimeError(f"{instance.correlation_id} is not stored")
    await repository.delete(OrderSaga, instance.correlation_id)
    document.pop("lease", None)
    return document
