"""What a failed assertion says."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from operator import not_
from textwrap import dedent
from typing import Any

import pytest

from examples.orders import (
    InventoryFailed,
    OrderCancelled,
    OrderPlaced,
    OrderSaga,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReserveInventory,
)
from sagaflow import OutcomeKind, RetryPolicy, SagaflowError, State, Status
from sagaflow.testing import SagaTest, containing, in_any_order
from tests.testing.sagas import Asked, Broken, CalledOff, Early, Hired, Job

PLACED = OrderPlaced("o-1", Decimal(99))
PAID = PaymentProcessed("o-1", "t-1")


@pytest.fixture
def failed() -> SagaTest[OrderSaga]:
    """An order that has failed, with all that could be asserted on."""
    order = SagaTest(OrderSaga)
    order.on(ProcessPayment).reply(PAID, after=timedelta(minutes=5))
    order.when(PLACED).advance(timedelta(minutes=5))
    return order.when(InventoryFailed("o-1", "sold out"))


def said(test: SagaTest[Any], *holds: Any, **expected: Any) -> str:
    with pytest.raises(AssertionError) as failure:
        test.then(*holds, **expected)
    return str(failure.value)


def test_failure_shows_the_difference_the_history_and_the_messages(
    failed: SagaTest[OrderSaga],
) -> None:
    text = said(
        failed,
        state=OrderSaga.completed,
        sent=[ProcessPayment, ReserveInventory("o-1"), RefundPayment("o-1", "t-2")],
        compensated=[],
    )
    assert (
        text
        == dedent("""\
        OrderSaga 'o-1' is not as expected ( - expected, + found )

          sent:
              ProcessPayment(order_id='o-1', amount=Decimal('99'))
              ReserveInventory(order_id='o-1')
            - RefundPayment(order_id='o-1', transaction_id='t-2')
            + RefundPayment(order_id='o-1', transaction_id='t-1')

          compensated: nothing was expected
            + reserve

          state:
            - completed
            + failed

          its history:
            after    event             step     state
            0:00:00  OrderPlaced       place    awaiting_payment
            0:05:00  PaymentProcessed  reserve  awaiting_payment -> awaiting_inventory
            0:05:00  InventoryFailed   fail     awaiting_inventory
            0:05:00  compensation      reserve  awaiting_inventory -> failed

          what it sent:
            0:00:00  command  ProcessPayment(order_id='o-1', amount=Decimal('99'))  \
answered with PaymentProcessed after 0:05:00
            0:05:00  command  ReserveInventory(order_id='o-1')                      nobody answers
            0:05:00  command  RefundPayment(order_id='o-1', transaction_id='t-1')   nobody answers
        """).rstrip()
    )


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        ({"exists": False}, "there is a saga"),
        ({"state": OrderSaga.completed}, "state:\n    - completed\n    + failed"),
        ({"status": Status.ACTIVE}, "status:\n    - ACTIVE\n    + FINISHED"),
        ({"outcome": OutcomeKind.STAYED}, "outcome:\n    - STAYED\n    + TRANSITIONED"),
        ({"data": {"notes": []}}, "data:\n    - notes = []\n    + notes = ['sold out']"),
        ({"data": OrderSaga()}, "- order_id = None\n    + order_id = 'o-1'"),
        ({"sent": []}, "sent: nothing was expected\n    + ProcessPayment("),
        ({"sent": in_any_order(ReserveInventory)}, "sent, in any order:\n    + ProcessPayment"),
        ({"sent": in_any_order(PLACED, Hired, Job)}, "sent, in any order:"),
        ({"sent": containing(Hired)}, "sent, among others:\n    - any Hired\n    + ProcessPay"),
        ({"sent": (RefundPayment, ReserveInventory)}, "sent:"),
        ({"published": [Hired("x")]}, "published: nothing was found\n    - Hired(job='x')"),
        ({"messages": [Hired]}, "messages:\n    - any Hired"),
        ({"unanswered": []}, "unanswered: nothing was expected\n    + ReserveInventory"),
        ({"scheduled": [Hired]}, "scheduled: nothing was found\n    - any Hired"),
        ({"parked": [Hired]}, "parked: nothing was found\n    - any Hired"),
        ({"timers": {"x": timedelta(1)}}, "timers: nothing was found\n    - x in 1 day"),
        ({"compensated": ["refund", "x"]}, "compensated:\n      refund\n    - x"),
    ],
    ids=repr,
)
def test_each_expectation_says_what_was_found(
    failed: SagaTest[OrderSaga], expected: dict[str, Any], says: str
) -> None:
    assert says in said(failed, **expected)


def test_all_that_is_wrong_is_said_at_once(failed: SagaTest[OrderSaga]) -> None:
    text = said(failed, exists=False, state=OrderSaga.completed, sent=[], data={"notes": []})
    assert [what in text for what in ("a saga", "state:", "sent:", "data:")] == [True] * 4


def test_predicate_that_does_not_hold_is_shown(failed: SagaTest[OrderSaga]) -> None:
    def is_large(saga: OrderSaga) -> bool:
        return saga.total > 1000

    text = said(failed, is_large)
    assert "this does not hold, line " in text
    assert "\n    def is_large(saga: OrderSaga) -> bool:" in text
    assert "<built-in function not_> does not hold" in said(failed, not_)


def test_messages_that_are_too_long_for_a_line_are_compared_by_field() -> None:
    order = SagaTest(OrderSaga)
    order.when(OrderPlaced("o" * 70, Decimal(99)))
    text = said(order, sent=[ProcessPayment("o" * 70, Decimal(98))])
    assert "    -     amount=Decimal('98'),\n    +     amount=Decimal('99'),\n" in text


def test_events_that_came_to_nothing_are_shown() -> None:
    order = SagaTest(OrderSaga)
    order.when(PAID).when(PLACED).when(OrderCancelled("o-1", "regret")).when(PAID)
    text = said(order, state=OrderSaga.completed)
    assert "events that it did not act on:" in text
    assert "PaymentProcessed(order_id='o-1', transaction_id='t-1')  not_found" in text
    assert "PaymentProcessed(order_id='o-1', transaction_id='t-1')  ignored" in text


def test_what_waits_is_shown() -> None:
    job = SagaTest(Job)
    job.given(Hired("j-1"), Early("j-1"))
    job.on(Asked).never()
    text = said(job, status=Status.FINISHED)
    assert text.endswith(
        "what waits:\n    Reminded in 1 day, 0:00:00\n    rest in 2 days, 0:00:00\n"
        "    parked: Early"
    )


def test_answer_that_is_under_way_is_shown() -> None:
    order = SagaTest(OrderSaga)
    order.on(ProcessPayment).reply(PAID, after=timedelta(days=2))
    text = said(order.when(PLACED), state=OrderSaga.failed)
    assert "answer PaymentProcessed in 2 days, 0:00:00" in text


def test_what_fails_is_shown_with_its_error() -> None:
    job = SagaTest(Job, retry=RetryPolicy(max_age=timedelta(minutes=5)))
    job.given(Hired("j-1"), Broken("j-1", "")).when(CalledOff("j-1"))
    text = said(job, status=Status.FINISHED)
    failure = "ConnectionError: nobody answers the phone"
    assert f"to undo: hire (failed 1 times: {failure})" in text
    job.advance(timedelta(hours=1))
    assert f"suspended: compensation: {failure}" in said(job, status=Status.FINISHED)


def test_message_that_was_refused_is_shown() -> None:
    order = SagaTest(OrderSaga)
    order.on(ProcessPayment).raises(ConnectionError("down"))
    text = said(order.when(PLACED), state=OrderSaga.failed)
    assert "  refused: ConnectionError('down')" in text
    assert "    in the outbox: ProcessPayment" in text


def test_saga_that_was_put_into_a_state_has_a_history_too() -> None:
    order = SagaTest(OrderSaga, "o-1").given_state(OrderSaga.awaiting_inventory)
    text = said(order, state=OrderSaga.failed)
    assert "0:00:00  (given)        awaiting_inventory" in text
    assert "what it sent: nothing" in text


def test_saga_that_is_not_there_is_said_not_to_be() -> None:
    order = SagaTest(OrderSaga)
    text = said(order, exists=True)
    assert text.startswith("OrderSaga is not as expected")
    assert "there is no saga" in text
    assert "its history: there is no such saga" in text
    needed: list[dict[str, Any]] = [{"state": OrderSaga.failed}, {"data": {}}, {"timers": {}}]
    for expected in needed:
        assert "there is no such saga" in said(order, **expected)
    assert "there is no such saga" in said(order, bool)
    with pytest.raises(AssertionError, match="there is no such saga"):
        order.saga.notes.clear()


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        ({"state": State("lost")}, r"OrderSaga has no State\('lost'\)"),
        ({"data": {"totl": 1}}, "OrderSaga has no field 'totl'; it has: order_id, total"),
        ({"compensated": [Job.hire]}, "OrderSaga has no step <function Job.hire"),
    ],
)
def test_what_the_class_does_not_have_cannot_be_expected(
    failed: SagaTest[OrderSaga], expected: dict[str, Any], says: str
) -> None:
    with pytest.raises(SagaflowError, match=says):
        failed.then(**expected)


def test_class_leaves_the_instance_that_another_expectation_needs() -> None:
    order = SagaTest(OrderSaga)
    order.when(PLACED).when(PAID)
    exact = ReserveInventory("o-1")
    order.then(sent=in_any_order(object, exact), messages=containing(object, exact))
