"""Attributes that are neither data nor code are refused, with the line and a remedy."""

from __future__ import annotations

import linecache
from typing import Any

import pytest
from attrs import define as attrs_class
from attrs import field

from sagaflow import Saga, State, initially
from sagaflow.exceptions import SagaDefinitionError
from tests.definition.support import Started, assert_refused


@pytest.mark.parametrize("value", [3, "EUR", None, (1, 2), Started()])
def test_value_without_an_annotation(value: object) -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            amount = value  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(
        define,
        "Order.amount",
        "'amount' has a value but no annotation",
        "persisted data is written `amount: type = ...`, a constant `amount: ClassVar[type] = ...`",
    )


def test_field_without_an_annotation() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)
            notes = field(factory=list[str])  # here  # pyright: ignore[reportGeneralTypeIssues]

        return Order

    assert_refused(define, "Order.notes", "'notes' has a value but no annotation")


def test_private_value_without_an_annotation() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)
            _limit = 3  # here

        return Order

    assert_refused(define, "Order._limit", "a constant `_limit: ClassVar[type] = ...`")


@pytest.mark.parametrize("default", [[], {}, set[int](), bytearray()])
def test_mutable_default(default: object) -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            notes: object = default  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(
        define,
        "Order.notes",
        "the default of 'notes' is mutable and would be shared by every saga",
        f"write field(factory={type(default).__name__})",
    )


def test_mutable_default_in_a_field() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            notes: list[str] = field(default=["first"])  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order.notes", "is mutable", "write field(factory=list)")


def test_mutable_default_of_a_class_of_the_user() -> None:
    @attrs_class
    class Address:
        street: str = ""

    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            address: Address = Address()  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order.address", "is mutable", "write field(factory=Address)")


def test_field_without_a_default() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            number: int  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(
        define,
        "Order.number",
        "the field 'number' has no default",
        "write `number: type | None = None` or another default",
    )


def test_private_field() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            _number: int = 0  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(
        define,
        "Order._number",
        "the field '_number' is private",
        "name it without the underscore, or make it a ClassVar",
    )


def test_private_field_with_two_underscores() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            __number: int = 0  # here  # pyright: ignore[reportGeneralTypeIssues]
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order.__number", "the field '__number' is private")


def test_annotated_state() -> None:
    def define() -> object:
        class Order(Saga):
            done: State = State(final=True)  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order.done", "'done' is no data", "leave out its annotation")


def test_annotated_transition() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start: object = initially.on(Started).goto(done)  # here

        return Order

    assert_refused(define, "Order.start", "'start' is no data", "leave out its annotation")


def test_line_is_found_behind_a_docstring_and_methods_that_mention_the_name() -> None:
    def define() -> object:
        class Order(Saga):
            """An order.

            number: how many there are.
            """

            done = State(final=True)
            start = initially.on(Started).goto(done)

            def count(self, number: int) -> int:
                number = number + 1
                return number * 2

            number: int  # here

        return Order

    assert_refused(define, "Order.number", "has no default")


def test_last_line_that_gives_a_name_its_value_is_the_one_that_counts() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)
            limit = 3
            limit = 4  # here

        return Order

    assert_refused(define, "Order.limit", "has a value but no annotation")


def test_saga_that_is_decorated_by_attrs() -> None:
    def define() -> object:
        @attrs_class  # here
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order", "is an attrs class already", "leave out the decorator of attrs")


def test_data_in_a_mixin_that_is_no_saga() -> None:
    class Noting:
        notes: list[str]

    def define() -> object:
        class Order(Noting, Saga):  # here
            done = State(final=True)
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(
        define,
        "Order",
        "the base class Noting declares the data 'notes' but is no saga, so it would not be stored",
        "write class Noting(Saga), declare the data in Order, or make it a ClassVar",
    )


def test_data_in_an_attrs_class_is_held_to_the_same_rules() -> None:
    @attrs_class
    class Numbered:
        number: int

    def define() -> object:
        class Order(Numbered, Saga):  # here
            done = State(final=True)
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order.number", "the field 'number' has no default")


def test_two_bases_with_data() -> None:
    class Noted(Saga):
        notes: list[str] = field(factory=list[str])

    class Numbered(Saga):
        number: int = 0

    def define() -> object:
        class Order(Noted, Numbered):  # here
            done = State(final=True)
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order", "two of its bases hold data", "keep the data in one of them")


def test_bases_that_conflict_otherwise_are_left_to_python() -> None:
    base: Any = Saga

    def define() -> object:
        class Order(base, base):  # type: ignore[misc]
            pass

        return Order

    with pytest.raises(TypeError, match="duplicate base class"):
        define()


@pytest.mark.parametrize("text", [None, "class Order(Saga:\n"])
def test_source_that_cannot_be_read_or_has_changed_is_no_obstacle(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is that of the class statement then."""
    if text is not None:
        monkeypatch.setitem(linecache.cache, "<nowhere>", (len(text), None, [text], "<nowhere>"))
    source = "\nclass Order(Saga):\n    number = 3\n"
    with pytest.raises(SagaDefinitionError, match="no annotation") as caught:
        exec(compile(source, "<nowhere>", "exec"), {"Saga": Saga})  # noqa: S102
    assert (caught.value.filename, caught.value.line) == ("<nowhere>", 2)


def test_class_that_is_made_without_a_class_statement_is_checked_too() -> None:
    make: Any = type(Saga)
    done = State(final=True)
    made = make("Order", (Saga,), {"done": done, "start": initially.on(Started).goto(done)})
    assert made.table.states == (done,)
    with pytest.raises(SagaDefinitionError, match="'number' has a value but no annotation"):
        make("Order", (Saga,), {"number": 3})
