"""Handlers that could never be called are refused, with the line and a remedy."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from sagaflow import Context, Saga, State, compensates, during, initially
from sagaflow.exceptions import SagaDefinitionError
from tests.definition.support import Paid, Started, assert_refused, unchecked

TAKES = "a handler takes (self, event, ctx), but this one takes "


def test_handler_without_context() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(initially.on(Started).goto(waiting))  # here
            async def start(self, event: Started) -> None: ...

        return Order

    assert_refused(define, "Order.start", f"{TAKES}(self, event)", "change that")


def test_handler_with_a_parameter_too_many() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(initially.on(Started).goto(waiting))  # here
            def start(self, event: Started, ctx: Context, more: int) -> None: ...

        return Order

    assert_refused(define, "Order.start", f"{TAKES}(self, event, ctx, more)")


def test_handler_with_a_keyword_only_parameter() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(initially.on(Started).goto(waiting))  # here
            def start(self, event: Started, *, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.start", f"{TAKES}(self, event, *, ctx)")


def test_line_is_that_of_the_outermost_decorator_of_the_handler() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)

            @unchecked(during(waiting).on(Paid).when(lambda _, e: e.amount > 9).stay())  # here
            @unchecked(during(waiting).on(Paid).stay())
            def pay(self, event: Paid) -> None: ...

        return Order

    assert_refused(define, "Order.pay", f"{TAKES}(self, event)")


def test_handler_with_defaults_or_any_parameters_is_accepted() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)

        @initially.on(Started).goto(waiting)
        def start(self, event: Started, ctx: Context, more: int = 0) -> None: ...

        @unchecked(during(waiting).on(Paid).goto(done))
        def pay(self, *given: object, **named: object) -> None: ...

    assert [row.step for row in Order.table.rows] == ["start", "pay"]


def test_annotations_of_a_handler_are_never_evaluated() -> None:
    class Order(Saga):
        done = State(final=True)

        @unchecked(initially.on(Started).goto(done))
        def start(self, event: Missing, ctx: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]

    assert Order.table.takes(Started)


def test_lambda_with_the_wrong_parameters() -> None:
    def define() -> object:
        note: Callable[[Started], None] = lambda event: None  # here  # noqa: E731

        class Order(Saga):
            waiting = State()
            start = unchecked(initially.on(Started).goto(waiting))(note)

        return Order

    assert_refused(define, "Order.<lambda>", f"{TAKES}(event)")


def test_static_method_below_the_chain() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(initially.on(Started).goto(waiting))  # here
            @staticmethod
            def start(event: Started, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define,
        "Order.start",
        "a handler is a method, this is of type staticmethod",
        "write it with def or async def (self, event, ctx)",
    )


def test_class_method_below_the_chain() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(initially.on(Started).goto(waiting))  # here
            @classmethod
            def start(cls, event: Started, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.start", "this is of type classmethod", "write it with def")


def test_object_that_can_be_called() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = unchecked(initially.on(Started).goto(waiting))(functools.partial(print))  # here

        return Order

    assert_refused(define, "Order", "a handler is a method, this is of type partial")


@pytest.mark.parametrize("decorator", [staticmethod, classmethod, functools.cache, property])
def test_decorator_above_the_chain_that_hides_the_handler(decorator: Any) -> None:
    """The transition would be lost without a word."""

    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(decorator)
            @initially.on(Started).goto(waiting)  # here
            def start(self, event: Started, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define,
        "Order.start",
        "its transition would be lost",
        "put the @... of a transition above all other decorators",
    )


def test_decorator_above_the_chain_that_keeps_what_it_is_told_about_the_function() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*given: object) -> object:
            return function(*given)

        return wrapper

    class Order(Saga):
        done = State(final=True)

        @unchecked(logged)
        @initially.on(Started).goto(done)
        def start(self, event: Started, ctx: Context) -> None: ...

    assert [row.step for row in Order.table.rows] == ["start"]


def test_two_handlers_of_one_name() -> None:
    """The second replaces the first, whose transition would be lost without a word."""

    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)

            @during(waiting).on(Paid).goto(done)  # here
            def pay(self, event: Paid, ctx: Context) -> None: ...  # pyright: ignore[reportRedeclaration]

            @during(done).on(Paid).stay()  # type: ignore[no-redef]
            def pay(self, event: Paid, ctx: Context) -> None: ...  # noqa: F811

        return Order

    assert_refused(
        define,
        "Order.pay",
        "its transition would be lost, because the class has no such method in the end",
        "give every method a name of its own",
    )


def test_handler_that_is_not_assigned() -> None:
    def define() -> object:
        def pay(self: object, event: Paid, ctx: Context) -> None: ...

        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            during(waiting).on(Paid).stay()(pay)  # here

        return Order

    assert_refused(define, "Order.pay", "its transition would be lost")


def test_handler_that_yields() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(initially.on(Started).goto(waiting))  # here
            def start(self, event: Started, ctx: Context) -> Iterator[int]:
                yield 1

        return Order

    assert_refused(define, "Order.start", "it does not yield", "remove the yield")


def test_asynchronous_handler_that_yields() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(initially.on(Started).goto(waiting))  # here
            async def start(self, event: Started, ctx: Context) -> AsyncIterator[int]:
                yield 1

        return Order

    assert_refused(define, "Order.start", "its code would never run", "remove the yield")


def test_compensation_with_the_wrong_parameters() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).goto(done)

            @unchecked(compensates(pay))  # here
            def refund(self, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.refund", f"{TAKES}(self, ctx)")


def test_override_without_a_decorator_that_has_the_wrong_parameters() -> None:
    class Base(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).goto(done)
        def pay(self, event: Paid, ctx: Context) -> None: ...

    def define() -> object:
        class Order(Base):
            def pay(self, event: Paid) -> None: ...  # type: ignore[override]  # here  # pyright: ignore[reportIncompatibleMethodOverride]

        return Order

    assert_refused(
        define, "Order.pay", "this overrides an inherited handler", f"{TAKES}(self, event)"
    )


def test_override_of_a_compensation_that_has_the_wrong_parameters() -> None:
    class Base(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)

        @compensates(pay)
        def refund(self, event: Paid, ctx: Context) -> None: ...

    def define() -> object:
        class Order(Base):
            def refund(self, ctx: Context) -> None: ...  # type: ignore[override]  # here  # pyright: ignore[reportIncompatibleMethodOverride]

        return Order

    assert_refused(define, "Order.refund", "overrides an inherited handler", f"{TAKES}(self, ctx)")


def test_override_that_is_no_method() -> None:
    class Base(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(Paid).goto(done)
        def pay(self, event: Paid, ctx: Context) -> None: ...

    def define() -> object:
        class Order(Base):
            pay: int = 0  # type: ignore[assignment]  # here  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

        return Order

    assert_refused(
        define, "Order.pay", "overrides an inherited handler", "a handler is a method", "type int"
    )


def test_handler_outside_of_any_class_names_no_class() -> None:
    def start(self: object, event: Started) -> None: ...

    with pytest.raises(SagaDefinitionError) as caught:
        unchecked(initially.on(Started).goto(State("waiting")))(start)
    assert (caught.value.saga, caught.value.method) == (None, "start")
    assert caught.value.line == start.__code__.co_firstlineno
