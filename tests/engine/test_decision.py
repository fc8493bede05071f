"""What an event means for a saga, before any of its code runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve, frozen

from sagaflow import (
    OutcomeKind,
    ParkedEvent,
    Saga,
    State,
    Status,
    StoredMessage,
    during,
    initially,
)
from sagaflow._definition.saga import Options
from sagaflow._engine.decision import Park, Settled, choose, settle, timeout_row
from sagaflow._engine.work import Machine
from sagaflow._model.record import SagaRecord
from tests.contract.records import record as plain_record


@frozen
class Opened:
    size: int = 0


@frozen
class Knocked:
    size: int = 0


@frozen
class Shut:
    size: int = 0


@frozen
class Ended:
    size: int = 0


class Door(Saga):
    ajar = State()
    shut = State(final=True)

    knocks: int = 0

    first = initially.on(Opened).when(lambda _, event: event.size > 0).goto(ajar)
    early = initially.on(Knocked).ignore()
    large = during(ajar).on(Knocked).when(lambda saga, _: saga.knocks > 9).goto(shut)
    small = during(ajar).on(Knocked).stay()
    shutting = during(ajar).on(Shut).goto(shut)
    late = during(shut).on(Knocked).ignore()
    end = during(ajar).on(Ended).when(lambda saga, _: saga.knocks < 0).goto(shut)
    draught = during(ajar).after(timedelta(minutes=1)).goto(shut)


MACHINE = Machine(Door.table, Options(), {"Knocked": Knocked}.get)
INSTANT = datetime(2026, 1, 1, tzinfo=UTC)


def record(state: str, status: Status = Status.ACTIVE, inbox: tuple[str, ...] = ()) -> SagaRecord:
    return plain_record(
        state=state,
        status=status,
        data={},
        inbox=inbox,
        finished_at=INSTANT if status is Status.FINISHED else None,
    )


def parked(event_id: str, offered: int = 0) -> ParkedEvent:
    return ParkedEvent(
        id=event_id,
        message=StoredMessage(type="Knocked", body={}),
        parked_at=INSTANT,
        offered=offered,
    )


SUSPENDED_AT_ITS_END = evolve(record("shut", Status.SUSPENDED), finished_at=INSTANT)
HAS_PARKED = evolve(record("ajar"), parked=(parked("p"),))
HAS_DEFERRED = evolve(record("ajar"), parked=(parked("p", offered=1),))


@pytest.mark.parametrize(
    ("found", "event", "verdict"),
    [
        (None, Opened, None),
        (None, Knocked, None),
        (None, Shut, Settled(OutcomeKind.NOT_FOUND)),
        (record("", Status.EMBRYO), Opened, None),
        (record("", Status.EMBRYO), Shut, Settled(OutcomeKind.NOT_FOUND)),
        (record("", Status.EMBRYO, ("m",)), Opened, Settled(OutcomeKind.DUPLICATE)),
        (record("ajar"), Knocked, None),
        (record("ajar"), Opened, Settled(OutcomeKind.UNHANDLED)),
        (record("ajar", inbox=("m",)), Knocked, Settled(OutcomeKind.DUPLICATE)),
        (record("ajar", inbox=("m",)), Opened, Settled(OutcomeKind.DUPLICATE)),
        (record("ajar", Status.COMPENSATING, ("m",)), Shut, Settled(OutcomeKind.DUPLICATE)),
        (record("shut", Status.FINISHED), Shut, Settled(OutcomeKind.FINISHED)),
        (record("shut", Status.FINISHED), Opened, Settled(OutcomeKind.FINISHED)),
        (record("shut", Status.FINISHED), Knocked, Settled(OutcomeKind.IGNORED)),
        (record("shut", Status.FINISHED, ("m",)), Knocked, Settled(OutcomeKind.DUPLICATE)),
        (SUSPENDED_AT_ITS_END, Shut, Settled(OutcomeKind.FINISHED)),
        (record("removed by new code"), Knocked, Settled(OutcomeKind.UNHANDLED)),
        (record("ajar", Status.SUSPENDED), Knocked, Park(OutcomeKind.SUSPENDED)),
        (record("ajar", Status.SUSPENDED), Opened, Park(OutcomeKind.SUSPENDED)),
        (record("ajar", Status.COMPENSATING), Knocked, Park(OutcomeKind.DEFERRED)),
        (HAS_PARKED, Knocked, Park(OutcomeKind.DEFERRED)),
        (HAS_PARKED, Opened, Park(OutcomeKind.DEFERRED)),
        (HAS_DEFERRED, Knocked, None),
    ],
)
def test_what_needs_no_look_at_the_data(
    found: SagaRecord | None, event: type, verdict: Settled | Park | None
) -> None:
    assert settle(MACHINE, found, event, "m", INSTANT) == verdict


@pytest.mark.parametrize(
    "status", [Status.ACTIVE, Status.COMPENSATING, Status.SUSPENDED, Status.EMBRYO]
)
def test_parked_event_is_recognised_though_the_inbox_has_forgotten_it(status: Status) -> None:
    keeps = evolve(record("ajar", status), parked=(parked("m", offered=1),))
    assert settle(MACHINE, keeps, Knocked, "m", INSTANT) == Settled(OutcomeKind.DUPLICATE)
    assert settle(MACHINE, keeps, Knocked, "other", INSTANT) != Settled(OutcomeKind.DUPLICATE)


@pytest.mark.parametrize(
    ("state", "step", "delay", "found"),
    [
        ("ajar", "draught", timedelta(minutes=1), True),
        ("ajar", "draught", timedelta(minutes=2), True),  # new code has another delay
        ("ajar", "gust", timedelta(minutes=1), False),
        ("shut", "draught", timedelta(minutes=1), False),
    ],
)
def test_timeout_is_the_one_that_its_timer_was_armed_for(
    state: str, step: str, delay: timedelta, found: bool
) -> None:
    row = timeout_row(Door.table, record(state), step, delay)
    assert (row is not None) is found
    assert row is None or row.step == step


@pytest.mark.parametrize(
    ("state", "saga", "event", "step"),
    [
        (None, Door(), Opened(1), "first"),
        (None, Door(), Opened(0), None),
        (None, Door(), Knocked(), "early"),
        ("ajar", Door(knocks=10), Knocked(), "large"),
        ("ajar", Door(knocks=9), Knocked(), "small"),
        ("ajar", Door(), Ended(), None),
        ("shut", Door(), Shut(), None),
    ],
)
def test_first_transition_whose_guards_hold(
    state: str | None, saga: Door, event: object, step: str | None
) -> None:
    row = choose(Door.table, state, lambda: saga, event)
    assert (None if row is None else row.step) == step
