"""The messages that travel, and who answers the commands of an order."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from benchmarks.orders import (
    COMMANDS,
    CreateShipment,
    InventoryReserved,
    OrderPlaced,
    OrderShipped,
    PaymentProcessed,
    ProcessPayment,
    ReserveInventory,
)
from sagaflow.bus import BrokerBus, MemoryBus

MESSAGES_PER_ORDER: Final = 7
"""Four events and three commands."""
_ROUNDS: Final = 60_000


@frozen
class Compute:
    """Have a processor work for some milliseconds."""

    number: int


MESSAGES: Final = (
    *(OrderPlaced, PaymentProcessed, InventoryReserved, OrderShipped),
    *COMMANDS,
    Compute,
)


def answer_orders(bus: BrokerBus | MemoryBus) -> None:
    """Have the commands of an order answered at once."""
    bus.subscribe(ProcessPayment, _pay)
    bus.subscribe(ReserveInventory, _reserve)
    bus.subscribe(CreateShipment, _ship)


def take_orders(bus: BrokerBus) -> None:
    """Have the commands of an order taken, and not answered."""
    for command in COMMANDS:
        bus.subscribe(command, _take)


def compute() -> int:
    """Do the same work each time."""
    found = 1
    for _ in range(_ROUNDS):
        found = (found * 1_103_515_245 + 12_345) & 0x7FFFFFFF
    return found


async def _take(command: object) -> None:
    """Do nothing."""


async def _pay(command: ProcessPayment) -> PaymentProcessed:
    return PaymentProcessed(command.order_id, "transaction")


async def _reserve(command: ReserveInventory) -> InventoryReserved:
    return InventoryReserved(command.order_id, "reservation")


async def _ship(command: CreateShipment) -> OrderShipped:
    return OrderShipped(command.order_id, "tracking code")
