"""An order, from the click to the payment. The workers that run it need no other file.

sagaflow run examples.shop.saga --service orders --processes 2
"""

from __future__ import annotations

from decimal import Decimal

from examples.shop.messages import OrderPlaced, PaymentDeclined, PaymentProcessed, ProcessPayment
from sagaflow import Context, Saga, State, during, initially


class OrderSaga(Saga, correlate_by="order_id"):
    """Have an order paid."""

    awaiting_payment = State()
    paid = State(final=True)
    declined = State(final=True)

    total: Decimal = Decimal(0)
    transaction_id: str | None = None
    reason: str | None = None

    @initially.on(OrderPlaced).goto(awaiting_payment)
    async def place(self, event: OrderPlaced, ctx: Context) -> None:
        self.total = event.total
        ctx.send(ProcessPayment(event.order_id, event.total))

    @during(awaiting_payment).on(PaymentProcessed).goto(paid)
    async def finish(self, event: PaymentProcessed, ctx: Context) -> None:
        self.transaction_id = event.transaction_id

    @during(awaiting_payment).on(PaymentDeclined).goto(declined)
    async def give_up(self, event: PaymentDeclined, ctx: Context) -> None:
        self.reason = event.reason
