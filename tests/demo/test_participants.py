"""The participants: each command is worked off once and answered each time."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from sagaflow._model.envelope import Envelope
from sagaflow.bus.memory import MemoryBus
from sagaflow.demo.books import Books, Ledger
from sagaflow.demo.example import orders
from sagaflow.demo.participants import take_part
from sagaflow.demo.plan import Order, Refusal
from sagaflow.memory import MemoryRepository

pytestmark = pytest.mark.anyio

PRICE = Decimal("12.34")


def order(order_id: str, refusal: Refusal | None = None) -> Order:
    return Order(order_id=order_id, total=PRICE, refusal=refusal)


class Market:
    """The participants on a bus, and what they answer."""

    def __init__(
        self, planned: Sequence[Order] = (), store: MemoryRepository | None = None
    ) -> None:
        self.bus = MemoryBus()
        self.store = store or MemoryRepository()
        take_part(self.bus, Ledger(self.store), planned)
        self.answers: list[tuple[object, object]] = []
        for event in (
            orders.PaymentProcessed,
            orders.PaymentDeclined,
            orders.InventoryReserved,
            orders.InventoryFailed,
            orders.OrderShipped,
            orders.ShipmentFailed,
        ):
            self.bus.subscribe(event, self._note, envelope=True)

    async def send(self, command: object, message_id: str) -> Any:
        """Send a command and return the last answer, if it was answered."""
        self.answers.clear()
        await self.bus.publish(command, message_id=message_id)
        return self.answers[-1][0] if self.answers else None

    async def books(self) -> Books:
        """Return the books as they are now."""
        return await Ledger(self.store).read()

    def _note(self, envelope: Envelope[object]) -> None:
        self.answers.append((envelope.body, envelope.id))


async def test_payment_charges_and_gives_back_what_it_charged() -> None:
    market = Market()
    charged = await market.send(orders.ProcessPayment("o", PRICE), "m-1")
    assert isinstance(charged, orders.PaymentProcessed)
    assert (await market.books()).payment.charged == {"o": PRICE}
    assert (await market.books()).payment.refunded == {}
    assert await market.send(orders.RefundPayment("o", charged.transaction_id), "m-2") is None
    assert (await market.books()).payment.refunded == {"o": PRICE}


async def test_a_refund_of_an_unknown_transaction_is_refused() -> None:
    market = Market()
    with pytest.raises(KeyError):
        await market.send(orders.RefundPayment("o", "transaction-1"), "m-1")
    assert (await market.books()).payment.refunded == {}


async def test_inventory_reserves_and_releases() -> None:
    market = Market()
    reserved = await market.send(orders.ReserveInventory("o"), "m-1")
    assert isinstance(reserved, orders.InventoryReserved)
    assert (await market.books()).inventory.reserved == {"o": 1}
    await market.send(orders.ReleaseInventory("o", reserved.reservation_id), "m-2")
    assert (await market.books()).inventory.released == {"o": 1}
    assert (await market.books()).inventory.shipped == {}


async def test_what_is_shipped_is_booked_by_shipping_and_by_inventory() -> None:
    market = Market()
    assert isinstance(await market.send(orders.CreateShipment("o"), "m"), orders.OrderShipped)
    assert (await market.books()).shipping.parcels == {"o": 1}
    assert (await market.books()).inventory.shipped == {"o": 1}


@pytest.mark.parametrize(
    ("refusal", "command", "answer"),
    [
        (Refusal.PAYMENT, orders.ProcessPayment("o", PRICE), orders.PaymentDeclined),
        (Refusal.STOCK, orders.ReserveInventory("o"), orders.InventoryFailed),
        (Refusal.SHIPPING, orders.CreateShipment("o"), orders.ShipmentFailed),
    ],
    ids=["payment", "stock", "shipping"],
)
async def test_what_is_planned_is_refused_and_only_noted(
    refusal: Refusal, command: object, answer: type
) -> None:
    market = Market([order("o", refusal), order("p")])
    assert isinstance(await market.send(command, "m-1"), answer)
    books = await market.books()
    assert books.refused == {"o"}
    assert not books.payment.charged
    assert not books.inventory.reserved
    assert not books.shipping.parcels


@pytest.mark.parametrize(
    "command",
    [
        orders.ProcessPayment("o", PRICE),
        orders.ReserveInventory("o"),
        orders.CreateShipment("o"),
    ],
    ids=["payment", "inventory", "shipping"],
)
async def test_a_duplicate_is_answered_again_but_booked_once(command: object) -> None:
    """Also by participants that have been started again meanwhile."""
    market = Market()
    await market.send(command, "m-1")
    (first,) = market.answers
    booked = await market.books()
    restarted = Market(store=market.store)
    await restarted.send(command, "m-1")
    assert restarted.answers == [first]
    assert await restarted.books() == booked
    assert booked.order_ids == {"o"}


async def test_a_transaction_is_refunded_by_participants_that_have_been_started_again() -> None:
    market = Market()
    charged = await market.send(orders.ProcessPayment("o", PRICE), "m-1")
    restarted = Market(store=market.store)
    await restarted.send(orders.RefundPayment("o", charged.transaction_id), "m-2")
    assert (await restarted.books()).payment.refunded == {"o": PRICE}


async def test_a_cancelled_payment_that_was_not_charged_is_only_noted() -> None:
    market = Market()
    assert await market.send(orders.CancelPayment("o"), "m-1") is None
    payment = (await market.books()).payment
    assert payment.cancelled == {"o"}
    assert (payment.charged, payment.refunded) == ({}, {})


@pytest.mark.parametrize("order", [("charge", "cancel"), ("cancel", "charge")])
async def test_whatever_is_charged_for_a_cancelled_order_is_withdrawn(
    order: tuple[str, ...],
) -> None:
    market = Market()
    for what in (*order, *order):
        if what == "charge":
            await market.send(orders.ProcessPayment("o", PRICE), "m-1")
        else:
            await market.send(orders.CancelPayment("o"), "m-2")
    payment = (await market.books()).payment
    assert (payment.charged, payment.refunded) == ({"o": PRICE}, {"o": PRICE})


async def test_duplicates_without_an_answer_are_booked_once() -> None:
    market = Market()
    charged = await market.send(orders.ProcessPayment("o", PRICE), "m-1")
    for _ in range(2):
        await market.send(orders.RefundPayment("o", charged.transaction_id), "m-2")
        await market.send(orders.ReleaseInventory("o", "r"), "m-3")
        await market.send(orders.OrderShipped("o", "t"), "m-4")
    assert (await market.books()).payment.refunded == {"o": PRICE}
    assert (await market.books()).inventory.released == {"o": 1}
    assert (await market.books()).inventory.shipped == {"o": 1}


async def test_the_same_command_under_another_id_is_worked_off_again() -> None:
    """So a saga that sends a command twice shows in the books."""
    market = Market()
    await market.send(orders.ProcessPayment("o", PRICE), "m-1")
    await market.send(orders.ProcessPayment("o", PRICE), "m-2")
    assert (await market.books()).payment.charged == {"o": 2 * PRICE}


def test_the_books_know_every_order_that_they_mention() -> None:
    books = Books()
    books.payment.charged["a"] = PRICE
    books.payment.refunded["b"] = PRICE
    books.payment.declined.add("c")
    books.inventory.reserved["d"] = 1
    books.inventory.released["e"] = 1
    books.inventory.shipped["f"] = 1
    books.inventory.out_of_stock.add("g")
    books.shipping.parcels["h"] = 1
    books.shipping.refused.add("i")
    books.payment.cancelled.add("j")
    assert books.order_ids == set("abcdefghij")
    assert books.refused == set("cgi")
