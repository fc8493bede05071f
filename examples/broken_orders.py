"""The order saga with a mistake planted in each class, for `sagaflow.testing.explore` to find."""

from __future__ import annotations

from sagaflow import Context, during

from .orders import (
    CreateShipment,
    InventoryReserved,
    OrderPlaced,
    OrderSaga,
    PaymentProcessed,
    ProcessPayment,
    ReserveInventory,
)


class ForgetfulOrderSaga(OrderSaga):
    """Nothing says how to undo the reservation, so an order that fails later keeps the stock."""

    @during(OrderSaga.awaiting_inventory).on(InventoryReserved).goto(OrderSaga.awaiting_shipment)
    async def dispatch(self, event: InventoryReserved, ctx: Context) -> None:
        ctx.send(CreateShipment(event.order_id))


class HastyOrderSaga(OrderSaga):
    """Asks for payment and stock at once, but takes the answers in one order only."""

    async def place(self, event: OrderPlaced, ctx: Context) -> None:
        self.order_id, self.total = event.order_id, event.total
        ctx.send(ProcessPayment(event.order_id, event.total))
        ctx.send(ReserveInventory(event.order_id))

    async def reserve(self, event: PaymentProcessed, ctx: Context) -> None:
        self.transaction_id = event.transaction_id
