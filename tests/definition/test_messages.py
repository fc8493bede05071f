from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

from attrs import frozen

from examples import orders
from sagaflow._definition.messages import mentioned_messages
from sagaflow._forms.instances import is_message_class
from tests.definition import support
from tests.definition.support import Paid, Shipped


@dataclass
class Note:
    text: str = ""


def mentioned(function: Any) -> set[type]:
    assert isinstance(function, FunctionType)
    return set(mentioned_messages(function))


def test_attrs_classes_and_dataclasses_are_messages() -> None:
    assert is_message_class(Paid)
    assert is_message_class(Note)
    assert not is_message_class(Paid())
    assert not is_message_class(Note())
    assert not is_message_class(str)
    assert not is_message_class("Paid")


def test_messages_that_a_handler_of_the_order_example_mentions() -> None:
    assert mentioned(orders.OrderSaga.place) == {orders.ProcessPayment}
    assert mentioned(orders.OrderSaga.refund) == {orders.RefundPayment}
    assert mentioned(orders.OrderSaga.give_up) == {orders.CancelPayment}
    assert mentioned(orders.OrderSaga.finish) == set()


def test_messages_of_a_module_are_found() -> None:
    def handler() -> object:
        return support.Shipped(), support.steps

    assert mentioned(handler) == {Shipped}


def test_messages_in_nested_functions_are_found() -> None:
    def handler() -> object:
        return [lambda: Note("nested") for _ in range(3)]

    assert mentioned(handler) == {Note}


def test_messages_that_are_local_to_a_function_are_found() -> None:
    @frozen
    class Local:
        pass

    number = 3

    def handler() -> object:
        return Local(), number

    assert mentioned(handler) == {Local}


def test_class_that_is_defined_further_down_is_no_obstacle() -> None:
    def handler() -> object:
        return Later()

    assert mentioned(handler) == set()

    @frozen
    class Later:
        pass

    assert mentioned(handler) == {Later}


def test_names_that_are_no_messages_are_left_out() -> None:
    def handler() -> object:
        return str(3), FunctionType, NOT_DEFINED  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownVariableType]

    assert mentioned(handler) == set()
