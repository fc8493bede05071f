"""The services of the demo: payment, inventory and shipping, each with books of its own.

They know nothing of sagas. Like real services they may get a command twice, and may die at any
moment: what a command does is one entry under the id of its envelope, and its answer follows from
the command alone.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from sagaflow._model.envelope import Envelope
from sagaflow.abc import Bus
from sagaflow.demo.books import Entry, Ledger
from sagaflow.demo.example import orders
from sagaflow.demo.plan import Order, Refusal


class Participant:
    """Works off each command once, and answers each delivery of it.

    :param bus: where its answers go.
    :param ledger: where it keeps its book.
    :param refuses: the orders that it refuses.
    """

    def __init__(self, bus: Bus, ledger: Ledger, refuses: Collection[str]) -> None:
        self._bus = bus
        self._ledger = ledger
        self._refuses = frozenset(refuses)

    async def _enter(
        self, entry: Entry, envelope: Envelope[object], order_id: str, amount: Decimal | None = None
    ) -> None:
        await self._ledger.enter(entry, envelope.id, order_id, amount)

    async def _answer(self, envelope: Envelope[object], answer: object) -> None:
        """Answer a command, a duplicate too: the first answer may have been lost."""
        await self._bus.publish(answer, message_id=f"{envelope.id}:answer")


class Payment(Participant):
    """Charges customers and gives them their money back."""

    def __init__(self, bus: Bus, ledger: Ledger, refuses: Collection[str]) -> None:
        super().__init__(bus, ledger, refuses)
        bus.subscribe(orders.ProcessPayment, self.process, envelope=True)
        bus.subscribe(orders.CancelPayment, self.cancel, envelope=True)
        bus.subscribe(orders.RefundPayment, self.refund, envelope=True)

    async def process(self, envelope: Envelope[orders.ProcessPayment]) -> None:
        """Charge a customer, or decline."""
        order_id = envelope.body.order_id
        if order_id in self._refuses:
            await self._enter(Entry.DECLINED, envelope, order_id)
            declined = orders.PaymentDeclined(order_id, "the card was declined")
            await self._answer(envelope, declined)
            return
        await self._enter(Entry.CHARGED, envelope, order_id, envelope.body.amount)
        await self._answer(envelope, orders.PaymentProcessed(order_id, str(envelope.id)))

    async def cancel(self, envelope: Envelope[orders.CancelPayment]) -> None:
        """Withdraw whatever is or will be charged for an order."""
        await self._enter(Entry.CANCELLED, envelope, envelope.body.order_id)

    async def refund(self, envelope: Envelope[orders.RefundPayment]) -> None:
        """Give back what a transaction charged."""
        amount = await self._ledger.amount(envelope.body.transaction_id)
        await self._enter(Entry.REFUNDED, envelope, envelope.body.order_id, amount)


class Inventory(Participant):
    """Reserves a unit for each order, and books it out when it leaves the house."""

    def __init__(self, bus: Bus, ledger: Ledger, refuses: Collection[str]) -> None:
        super().__init__(bus, ledger, refuses)
        bus.subscribe(orders.ReserveInventory, self.reserve, envelope=True)
        bus.subscribe(orders.ReleaseInventory, self.release, envelope=True)
        bus.subscribe(orders.OrderShipped, self.book_out, envelope=True)

    async def reserve(self, envelope: Envelope[orders.ReserveInventory]) -> None:
        """Reserve a unit, or say that there is none."""
        order_id = envelope.body.order_id
        if order_id in self._refuses:
            await self._enter(Entry.OUT_OF_STOCK, envelope, order_id)
            await self._answer(envelope, orders.InventoryFailed(order_id, "out of stock"))
            return
        await self._enter(Entry.RESERVED, envelope, order_id)
        reserved = orders.InventoryReserved(order_id, f"reservation-{order_id}")
        await self._answer(envelope, reserved)

    async def release(self, envelope: Envelope[orders.ReleaseInventory]) -> None:
        """Put a reserved unit back on the shelf."""
        await self._enter(Entry.RELEASED, envelope, envelope.body.order_id)

    async def book_out(self, envelope: Envelope[orders.OrderShipped]) -> None:
        """Note that a reserved unit has left."""
        await self._enter(Entry.SHIPPED, envelope, envelope.body.order_id)


class Shipping(Participant):
    """Hands parcels to a carrier."""

    def __init__(self, bus: Bus, ledger: Ledger, refuses: Collection[str]) -> None:
        super().__init__(bus, ledger, refuses)
        bus.subscribe(orders.CreateShipment, self.create, envelope=True)

    async def create(self, envelope: Envelope[orders.CreateShipment]) -> None:
        """Send a parcel, or say that no carrier takes it."""
        order_id = envelope.body.order_id
        if order_id in self._refuses:
            await self._enter(Entry.REFUSED, envelope, order_id)
            await self._answer(envelope, orders.ShipmentFailed(order_id, "no carrier takes it"))
            return
        await self._enter(Entry.PARCEL, envelope, order_id)
        await self._answer(envelope, orders.OrderShipped(order_id, f"parcel-{order_id}"))


def take_part(bus: Bus, ledger: Ledger, planned: Collection[Order]) -> None:
    """Have the participants listen on *bus* and refuse what is planned."""
    refuses = {
        place: [order.order_id for order in planned if order.refusal is place] for place in Refusal
    }
    Payment(bus, ledger, refuses[Refusal.PAYMENT])
    Inventory(bus, ledger, refuses[Refusal.STOCK])
    Shipping(bus, ledger, refuses[Refusal.SHIPPING])
