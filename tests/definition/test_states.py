from __future__ import annotations

from typing import Any

import pytest

from sagaflow import Saga, State, during, initially
from sagaflow.exceptions import SagaDefinitionError
from tests.definition.support import Paid, Shipped, Started, assert_refused, row

SHARED = State("shared")
DONE = State("done", final=True)


def test_class_attribute_takes_its_attribute_name() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)

    assert Order.waiting.name == "waiting"
    assert Order.waiting.owner == f"{Order.__module__}.{Order.__qualname__}"
    assert Order.table.states == (Order.waiting, Order.done)


def test_name_that_was_given_is_kept_by_a_class_attribute() -> None:
    class Order(Saga):
        waiting = State("awaiting-payment")
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)

    assert Order.waiting.name == "awaiting-payment"
    assert Order.table.state("awaiting-payment") is Order.waiting
    assert Order.table.state("waiting") is None


def test_two_attributes_may_hold_one_state() -> None:
    class Order(Saga):
        waiting = State()
        unpaid = waiting
        done = State(final=True)
        start = initially.on(Started).goto(unpaid)
        end = during(waiting).on(Paid).goto(done)

    assert Order.unpaid is Order.waiting
    assert [state.name for state in Order.table.states] == ["waiting", "done"]


def test_state_made_outside_with_a_name_is_shared_by_sagas() -> None:
    class Order(Saga):
        start = initially.on(Started).goto(SHARED)
        end = during(SHARED).on(Paid).goto(DONE)

    class Parcel(Saga):
        start = initially.on(Started).goto(SHARED)
        end = during(SHARED).on(Shipped).goto(DONE)

    assert Order.table.states == Parcel.table.states == (SHARED, DONE)
    assert SHARED.owner is None
    assert row(Order, "end").source is row(Parcel, "end").source is SHARED


def test_class_attribute_wins_over_a_state_of_that_name_made_outside() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(State("waiting"))
        end = during(State("waiting")).on(Paid).goto(State("done"))

    assert Order.table.states == (Order.waiting, Order.done)
    assert row(Order, "start").targets[0] is Order.waiting
    assert row(Order, "end").targets[0].final


def test_states_are_equal_by_name() -> None:
    assert State("paid") == State("paid", final=True)
    assert hash(State("paid")) == hash(State("paid", final=True))
    assert State("paid") != State("shipped")
    assert len({State("paid"), State("paid"), State("shipped")}) == 2


def test_state_is_not_equal_to_its_name() -> None:
    name: object = "paid"
    assert State("paid") != name


def test_states_without_a_name_are_equal_only_to_themselves() -> None:
    first, second = State(), State()
    assert first == first  # noqa: PLR0124
    assert first != second
    assert first != State("first")
    assert State("first") != first


def test_representation_of_a_state_can_be_evaluated() -> None:
    assert repr(State("paid")) == "State('paid')"
    assert repr(State("paid", final=True)) == "State('paid', final=True)"
    assert repr(State()) == "State(None)"


def test_state_cannot_be_changed() -> None:
    state: Any = State("paid")
    with pytest.raises(AttributeError):
        state.final = True
    with pytest.raises(AttributeError):
        state.name = "shipped"
    with pytest.raises(AttributeError):
        state.colour = "red"


def test_final_is_keyword_only() -> None:
    make: Any = State
    with pytest.raises(TypeError):
        make("paid", True)


def test_state_without_a_name_says_how_to_name_it() -> None:
    with pytest.raises(
        SagaDefinitionError, match="class attribute of a saga, or name it"
    ) as caught:
        State().name  # noqa: B018
    assert caught.value.filename == __file__


def test_name_that_the_class_has_for_itself_is_refused_for_what_only_the_class_has() -> None:
    """`Order.table` is the transition table, so nobody could ever name such a state or step."""

    def state() -> object:
        class Order(Saga):
            table = State(final=True)  # here
            start = initially.on(Started).goto(table)

        return Order

    def step() -> object:
        class Order(Saga):
            done = State(final=True)
            table = initially.on(Started).goto(done)  # here

        return Order

    for define in (state, step):
        assert_refused(
            define,
            "Order.table",
            "Order.table is the transition table of the class",
            "give it another name",
        )


def test_name_that_only_the_class_has_may_be_that_of_a_field_or_a_method() -> None:
    class Order(Saga):
        done = State(final=True)
        table: str = "by the window"
        start = initially.on(Started).goto(done)

    class Booking(Saga):
        mro = State(final=True)
        start = initially.on(Started).goto(mro)

        def table(self) -> str:
            return "in the corner"

    made: Any = Order()
    assert made.table == "by the window"
    assert Order.table.saga == "Order"
    cls: Any = Booking
    assert (cls().table(), cls.table.saga) == ("in the corner", "Booking")


def test_field_called_self_is_refused() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            self: int = 0  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order.self", "a field cannot be called 'self': give it another name")
