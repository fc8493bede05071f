"""An order: charge the customer, reserve the stock, ship the parcel; or undo all of it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from attrs import field, frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially

# Events: what has happened.


@frozen
class OrderPlaced:
    order_id: str
    total: Decimal


@frozen
class PaymentProcessed:
    order_id: str
    transaction_id: str


@frozen
class PaymentDeclined:
    order_id: str
    reason: str


@frozen
class InventoryReserved:
    order_id: str
    reservation_id: str


@frozen
class InventoryFailed:
    order_id: str
    reason: str


@frozen
class OrderShipped:
    order_id: str
    tracking_code: str


@frozen
class ShipmentFailed:
    order_id: str
    reason: str


@frozen
class OrderCancelled:
    order_id: str
    reason: str


# Commands: what shall be done.


@frozen
class ProcessPayment:
    order_id: str
    amount: Decimal


@frozen
class CancelPayment:
    order_id: str


@frozen
class RefundPayment:
    order_id: str
    transaction_id: str


@frozen
class ReserveInventory:
    order_id: str


@frozen
class ReleaseInventory:
    order_id: str
    reservation_id: str


@frozen
class CreateShipment:
    order_id: str


class OrderSaga(Saga, correlate_by="order_id"):
    """Charge the customer, reserve the stock, ship the parcel; or undo all of it."""

    awaiting_payment = State()
    awaiting_inventory = State()
    awaiting_shipment = State()
    completed = State(final=True)
    failed = State(final=True)
    expired = State(final=True)

    # Annotated attributes are the saga's persisted data.
    order_id: str | None = None
    total: Decimal = Decimal(0)
    transaction_id: str | None = None
    tracking_code: str | None = None
    notes: list[str] = field(factory=list)

    @initially.on(OrderPlaced).goto(awaiting_payment)
    async def place(self, event: OrderPlaced, ctx: Context) -> None:
        self.order_id, self.total = event.order_id, event.total
        ctx.send(
            ProcessPayment(event.order_id, event.total)
        )  # leaves only after the state is stored

    @during(awaiting_payment).on(PaymentProcessed).goto(awaiting_inventory)
    async def reserve(self, event: PaymentProcessed, ctx: Context) -> None:
        self.transaction_id = event.transaction_id
        ctx.send(ReserveInventory(event.order_id))

    @compensates(reserve)  # undoes what `reserve` acknowledged: the payment
    async def refund(self, event: PaymentProcessed, ctx: Context) -> None:
        ctx.send(RefundPayment(event.order_id, event.transaction_id))

    @during(awaiting_inventory).on(InventoryReserved).goto(awaiting_shipment)
    async def ship(self, event: InventoryReserved, ctx: Context) -> None:
        ctx.send(CreateShipment(event.order_id))

    @compensates(ship)
    async def release(self, event: InventoryReserved, ctx: Context) -> None:
        ctx.send(ReleaseInventory(event.order_id, event.reservation_id))

    @during(awaiting_shipment).on(OrderShipped).goto(completed)
    def finish(self, event: OrderShipped, ctx: Context) -> None:
        self.tracking_code = event.tracking_code

    @during(awaiting_payment).on(PaymentDeclined).goto(failed)
    @during(awaiting_inventory).on(InventoryFailed).compensate().goto(failed)
    @during(awaiting_shipment).on(ShipmentFailed).compensate().goto(failed)
    @during_any.on(OrderCancelled).compensate().goto(failed)
    async def fail(
        self,
        event: PaymentDeclined | InventoryFailed | ShipmentFailed | OrderCancelled,
        ctx: Context,
    ) -> None:
        self.notes.append(event.reason)

    # A payment that has been asked for can be processed at any moment: it must be withdrawn.

    @during(awaiting_payment).on(OrderCancelled).goto(failed)
    async def withdraw(self, event: OrderCancelled, ctx: Context) -> None:
        self.notes.append(event.reason)
        ctx.send(CancelPayment(event.order_id))

    @during(awaiting_payment).after(timedelta(minutes=30)).goto(expired)
    async def give_up(self, ctx: Context) -> None:
        assert self.order_id is not None  # noqa: S101 - `place` has set it
        ctx.send(CancelPayment(self.order_id))

    # No code to run? Give the transition a name instead of a handler.
    late_payment = during(failed, expired).on(PaymentProcessed).ignore()
