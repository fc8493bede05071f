"""A bus that is drained takes nothing more, ends what it has taken, and still publishes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pymongo
import pytest

from sagaflow import Context, MemoryRepository, Orchestrator, Saga, State, during, initially
from sagaflow.exceptions import SagaflowError
from sagaflow.mongo import MongoBus
from sagaflow.testing._bus_contract.kit import MESSAGES, PATIENT, Charge, Charged, Noted, Seen

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(
    mongodb_client: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Iterator[Any]:
    yield mongodb_client[database_name]
    mongodb_client.drop_database(database_name)


def opened(database: Any, service: str = "billing", **settings: Any) -> MongoBus:
    given: dict[str, Any] = {
        "messages": MESSAGES,
        "retry": PATIENT,
        "poll_interval": timedelta(milliseconds=20),
        **settings,
    }
    return MongoBus(database, service=service, **given)


async def waiting(database: Any) -> list[str]:
    def look() -> list[str]:
        queues = database["sagaflow_bus_queues"].find({"messages": {"$ne": []}})
        return sorted(queue["key"] for queue in queues)

    return await anyio.to_thread.run_sync(look)


async def test_what_was_taken_ends_and_nothing_more_is_taken(database: Any) -> None:
    begun, going, done = anyio.Event(), anyio.Event(), list[str]()
    billing = opened(database)

    async def handle(note: Noted) -> None:
        begun.set()
        await going.wait()
        done.append(note.saga)
        await billing.publish(Charged(note.saga))  # a drained bus still publishes

    billing.subscribe(Noted, handle)
    async with opened(database, "shop") as shop, billing, anyio.create_task_group() as tasks:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        await begun.wait()
        tasks.start_soon(billing.drain)
        await anyio.wait_all_tasks_blocked()
        await shop.publish(Noted("s-2", 1), correlation_id="s-2")
        going.set()
    assert done == ["s-1"]
    assert await waiting(database) == ["s-2"]


async def test_what_takes_too_long_is_given_back(database: Any) -> None:
    begun = anyio.Event()
    seen = Seen()

    async def handle(_: Noted) -> None:
        begun.set()
        await anyio.sleep_forever()

    billing = opened(database, shutdown_timeout=timedelta(milliseconds=50))
    billing.subscribe(Noted, handle)
    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1")
        await begun.wait()
        with anyio.fail_after(5):
            await billing.drain()
        async with opened(database) as other:
            other.subscribe(Noted, seen.add)
            await seen.wait_for(1)


async def test_a_bus_that_takes_nothing_is_drained_at_once(database: Any) -> None:
    billing = opened(database, shutdown_timeout=timedelta(hours=1))
    async with billing:
        with anyio.fail_after(5):
            await billing.drain()
            await billing.drain()
    for _ in range(2):
        with pytest.raises(SagaflowError, match="within its `async with` block"):
            await billing.drain()
        billing = opened(database)


class Sale(Saga, correlate_by="saga"):
    charging = State()
    charged = State(final=True)

    begin = initially.on(Charge).goto(charging)

    @during(charging).on(Charged).goto(charged)
    async def end(self, event: Charged, ctx: Context) -> None: ...


async def test_an_orchestrator_that_closes_is_handed_nothing(database: Any) -> None:
    """Otherwise a message that comes while it closes would count as one that failed."""
    orders = opened(database, "orders")
    async with opened(database, "shop") as shop, orders:
        async with Orchestrator([Sale], MemoryRepository(), bus=orders):
            await orders.drain()
        for number in range(5):
            await shop.publish(Charge(f"s-{number}", Decimal(1)), correlation_id=f"s-{number}")
        assert await waiting(database) == [f"s-{number}" for number in range(5)]
    async for letter in opened(database, "orders").dead_letters():
        pytest.fail(f"{letter} is a dead letter")
