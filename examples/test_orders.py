"""How the order saga is tested: given, when, then; `docs/testing.md` explains it.

Run it from a checkout: ``pytest examples/test_orders.py``.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from examples.orders import (
    CancelPayment,
    CreateShipment,
    InventoryFailed,
    InventoryReserved,
    OrderCancelled,
    OrderPlaced,
    OrderSaga,
    OrderShipped,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipmentFailed,
)
from sagaflow import OutcomeKind
from sagaflow.testing import SagaTest

PLACED = OrderPlaced("o-1", Decimal("99.90"))
PAID = PaymentProcessed("o-1", "t-1")
RESERVED = InventoryReserved("o-1", "r-1")


def test_order_is_charged_reserved_and_shipped() -> None:
    """Participants answer: the whole process is one call."""
    order = SagaTest(OrderSaga)
    order.on(ProcessPayment).reply(lambda c: PaymentProcessed(c.order_id, f"paid {c.amount}"))
    order.on(ReserveInventory).reply(RESERVED)
    order.on(CreateShipment).reply(OrderShipped("o-1", "1Z"), after=timedelta(days=2))
    order.when(PLACED)
    order.then(state=OrderSaga.awaiting_shipment)
    order.advance(timedelta(days=2))
    order.then(
        state=OrderSaga.completed,
        data={"transaction_id": "paid 99.90", "tracking_code": "1Z"},
        unanswered=[],
    )


def test_order_without_stock_is_refunded() -> None:
    """Given what has happened, when this happens, then that is so."""
    order = SagaTest(OrderSaga)
    order.given(PLACED, PAID)
    order.when(InventoryFailed("o-1", "sold out"))
    order.then(
        state=OrderSaga.failed,
        data={"notes": ["sold out"]},
        sent=[RefundPayment("o-1", "t-1")],
        compensated=[OrderSaga.reserve],
    )


def test_lost_parcel_releases_the_stock_and_then_refunds_the_payment() -> None:
    """A saga can be put into a state, with what it would undo."""
    order = SagaTest(OrderSaga, "o-1")
    order.given_state(
        OrderSaga.awaiting_shipment,
        OrderSaga(order_id="o-1"),
        completed=[(OrderSaga.reserve, PAID), (OrderSaga.ship, RESERVED)],
    )
    order.when(ShipmentFailed("o-1", "lost"))
    order.then(
        state=OrderSaga.failed,
        sent=[ReleaseInventory("o-1", "r-1"), RefundPayment("o-1", "t-1")],
        compensated=[OrderSaga.ship, OrderSaga.reserve],
    )


def test_order_that_is_not_paid_within_half_an_hour_expires() -> None:
    """Time goes by at once."""
    order = SagaTest(OrderSaga)
    order.on(ProcessPayment).reply(PAID, after=timedelta(hours=1))
    order.when(PLACED)
    order.then(timers={"give_up": timedelta(minutes=30)})
    order.advance(timedelta(minutes=30))
    order.then(state=OrderSaga.expired, sent=[CancelPayment("o-1")])
    order.advance(timedelta(minutes=30))
    order.then(state=OrderSaga.expired, sent=[])


def test_payment_that_crosses_with_a_cancellation_is_ignored() -> None:
    """What becomes of an event can be asserted on as well."""
    order = SagaTest(OrderSaga)
    order.given(PLACED, OrderCancelled("o-1", "regret"))
    order.when(PAID)
    order.then(outcome=OutcomeKind.IGNORED, state=OrderSaga.failed, messages=[])


def test_event_that_arrives_twice_counts_once() -> None:
    """A message id tells a second delivery from a second event."""
    order = SagaTest(OrderSaga)
    order.on(ProcessPayment).reply_twice(PAID)
    order.when(PLACED)
    order.then(state=OrderSaga.awaiting_inventory, sent=[ProcessPayment, ReserveInventory])
