"""The sagas of the reliability tests.

Orders are those of the examples, with timers; what becomes of one is told by its id.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Final

from attrs import frozen

from examples.orders import (
    InventoryReserved,
    OrderPlaced,
    OrderSaga,
    PaymentProcessed,
)
from sagaflow import Context, Saga, State, compensates, during, initially
from tests.reliability.points import passed

FATES: Final = ("shipped", "declined", "out-of-stock", "unshippable", "overdue", "reconsidered")
"""How orders end: only the first and the last of them are completed."""

COMPLETED_FATES: Final = frozenset({"shipped", "reconsidered"})


def order_ids(count: int) -> list[str]:
    """Return the ids of so many orders, with all fates."""
    return [f"{number}-{FATES[number % len(FATES)]}" for number in range(count)]


def fate_of(order_id: str) -> str:
    """Return what is to become of an order."""
    return order_id.partition("-")[2]


def total_of(order_id: str) -> Decimal:
    """Return what an order costs: something else for each."""
    return Decimal(int(order_id.partition("-")[0]) * 7 + 1)


@frozen
class ShipmentOverdue:
    order_id: str


class ShopOrder(OrderSaga, name="OrderSaga", correlate_by="order_id"):
    """An order that may wait before it starts, and for its shipment no longer than a moment."""

    reconsidering = State()

    @initially.on(OrderPlaced).branch(OrderSaga.awaiting_payment, reconsidering)
    async def accept(self, event: OrderPlaced, ctx: Context) -> State:
        passed("after a handler")
        if fate_of(event.order_id) == "reconsidered":
            self.order_id, self.total = event.order_id, event.total
            return ShopOrder.reconsidering
        await self.place(event, ctx)
        return ShopOrder.awaiting_payment

    @during(reconsidering).after(timedelta(milliseconds=150)).goto(OrderSaga.awaiting_payment)
    async def go_ahead(self, ctx: Context) -> None:
        assert self.order_id is not None
        await self.place(OrderPlaced(self.order_id, self.total), ctx)
        passed("after a handler")

    async def reserve(self, event: PaymentProcessed, ctx: Context) -> None:
        await super().reserve(event, ctx)
        passed("after a handler")

    async def ship(self, event: InventoryReserved, ctx: Context) -> None:
        await super().ship(event, ctx)
        if fate_of(event.order_id) == "overdue":
            after = timedelta(milliseconds=150)
            ctx.schedule(ShipmentOverdue(event.order_id), after=after, name="overdue")
        passed("after a handler")

    overdue = (
        during(OrderSaga.awaiting_shipment).on(ShipmentOverdue).compensate().goto(OrderSaga.failed)
    )


@frozen
class Opened:
    tally_id: str


@frozen
class Counted:
    tally_id: str
    by: int


@frozen
class Seen:
    tally_id: str


@frozen
class Reverted:
    tally_id: str


class Tally(Saga, correlate_by="tally_id", inbox_size=2_000):
    """Adds up, and takes it all back."""

    counting = State()
    reverted = State(final=True)

    total: int = 0
    taken_back: int = 0

    opened = initially.on(Opened).goto(counting)

    @during(counting).on(Counted).stay()
    async def count(self, event: Counted, ctx: Context) -> None:
        self.total += event.by

    @compensates(count)
    async def take_back(self, event: Counted, ctx: Context) -> None:
        self.taken_back += event.by

    @during(counting).on(Seen).stay()
    def see(self, event: Seen, ctx: Context) -> None:
        self.total += 1

    revert = during(counting).on(Reverted).compensate().goto(reverted)
