"""An event that is to be kept is of a kind that can be stored, or its saga is refused at once."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypedDict, TypeVar

import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    MemoryRepository,
    Orchestrator,
    Saga,
    SagaDefinitionError,
    State,
    compensates,
    during,
    initially,
)
from tests.definition.support import Paid, Shipped, Started, assert_refused

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")


class Tuple(NamedTuple):
    order: str


class Plain:
    """Neither of attrs nor a dataclass, as the models of other libraries are."""


@frozen
class Wave:
    phase: complex = 0


@frozen
class Measured(Generic[T]):
    value: T


@dataclasses.dataclass
class Rounded:
    step: dataclasses.InitVar[int] = 1


@frozen
class Weighed:
    grams: Fraction | None = None


def deferring(event: Any) -> type[Saga]:
    class Order(Saga, correlate_by="order"):
        waiting = State()
        ready = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        early = during(waiting).on(event).defer()  # here
        go = during(waiting).on(Paid).goto(ready)
        take = during(ready).on(event).goto(done)

    return Order


def undoing(event: Any) -> type[Saga]:
    class Order(Saga, correlate_by="order"):
        waiting = State()
        ready = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).on(event).goto(ready)
        def take(self, event: Any, ctx: Context) -> None: ...

        @compensates(take)
        def give_back(self, event: Any, ctx: Context) -> None: ...

        stop = during(ready).on(Shipped).compensate().goto(done)

    return Order


@pytest.mark.parametrize("event", [Tuple, Plain])
@pytest.mark.parametrize("define", [deferring, undoing])
def test_event_that_is_neither_of_attrs_nor_a_dataclass(
    define: Callable[[Any], object], event: type
) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        define(event)
    error = caught.value
    assert (error.saga, error.method) == ("Order", "early" if define is deferring else "take")
    assert error.filename == __file__
    assert f"{event.__name__} is kept, because " in error.problem
    assert "it is no attrs class or dataclass: declare it as one" in error.problem


def test_line_is_that_of_the_transition() -> None:
    def define() -> object:
        class Order(Saga, correlate_by="order"):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            early = during(waiting).on(Wave).defer()  # here
            go = during(waiting).on(Paid).goto(done)

        return Order

    assert_refused(
        define,
        "Order.early",
        "Wave is kept, because it waits in the saga until another transition, but it cannot be",
        "the field Wave.phase: <class 'complex'> is not among the types that can be stored",
    )


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (Measured, "Measured is generic and nothing says what ~T is: write Measured[...]"),
        (Rounded, "Rounded.step is an InitVar"),
    ],
)
@pytest.mark.parametrize("define", [deferring, undoing])
def test_event_that_could_not_be_read(
    define: Callable[[Any], object], event: type, says: str
) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        define(event)
    assert says in caught.value.problem


@pytest.mark.parametrize("define", [deferring, undoing])
def test_name_that_only_checkers_import_is_found_out_with_the_orchestrator(
    define: Callable[[Any], type[Saga]],
) -> None:
    saga = define(Weighed)
    with pytest.raises(SagaDefinitionError) as caught:
        Orchestrator([saga], MemoryRepository())
    assert "the annotation 'Fraction' cannot be resolved (in Weighed.grams)" in str(caught.value)
    assert "import that class at module level, outside of `if TYPE_CHECKING`" in str(caught.value)


@pytest.mark.parametrize("event", [Tuple, Plain, Wave])
def test_event_that_is_handled_at_once_may_be_anything(event: Any) -> None:
    class Order(Saga, correlate_by="order"):
        done = State(final=True)
        start = initially.on(event).goto(done)

    Orchestrator([Order], MemoryRepository())


class Cancelled(ABC):
    """Its subclasses are events."""

    @abstractmethod
    def reason(self) -> str: ...


def test_abstract_class_of_events_may_be_kept() -> None:
    """There is no instance of it; those of its subclasses are looked at when they come."""
    for define in (deferring, undoing):
        Orchestrator([define(Cancelled)], MemoryRepository())


class Options(TypedDict):
    order: str


@pytest.mark.parametrize("event", [Options, Any])
def test_class_that_no_event_is_ever_of(event: Any) -> None:
    def define() -> object:
        class Order(Saga, correlate_by="order"):
            done = State(final=True)
            start = initially.on(event).goto(done)  # here

        return Order

    with pytest.raises(SagaDefinitionError, match="is no class of events: declare an attrs class"):
        define()


def test_class_that_is_passed_as_a_message_and_cannot_be_stored() -> None:
    class Order(Saga, correlate_by="order"):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    with pytest.raises(
        SagaDefinitionError, match=r"Wave is passed as messages=, but .*Wave\.phase"
    ):
        Orchestrator([Order], MemoryRepository(), messages=[Wave])


# The type variables of a generic saga


class Base(Saga, Generic[T]):
    item: T | None = None
    others: list[T] = field(factory=list[T])


def test_type_variable_of_a_base_class_is_what_the_subclass_says() -> None:
    class Order(Base[Weighed], correlate_by="order"):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    class Number(Base[int], correlate_by="order"):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    Orchestrator([Number], MemoryRepository())
    with pytest.raises(SagaDefinitionError, match="'Fraction' cannot be resolved"):
        Orchestrator([Order], MemoryRepository())


def test_type_variable_that_stays_open_is_refused_with_the_orchestrator() -> None:
    class Order(Base[T], Generic[T], correlate_by="order"):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    with pytest.raises(SagaDefinitionError, match="nothing says what ~T is") as caught:
        Orchestrator([Order], MemoryRepository())
    assert (caught.value.saga, caught.value.method) == ("Order", "item")
    with pytest.raises(SagaDefinitionError, match="complex"):

        class Wrong(Base[complex]):  # pyright: ignore[reportUnusedClass]
            pass
