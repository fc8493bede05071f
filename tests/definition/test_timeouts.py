"""Timeouts, deferred events and the class keywords about time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sagaflow import Context, Saga, State, compensates, during, during_any, initially
from sagaflow._definition.saga import definition_of
from sagaflow._definition.table import Action
from tests.definition.support import Cancelled, Paid, Shipped, Started, assert_refused, unchecked

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Order(Saga, timeout=DAY, early_events=HOUR):
    waiting = State()
    paid = State()
    done = State(final=True)
    expired = State(final=True)

    start = initially.on(Started).goto(waiting)
    early = initially.on(Shipped).defer()
    pay = during(waiting).on(Paid).goto(paid)
    not_yet = during(waiting).on(Shipped).defer()
    ship = during(paid).on(Shipped).goto(done)

    @during(waiting).after(HOUR).stay()
    async def remind(self, ctx: Context) -> None: ...

    @during(waiting).after(DAY).goto(expired)
    def give_up(self, ctx: Context) -> None: ...


def test_timeouts_of_a_state_are_in_the_table() -> None:
    remind, give_up = Order.table.timeouts("waiting")
    assert (remind.step, remind.after, remind.event) == ("remind", HOUR, None)
    assert (remind.action, remind.targets) == (Action.STAY, ())
    assert (give_up.step, give_up.after, give_up.targets) == ("give_up", DAY, (Order.expired,))
    assert Order.table.timeouts("paid") == ()


def test_timeout_is_no_candidate_for_any_event() -> None:
    assert [row.step for row in Order.table.candidates("waiting", Paid)] == ["pay"]
    assert None not in Order.table.events


def test_timeout_counts_as_a_way_out() -> None:
    class OnlyWaits(Saga):
        waiting = State()
        over = State(final=True)
        start = initially.on(Started).goto(waiting)
        expire = during(waiting).after(HOUR).goto(over)

    assert OnlyWaits.table.timeouts("waiting")[0].step == "expire"


def test_timeout_of_the_state_wins_over_that_of_any_state() -> None:
    class Base(Saga):
        a = State()
        b = State()
        over = State(final=True)
        start = initially.on(Started).goto(a)
        go = during(a).on(Paid).goto(b)
        expire = during_any.after(HOUR).goto(over)
        own = during(b).after(HOUR).stay()

    assert [row.step for row in Base.table.timeouts("a")] == ["expire"]
    assert [row.step for row in Base.table.timeouts("b")] == ["own"]


def test_subclass_replaces_a_timeout_of_the_same_delay() -> None:
    class Patient(Order):
        @during(Order.waiting).after(DAY).stay()
        async def wait_on(self, ctx: Context) -> None: ...

        @during(Order.waiting).after(2 * DAY).goto(Order.expired)
        async def give_up_later(self, ctx: Context) -> None: ...

    found = {row.after: row.step for row in Patient.table.timeouts("waiting")}
    assert found == {HOUR: "remind", DAY: "wait_on", 2 * DAY: "give_up_later"}


def test_undecorated_override_keeps_the_timeout() -> None:
    class Quiet(Order):
        def give_up(self, ctx: Context) -> None:
            super().give_up(ctx)

    assert {row.step for row in Quiet.table.timeouts("waiting")} == {"remind", "give_up"}


def test_timeout_may_branch_and_compensate() -> None:
    class Branching(Saga):
        waiting = State()
        a = State(final=True)
        b = State(final=True)
        start = initially.on(Started).goto(waiting)

        @during(waiting).after(HOUR).branch(a, b)
        def choose(self, ctx: Context) -> State:
            return self.a

        undo = during(waiting).after(DAY).compensate().goto(b)

    choose, undo = Branching.table.timeouts("waiting")
    assert (choose.action, choose.targets) == (Action.BRANCH, (Branching.a, Branching.b))
    assert undo.compensates


def test_deferred_events_are_in_the_table() -> None:
    (early,) = Order.table.candidates(None, Shipped)
    (not_yet,) = Order.table.candidates("waiting", Shipped)
    assert early.action is not_yet.action is Action.DEFER
    assert [row.step for row in Order.table.initial] == ["start"]


def test_keywords_about_time_are_inherited() -> None:
    class Special(Order, timeout=HOUR):
        pass

    assert definition_of(Special).options.timeout == HOUR
    assert definition_of(Special).options.early_events == HOUR


def test_timeout_handler_with_an_event_is_refused() -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            over = State(final=True)
            start = initially.on(Started).goto(waiting)

            @unchecked(during(waiting).after(HOUR).goto(over))
            def expire(self, event: Paid, ctx: Context) -> None: ...  # here

        return Wrong

    with pytest.raises(TypeError, match=r"the handler of a timeout takes \(self, ctx\)"):
        define()


def test_undecorated_override_with_other_parameters_is_refused() -> None:
    def define() -> object:
        class Wrong(Order):
            def give_up(self, event: Paid, ctx: Context) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # here

        return Wrong

    assert_refused(define, "Wrong.give_up", "overrides an inherited handler", "takes (self, ctx)")


@pytest.mark.parametrize("delay", [timedelta(0), -HOUR, 30, None])
def test_delay_that_is_no_positive_timedelta_is_refused(delay: timedelta) -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            expire = during(waiting).after(delay).goto(waiting)  # here

        return Wrong

    assert_refused(define, "Wrong", "after() takes a positive timedelta")


def test_two_timeouts_of_one_delay_are_refused() -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            over = State(final=True)
            start = initially.on(Started).goto(waiting)
            first = during(waiting).after(HOUR).goto(over)
            second = during(waiting).after(HOUR).stay()  # here

        return Wrong

    assert_refused(define, "Wrong.second", "already handled by 'first'", "another delay")


def test_timeout_with_neither_handler_nor_name_is_refused() -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            over = State(final=True)
            start = initially.on(Started).goto(waiting)
            during(waiting).after(HOUR).goto(over)  # here

        return Wrong

    assert_refused(define, "Wrong", "neither a handler nor a name")


def test_unfinished_timeout_is_refused() -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            start = initially.on(Started).goto(waiting)
            during(waiting).after(HOUR)  # here

        return Wrong

    assert_refused(define, "Wrong", "not finished", ".goto(state), .stay() or .branch(a, b)")


def test_timeout_out_of_a_final_state_is_refused() -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            over = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(over)
            never = during(over).after(HOUR).goto(waiting)  # here

        return Wrong

    assert_refused(define, "Wrong.never", "'over' is final")


def test_compensation_of_a_timeout_is_refused() -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            over = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Cancelled).compensate().goto(over)

            @during(waiting).after(HOUR).goto(over)
            def expire(self, ctx: Context) -> None: ...

            @unchecked(compensates(expire))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # here
            def undo(self, event: object, ctx: Context) -> None: ...

        return Wrong

    assert_refused(define, "Wrong.undo", "acknowledges nothing", "ctx.add_compensation")


def test_defer_with_a_handler_is_refused() -> None:
    def define() -> object:
        class Wrong(Saga):
            waiting = State()
            over = State(final=True)
            start = initially.on(Started).goto(waiting)
            end = during(waiting).on(Paid).goto(over)

            @during(waiting).on(Shipped).defer()  # here
            def later(self, event: Shipped, ctx: Context) -> None: ...

        return Wrong

    assert_refused(define, "Wrong.later", "defer() runs no code")


@pytest.mark.parametrize("keyword", ["timeout", "early_events", "retain"])
@pytest.mark.parametrize("span", [timedelta(0), 30, "1 day"])
def test_keyword_that_is_no_positive_timedelta_is_refused(keyword: str, span: timedelta) -> None:
    def define() -> object:
        keywords = {keyword: span}

        class Wrong(Saga, **keywords):  # here
            pass

        return Wrong

    assert_refused(define, "Wrong", f"{keyword}= takes a positive timedelta")
