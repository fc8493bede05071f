"""States that cannot be reached or left are refused, with the line and a remedy."""

from __future__ import annotations

import pytest

from sagaflow import Context, Saga, State, during, during_any, initially
from sagaflow._definition.graph import flaws
from sagaflow._definition.table import Action, TransitionRow, TransitionTable
from sagaflow.exceptions import SagaDefinitionError
from tests.definition.support import Cancelled, Paid, Shipped, Started, assert_refused, row


def test_saga_that_nothing_starts() -> None:
    def define() -> object:
        class Order(Saga):  # here
            waiting = State()
            done = State(final=True)
            end = during(waiting).on(Paid).goto(done)

        return Order

    assert_refused(
        define,
        "Order",
        "no transition starts this saga",
        "add initially.on(Event).goto(state)",
    )


def test_saga_of_states_made_outside_that_nothing_starts() -> None:
    waiting = State("waiting")

    def define() -> object:
        class Order(Saga):  # here
            end = during(waiting).on(Paid).stay()

        return Order

    assert_refused(define, "Order", "no transition starts this saga")


def test_saga_that_only_ignores_events_at_its_start() -> None:
    def define() -> object:
        class Order(Saga):  # here
            waiting = State()
            early = initially.on(Started).ignore()

        return Order

    assert_refused(define, "Order", "no transition starts this saga")


def test_state_that_nothing_reaches() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            lost = State()  # here
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting, lost).on(Paid).goto(done)

        return Order

    assert_refused(
        define,
        "Order.lost",
        "nothing reaches the state 'lost'",
        "add a transition that enters it, or remove it",
    )


def test_final_state_that_nothing_reaches() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            lost = State(final=True)  # here
            start = initially.on(Started).goto(done)

        return Order

    assert_refused(define, "Order.lost", "nothing reaches the state 'lost'")


def test_states_that_reach_only_each_other() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            left = State()  # here
            right = State()
            start = initially.on(Started).goto(done)
            there = during(left).on(Paid).goto(right)
            back = during(right).on(Paid).goto(left)

        return Order

    assert_refused(define, "Order.left", "nothing reaches the state 'left'")


def test_during_any_that_reaches_its_own_target_only_from_itself() -> None:
    def define() -> object:
        class Order(Saga):
            done = State(final=True)
            start = initially.on(Started).goto(done)
            lost = State()  # here
            lose = during_any.on(Shipped).goto(lost)

        return Order

    assert_refused(define, "Order.lost", "nothing reaches the state 'lost'")


def test_state_without_a_way_out() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()  # here
            start = initially.on(Started).goto(waiting)

        return Order

    assert_refused(
        define,
        "Order.waiting",
        "the state 'waiting' has no way out and is not final",
        "add a transition that leaves it, or make it State(final=True)",
    )


def test_transitions_that_stay_or_come_back_or_ignore_are_no_way_out() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()  # here
            start = initially.on(Started).goto(waiting)
            pay = during(waiting).on(Paid).stay()
            again = during(waiting).on(Shipped).goto(waiting)
            no = during(waiting).on(Cancelled).ignore()

        return Order

    assert_refused(define, "Order.waiting", "has no way out")


def test_during_any_and_branch_are_ways_out() -> None:
    class Order(Saga):
        first = State()
        second = State()
        done = State(final=True)
        cancel = during_any.on(Cancelled).goto(done)

        @initially.on(Started).branch(first, second)
        def start(self, event: Started, ctx: Context) -> State:
            return self.first

    assert len(Order.table.states) == 3


def test_two_states_may_lead_to_each_other_for_ever() -> None:
    class Light(Saga):
        red = State()
        green = State()
        start = initially.on(Started).goto(red)
        go = during(red).on(Paid).goto(green)
        stop = during(green).on(Paid).goto(red)

    assert Light.table.states == (Light.red, Light.green)


def test_transition_out_of_a_final_state() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(done)

            @during(done).on(Cancelled).goto(waiting)  # here
            def reopen(self, event: Cancelled, ctx: Context) -> None: ...

        return Order

    assert_refused(
        define,
        "Order.reopen",
        "'done' is final, so nothing leaves it",
        "end the chain with .ignore(), or make the state State()",
    )


def test_transition_that_stays_in_a_final_state() -> None:
    def define() -> object:
        class Order(Saga):
            waiting = State()
            done = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(done)
            note = during(done).on(Shipped).stay()  # here

        return Order

    assert_refused(define, "Order.note", "'done' is final, so nothing leaves it")


def test_inherited_transition_out_of_a_state_that_the_subclass_makes_final() -> None:
    class Base(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)

    def define() -> object:
        class Order(Base):
            waiting = State(final=True)

        return Order

    with pytest.raises(SagaDefinitionError, match=r"^Order\.end: 'waiting' is final") as caught:
        define()
    assert caught.value.line == row(Base, "end").line


def test_line_of_an_inherited_state_is_that_of_the_class_statement() -> None:
    class Base(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)

    def define() -> object:
        class Order(Base):  # here
            start_elsewhere = initially.on(Started).goto(Base.done)

        class Parcel(Saga):  # its line would be wrong
            waiting = State()

        return Order, Parcel

    assert_refused(define, "Order.waiting", "nothing reaches the state 'waiting'")


def test_all_that_is_wrong_with_a_graph_can_be_listed() -> None:
    unreached, stuck, done = State("unreached"), State("stuck"), State("done", final=True)

    def describe(*rows: TransitionRow) -> list[str]:
        table = TransitionTable(
            saga="Order",
            states=(unreached, stuck, done),
            rows=rows,
            compensations={},
            correlators={},
        )
        return [finding.problem.partition(":")[0] for finding in flaws(table)]

    assert describe() == ["no transition starts this saga"]
    assert describe(
        transition(None, Started, stuck),
        transition(None, Paid, done),
        transition(done, Paid, stuck),
    ) == [
        "'done' is final, so nothing leaves it",
        "nothing reaches the state 'unreached'",
        "the state 'stuck' has no way out and is not final",
    ]


def transition(source: State | None, event: type, target: State) -> TransitionRow:
    return TransitionRow(
        source=source,
        event=event,
        action=Action.GOTO,
        targets=(target,),
        guards=(),
        compensates=False,
        step="step",
        from_any=False,
        filename=__file__,
        line=1,
    )
