"""Compensations that would never run are refused, with the line and a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from sagaflow import Context, Saga, State, compensates, during, initially
from sagaflow.exceptions import SagaDefinitionError
from tests.definition.support import Paid, Shipped, Started, assert_refused, unchecked


def anything(value: object) -> Any:
    return value


def test_compensation_of_a_method_without_a_transition() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)

            def pay(self, event: Paid, ctx: Context) -> None: ...

            @compensates(pay)  # here
            def refund(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define,
        "Order.refund",
        "'pay' is no step of Order",
        "compensates() takes a method that has a transition, or a transition that has a name",
    )


def test_compensation_of_a_function_outside_of_the_class() -> None:
    def pay(self: object, event: Paid, ctx: Context) -> None: ...

    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)

            @compensates(pay)  # here
            def refund(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.refund", "'pay' is no step of Order")


def test_compensation_of_a_step_of_another_saga() -> None:
    class Parcel(Saga):
        done = State(final=True)

        @initially.on(Shipped).goto(done)
        def send(self, event: Shipped, ctx: Context) -> None: ...

    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)

            @compensates(Parcel.send)  # here
            def refund(self, event: Shipped, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.refund", "'send' is no step of Order")


def test_compensation_of_a_transition_that_ignores() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)
            late = during(done).on(Paid).ignore()

            @compensates(late)  # here
            def refund(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.refund", "is no step of Order")


def test_compensation_of_something_that_is_no_method() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)

            @compensates(anything(done))  # here
            def refund(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.refund", "\"State('done', final=True)\" is no step of Order")


def test_compensation_by_the_name_of_the_step() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).goto(done)

            @compensates(anything("pay"))  # here
            def refund(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define,
        "Order",
        "compensates() takes the step itself, not its name",
        "write @compensates(pay)",
    )


def test_two_compensations_of_one_step() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).goto(done)

            @compensates(pay)
            def refund(self, event: Paid, ctx: Context) -> None: ...

            @compensates(pay)  # here
            def credit(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define,
        "Order.credit",
        "the step 'pay' is already undone by 'refund'",
        "let one method do both",
    )


def test_compensation_without_a_step() -> None:
    """`@compensates` alone takes the method that it decorates for the step."""

    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)

            @unchecked(compensates)
            def refund(self, event: Paid, ctx: Context) -> None: ...  # here

        return Order

    assert_refused(
        define,
        "Order.refund",
        "compensates(step) decorates the method that undoes the step",
        "write @compensates(step) above that method",
    )


def test_compensation_without_a_method() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).goto(done)
            compensates(pay)  # here

        return Order

    assert_refused(define, "Order", "decorates the method that undoes the step")


def test_compensation_that_another_method_replaces() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).goto(done)

            @compensates(pay)  # here
            def refund(self, event: Paid, ctx: Context) -> None: ...  # pyright: ignore[reportRedeclaration]

            def refund(self, event: Paid, ctx: Context) -> None: ...  # type: ignore[no-redef]  # noqa: F811

        return Order

    assert_refused(
        define,
        "Order.refund",
        "its compensation would be lost",
        "give every method a name of its own",
    )


def test_compensation_in_a_subclass_of_a_step_that_it_replaces() -> None:
    class Base(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).goto(done)
        def pay(self, event: Paid, ctx: Context) -> None: ...

    def define() -> object:
        class Order(Base):
            pay_on_the_web = during(Base.waiting).on(Paid).goto(Base.done)

            @compensates(Base.pay)  # here
            def refund(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.refund", "'pay' is no step of Order")


def test_compensation_in_a_mixin_of_something_that_is_no_step() -> None:
    class Refunding:
        def pay(self, event: Paid, ctx: Context) -> None: ...

        @compensates(pay)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    def define() -> object:
        class Order(Refunding, Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)

        return Order

    with pytest.raises(SagaDefinitionError, match=r"^Order\.refund: 'pay' is no step of Order"):
        define()
