from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import frozen

from examples.travel import TravelSaga
from sagaflow import Context, Saga, State, compensates, during, during_any, initially
from sagaflow.inspection.definition import open_ends
from tests.commands.sagas import Loan


@frozen
class Begun:
    number: str


@frozen
class Moved(Begun):
    pass


@frozen
class Ended:
    number: str


def holds(saga: object, event: object) -> bool:
    return True


def found(saga: type[Saga], kind: str) -> list[tuple[str | None, str | None]]:
    return [(f.state, f.subject) for f in open_ends(saga) if f.kind == kind]


class Tidy(Saga, correlate_by="number", timeout=timedelta(days=1)):
    """Leaves nothing open."""

    waiting = State()
    done = State(final=True)

    begin = initially.on(Begun).goto(waiting)
    again = during(waiting).on(Begun).ignore()
    ended = during(waiting).on(Ended).goto(done)


def test_a_saga_that_leaves_nothing_open_has_no_findings() -> None:
    assert list(open_ends(Tidy)) == []


def test_events_that_a_state_does_not_take_are_found() -> None:
    assert found(Loan, "unhandled") == [("open", "Asked"), ("held", "Asked"), ("held", "Granted")]


def test_an_event_is_taken_as_one_of_its_base_class() -> None:
    class Based(Saga, correlate_by="number"):
        waiting = State()
        done = State(final=True)
        begin = initially.on(Moved).goto(waiting)
        end = during(waiting).on(Begun).goto(done)

    assert found(Based, "unhandled") == []


def test_events_that_are_taken_under_guards_only_are_found() -> None:
    assert found(TravelSaga, "guarded") == [
        (state, "PriceChanged")
        for state in ("awaiting_flight", "awaiting_hotel", "awaiting_car", "booked")
    ]

    class Guarded(Saga, correlate_by="number"):
        waiting = State()
        done = State(final=True)
        begin = initially.on(Begun).goto(waiting)
        maybe = during(waiting).on(Begun).when(holds).goto(done)
        otherwise = during_any.on(Begun).ignore()

    assert found(Guarded, "guarded") == []


def test_states_that_nothing_ends_are_found() -> None:
    assert found(Loan, "no_timeout") == [("held", None)]


class Sending(Saga, correlate_by="number"):
    """Each step sends in another way."""

    here = State()
    there = State()
    done = State(final=True)

    @initially.on(Begun).goto(here)
    def plainly(self, event: Begun, ctx: Context) -> None:
        ctx.send(event)

    @during(here).on(Ended).goto(there)
    def through_another(self, event: Ended, ctx: Context) -> None:
        self.tell(event, ctx)

    def tell(self, event: Any, ctx: Context) -> None:
        def later() -> None:
            ctx.send(event)

        later()
        self.tell_nobody(ctx)

    def tell_nobody(self, ctx: Context) -> None:
        self.tell(None, ctx)

    @during(here).on(Moved).stay()
    def with_compensation(self, event: Moved, ctx: Context) -> None:
        ctx.send(event)

    @compensates(with_compensation)
    def undo(self, event: Moved, ctx: Context) -> None:
        ctx.send(event)

    @during(here).on(Begun).stay()
    def with_added_compensation(self, event: Begun, ctx: Context) -> None:
        ctx.send(event)
        ctx.add_compensation(self.tell, event)

    @during(there).on(Begun).stay()
    def without_sending(self, event: Begun, ctx: Context) -> None:
        ctx.publish(event)

    @during(there).on(Moved).goto(done)
    def at_the_end(self, event: Moved, ctx: Context) -> None:
        ctx.send(event)

    @during(there).on(Ended).compensate().goto(done)
    def when_undoing(self, event: Ended, ctx: Context) -> None:
        ctx.send(event)

    @during(there).after(timedelta(hours=1)).goto(here)
    def in_time(self, ctx: Context) -> None:
        ctx.send(Begun("x"))


def test_steps_that_send_and_are_not_undone_are_found() -> None:
    assert [subject for _, subject in found(Sending, "no_compensation")] == [
        "plainly",
        "through_another",
        "in_time",
    ]


@pytest.mark.parametrize(
    ("step", "remedy"),
    [("plainly", "write a method @compensates(plainly), or"), ("in_time", "call ctx.add_comp")],
)
def test_a_finding_says_where_and_what_to_do(step: str, remedy: str) -> None:
    (finding,) = (f for f in open_ends(Sending) if f.subject == step)
    assert remedy in finding.problem
    assert finding.place is not None
    assert finding.place[0] == __file__
    assert finding.saga == "Sending"
