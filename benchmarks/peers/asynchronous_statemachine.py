"""python-statemachine with asynchronous actions: a machine for each order."""

# pyright: reportMissingImports=false

from __future__ import annotations

import anyio
from statemachine import State, StateMachine

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


class _Machine(StateMachine):
    new = State(initial=True)
    awaiting_payment = State()
    awaiting_inventory = State()
    awaiting_shipment = State()
    completed = State(final=True)

    place = new.to(awaiting_payment)
    reserve = awaiting_payment.to(awaiting_inventory)
    ship = awaiting_inventory.to(awaiting_shipment)
    finish = awaiting_shipment.to(completed)

    def __init__(self) -> None:
        self.data = OrderData()
        self.out: list[object] = []
        super().__init__()

    async def on_place(self, event_data_: OrderPlaced) -> None:
        self.data.order_id, self.data.total = event_data_.order_id, event_data_.total
        self.out.append(ProcessPayment(event_data_.order_id, event_data_.total))

    async def on_reserve(self, event_data_: PaymentProcessed) -> None:
        self.data.transaction_id = event_data_.transaction_id
        self.out.append(ReserveInventory(event_data_.order_id))

    async def on_ship(self, event_data_: InventoryReserved) -> None:
        self.data.reservation_id = event_data_.reservation_id
        self.out.append(CreateShipment(event_data_.order_id))

    async def on_finish(self, event_data_: OrderShipped) -> None:
        self.data.tracking_code = event_data_.tracking_code


def run(*, number: int) -> Measurement:
    """Time the flow."""

    async def run_one(order: Order) -> None:
        machine = _Machine()
        await machine.activate_initial_state()
        for name, event in zip(_TRIGGERS, order.events, strict=True):
            # `event` is the library's own name.
            await machine.send(name, event_data_=event)
        check_completed(order.order_id, "completed" if machine.completed.is_active else "not")

    return anyio.run(measure_orders, run_one, number)
