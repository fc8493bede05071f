"""Scripted answers: a whole process in one test."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import frozen

from examples.orders import (
    CancelPayment,
    CreateShipment,
    InventoryFailed,
    InventoryReserved,
    OrderCancelled,
    OrderPlaced,
    OrderSaga,
    OrderShipped,
    PaymentDeclined,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReserveInventory,
)
from sagaflow import Context, OutcomeKind, Saga, SagaflowError, State, Status, during, initially
from sagaflow.testing import SagaTest, containing

PLACED = OrderPlaced("o-1", Decimal(99))
PAID = PaymentProcessed("o-1", "t-1")
RESERVED = InventoryReserved("o-1", "r-1")
SHIPPED = OrderShipped("o-1", "1Z")
MINUTE = timedelta(minutes=1)


def paid(command: ProcessPayment) -> PaymentProcessed:
    return PaymentProcessed(command.order_id, f"paid {command.amount}")


@pytest.fixture
def order() -> SagaTest[OrderSaga]:
    return SagaTest(OrderSaga)


def test_whole_process_runs_in_one_call(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).reply(paid)
    order.on(ReserveInventory).reply(RESERVED)
    order.on(CreateShipment).reply(SHIPPED)
    order.when(PLACED)
    order.then(
        outcome=OutcomeKind.STARTED,
        state=OrderSaga.completed,
        data={"transaction_id": "paid 99", "tracking_code": "1Z"},
        sent=[ProcessPayment("o-1", Decimal(99)), ReserveInventory, CreateShipment],
        unanswered=[],
    )


def test_failure_is_answered_with_what_undoes_the_rest(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).reply(PAID)
    order.on(ReserveInventory).reply(lambda c: InventoryFailed(c.order_id, "none"))
    order.when(PLACED)
    order.then(state=OrderSaga.failed, sent=containing(RefundPayment("o-1", "t-1")))
    order.then(unanswered=[RefundPayment])


def test_answer_may_come_late(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).reply(PAID, after=20 * MINUTE)
    order.when(PLACED)
    order.then(state=OrderSaga.awaiting_payment)
    order.advance(19 * MINUTE)
    order.then(state=OrderSaga.awaiting_payment)
    order.advance(MINUTE)
    order.then(state=OrderSaga.awaiting_inventory)


def test_answer_may_come_too_late(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).reply(PAID, after=31 * MINUTE)
    order.when(PLACED).advance(timedelta(days=1))
    order.then(state=OrderSaga.expired, sent=[ProcessPayment, CancelPayment])


def test_answer_at_the_instant_of_a_timeout_comes_before_it(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).reply(PAID, after=30 * MINUTE)
    order.when(PLACED).advance(30 * MINUTE)
    order.then(state=OrderSaga.awaiting_inventory)


def test_answer_may_never_come(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).never()
    order.when(PLACED)
    order.then(state=OrderSaga.awaiting_payment, unanswered=[])


def test_script_that_says_nothing_is_none(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment)
    order.when(PLACED)
    order.then(state=OrderSaga.awaiting_payment, unanswered=[ProcessPayment])


def test_answer_may_come_twice(order: SagaTest[OrderSaga]) -> None:
    """With one message id: the second one is a duplicate and runs nothing."""
    order.on(ProcessPayment).reply_twice(PAID, after=MINUTE)
    order.when(PLACED).advance(MINUTE)
    order.then(state=OrderSaga.awaiting_inventory, sent=[ProcessPayment, ReserveInventory])
    with pytest.raises(AssertionError, match=r"PaymentProcessed\(.*\)  duplicate"):
        order.then(exists=False)


def test_message_that_is_refused_is_offered_again(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).raises(ConnectionError("down")).reply(PAID)
    order.when(PLACED)
    order.then(state=OrderSaga.awaiting_payment, sent=[])
    order.advance(MINUTE)
    order.then(state=OrderSaga.awaiting_inventory, sent=[ProcessPayment, ReserveInventory])


def test_message_that_is_refused_for_too_long_suspends_its_saga(
    order: SagaTest[OrderSaga],
) -> None:
    order.on(ProcessPayment).raises(ConnectionError("down"))
    order.when(PLACED).advance(timedelta(days=1))
    order.then(status=Status.SUSPENDED, sent=[])


@frozen
class Try:
    job: str
    attempt: int


@frozen
class Tried:
    job: str
    success: bool


@frozen
class Begin:
    job: str


@frozen
class Cheer(Try):
    pass


class Stubborn(Saga, correlate_by="job"):
    """Tries until it succeeds."""

    trying = State()
    done = State(final=True)

    attempts: int = 0

    @initially.on(Begin).goto(trying)
    def begin(self, event: Begin, ctx: Context) -> None:
        self.attempts += 1
        ctx.send(Try(event.job, self.attempts))

    @during(trying).on(Tried).branch(trying, done)
    def tried(self, event: Tried, ctx: Context) -> State:
        if event.success:
            ctx.publish(Cheer(event.job, self.attempts))
            return self.done
        self.attempts += 1
        ctx.send(Try(event.job, self.attempts))
        return self.trying


def test_answers_come_one_after_another_and_the_last_one_stays() -> None:
    stubborn = SagaTest(Stubborn)
    bad, good = Tried("j-1", success=False), Tried("j-1", success=True)
    stubborn.on(Try).reply(bad).reply(bad, after=MINUTE).never()
    stubborn.when(Begin("j-1")).advance(MINUTE)
    stubborn.then(data={"attempts": 3})
    stubborn.on(Try).reply(lambda command: Tried(command.job, command.attempt == 6))
    stubborn.when(bad)
    stubborn.then(state=Stubborn.done, sent=[Try("j-1", 4), Try("j-1", 5), Try("j-1", 6)])
    assert good.success


def test_script_for_a_class_is_for_its_subclasses_but_the_nearest_one_counts() -> None:
    stubborn = SagaTest(Stubborn)
    stubborn.on(object).reply(Tried("j-1", success=True))
    stubborn.on(Cheer).never()
    stubborn.when(Begin("j-1"))
    stubborn.then(state=Stubborn.done, published=[Cheer("j-1", 1)])


def test_answer_may_be_several_events_or_none(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).reply(lambda _: [PAID, RESERVED])
    order.on(ReserveInventory).reply(lambda _: None)
    order.on(CreateShipment).reply(lambda _: (SHIPPED,))
    order.when(PLACED)
    order.then(state=OrderSaga.completed)


def test_nobody_answers_what_was_given(order: SagaTest[OrderSaga]) -> None:
    order.on(ProcessPayment).reply(PAID)
    order.given(PLACED)
    order.then(state=OrderSaga.awaiting_payment)
    order.when(PaymentDeclined("o-1", "broke"))
    order.then(state=OrderSaga.failed)


def test_answers_also_follow_a_timer_and_an_operator() -> None:
    order = SagaTest(OrderSaga, "o-1")
    order.given_state(OrderSaga.awaiting_payment, OrderSaga(order_id="o-1"))
    order.on(CancelPayment).reply(PAID)
    order.advance(30 * MINUTE)
    with pytest.raises(AssertionError, match=r"PaymentProcessed\(.*\)  ignored"):
        order.then(state=OrderSaga.completed)
    other = SagaTest(OrderSaga, "o-1")
    other.given_state(OrderSaga.awaiting_inventory, completed=[(OrderSaga.reserve, PAID)])
    other.on(RefundPayment).reply(OrderCancelled("o-1", "again"))
    other.cancel()
    with pytest.raises(AssertionError, match=r"OrderCancelled\(.*\)  finished"):
        other.then(state=OrderSaga.completed)


def test_process_that_never_comes_to_rest_is_an_error() -> None:
    stubborn = SagaTest(Stubborn)
    stubborn.on(Try).reply(Tried("j-1", success=False))
    with pytest.raises(SagaflowError, match="do not come to rest: more than 50 answers"):
        stubborn.when(Begin("j-1"))
    later = SagaTest(Stubborn)
    later.on(Try).reply(Tried("j-1", success=False), after=MINUTE)
    later.when(Begin("j-1"))
    with pytest.raises(SagaflowError, match=r"advance\(1 day.*\): more than 50 things happen"):
        later.advance(timedelta(days=1))


@pytest.fixture(autouse=True)
def _soon_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagaflow.testing._stage._MOST", 50)


@pytest.mark.parametrize("answer", [5, "paid", None, PaymentProcessed])
def test_what_is_no_answer_is_refused(order: SagaTest[OrderSaga], answer: Any) -> None:
    with pytest.raises(SagaflowError, match="a reply is an event or a function that makes one"):
        order.on(ProcessPayment).reply(answer)


def test_answer_does_not_come_before_its_question(order: SagaTest[OrderSaga]) -> None:
    with pytest.raises(SagaflowError, match="an answer does not come before its question"):
        order.on(ProcessPayment).reply(PAID, after=-MINUTE)
