"""What the tests of the demo share."""

from __future__ import annotations

from decimal import Decimal

from sagaflow.demo.books import Books
from sagaflow.demo.reconcile import StoredOrder
from sagaflow.demo.server import Server
from sagaflow.demo.settings import Settings, Watcher

COMPLETED = "order-1"
FAILED = "order-2"  # at shipping: charged and reserved, then undone
DECLINED = "order-3"
PLACED = (COMPLETED, FAILED, DECLINED)

SERVER = Server(name="here", uri="mongodb://h", database="shop", kept=True, options={})
"""What is said of a server to those that only say it again."""


class Counting(Watcher):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.placed_before: int | None = None
        self.done = 0
        self.kills = 0

    def begun(self, settings: Settings, server: Server, placed: int) -> None:
        self.placed_before = placed

    def order_done(self) -> None:
        self.done += 1

    def killed(self) -> None:
        self.kills += 1


def good_books() -> Books:
    """Return books that add up with `good_sagas`."""
    books = Books()
    books.payment.charged.update({COMPLETED: Decimal("10.50"), FAILED: Decimal("7.25")})
    books.payment.refunded[FAILED] = Decimal("7.25")
    books.payment.declined.add(DECLINED)
    books.inventory.reserved.update([COMPLETED, FAILED])
    books.inventory.released[FAILED] = 1
    books.inventory.shipped[COMPLETED] = 1
    books.shipping.parcels[COMPLETED] = 1
    books.shipping.refused.add(FAILED)
    return books


def good_sagas() -> list[StoredOrder]:
    """Return sagas that add up with `good_books`."""
    return [
        stored(COMPLETED, "10.50", "completed", undone=False),
        stored(FAILED, "7.25", "failed"),
        stored(DECLINED, "3.00", "failed"),
    ]


def stored(
    order_id: str, total: str, state: str, *, finished: bool = True, undone: bool = True
) -> StoredOrder:
    """Return an order as the database has it."""
    return StoredOrder(
        order_id=order_id, total=Decimal(total), state=state, finished=finished, undone=undone
    )
