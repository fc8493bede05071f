from __future__ import annotations

from typing import Any

import pytest

from sagaflow import Saga, SagaDefinitionError, State, during, initially, migrates
from sagaflow._definition.saga import definition_of
from tests.definition.support import Paid, Started, assert_refused, unchecked


class Base(Saga, schema=2):
    waiting = State()
    done = State(final=True)

    total: int = 0

    start = initially.on(Started).goto(waiting)
    pay = during(waiting).on(Paid).goto(done)

    @migrates(1, 2)
    @staticmethod
    def cents(data: dict[str, Any]) -> None:
        data["total"] *= 100


def test_schema_is_1_unless_the_class_says_otherwise() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert definition_of(Order).evolution.schema == definition_of(Order).options.schema == 1
    assert definition_of(Order).evolution.steps == ()


def test_migration_can_be_called_in_a_test() -> None:
    data = {"total": 2}
    assert Base.cents(data) is None
    assert data == {"total": 200}


def test_migrations_are_inherited_and_may_be_replaced() -> None:
    class Longer(Base, schema=3):
        @migrates(2, 3)
        @staticmethod
        def again(data: dict[str, Any]) -> None: ...

    class Replacing(Base):
        @migrates(1, 2)
        @staticmethod
        def other(data: dict[str, Any]) -> None: ...

    class Overriding(Base):
        @staticmethod
        def cents(data: dict[str, Any]) -> None: ...

    assert [step.name for step in definition_of(Longer).evolution.steps] == ["cents", "again"]
    assert [step.name for step in definition_of(Replacing).evolution.steps] == ["other"]
    assert [step.name for step in definition_of(Overriding).evolution.steps] == ["cents"]
    assert definition_of(Overriding).evolution.schema == 2


def test_names_are_followed_through_every_step() -> None:
    class Order(Saga, schema=4):
        paying = State()
        done = State(final=True)
        start = initially.on(Started).goto(paying)
        settle = during(paying).on(Paid).goto(done)

        first = migrates(1, 2, renamed={"money": "waiting", "pay": "charge"})
        second = migrates(2, 3, renamed={"waiting": "paying"})
        third = migrates(3, 4, renamed={"charge": "settle"})

    evolution = definition_of(Order).evolution
    assert evolution.names_since(1) == {"money": "paying", "waiting": "paying"} | {
        "pay": "settle",
        "charge": "settle",
    }
    assert evolution.names_since(3) == {"charge": "settle"}
    assert evolution.names_since(4) == {}
    assert evolution.names_of("paying") == {"paying", "waiting", "money"}
    assert [evolution.present(name) for name in ("money", "paying", "done")] == [
        "paying",
        "paying",
        "done",
    ]


def gap() -> object:
    class Order(Saga, schema=3):  # here
        done = State(final=True)
        start = initially.on(Started).goto(done)
        first = migrates(1, 2)

    return Order


def beyond() -> object:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started).goto(done)
        first = migrates(1, 2)  # here

    return Order


def twice() -> object:
    class Order(Saga, schema=2):
        done = State(final=True)
        start = initially.on(Started).goto(done)
        first = migrates(1, 2)
        second = migrates(1, 2)  # here

    return Order


def unknown_name() -> object:
    class Order(Saga, schema=2):
        done = State(final=True)
        start = initially.on(Started).goto(done)
        first = migrates(1, 2, renamed={"over": "finished"})  # here

    return Order


def still_a_state() -> object:
    class Order(Saga, schema=2):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)
        first = migrates(1, 2, renamed={"waiting": "done"})  # here

    return Order


def leap() -> object:
    class Order(Saga, schema=3):
        done = State(final=True)
        first = migrates(1, 3)  # here

    return Order


def backwards() -> object:
    class Order(Saga, schema=3):
        done = State(final=True)
        first = migrates(0, 1)  # here

    return Order


def no_names() -> object:
    class Order(Saga, schema=2):
        done = State(final=True)
        first = migrates(1, 2, renamed={"a": ""})  # here

    return Order


def no_static_method() -> object:
    class Order(Saga, schema=2):
        done = State(final=True)
        start = initially.on(Started).goto(done)

        @unchecked(migrates(1, 2))  # here
        def cents(self, data: dict[str, Any]) -> None: ...

    return Order


def asynchronous() -> object:
    class Order(Saga, schema=2):
        done = State(final=True)
        start = initially.on(Started).goto(done)

        @unchecked(migrates(1, 2))  # here
        @staticmethod
        async def cents(data: dict[str, Any]) -> None: ...

    return Order


def two_parameters() -> object:
    class Order(Saga, schema=2):
        done = State(final=True)
        start = initially.on(Started).goto(done)

        @unchecked(migrates(1, 2))  # here
        @staticmethod
        def cents(data: dict[str, Any], ctx: object) -> None: ...

    return Order


def stacked() -> object:
    class Order(Saga, schema=3):
        done = State(final=True)
        start = initially.on(Started).goto(done)

        @migrates(2, 3)  # here
        @migrates(1, 2)
        @staticmethod
        def cents(data: dict[str, Any]) -> None: ...

    return Order


def unnamed() -> object:
    class Order(Saga, schema=2):
        done = State(final=True)
        start = initially.on(Started).goto(done)
        migrates(1, 2)  # here

    return Order


def overridden_wrongly() -> object:
    class Order(Base):
        @staticmethod
        def cents() -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    return Order


@pytest.mark.parametrize(
    ("define", "where", "says"),
    [
        (gap, "Order", "needs a way from schema 2"),
        (beyond, "Order.first", "schema=2"),
        (twice, "Order.second", "already taken by 'first'"),
        (unknown_name, "Order.first", "neither a state nor a step"),
        (still_a_state, "Order.first", "could not be told apart"),
        (leap, "Order", "migrates(1, 2)"),
        (backwards, "Order", "two positive ints"),
        (no_names, "Order", "maps old names to new ones"),
        (no_static_method, "Order.cents", "put @staticmethod between"),
        (asynchronous, "Order.cents", "plain def"),
        (two_parameters, "Order.cents", "def name(data)"),
        (stacked, "Order.cents", "a migration already"),
        (unnamed, "Order.migrates(1, 2)", "lost"),
    ],
)
def test_refused(define: Any, where: str, says: str) -> None:
    assert_refused(define, where, says)


def test_override_with_other_parameters_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match=r"Order\.cents: a migration takes"):
        overridden_wrongly()


@pytest.mark.parametrize("schema", [0, True, "2"])
def test_schema_that_is_no_positive_int_is_refused(schema: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="schema= takes a positive int"):

        class Order(Saga, schema=schema):  # pyright: ignore[reportUnusedClass]
            done = State(final=True)
