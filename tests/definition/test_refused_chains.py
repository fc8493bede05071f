"""Chains that say something that cannot be run are refused, with the line and a remedy."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from sagaflow import Context, Saga, State, during, during_any, initially
from sagaflow.exceptions import SagaDefinitionError
from tests.definition.support import (
    Cancelled,
    Paid,
    Shipped,
    Started,
    assert_refused,
    unchecked,
)


def anything(value: object) -> Any:
    return value


def test_chain_with_neither_handler_nor_name() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            during(waiting).on(Paid).goto(done)  # here

        return Order

    assert_refused(
        define,
        "Order",
        "this transition has neither a handler nor a name",
        "decorate a method with it (@...), or assign it to a class attribute",
    )


def test_name_that_is_given_to_two_chains() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(done)  # here
            end = during(done).on(Paid).ignore()

        return Order

    assert_refused(
        define,
        "Order",
        "neither a handler nor a name of its own",
        "a class attribute that nothing else is assigned to",
    )


def test_source_that_is_left_alone() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            during(waiting)  # here

        return Order

    assert_refused(define, "Order", "this chain is not finished", "go on with .on(Event)")


def test_source_that_is_assigned() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            end = during(waiting)  # here

        return Order

    assert_refused(define, "Order.end", "this chain is not finished", "go on with .on(Event)")


def test_source_that_is_used_as_a_decorator() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)

            @unchecked(during(waiting))  # here
            def end(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.end", "this chain is not finished", "go on with .on(Event)")


@pytest.mark.parametrize("source", [initially, during_any])
def test_initially_and_during_any_that_are_assigned(source: object) -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = source  # here

        return Order

    assert_refused(define, "Order.start", "this chain is not finished", "go on with .on(Event)")


@pytest.mark.parametrize("source", [initially, during_any])
def test_initially_and_during_any_that_are_used_as_a_decorator(source: object) -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()

            @unchecked(source)  # here
            def start(self, event: Started, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.start", "this chain is not finished", "go on with .on(Event)")


def test_chain_without_an_end_that_is_left_alone() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            during(waiting).on(Paid)  # here

        return Order

    assert_refused(
        define,
        "Order",
        "this chain is not finished",
        "end it with .goto(state), .stay(), .branch(a, b), .ignore() or .defer()",
    )


def test_chain_without_an_end_that_is_assigned() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid)  # here

        return Order

    assert_refused(
        define, "Order.end", "this chain is not finished", "end it with .goto(state), .stay()"
    )


def test_chain_without_an_end_that_is_used_as_a_decorator() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)

            @unchecked(during(waiting).on(Paid))  # here
            async def end(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define, "Order.end", "this chain is not finished", "end it with .goto(state), .stay()"
    )


def test_guard_without_an_end() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            during(waiting).on(Paid).when(lambda _, event: event.amount > 1)  # here

        return Order

    assert_refused(define, "Order", "this chain is not finished", "end it with .goto(state)")


def test_compensating_chain_without_an_end() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            cancel = during(waiting).on(Cancelled).compensate()  # here

        return Order

    assert_refused(
        define,
        "Order.cancel",
        "this chain is not finished",
        "end it with .goto(state) or .branch(a, b)",
    )


def test_line_of_a_chain_is_that_of_its_events() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            (
                during(waiting)
                .on(Paid, Shipped, Cancelled)  # here
                .when(lambda _, event: event.key == "")
                .stay()
            )

        return Order

    assert_refused(define, "Order", "neither a handler nor a name")


def test_during_without_a_state() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            end = during().on(Paid).stay()  # here

        return Order

    assert_refused(
        define, "Order", "during() needs a state", "name one, or use during_any for all of them"
    )


def test_during_with_the_name_of_a_state() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            end = during(anything("waiting")).on(Paid).stay()  # here

        return Order

    assert_refused(
        define, "Order", "during() takes a State, not 'waiting'", "declare it as a class attribute"
    )


def test_goto_with_the_name_of_a_state() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(anything("waiting"))  # here

        return Order

    assert_refused(
        define, "Order", "goto() takes a State, not 'waiting'", "declare it as a class attribute"
    )


def test_branch_with_the_name_of_a_state() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).branch(waiting, anything("done"))  # here

        return Order

    assert_refused(
        define, "Order", "branch() takes a State, not 'done'", "declare it as a class attribute"
    )


def test_goto_after_compensate_with_the_name_of_a_state() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            end = during_any.on(Cancelled).compensate().goto(anything("waiting"))  # here

        return Order

    assert_refused(define, "Order", "goto() takes a State, not 'waiting'")


def test_on_without_an_event() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = anything(initially).on().goto(waiting)  # here

        return Order

    assert_refused(define, "Order", "on() needs a class of events", ".on(OrderPlaced)")


@pytest.mark.parametrize("event", [Started(), "Started", None, Started | Paid, list[Paid]])
def test_on_with_something_that_is_no_class(event: Any) -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(event).goto(waiting)  # here

        return Order

    assert_refused(
        define,
        "Order",
        f"on() takes classes of events, not {event!r}",
        "name them one by one, as in .on(Paid, Declined)",
    )


@pytest.mark.parametrize("event", [str, dict, object, ValueError])
def test_on_with_a_builtin_class(event: type[object]) -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(event).goto(waiting)  # here

        return Order

    assert_refused(
        define,
        "Order",
        f"{event.__name__} is no class of events",
        "declare an attrs class for the event",
    )


def test_by_that_names_an_attribute_which_the_event_lacks() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started, by="order_id").goto(waiting)  # here

        return Order

    assert_refused(
        define, "Order", "Started has no attribute 'order_id', which by= names", "it has: key"
    )


def test_by_that_names_an_attribute_which_one_of_the_events_lacks() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Paid, Started, by="amount").goto(waiting)  # here

        return Order

    assert_refused(define, "Order", "Started has no attribute 'amount'", "it has: key")


def test_by_that_names_an_attribute_which_a_dataclass_lacks() -> None:
    from dataclasses import dataclass  # noqa: PLC0415

    @dataclass
    class Mailed:
        pass

    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Mailed, by="order_id").goto(waiting)  # here

        return Order

    assert_refused(define, "Order", "Mailed has no attribute 'order_id'", "it has: none")


@pytest.mark.parametrize("by", [7, "", ["key"]])
def test_by_that_is_no_attribute_and_no_callable(by: Any) -> None:
    class Mailed:
        pass

    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Mailed, by=by).goto(waiting)  # here

        return Order

    assert_refused(define, "Order", "by= takes an attribute's name or a callable", repr(by))


def test_two_different_by_for_one_event() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid, by="key").goto(done)
            late = during(done).on(Paid, by="amount").ignore()  # here

        return Order

    assert_refused(
        define,
        "Order.late",
        "Paid has two different by= in Order, 'key' and 'amount'",
        "keep one of them",
    )


@pytest.mark.parametrize("predicate", ["large", None, True])
def test_when_with_something_that_cannot_be_called(predicate: Any) -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).when(predicate).goto(waiting)  # here

        return Order

    assert_refused(define, "Order", f"when() takes a predicate of (saga, event), not {predicate!r}")


async def _slow(saga: object, event: object) -> bool:
    return False


async def _slow_steps(saga: object, event: object) -> AsyncIterator[bool]:
    yield False


def _steps(saga: object, event: object) -> Iterator[bool]:
    yield False


class _Slow:
    async def __call__(self, saga: object, event: object) -> bool:
        return False


def _more(saga: object, event: object, ctx: object) -> bool:
    return False


class _Fewer:
    def __call__(self, event: object) -> bool:
        return False


def _only(event: object) -> bool:
    return False


def _nothing() -> bool:
    return False


def _by_name(saga: object, *, event: object) -> bool:
    return False


def _anything(*_: object) -> bool:
    return True


def _with_default(saga: object, event: object, more: int = 0) -> bool:
    return True


_AWAITED = "is to be awaited, so it would always hold: make it a plain function"


@pytest.mark.parametrize(
    ("predicate", "problem"),
    [
        (_slow, f"but _slow {_AWAITED}"),
        (_slow_steps, f"but _slow_steps {_AWAITED}"),
        (_Slow(), _AWAITED),
        (_Slow().__call__, f"but _Slow.__call__ {_AWAITED}"),
        (staticmethod(_slow), f"but _slow {_AWAITED}"),
        (partial(_slow), _AWAITED),
        (_steps, "but _steps yields, so it would always hold: return a bool"),
        (_more, "but _more takes (saga, event, ctx): change that"),
        (_only, "takes (event): change that"),
        (_nothing, "takes (): change that"),
        (_by_name, "takes (saga, *, event): change that"),
        (_Fewer(), "takes (event): change that"),
        (partial(_more, 1, 2), "takes (ctx): change that"),
    ],
)
def test_when_with_a_predicate_that_cannot_answer(predicate: Any, problem: str) -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).when(predicate).goto(waiting)  # here

        return Order

    assert_refused(define, "Order", "when() takes a predicate", problem)


class _Says:
    def __call__(self, saga: object, event: object, more: int = 0) -> bool:
        return True


@pytest.mark.parametrize(
    "predicate",
    [
        operator.is_not,  # written in C
        partial(_more, ctx=None),
        partial(_more, None),
        _Says(),
        _Says().__call__,
        _anything,
        _with_default,
        staticmethod(_with_default),
    ],
)
def test_when_with_whatever_can_be_called_with_two_arguments(predicate: Any) -> None:
    class Order(Saga):
        waiting = State(final=True)
        start = initially.on(Started).when(predicate).goto(waiting)

    assert Order.table.rows[0].guards == (predicate,)


def test_start_that_stays() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).stay()  # here

        return Order

    assert_refused(define, "Order", "leaves the new saga without a state", "use .goto(state)")


def test_start_that_compensates() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).compensate().goto(waiting)  # here

        return Order

    assert_refused(define, "Order", "has no steps to undo", "leave out .compensate()")


def test_ignore_that_is_used_as_a_decorator() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(done)

            @during(done).on(Paid).ignore()  # here
            def late(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define,
        "Order.late",
        "ignore() runs no code",
        "assign the chain to a class attribute, or end it with .stay() to keep the handler",
    )


def test_two_transitions_for_one_state_and_event() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).goto(done)
            pay_again = during(waiting).on(Paid).stay()  # here

        return Order

    assert_refused(
        define,
        "Order.pay_again",
        "Paid in state 'waiting' is already handled by 'pay' (line ",
        "without a guard, so this transition can never be taken",
        "add .when(predicate) to that one, or remove one of them",
    )


def test_two_transitions_at_the_start_for_one_event() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            begin = initially.on(Started).goto(waiting)  # here

        return Order

    assert_refused(define, "Order.begin", "Started at the start is already handled by 'start'")


def test_two_transitions_of_during_any_for_one_event() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            cancel = during_any.on(Cancelled).goto(done)

            @during_any.on(Cancelled).stay()  # here
            def cancel_again(self, event: Cancelled, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define, "Order.cancel_again", "Cancelled in state 'waiting' is already handled by 'cancel'"
    )


def test_transition_without_a_guard_before_one_with_a_guard() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).goto(done)
            large = during(waiting).on(Paid).when(lambda _, e: e.amount > 9).goto(done)  # here

        return Order

    assert_refused(
        define, "Order.large", "already handled by 'pay'", "this transition can never be taken"
    )


def test_transition_that_has_both_a_name_and_a_handler() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(done)  # here

            @end
            def finish(self, event: Paid, ctx: Context) -> None: ...

        return Order

    assert_refused(define, "Order.finish", "already handled by 'end'", "remove one of them")


def test_state_of_another_saga() -> None:
    class Parcel(Saga):
        packed = State()
        sent = State(final=True)
        start = initially.on(Started).goto(packed)
        send = during(packed).on(Shipped).goto(sent)

    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(Parcel.sent)  # here

        return Order

    assert_refused(
        define,
        "Order.end",
        f"the state 'sent' belongs to {Parcel.__module__}.{Parcel.__qualname__}, not to Order",
        'declare it here, or share one made outside with a name: State("sent")',
    )


def test_state_without_a_name() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(State(final=True))  # here

        return Order

    assert_refused(
        define,
        "Order.end",
        "a State() without a name",
        'make it a class attribute of Order, or name it: State("paid")',
    )


@pytest.mark.parametrize("name", ["", 7, True])
def test_state_with_something_that_is_no_name(name: Any) -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State(name)  # here

        return Order

    assert_refused(
        define,
        "Order",
        f"a state's name is a non-empty str, not {name!r}",
        "write State() for a class attribute",
    )


def test_two_states_of_one_name() -> None:
    def define() -> object:
        class Order(Saga):
            unpaid = State("waiting")
            unsent = State("waiting")  # here
            done = State(final=True)
            start = initially.on(Started).goto(unpaid)
            pay = during(unpaid).on(Paid).goto(unsent)
            send = during(unsent).on(Shipped).goto(done)

        return Order

    assert_refused(
        define,
        "Order.unsent",
        "the state's name 'waiting' is already that of 'unpaid'",
        "give each state a name of its own",
    )


def test_chain_made_outside_of_the_class_is_located_where_it_was_made() -> None:
    """The error names the class all the same."""

    def define() -> object:
        waiting = State("waiting")
        pay = during(waiting).on(Paid).goto(waiting)
        pay_again = during(waiting).on(Paid).stay()  # here

        class Order(Saga):
            start = initially.on(Started).goto(waiting)
            first = pay
            second = pay_again

        return Order

    assert_refused(define, "Order.second", "already handled by 'first'")


def test_mistake_in_a_chain_outside_of_any_class_names_no_class() -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        during()
    assert (caught.value.saga, caught.value.method) == (None, None)
    assert caught.value.filename == __file__
    assert str(caught.value).startswith("during() needs a state")
