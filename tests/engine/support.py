"""A saga class as the engine needs it, and records of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve, frozen

from sagaflow import (
    CompensationStatus,
    OutgoingMessage,
    ParkedEvent,
    RecordedCompensation,
    Saga,
    State,
    StoredMessage,
    Timer,
    during,
    during_any,
    initially,
)
from sagaflow._definition.saga import Options
from sagaflow._engine.conclusion import Run
from sagaflow._engine.work import Machine
from sagaflow._engine.writing import Write
from sagaflow._model.record import Failing, SagaRecord, TimerKind
from tests.contract.records import record as plain_record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LATER = NOW + MINUTE
OWNER = "this process"
LEASE = 10 * SECOND


@frozen
class Opened:
    """Starts an order."""


@frozen
class Paid:
    amount: int = 0


@frozen
class Noted:
    """Waits where it may not be handled yet."""


class Order(Saga):
    ready = State()
    held = State()
    done = State(final=True)

    total: int = 0

    too_early = initially.on(Noted).defer()
    start = initially.on(Opened).goto(ready)
    pay = during(ready).on(Paid).stay()
    wait = during(ready).on(Noted).defer()
    hold = during(ready).on(Opened).goto(held)
    maybe = during(held).on(Noted).when(lambda saga, _: saga.total < 0).defer()
    note = during(held).on(Noted).stay()
    remind = during(held).after(HOUR).stay()
    expire = during(held).after(2 * HOUR).goto(done)
    end = during_any.on(Paid).goto(done)


CLASSES: dict[str, type] = {"Opened": Opened, "Paid": Paid, "Noted": Noted}


def machine(**options: Any) -> Machine:
    """Return the class above, with these class keywords."""
    return Machine(Order.table, Options(**options), CLASSES.get)


def write(now: datetime = LATER) -> Write:
    """Return a write of this process."""
    return Write(token="second", now=now, owner=OWNER, lease=LEASE)


def record(**changes: Any) -> SagaRecord:
    """Return an order that is ready and has nothing to do."""
    plain = plain_record(
        "o",
        incarnation="life",
        version=3,
        token="first",
        state="ready",
        data={"total": 1},
        sequence=2,
        created_at=NOW,
        updated_at=NOW,
    )
    return evolve(plain, **changes)


def run(**changes: Any) -> Run:
    """Return the run of a handler that did nothing but count."""
    plain = Run(
        step="pay",
        event="Paid",
        message_id="m",
        headers={},
        target=None,
        compensate=False,
        data={"total": 2},
    )
    return evolve(plain, **changes)


def stored(name: str = "Paid") -> StoredMessage:
    """Return a message in stored form."""
    return StoredMessage(type=name, body={})


def step(
    number: int,
    status: CompensationStatus = CompensationStatus.PENDING,
    failing: Failing | None = None,
) -> RecordedCompensation:
    """Return how a step is undone."""
    return RecordedCompensation(
        id=f"{number}.1",
        step=f"s{number}",
        method="undo",
        message_id=f"m{number}",
        status=status,
        failing=failing,
    )


def timer(name: str = "Paid", due: datetime = LATER, **changes: Any) -> Timer:
    """Return the timer of a scheduled event."""
    plain = Timer(
        id=f"timer-{name}",
        name=name,
        due=due,
        kind=TimerKind.EVENT,
        event=stored(),
        causation_id="c",
    )
    return evolve(plain, **changes)


def timeout(step_name: str = "remind", delay: timedelta = HOUR, **changes: Any) -> Timer:
    """Return the timer of a timeout of the state `held`, which was entered just now."""
    plain = timer(
        step_name, NOW + delay, kind=TimerKind.TIMEOUT, delay=delay, event=None, id=step_name
    )
    return evolve(plain, **changes)


def waiting(
    number: int = 1,
    name: str = "Paid",
    offered: int = 0,
    failing: Failing | None = None,
    parked_at: datetime = NOW,
) -> ParkedEvent:
    """Return a parked event."""
    return ParkedEvent(
        id=f"p{number}",
        message=stored(name),
        parked_at=parked_at,
        offered=offered,
        failing=failing,
    )


def outgoing(sequence: int = 2) -> OutgoingMessage:
    """Return a message that waits for the bus."""
    return OutgoingMessage(
        id=f"life-{sequence}",
        sequence=sequence,
        kind="event",
        message=stored(),
        causation_id="l",
        created_at=NOW,
    )


def failing(attempts: int = 1, since: datetime = NOW, due: datetime = LATER) -> Failing:
    """Return how work has failed."""
    return Failing(attempts=attempts, since=since, due=due, error="no")
