"""transitions, with its AsyncMachine: one machine, to which each order is added as a model."""

# pyright: reportMissingImports=false

from __future__ import annotations

import anyio
from transitions.extensions.asyncio import AsyncMachine

from benchmarks.measuring import Measurement
from benchmarks.orders import (
    CreateShipment,
    InventoryReserved,
    Order,
    OrderData,
    OrderPlaced,
    OrderShipped,
    PaymentProcessed,
    ProcessPayment,
    ReserveInventory,
    check_completed,
    measure_orders,
)

_STATES = ["new", "awaiting_payment", "awaiting_inventory", "awaiting_shipment", "completed"]
_TRIGGERS = ["place", "reserve", "ship", "finish"]


class _Model:
    state: str

    def __init__(self) -> None:
        self.data = OrderData()
        self.out: list[object] = []

    async def on_place(self, event: OrderPlaced) -> None:
        self.data.order_id, self.data.total = event.order_id, event.total
        self.out.append(ProcessPayment(event.order_id, event.total))

    async def on_reserve(self, event: PaymentProcessed) -> None:
        self.data.transaction_id = event.transaction_id
        self.out.append(ReserveInventory(event.order_id))

    async def on_ship(self, event: InventoryReserved) -> None:
        self.data.reservation_id = event.reservation_id
        self.out.append(CreateShipment(event.order_id))

    async def on_finish(self, event: OrderShipped) -> None:
        self.data.tracking_code = event.tracking_code


def run(*, number: int) -> Measurement:
    """Time the flow."""
    machine = AsyncMachine(
        model=None,
        states=_STATES,
        initial=_STATES[0],
        auto_transitions=False,
        transitions=[
            {"trigger": name, "source": source, "dest": target, "before": f"on_{name}"}
            for name, source, target in zip(_TRIGGERS, _STATES, _STATES[1:], strict=False)
        ],
    )

    async def run_one(order: Order) -> None:
        model = _Model()
        machine.add_model(model)
        for name, event in zip(_TRIGGERS, order.events, strict=True):
            await getattr(model, name)(event)
        machine.remove_model(model)
        check_completed(order.order_id, model.state)

    return anyio.run(measure_orders, run_one, number)
