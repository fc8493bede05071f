"""The programs of ``sagaflow demo --bus``, as ``sagaflow run`` starts them: sagas and participants.

What was ordered, and what shall be refused, is in the database. The names under which messages
travel are those of this demo alone: a broker may have other demos, and what they have left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from typing import Any, Final

from sagaflow.abc import Bus
from sagaflow.demo.books import Ledger
from sagaflow.demo.example import orders
from sagaflow.demo.participants import Inventory, Payment, Shipping
from sagaflow.demo.plan import Refusal
from sagaflow.demo.record import ordered
from sagaflow.worker import Worker

_MESSAGES: Final = (
    orders.OrderPlaced,
    orders.PaymentProcessed,
    orders.PaymentDeclined,
    orders.InventoryReserved,
    orders.InventoryFailed,
    orders.OrderShipped,
    orders.ShipmentFailed,
    orders.OrderCancelled,
    orders.ProcessPayment,
    orders.CancelPayment,
    orders.RefundPayment,
    orders.ReserveInventory,
    orders.ReleaseInventory,
    orders.CreateShipment,
)


def program_of(database: str) -> str:
    """Return what the names of the services of a demo begin with: they are of its database."""
    return f"demo-{blake2b(database.encode(), digest_size=4).hexdigest()}"


def messages_of(program: str) -> Mapping[str, type]:
    """Return the messages of a demo by the names under which they travel."""
    return {f"{program}.{message.__name__}": message for message in _MESSAGES}


def sagas(worker: Worker) -> None:
    """Run the orders."""
    worker.messages = messages_of(_program(worker))
    worker.sagas = [orders.OrderSaga]


async def payment(worker: Worker) -> None:
    """Charge customers."""
    await _take_part(worker, Payment, Refusal.PAYMENT)


async def inventory(worker: Worker) -> None:
    """Reserve stock."""
    await _take_part(worker, Inventory, Refusal.STOCK)


async def shipping(worker: Worker) -> None:
    """Send parcels."""
    await _take_part(worker, Shipping, Refusal.SHIPPING)


async def _take_part(
    worker: Worker, participant: Callable[[Bus, Ledger, Collection[str]], Any], place: Refusal
) -> None:
    worker.messages = messages_of(_program(worker))
    planned = (await ordered(worker.repository)).planned
    refuses = [order.order_id for order in planned if order.refusal is place]
    participant(worker.bus, Ledger(worker.repository), refuses)


def _program(worker: Worker) -> str:
    return worker.service.rpartition("-")[0]
