from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from attrs.exceptions import FrozenInstanceError

from examples.orders import (
    InventoryFailed,
    InventoryReserved,
    OrderCancelled,
    OrderPlaced,
    OrderSaga,
    OrderShipped,
    PaymentDeclined,
    PaymentProcessed,
    ShipmentFailed,
)
from sagaflow import Context, Saga, State, during, during_any, initially
from sagaflow._definition.saga import definition_of
from sagaflow._definition.table import Action
from tests.definition.support import (
    Cancelled,
    Paid,
    PaidByCard,
    PaidByDebitCard,
    Shipped,
    Started,
    row,
    steps,
)


def test_table_of_the_order_example() -> None:
    """Every transition, in the order of declaration."""
    found = [
        (
            row.step,
            None if row.source is None else row.source.name,
            row.event,
            row.action,
            [target.name for target in row.targets],
            row.compensates,
            row.from_any,
        )
        for row in OrderSaga.table.rows
    ]
    goto, ignore, failed = Action.GOTO, Action.IGNORE, ["failed"]
    payment, inventory, shipment = "awaiting_payment", "awaiting_inventory", "awaiting_shipment"
    assert found == [
        ("place", None, OrderPlaced, goto, [payment], False, False),
        ("reserve", payment, PaymentProcessed, goto, [inventory], False, False),
        ("ship", inventory, InventoryReserved, goto, [shipment], False, False),
        ("finish", shipment, OrderShipped, goto, ["completed"], False, False),
        ("fail", payment, PaymentDeclined, goto, failed, False, False),
        ("fail", inventory, InventoryFailed, goto, failed, True, False),
        ("fail", shipment, ShipmentFailed, goto, failed, True, False),
        ("fail", payment, OrderCancelled, goto, failed, True, True),
        ("fail", inventory, OrderCancelled, goto, failed, True, True),
        ("fail", shipment, OrderCancelled, goto, failed, True, True),
        ("withdraw", payment, OrderCancelled, goto, failed, False, False),
        ("give_up", payment, None, goto, ["expired"], False, False),
        ("late_payment", "failed", PaymentProcessed, ignore, [], False, False),
        ("late_payment", "expired", PaymentProcessed, ignore, [], False, False),
    ]


def test_rest_of_the_table_of_the_order_example() -> None:
    table = OrderSaga.table
    assert table.saga == "OrderSaga"
    assert [state.name for state in table.states] == [
        "awaiting_payment",
        "awaiting_inventory",
        "awaiting_shipment",
        "completed",
        "failed",
        "expired",
    ]
    assert [state.name for state in table.states if state.final] == [
        "completed",
        "failed",
        "expired",
    ]
    assert table.compensations == {"reserve": "refund", "ship": "release"}
    assert table.correlators == {}
    assert table.correlate_by == "order_id"
    assert [row.step for row in table.initial] == ["place"]
    assert table.events == (
        OrderPlaced,
        PaymentProcessed,
        InventoryReserved,
        OrderShipped,
        PaymentDeclined,
        InventoryFailed,
        ShipmentFailed,
        OrderCancelled,
    )


def test_table_cannot_be_changed() -> None:
    table: Any = OrderSaga.table
    with pytest.raises(FrozenInstanceError):
        table.saga = "other"
    with pytest.raises(TypeError):
        table.compensations["ship"] = "refund"
    with pytest.raises(TypeError):
        table.correlators[OrderPlaced] = "order_id"


def test_attribute_named_table_does_not_clash_with_the_table() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        table: str = "number 7"
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)

    assert Order().table == "number 7"
    assert definition_of(Order).table.saga == "Order"


def test_row_knows_where_it_was_declared() -> None:
    place = row(OrderSaga, "place")
    assert place.filename.endswith("orders.py")
    lines = Path(place.filename).read_text(encoding="utf-8").splitlines()
    assert "initially.on(OrderPlaced)" in lines[place.line - 1]


def test_state_that_is_named_wins_over_during_any() -> None:
    class Order(Saga):
        unpaid = State()
        paid = State()
        done = State(final=True)
        start = initially.on(Started).goto(unpaid)
        pay = during(unpaid).on(Paid).goto(paid)
        cancel = during_any.on(Cancelled).goto(done)
        cancel_paid = during(paid).on(Cancelled).compensate().goto(done)

    assert steps(Order, "unpaid", Cancelled) == ["cancel"]
    assert steps(Order, "paid", Cancelled) == ["cancel_paid", "cancel"]


def test_state_that_is_named_wins_even_over_a_more_specific_event_of_during_any() -> None:
    class Order(Saga):
        unpaid = State()
        done = State(final=True)
        start = initially.on(Started).goto(unpaid)
        by_card = during_any.on(PaidByCard).goto(done)
        pay = during(unpaid).on(Paid).goto(done)

    assert steps(Order, "unpaid", PaidByCard) == ["pay", "by_card"]


def test_during_any_leaves_out_final_states_and_the_start() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        cancel = during_any.on(Cancelled).goto(done)

    assert steps(Order, "waiting", Cancelled) == ["cancel"]
    assert steps(Order, "done", Cancelled) == []
    assert steps(Order, None, Cancelled) == []


def test_event_of_a_subclass_matches() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)

    assert steps(Order, "waiting", PaidByDebitCard) == ["pay"]
    assert Order.table.takes(PaidByDebitCard)
    assert not Order.table.takes(Shipped)


def test_event_of_a_base_class_does_not_match() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(PaidByCard).goto(done)

    assert steps(Order, "waiting", Paid) == []
    assert not Order.table.takes(Paid)


def test_most_specific_event_wins_whatever_is_declared_first() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)
        by_debit_card = during(waiting).on(PaidByDebitCard).goto(done)
        by_card = during(waiting).on(PaidByCard).goto(done)

    assert steps(Order, "waiting", PaidByDebitCard) == ["by_debit_card", "by_card", "pay"]
    assert steps(Order, "waiting", PaidByCard) == ["by_card", "pay"]
    assert steps(Order, "waiting", Paid) == ["pay"]


def test_class_that_is_only_registered_as_a_subclass_does_not_match() -> None:
    """`takes` and `candidates` agree, so nothing is accepted that no transition takes."""

    class Payment(ABC):  # noqa: B024
        pass

    @Payment.register
    @frozen
    class Cash:
        pass

    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Payment).goto(done)

    assert issubclass(Cash, Payment)
    assert not Order.table.takes(Cash)
    assert steps(Order, "waiting", Cash) == []


def test_events_may_be_attrs_classes_or_dataclasses_or_others() -> None:
    @dataclass
    class Mailed:
        key: str

    class Phoned:
        pass

    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Mailed, Phoned).goto(done)

    assert steps(Order, "waiting", Mailed) == steps(Order, "waiting", Phoned) == ["end"]


def test_guards_are_considered_in_order_of_declaration() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        large = during(waiting).on(Paid).when(lambda _, event: event.amount > 100).goto(done)
        medium = during(waiting).on(Paid).when(lambda _, event: event.amount > 10).stay()
        other = during(waiting).on(Paid).ignore()

    assert steps(Order, "waiting", Paid) == ["large", "medium", "other"]
    (guard,) = row(Order, "large").guards
    assert guard(Order(), Paid(amount=101))
    assert not guard(Order(), Paid(amount=100))
    assert row(Order, "other").guards == ()


def test_several_guards_of_one_chain_are_all_kept() -> None:
    def is_large(_: object, event: Paid) -> bool:
        return event.amount > 100

    def is_odd(_: object, event: Paid) -> bool:
        return event.amount % 2 == 1

    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).when(is_large).when(is_odd).goto(done)

    assert row(Order, "end").guards == (is_large, is_odd)


def test_guards_of_during_any_come_after_those_of_named_states() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        anywhere = during_any.on(Paid).when(lambda _, event: event.amount > 10).goto(done)
        here = during(waiting).on(Paid).when(lambda _, event: event.amount > 100).goto(done)

    assert steps(Order, "waiting", Paid) == ["here", "anywhere"]


def test_branch_names_every_state_that_it_may_enter() -> None:
    class Order(Saga):
        waiting = State()
        paid = State(final=True)
        partly_paid = State(final=True)

        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).branch(paid, partly_paid)
        def pay(self, event: Paid, ctx: Context) -> State:
            return self.paid if event.amount > 100 else self.partly_paid

    assert row(Order, "pay").action is Action.BRANCH
    assert row(Order, "pay").targets == (Order.paid, Order.partly_paid)


def test_branch_may_start_a_saga_and_may_come_after_compensation() -> None:
    class Order(Saga):
        waiting = State()
        lost = State(final=True)
        cancelled = State(final=True)

        @initially.on(Started).branch(waiting, lost)
        def start(self, event: Started, ctx: Context) -> State:
            return self.waiting if event.key else self.lost

        @during(waiting).on(Cancelled).compensate().branch(lost, cancelled)
        def cancel(self, event: Cancelled, ctx: Context) -> State:
            return self.cancelled if event.key else self.lost

    assert row(Order, "start").targets == (Order.waiting, Order.lost)
    assert row(Order, "cancel").compensates
    assert row(Order, "cancel").targets == (Order.lost, Order.cancelled)


def test_stay_has_no_target_and_keeps_its_handler() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        amount: int = 0

        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Shipped).goto(done)

        @during(waiting).on(Paid).stay()
        def pay(self, event: Paid, ctx: Context) -> None:
            self.amount += event.amount

    assert row(Order, "pay").action is Action.STAY
    assert row(Order, "pay").targets == ()


def test_event_is_ignored_in_final_states_and_others() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)
        late = during(waiting, done).on(Cancelled).ignore()

    assert [row.action for row in Order.table.candidates("done", Cancelled)] == [Action.IGNORE]
    assert [row.action for row in Order.table.candidates("waiting", Cancelled)] == [Action.IGNORE]


def test_event_that_is_ignored_at_the_start_is_expected_but_starts_nothing() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)
        early = initially.on(Cancelled).ignore()

    assert [row.step for row in Order.table.initial] == ["start"]
    assert Order.table.starts_with(Cancelled)
    assert not Order.table.starts_with(Paid)


def test_chain_may_name_several_states_and_events() -> None:
    class Order(Saga):
        unpaid = State()
        paid = State()
        done = State(final=True)
        start = initially.on(Started).goto(unpaid)
        pay = during(unpaid).on(Paid).goto(paid)
        end = during(unpaid, paid).on(Shipped, Cancelled).goto(done)

    for state in ("unpaid", "paid"):
        for event in (Shipped, Cancelled):
            assert steps(Order, state, event) == ["end"]


def test_state_or_event_that_is_named_twice_in_a_chain_counts_once() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting, waiting).on(Paid, Paid).goto(done)

    assert steps(Order, "waiting", Paid) == ["end"]


def test_chain_may_name_more_than_four_events() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid, Shipped, Cancelled, Started, PaidByCard).goto(done)

    assert len([row for row in Order.table.rows if row.step == "end"]) == 5


def test_saga_may_end_where_it_starts() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert row(Order, "start").targets == (Order.done,)


def test_stacked_decorators_give_one_handler_several_transitions() -> None:
    class Order(Saga):
        unpaid = State()
        paid = State()
        done = State(final=True)
        start = initially.on(Started).goto(unpaid)

        @during(unpaid).on(Paid).goto(paid)
        @during(paid).on(Shipped).goto(done)
        @during_any.on(Cancelled).compensate().goto(done)
        async def go_on(self, event: Paid | Shipped | Cancelled, ctx: Context) -> None: ...

    rows = [row for row in Order.table.rows if row.step == "go_on"]
    assert [(row.event, row.source) for row in rows] == [
        (Paid, Order.unpaid),
        (Shipped, Order.paid),
        (Cancelled, Order.unpaid),
        (Cancelled, Order.paid),
    ]
    assert [row.compensates for row in rows] == [False, False, True, True]


def test_stacked_decorators_are_declared_from_the_top_down() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).when(lambda _, event: event.amount > 100).goto(done)
        @during(waiting).on(Paid).when(lambda _, event: event.amount > 10).stay()
        def pay(self, event: Paid, ctx: Context) -> None: ...

    assert [row.action for row in Order.table.candidates("waiting", Paid)] == [
        Action.GOTO,
        Action.STAY,
    ]


def test_handler_is_returned_unchanged() -> None:
    def place(self: object, event: Started, ctx: Context) -> None: ...

    async def pay(self: object, event: Paid, ctx: Context) -> None: ...

    waiting = State("waiting")
    assert initially.on(Started).goto(waiting)(place) is place
    assert during(waiting).on(Paid).stay()(pay) is pay


def test_transition_without_a_handler_is_named_by_its_attribute() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        paid_in_full = during(waiting).on(Paid).goto(done)

    assert steps(Order, "waiting", Paid) == ["paid_in_full"]


def test_transition_may_come_from_a_function_outside_of_the_class() -> None:
    def cancellable(target: State) -> Any:
        return during_any.on(Cancelled).compensate().goto(target)

    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        cancel = cancellable(done)

    assert row(Order, "cancel").targets == (Order.done,)


def test_handler_may_be_written_outside_of_the_class() -> None:
    waiting, done = State("waiting"), State("done", final=True)

    @initially.on(Started).goto(waiting)
    def place(self: object, event: Started, ctx: Context) -> None: ...

    class Order(Saga):
        start = place
        end = during(waiting).on(Paid).goto(done)

    assert row(Order, "start").event is Started


def test_answers_are_the_same_when_they_are_asked_for_again() -> None:
    table = OrderSaga.table
    assert table.candidates("failed", PaymentProcessed) is table.candidates(
        "failed", PaymentProcessed
    )
    assert [table.takes(PaymentProcessed), table.takes(PaymentProcessed)] == [True, True]
    assert [table.takes(Shipped), table.takes(Shipped)] == [False, False]
