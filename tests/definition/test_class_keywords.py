from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagaflow import Saga, State, initially
from sagaflow._definition.saga import Options, definition_of
from tests.definition.support import Started, assert_refused


def key_of(event: object) -> str:
    return repr(event)


def test_defaults() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert definition_of(Order).options == Options(correlate_by=None, retain=None, inbox_size=128)
    assert definition_of(Order).table is Order.table
    assert Order.table.saga == "Order"


def test_every_keyword() -> None:
    class Order(
        Saga, name="order.v2", correlate_by="key", retain=timedelta(days=30), inbox_size=16
    ):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert definition_of(Order).options == Options(
        correlate_by="key", retain=timedelta(days=30), inbox_size=16
    )
    assert Order.table.saga == "order.v2"
    assert Order.table.correlate_by == "key"


def test_correlate_by_may_be_a_callable() -> None:
    class Order(Saga, correlate_by=key_of):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert Order.table.correlator(Started) is key_of


def test_keywords_are_inherited_but_not_the_name() -> None:
    class Order(Saga, name="orders", correlate_by="key", retain=timedelta(days=30), inbox_size=16):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    class WebOrder(Order):
        pass

    assert definition_of(WebOrder).options == definition_of(Order).options
    assert WebOrder.table.correlate_by == "key"
    assert WebOrder.table.saga == "WebOrder"


def test_subclass_overrides_keywords_one_by_one() -> None:
    class Order(Saga, correlate_by="key", retain=timedelta(days=30), inbox_size=16):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    class WebOrder(Order, inbox_size=32):
        pass

    class MobileOrder(WebOrder, retain=timedelta(days=1)):
        pass

    assert definition_of(MobileOrder).options == Options(
        correlate_by="key", retain=timedelta(days=1), inbox_size=32
    )


def test_keyword_of_any_base_is_inherited() -> None:
    class Short(Saga, inbox_size=16):
        pass

    class Keyed(Saga, correlate_by="key"):
        pass

    class Order(Short, Keyed):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert definition_of(Order).options == Options(correlate_by="key", inbox_size=16)


def test_keyword_of_the_nearest_base_in_a_diamond_is_inherited() -> None:
    class Base(Saga, inbox_size=16):
        pass

    class Left(Base):
        pass

    class Right(Base, inbox_size=32):
        pass

    class Order(Left, Right):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert definition_of(Order).options.inbox_size == 32


def test_inbox_that_a_document_may_not_hold_is_refused() -> None:
    def define() -> type[Saga]:
        class Order(Saga, inbox_size=4_097):  # here
            pass

        return Order

    assert_refused(define, "Order", "inbox_size= takes at most 4,096, not 4097")


@pytest.mark.parametrize("name", ["", "a b", "$where", ".hidden", "-x", "system/x", 7, "a\n"])
def test_name_that_cannot_be_stored_is_refused(name: Any) -> None:
    def define() -> type[Saga]:
        class Order(Saga, name=name):  # here
            pass

        return Order

    assert_refused(define, "Order", "name= takes a str of letters, digits and _ . -", repr(name))


@pytest.mark.parametrize("name", ["system.orders", "orders.", "shop..orders", "x" * 172])
def test_name_that_no_collection_may_have_is_refused(name: str) -> None:
    def define() -> type[Saga]:
        class Order(Saga, name=name):  # here
            pass

        return Order

    assert_refused(define, "Order", "as a collection of MongoDB is called", repr(name))


@pytest.mark.parametrize("name", ["orders", "shop.orders-2", "_x", "2", "system", "x" * 171])
def test_name_of_a_collection_is_taken(name: str) -> None:
    class Order(Saga, name=name):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert Order.table.saga == name


@pytest.mark.parametrize("correlate_by", [7, ["key"], ""])
def test_correlate_by_that_is_no_attribute_and_no_callable_is_refused(correlate_by: Any) -> None:
    def define() -> type[Saga]:
        class Order(Saga, correlate_by=correlate_by):  # here
            pass

        return Order

    assert_refused(define, "Order", "an attribute's name or a callable", repr(correlate_by))


@pytest.mark.parametrize("retain", [30, timedelta(0), timedelta(days=-1), "30 days"])
def test_retain_that_is_no_positive_span_is_refused(retain: Any) -> None:
    def define() -> type[Saga]:
        class Order(Saga, retain=retain):  # here
            pass

        return Order

    assert_refused(define, "Order", "retain= takes a positive timedelta", repr(retain))


@pytest.mark.parametrize("inbox_size", [0, -1, 1.5, True, "128"])
def test_inbox_size_that_is_no_positive_int_is_refused(inbox_size: Any) -> None:
    def define() -> type[Saga]:
        class Order(Saga, inbox_size=inbox_size):  # here
            pass

        return Order

    assert_refused(define, "Order", "inbox_size= takes a positive int", repr(inbox_size))


def test_misspelt_keyword_is_refused() -> None:
    def define() -> type[Saga]:
        class Order(Saga, retian=timedelta(days=30)):  # pyright: ignore[reportGeneralTypeIssues]
            pass

        return Order

    with pytest.raises(TypeError, match="retian"):
        define()
