"""sagaflow without a store, and what a programmer would write by hand instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from decimal import Decimal
from typing import Any

import anyio
from attrs import define, field, frozen

from benchmarks.measuring import Measurement, timed
from benchmarks.orders import (
    CreateShipment,
    InventoryReserved,
    Order,
    OrderData,
    OrderPlaced,
    OrderSaga,
    OrderShipped,
    PaymentProcessed,
    ProcessPayment,
    ReserveInventory,
    check_completed,
    command_bus,
    measure_orders,
)
from examples import orders as example
from sagaflow import Context, MemoryRepository, Orchestrator, SystemClock
from sagaflow._definition.context import Effects
from sagaflow._engine.decision import choose

Handler = Callable[[OrderData, Any, list[object]], Awaitable[None]]


# sagaflow


def bare(*, number: int) -> Measurement:
    """Decide and run the handler, no more. There is no public way to that: sagas are stored."""
    table, clock = OrderSaga.table, SystemClock()

    async def run(order: Order) -> None:
        saga, state = OrderSaga(), None
        for event, message_id in zip(order.events, order.message_ids, strict=True):
            row = choose(table, None if state is None else state.name, lambda: saga, event)
            if row is None:
                raise RuntimeError(f"no transition for {event!r}")
            ctx = Context(
                correlation_id=order.order_id,
                message_id=message_id,
                version=0,
                state=state,
                now=clock.now(),
                saga=table.saga,
                effects=Effects(),
                services=None,
            )
            await getattr(saga, row.step)(event, ctx)
            state = row.targets[0]
        check_completed(order.order_id, None if state is None else state.name)

    return anyio.run(measure_orders, run, number)


def in_memory_example(*, number: int) -> Measurement:
    """Handle the order of the examples, which also records compensations and arms a timeout."""
    bus = command_bus()
    for command in (example.ProcessPayment, example.ReserveInventory, example.CreateShipment):
        bus.subscribe(command, lambda _: None)

    async def measure() -> Measurement:
        repository = MemoryRepository()
        async with Orchestrator([example.OrderSaga], repository, bus=bus) as orchestrator:

            async def run(order: Order) -> None:
                order_id = order.order_id
                events = (
                    example.OrderPlaced(order_id, Decimal(99)),
                    example.PaymentProcessed(order_id, "transaction"),
                    example.InventoryReserved(order_id, "reservation"),
                    example.OrderShipped(order_id, "tracking code"),
                )
                outcome = None
                for event, message_id in zip(events, order.message_ids, strict=True):
                    outcome = await orchestrator.handle(event, message_id=message_id)
                state = None if outcome is None else outcome.state
                check_completed(order_id, None if state is None else state.name)

            return await measure_orders(run, number)

    return anyio.run(measure)


def instances(*, number: int) -> Measurement:
    """Make new sagas."""
    return _instances(OrderSaga, number)


# By hand


async def _place(data: OrderData, event: OrderPlaced, out: list[object]) -> None:
    data.order_id, data.total = event.order_id, event.total
    out.append(ProcessPayment(event.order_id, event.total))


async def _reserve(data: OrderData, event: PaymentProcessed, out: list[object]) -> None:
    data.transaction_id = event.transaction_id
    out.append(ReserveInventory(event.order_id))


async def _ship(data: OrderData, event: InventoryReserved, out: list[object]) -> None:
    data.reservation_id = event.reservation_id
    out.append(CreateShipment(event.order_id))


async def _finish(data: OrderData, event: OrderShipped, out: list[object]) -> None:
    data.tracking_code = event.tracking_code


_TABLE: dict[tuple[str, type], tuple[Handler, str]] = {
    ("new", OrderPlaced): (_place, "awaiting_payment"),
    ("awaiting_payment", PaymentProcessed): (_reserve, "awaiting_inventory"),
    ("awaiting_inventory", InventoryReserved): (_ship, "awaiting_shipment"),
    ("awaiting_shipment", OrderShipped): (_finish, "completed"),
}


def dispatch(*, number: int) -> Measurement:
    """Look the handler up in a dict and run it on the one object there is."""

    async def run(order: Order) -> None:
        data, state, out = OrderData(), "new", list[object]()
        for event in order.events:
            handler, target = _TABLE[state, type(event)]
            await handler(data, event, out)
            state = target
        check_completed(order.order_id, state)

    return anyio.run(measure_orders, run, number)


@define
class _Stored:
    state: str = "new"
    version: int = 0
    data: OrderData = field(factory=OrderData)
    out: list[object] = field(factory=list)


@frozen
class _Copies:
    """A store of copies: a handler works on its own, which replaces the stored one if it may."""

    stored: dict[str, _Stored] = field(factory=dict[str, _Stored])

    async def handle(self, order_id: str, event: object) -> str:
        current = self.stored.get(order_id)
        mine = _Stored() if current is None else deepcopy(current)
        version = mine.version
        handler, target = _TABLE[mine.state, type(event)]
        await handler(mine.data, event, mine.out)
        mine.state, mine.version = target, version + 1
        latest = self.stored.get(order_id)
        if (0 if latest is None else latest.version) != version:
            raise RuntimeError(f"{order_id} was changed meanwhile")
        self.stored[order_id] = mine
        mine.out = []
        return target


def dispatch_with_copy(*, number: int) -> Measurement:
    """Do the same on a deep copy, and store it if nobody else has stored another version."""
    store = _Copies()

    async def run(order: Order) -> None:
        state = ""
        for event in order.events:
            state = await store.handle(order.order_id, event)
        check_completed(order.order_id, state)

    return anyio.run(measure_orders, run, number)


def plain_instances(*, number: int) -> Measurement:
    """Make new instances of a plain attrs class with the same fields."""
    return _instances(OrderData, number)


def _instances(made: Callable[[], object], number: int) -> Measurement:
    for _ in range(number // 10):
        made()
    with timed() as timing:
        for _ in range(number):
            made()
    return Measurement({"new": timing.per(number)["wall"]})
