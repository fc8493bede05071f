"""automat with its typed builder: a machine for each order. It is synchronous."""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any, Protocol

import anyio
from automat import TypeMachineBuilder

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

_TRIGGERS = ("place", "reserve", "ship", "finish")


class _Inputs(Protocol):
    def place(self, event: OrderPlaced) -> None: ...
    def reserve(self, event: PaymentProcessed) -> None: ...
    def ship(self, event: InventoryReserved) -> None: ...
    def finish(self, event: OrderShipped) -> None: ...


class _Core:
    def __init__(self) -> None:
        self.data = OrderData()
        self.out: list[object] = []
        self.state = "new"


def _build() -> Any:
    builder: Any = TypeMachineBuilder(_Inputs, _Core)
    new = builder.state("new")
    awaiting_payment = builder.state("awaiting_payment")
    awaiting_inventory = builder.state("awaiting_inventory")
    awaiting_shipment = builder.state("awaiting_shipment")
    completed = builder.state("completed")

    @new.upon(_Inputs.place).to(awaiting_payment)
    def place(_: _Inputs, core: _Core, event: OrderPlaced) -> None:
        core.data.order_id, core.data.total = event.order_id, event.total
        core.out.append(ProcessPayment(event.order_id, event.total))

    @awaiting_payment.upon(_Inputs.reserve).to(awaiting_inventory)
    def reserve(_: _Inputs, core: _Core, event: PaymentProcessed) -> None:
        core.data.transaction_id = event.transaction_id
        core.out.append(ReserveInventory(event.order_id))

    @awaiting_inventory.upon(_Inputs.ship).to(awaiting_shipment)
    def ship(_: _Inputs, core: _Core, event: InventoryReserved) -> None:
        core.data.reservation_id = event.reservation_id
        core.out.append(CreateShipment(event.order_id))

    @awaiting_shipment.upon(_Inputs.finish).to(completed)
    def finish(_: _Inputs, core: _Core, event: OrderShipped) -> None:
        core.data.tracking_code = event.tracking_code
        core.state = "completed"

    return builder.build()


def run(*, number: int) -> Measurement:
    """Time the flow."""
    made = _build()

    async def run_one(order: Order) -> None:
        core = _Core()
        machine = made(core)
        for name, event in zip(_TRIGGERS, order.events, strict=True):
            getattr(machine, name)(event)
        check_completed(order.order_id, core.state)

    return anyio.run(measure_orders, run_one, number)
