"""The books of the participants: entries in a store that outlives them, and what they come to."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from enum import Enum
from typing import Final

from attrs import define, field, frozen

from sagaflow._model.ids import MessageId
from sagaflow.abc import SagaRepository

_NOTHING: Final = Decimal(0)


@define(kw_only=True)
class PaymentBook:
    """What payment wrote down: money by order.

    :ivar refunded: money given back, and money withdrawn because the order was cancelled.
    """

    charged: dict[str, Decimal] = field(factory=dict[str, Decimal])
    refunded: dict[str, Decimal] = field(factory=dict[str, Decimal])
    declined: set[str] = field(factory=set[str])
    cancelled: set[str] = field(factory=set[str])


@define(kw_only=True)
class InventoryBook:
    """What inventory wrote down: units by order."""

    reserved: Counter[str] = field(factory=Counter[str])
    released: Counter[str] = field(factory=Counter[str])
    shipped: Counter[str] = field(factory=Counter[str])
    out_of_stock: set[str] = field(factory=set[str])


@define(kw_only=True)
class ShippingBook:
    """What shipping wrote down: parcels by order."""

    parcels: Counter[str] = field(factory=Counter[str])
    refused: set[str] = field(factory=set[str])


@frozen(kw_only=True)
class Books:
    """The books of all participants."""

    payment: PaymentBook = field(factory=PaymentBook)
    inventory: InventoryBook = field(factory=InventoryBook)
    shipping: ShippingBook = field(factory=ShippingBook)

    @property
    def refused(self) -> frozenset[str]:
        """The orders that somebody refused."""
        return frozenset(
            self.payment.declined | self.inventory.out_of_stock | self.shipping.refused
        )

    @property
    def order_ids(self) -> frozenset[str]:
        """The orders that any book mentions."""
        payment, inventory = self.payment, self.inventory
        return self.refused.union(
            payment.charged,
            payment.refunded,
            payment.cancelled,
            inventory.reserved,
            inventory.released,
            inventory.shipped,
            self.shipping.parcels,
        )


class Entry(Enum):
    """What can be written down: in which book, and as what."""

    CHARGED = ("payment_book", "charged")
    REFUNDED = ("payment_book", "refunded")
    DECLINED = ("payment_book", "declined")
    CANCELLED = ("payment_book", "cancelled")
    RESERVED = ("inventory_book", "reserved")
    RELEASED = ("inventory_book", "released")
    SHIPPED = ("inventory_book", "shipped")
    OUT_OF_STOCK = ("inventory_book", "out of stock")
    PARCEL = ("shipping_book", "parcel")
    REFUSED = ("shipping_book", "refused")

    @property
    def book(self) -> str:
        """The collection that it is written to."""
        return self.value[0]

    @property
    def kind(self) -> str:
        """What it is called there."""
        return self.value[1]


class Ledger:
    """Where the participants write their entries, each once for each command.

    :param store: makes an entry durable before it says that it is made, if it can.
    """

    def __init__(self, store: SagaRepository) -> None:
        self._store = store

    async def enter(
        self, entry: Entry, command_id: MessageId, order_id: str, amount: Decimal | None = None
    ) -> None:
        """Write an entry, unless there is one of this command already."""
        document = {"_id": str(command_id), "entry": entry.kind, "order": order_id}
        if amount is not None:
            document["amount"] = str(amount)
        await self._store.insert_document(entry.book, document)

    async def amount(self, command_id: str) -> Decimal:
        """Return the money that was charged for this command.

        :raises KeyError: if there was none.
        """
        document = await self._store.load_document(Entry.CHARGED.book, command_id, message_id=None)
        if document is None or "amount" not in document:
            raise KeyError(command_id)
        return Decimal(document["amount"])

    async def read(self) -> Books:
        """Add up what is written."""
        books = Books()
        entries = {(entry.book, entry.kind): entry for entry in Entry}
        for book in dict.fromkeys(entry.book for entry in Entry):
            async for document in self._store.scan_documents(book):
                amount = Decimal(document.get("amount", 0))
                _count(books, entries[book, document["entry"]], document["order"], amount)
        payment = books.payment
        for order_id in payment.cancelled & payment.charged.keys():
            # A charge of a cancelled order is withdrawn, whether it was made before or after that.
            payment.refunded[order_id] = max(
                payment.charged[order_id], payment.refunded.get(order_id, _NOTHING)
            )
        return books


def _count(books: Books, entry: Entry, order_id: str, amount: Decimal) -> None:
    payment, inventory, shipping = books.payment, books.inventory, books.shipping
    money = {Entry.CHARGED: payment.charged, Entry.REFUNDED: payment.refunded}
    units = {
        Entry.RESERVED: inventory.reserved,
        Entry.RELEASED: inventory.released,
        Entry.SHIPPED: inventory.shipped,
        Entry.PARCEL: shipping.parcels,
    }
    marks = {
        Entry.DECLINED: payment.declined,
        Entry.CANCELLED: payment.cancelled,
        Entry.OUT_OF_STOCK: inventory.out_of_stock,
        Entry.REFUSED: shipping.refused,
    }
    if entry in money:
        column = money[entry]
        column[order_id] = column.get(order_id, _NOTHING) + amount
    elif entry in units:
        units[entry][order_id] += 1
    else:
        marks[entry].add(order_id)
