"""sagaflow on a MongoDB-protocol server, and the floor: the driver's operations by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import anyio
from pymongo import AsyncMongoClient

from benchmarks.measuring import Measurement, in_flight
from benchmarks.orders import (
    EVENTS_PER_ORDER,
    Order,
    OrderSaga,
    check_completed,
    command_bus,
    orders,
    run_order,
)
from benchmarks.server import (
    DURABLE,
    Commands,
    Write,
    Written,
    fresh_database,
    open_repository,
)
from sagaflow import Orchestrator
from sagaflow.mongo import MongoRepository

_STATES = ("awaiting_payment", "awaiting_inventory", "awaiting_shipment", "completed")
_SET = ("total", "transaction_id", "reservation_id", "tracking_code")
_KEPT = 128


def saga(*, driver: str, runtime: str, number: int, tasks: int, uri: str) -> Measurement:
    """Time the flow, and then count its round trips, which would slow it down."""
    with fresh_database(uri) as database:
        metrics = anyio.run(_time, driver, uri, database, number, tasks, backend=runtime)
    with fresh_database(uri) as database:
        few = max(number // 5, tasks)
        counted = anyio.run(_count, driver, uri, database, few, tasks, backend=runtime)
    return Measurement(metrics | {"round_trips": counted})


async def _time(driver: str, uri: str, database: str, number: int, tasks: int) -> dict[str, float]:
    warm_up = max(number // 10, 1)
    async with (
        open_repository(driver, uri, database, OrderSaga) as repository,
        Orchestrator([OrderSaga], repository, bus=command_bus()) as orchestrator,
    ):

        async def run(order: Order) -> None:
            await run_order(orchestrator, order)

        timing = await in_flight(tasks, run, orders(number + warm_up), warm_up=warm_up)
    return timing.per(number * EVENTS_PER_ORDER)


async def _count(driver: str, uri: str, database: str, number: int, tasks: int) -> float:
    commands = Commands()
    async with open_repository(
        driver, uri, database, OrderSaga, listeners=[commands]
    ) as repository:
        before = commands.round_trips
        async with Orchestrator([OrderSaga], repository, bus=command_bus()) as orchestrator:

            async def run(order: Order) -> None:
                await run_order(orchestrator, order)

            await in_flight(tasks, run, orders(number), warm_up=0)
        return (commands.round_trips - before) / (number * EVENTS_PER_ORDER)


def floor(*, number: int, tasks: int, uri: str) -> Measurement:
    """Time one read and one conditional write per event, with PyMongo's asynchronous client."""
    with fresh_database(uri) as database:
        metrics = anyio.run(_floor, uri, database, number, tasks)
    return Measurement(metrics | {"round_trips": 2.0})


async def _floor(uri: str, database: str, number: int, tasks: int) -> dict[str, float]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
    try:
        collection: Any = client[database].get_collection("orders", **DURABLE)

        async def run(order: Order) -> None:
            state = ""
            for index, message_id in enumerate(order.message_ids):
                state = await _event_by_hand(collection, order, index, message_id)
            check_completed(order.order_id, state)

        warm_up = max(number // 10, 1)
        timing = await in_flight(tasks, run, orders(number + warm_up), warm_up=warm_up)
    finally:
        await client.close()
    return timing.per(number * EVENTS_PER_ORDER)


def replay(*, number: int, uri: str) -> Measurement:
    """Time PyMongo's asynchronous client alone, which makes the same writes as sagaflow did."""
    with fresh_database(uri) as database:
        writes = anyio.run(_record, uri, database, number)
    with fresh_database(uri) as database:
        metrics = anyio.run(_replay, uri, database, writes, number)
    return Measurement(metrics | {"round_trips": len(writes) / (number * EVENTS_PER_ORDER)})


async def _record(uri: str, database: str, number: int) -> list[Write]:
    written = Written()
    async with (
        open_repository(
            "pymongo-async", uri, database, OrderSaga, listeners=[written]
        ) as repository,
        Orchestrator([OrderSaga], repository, bus=command_bus()) as orchestrator,
    ):

        async def run(order: Order) -> None:
            await run_order(orchestrator, order)

        await in_flight(1, run, orders(number), warm_up=0)
    return written.writes


async def _replay(uri: str, database: str, writes: list[Write], number: int) -> dict[str, float]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri)
    try:
        await MongoRepository(client[database]).create_indexes(OrderSaga)
        collection: Any = client[database].get_collection(OrderSaga.table.saga, **DURABLE)

        async def write(one: Write) -> None:
            if one.query is None:
                await collection.insert_one(one.document)
                return
            result = await collection.update_one(one.query, one.document)
            if one.matches and result.matched_count != 1:
                raise RuntimeError(f"{one.query} matches nothing")

        timing = await in_flight(1, write, writes, warm_up=0)
    finally:
        await client.close()
    return timing.per(number * EVENTS_PER_ORDER)


async def _event_by_hand(collection: Any, order: Order, index: int, message_id: str) -> str:
    """Read an order, and store it in its next state if nobody else has changed it."""
    found = await collection.find_one({"_id": order.order_id})
    state, now = _STATES[index], datetime.now(UTC)
    entry = {"event": type(order.events[index]).__name__, "at": now, "to": state}
    if found is None:
        await collection.insert_one(
            {
                "_id": order.order_id,
                "version": 1,
                "token": uuid4().hex,
                "state": state,
                "data": {"order_id": order.order_id, _SET[index]: "99.50"},
                "inbox": [message_id],
                "history": [entry],
                "updated_at": now,
            }
        )
        return state
    result = await collection.update_one(
        {"_id": order.order_id, "version": found["version"]},
        {
            "$set": {
                "version": found["version"] + 1,
                "token": uuid4().hex,
                "state": state,
                f"data.{_SET[index]}": "value",
                "updated_at": now,
            },
            "$push": {
                "inbox": {"$each": [message_id], "$slice": -_KEPT},
                "history": {"$each": [entry], "$slice": -_KEPT},
            },
        },
    )
    if result.matched_count != 1:
        raise RuntimeError(f"{order.order_id} was changed meanwhile")
    return state
