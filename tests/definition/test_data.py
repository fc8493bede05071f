from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any, ClassVar

import attrs
import pytest
from attrs import field, frozen

from sagaflow import Context, Saga, State, initially
from tests.definition.support import Started


@frozen
class Line:
    product: str
    count: int = 1


class Order(Saga):
    done = State(final=True)

    number: int = 0
    total: Decimal = Decimal(0)
    customer: str | None = None
    lines: list[Line] = field(factory=list[Line])
    tags: frozenset[str] = frozenset()
    first: Line = Line("none")
    limit: ClassVar[int] = 3
    names: ClassVar[list[str]] = ["a"]

    @initially.on(Started).goto(done)
    def place(self, event: Started, ctx: Context) -> None: ...


def test_annotated_attributes_are_the_data_in_order_of_declaration() -> None:
    names = [attribute.name for attribute in attrs.fields(Order)]
    assert names == ["number", "total", "customer", "lines", "tags", "first"]


def test_data_has_its_defaults() -> None:
    order = Order()
    assert (order.number, order.total, order.customer) == (0, Decimal(0), None)
    assert (order.lines, order.tags, order.first) == ([], frozenset(), Line("none"))


def test_factory_makes_a_new_value_for_every_saga() -> None:
    assert Order().lines is not Order().lines


def test_data_is_given_by_keyword_only() -> None:
    assert Order(number=7, customer="me").number == 7
    make: Any = Order
    with pytest.raises(TypeError):
        make(7)


def test_sagas_with_the_same_data_are_equal() -> None:
    assert Order(number=7) == Order(number=7)
    assert Order(number=7) != Order(number=8)


def test_representation_shows_the_data() -> None:
    assert "number=7" in repr(Order(number=7))


def test_copy_has_data_of_its_own() -> None:
    order = Order(lines=[Line("tea")])
    other = copy.deepcopy(order)
    other.lines.append(Line("milk"))
    assert order.lines == [Line("tea")]


def test_misspelt_attribute_is_refused_instead_of_being_lost() -> None:
    order: Any = Order()
    with pytest.raises(AttributeError):
        order.nubmer = 7
    assert not hasattr(order, "__dict__")


def test_misspelt_attribute_of_a_subclass_is_refused() -> None:
    class WebOrder(Order):
        browser: str = ""

    order: Any = WebOrder()
    with pytest.raises(AttributeError):
        order.borwser = "x"


def test_states_and_transitions_cannot_be_replaced_on_a_saga() -> None:
    order: Any = Order()
    with pytest.raises(AttributeError):
        order.done = State("other")
    with pytest.raises(AttributeError):
        order.place = None


def test_constants_are_no_data() -> None:
    assert (Order.limit, Order().names) == (3, ["a"])


def test_states_are_no_data_but_can_be_reached_from_a_saga() -> None:
    assert Order().done is Order.done


def test_methods_of_every_kind_properties_and_classes_need_no_annotation() -> None:
    from functools import partialmethod, singledispatchmethod  # noqa: PLC0415

    class Rich(Saga):
        done = State(final=True)
        number: int = 0
        start = initially.on(Started).goto(done)

        class Detail:
            pass

        def plain(self, more: int) -> int:
            return self.number + more

        one_more = partialmethod(plain, 1)

        @singledispatchmethod
        def describe(self, value: object) -> str:
            return "object"

        @property
        def is_done(self) -> bool:
            return False

        @staticmethod
        def fixed() -> int:
            return 1

        @classmethod
        def made(cls) -> Rich:
            return cls(number=cls.fixed())

    rich = Rich.made()
    assert (rich.one_more(), rich.describe(1), rich.is_done) == (2, "object", False)
    assert [attribute.name for attribute in attrs.fields(Rich)] == ["number"]


def test_validators_run_when_data_is_given_and_when_it_is_set() -> None:
    class Checked(Saga):
        done = State(final=True)
        number: int = field(default=1, validator=attrs.validators.gt(0))
        start = initially.on(Started).goto(done)

    with pytest.raises(ValueError, match="must be > 0"):
        Checked(number=0)
    checked = Checked()
    with pytest.raises(ValueError, match="must be > 0"):
        checked.number = 0


def test_constants_may_be_annotated_in_every_way() -> None:
    import typing as t  # noqa: PLC0415

    class Rich(Saga):
        done = State(final=True)
        one: t.ClassVar[int] = 1
        two: ClassVar = 2
        _three: ClassVar[int] = 3
        start = initially.on(Started).goto(done)

    assert attrs.fields(Rich) == ()
    assert Rich.one + Rich.two + Rich._three == 6  # pyright: ignore[reportPrivateUsage]


def test_constants_are_recognised_without_postponed_annotations() -> None:
    names: dict[str, Any] = {"Saga": Saga, "ClassVar": ClassVar}
    body = ("class Order(Saga):", "one: ClassVar = 1", "two: ClassVar[int] = 2", "three: int = 3")
    source = "\n    ".join(body)
    exec(compile(source, "<here>", "exec", dont_inherit=True), names)  # noqa: S102
    assert [attribute.name for attribute in attrs.fields(names["Order"])] == ["three"]
