from __future__ import annotations

from sagaflow import Context, Saga, State, compensates, during, during_any, initially
from tests.definition.support import Cancelled, Paid, PaidByCard, Shipped, Started


def test_compensation_of_a_handler() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).goto(done)
        async def pay(self, event: Paid, ctx: Context) -> None: ...

        @compensates(pay)
        async def refund(self, event: Paid, ctx: Context) -> None: ...

    assert Order.table.compensations == {"pay": "refund"}


def test_compensation_of_a_transition_without_a_handler() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        paid_in_full = during(waiting).on(Paid).goto(done)

        @compensates(paid_in_full)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    assert Order.table.compensations == {"paid_in_full": "refund"}


def test_compensation_of_a_step_that_compensates() -> None:
    """What it has acknowledged is undone before all the others, so it may say how."""

    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        cancel = during_any.on(Cancelled).compensate().goto(done)

        @compensates(cancel)
        def undo(self, event: Cancelled, ctx: Context) -> None: ...

    assert Order.table.compensations == {"cancel": "undo"}


def test_start_may_be_compensated() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        end = during(waiting).on(Paid).goto(done)

        @initially.on(Started).goto(waiting)
        def start(self, event: Started, ctx: Context) -> None: ...

        @compensates(start)
        def stop(self, event: Started, ctx: Context) -> None: ...

    assert Order.table.compensations == {"start": "stop"}


def test_compensation_is_returned_unchanged() -> None:
    def pay(self: object, event: Paid, ctx: Context) -> None: ...

    def refund(self: object, event: Paid, ctx: Context) -> None: ...

    assert compensates(pay)(refund) is refund


def test_one_method_may_undo_several_steps() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).stay()
        ship = during(waiting).on(Shipped).goto(done)

        @compensates(pay)
        @compensates(ship)
        async def undo(self, event: Paid | Shipped, ctx: Context) -> None: ...

    assert Order.table.compensations == {"pay": "undo", "ship": "undo"}


def test_compensation_may_be_a_step_itself() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).stay()
        end = during(waiting).on(Shipped).goto(done)

        @compensates(pay)
        @during(waiting).on(PaidByCard).stay()
        def refund(self, event: Paid, ctx: Context) -> None: ...

    assert Order.table.compensations == {"pay": "refund"}
    assert [row.step for row in Order.table.rows if row.event is PaidByCard] == ["refund"]


def test_step_that_compensates_only_in_some_states_may_be_compensated() -> None:
    class Order(Saga):
        unpaid = State()
        paid = State()
        done = State(final=True)
        start = initially.on(Started).goto(unpaid)
        pay = during(unpaid).on(Paid).goto(paid)

        @during(unpaid).on(Cancelled).goto(done)
        @during(paid).on(Cancelled).compensate().goto(done)
        def cancel(self, event: Cancelled, ctx: Context) -> None: ...

        @compensates(cancel)
        def undo(self, event: Cancelled, ctx: Context) -> None: ...

    assert Order.table.compensations == {"cancel": "undo"}


def test_compensation_is_inherited() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)

        @compensates(pay)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    class WebOrder(Order):
        cancel = during_any.on(Cancelled).compensate().goto(Order.done)

        def refund(self, event: Paid, ctx: Context) -> None: ...

    assert WebOrder.table.compensations == {"pay": "refund"}


def test_subclass_may_compensate_an_inherited_step() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).goto(done)
        def pay(self, event: Paid, ctx: Context) -> None: ...

    class WebOrder(Order):
        @compensates(Order.pay)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    assert Order.table.compensations == {}
    assert WebOrder.table.compensations == {"pay": "refund"}


def test_compensation_in_a_subclass_replaces_the_inherited_one() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)

        @compensates(pay)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    class WebOrder(Order):
        @compensates(Order.pay)
        def credit(self, event: Paid, ctx: Context) -> None: ...

    assert WebOrder.table.compensations == {"pay": "credit"}


def test_compensation_of_an_overridden_step_is_kept() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).goto(done)
        def pay(self, event: Paid, ctx: Context) -> None: ...

        @compensates(pay)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    class WebOrder(Order):
        @during(Order.waiting).on(Paid).stay()
        def pay(self, event: Paid, ctx: Context) -> None: ...

        end = during(Order.waiting).on(Shipped).goto(Order.done)

    assert WebOrder.table.compensations == {"pay": "refund"}


def test_compensation_of_a_step_that_a_subclass_replaced_by_another_is_dropped() -> None:
    """It would never be recorded, and the subclass cannot take it back."""

    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)

        @compensates(pay)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    class WebOrder(Order):
        pay_by_web = during(Order.waiting).on(Paid).goto(Order.done)

    assert WebOrder.table.compensations == {}


def test_method_that_is_decorated_anew_no_longer_undoes_the_inherited_step() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).stay()
        ship = during(waiting).on(Shipped).goto(done)

        @compensates(pay)
        def undo(self, event: Paid | Shipped, ctx: Context) -> None: ...

    class WebOrder(Order):
        @compensates(Order.ship)
        def undo(self, event: Paid | Shipped, ctx: Context) -> None: ...

    assert WebOrder.table.compensations == {"ship": "undo"}
