from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagaflow import (
    Context,
    Saga,
    State,
    Status,
    TimerKind,
    compensates,
    during,
    initially,
    migrates,
)
from sagaflow._codec.selection import Part, Trait
from sagaflow.inspection.compatibility import unmanageable
from sagaflow.inspection.finding import Finding
from tests.commands import sagas
from tests.commands.sagas import Loan

KNOWN = {"Granted": sagas.Granted, "Remind": sagas.Remind, "Withdrawn": sagas.Withdrawn}
FIVE = timedelta(minutes=5)


def trait(part: Part, **given: Any) -> Trait:
    fields: dict[str, Any] = {"state": "open", "status": Status.ACTIVE, "schema": 1}
    return Trait(part=part, **(fields | given))


def found(*traits: Trait) -> list[Finding]:
    return list(unmanageable(Loan, KNOWN.get, traits))


@pytest.mark.parametrize(
    "fine",
    [
        trait(Part.STATE),
        trait(Part.STATE, state="closed", status=Status.FINISHED),
        trait(Part.STATE, state="closed", status=Status.SUSPENDED),
        trait(Part.STATE, state="gone", status=Status.FINISHED),
        trait(Part.STATE, state="", status=Status.EMBRYO),
        trait(Part.GOAL, name="refused"),
        trait(Part.TIMER, name="late", kind=TimerKind.TIMEOUT, delay=FIVE),
        trait(Part.TIMER, name="late", kind=TimerKind.TIMEOUT, delay=2 * FIVE),
        trait(Part.TIMER, name="remind", kind=TimerKind.EVENT, message="Withdrawn"),
        trait(Part.TIMER, name="timeout", kind=TimerKind.DEFAULT, delay=FIVE),
        trait(Part.COMPENSATION, name="release", message="Granted"),
        trait(Part.COMPENSATION, name="release"),
        trait(Part.PARKED, message="Granted"),
        trait(Part.OUTGOING, message="Remind"),
    ],
    ids=lambda trait: f"{trait.part.value} {trait.name or trait.message or trait.state}",
)
def test_what_the_class_can_handle(fine: Trait) -> None:
    assert found(fine) == []


@pytest.mark.parametrize(
    ("stored", "kind", "subject", "said"),
    [
        (trait(Part.STATE, state="lent"), "state", "lent", "which the class does not have: put it"),
        (trait(Part.STATE, state="closed"), "state", "closed", "but the class calls it final"),
        (trait(Part.GOAL, name="gone"), "goal", "gone", "are to enter the state 'gone'"),
        (
            trait(Part.TIMER, name="gone", kind=TimerKind.TIMEOUT, delay=FIVE),
            "timer",
            "gone",
            "the class declares none of that name there",
        ),
        (
            trait(Part.TIMER, name="late", kind=TimerKind.TIMEOUT, delay=FIVE, state="held"),
            "timer",
            "late",
            "in state 'held'; the class declares none",
        ),
        (
            trait(Part.TIMER, name="x", kind=TimerKind.EVENT, message="Gone"),
            "scheduled",
            "Gone",
            "are scheduled, which the code does not know: keep its class, or pass it with --mess",
        ),
        (
            trait(Part.TIMER, name="x", kind=TimerKind.EVENT, message="Remind"),
            "scheduled",
            "Remind",
            "which no transition takes: they would be dropped",
        ),
        (
            trait(Part.COMPENSATION, name="gone", message="Granted"),
            "compensation",
            "gone",
            "by the method 'gone', which the class does not have",
        ),
        (
            trait(Part.COMPENSATION, name="release", message="Gone"),
            "compensation",
            "Gone",
            "'release' would be given the event 'Gone', which the code does not know",
        ),
        (trait(Part.PARKED, message="Gone"), "parked", "Gone", "are parked, which the code does"),
        (trait(Part.PARKED, message="Remind"), "parked", "Remind", "which no transition takes"),
        (trait(Part.OUTGOING, message="Gone"), "outgoing", "Gone", "wait to be sent, which the"),
    ],
)
def test_what_the_class_cannot_handle(stored: Trait, kind: str, subject: str, said: str) -> None:
    (finding,) = found(stored)
    assert (finding.saga, finding.kind, finding.subject) == ("Loan", kind, subject)
    assert finding.state == stored.state
    assert said in finding.problem


class Renamed(Saga, schema=2, correlate_by="number"):
    """What it had, it calls otherwise now."""

    waiting = State()
    done = State(final=True)

    begin = initially.on(sagas.Asked).goto(waiting)
    soon = during(waiting).after(FIVE).goto(done)
    later = during(waiting).after(2 * FIVE).stay()

    @during(waiting).on(sagas.Granted).stay()
    def take(self, event: sagas.Granted, ctx: Context) -> None:
        pass

    @compensates(take)
    def give_back(self, event: sagas.Granted, ctx: Context) -> None:
        pass

    renames = migrates(
        1,
        2,
        renamed={"open": "waiting", "closed": "done", "late": "soon", "release": "give_back"},
    )


def of_renamed(*traits: Trait) -> list[Finding]:
    return list(unmanageable(Renamed, KNOWN.get, traits))


@pytest.mark.parametrize("schema", [1, 2])
def test_names_of_an_earlier_schema_are_known_by_what_they_became(schema: int) -> None:
    traits = (
        trait(Part.STATE, schema=schema),
        trait(Part.GOAL, name="closed", schema=schema),
        trait(Part.TIMER, name="late", kind=TimerKind.TIMEOUT, delay=FIVE, schema=schema),
        trait(Part.COMPENSATION, name="release", message="Granted", schema=schema),
    )
    found = of_renamed(*traits)
    assert [finding.kind for finding in found] == (
        [] if schema == 1 else ["state", "goal", "timer", "compensation"]
    )


def test_a_scheduled_event_is_not_renamed_by_its_name() -> None:
    stored = trait(Part.TIMER, name="late", kind=TimerKind.EVENT, message="Granted", schema=1)
    assert of_renamed(stored) == []


def test_several_timeouts_of_one_name_are_told_apart_by_their_delay() -> None:
    assert found(trait(Part.TIMER, name="late", kind=TimerKind.TIMEOUT, delay=FIVE)) == []

    class Twice(Saga, correlate_by="number"):
        waiting = State()
        done = State(final=True)
        begin = initially.on(sagas.Asked).goto(waiting)

        @during(waiting).after(FIVE).goto(done)
        @during(waiting).after(2 * FIVE).goto(done)
        def late(self, ctx: Context) -> None:
            pass

    timers = [
        trait(Part.TIMER, state="waiting", name="late", kind=TimerKind.TIMEOUT, delay=delay)
        for delay in (FIVE, 2 * FIVE, 3 * FIVE)
    ]
    (finding,) = unmanageable(Twice, KNOWN.get, timers)
    assert "after 0:15:00 are armed in state 'waiting'; the class declares 0:" in finding.problem


def test_what_newer_code_has_stored_is_one_finding() -> None:
    (finding,) = found(
        trait(Part.STATE, state="beyond", schema=3, count=4),
        trait(Part.OUTGOING, state="beyond", message="Beyond", schema=3),
    )
    assert (finding.kind, finding.subject, finding.count) == ("schema", "3", 4)
    assert "sagas are stored with schema 3, the class has 1" in finding.problem


def test_the_same_finding_in_several_states_is_one() -> None:
    (finding,) = found(
        trait(Part.OUTGOING, message="Gone", count=2, examples=("a", "b")),
        trait(Part.OUTGOING, message="Gone", state="held", count=3, examples=("b", "c")),
        trait(Part.OUTGOING, message="Gone", status=Status.SUSPENDED, examples=("d",)),
    )
    assert (finding.state, finding.count, finding.examples) == (None, 6, ("a", "b", "c"))


def test_damaged_documents() -> None:
    (finding,) = found(trait(Part.DAMAGED, state="", count=3, examples=("a", "c")))
    assert (finding.kind, finding.state, finding.count) == ("damaged", None, 3)
    assert finding.examples == ("a", "c")
    assert "sagaflow ls --damaged" in finding.problem
