"""What was accepted and comes to nothing leaves a trace: in the history, the log, and observers."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from attrs import frozen

from sagaflow import (
    Context,
    HistoryKind,
    Instance,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaRepository,
    State,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow.observing import Activity, ActivityKind, Observer
from sagaflow.testing import ManualClock

pytestmark = pytest.mark.anyio
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@frozen
class Placed:
    order: str


@frozen
class Reserved:
    order: str


@frozen
class Paid:
    order: str
    number: int = 0


@frozen
class Cancelled:
    order: str


@frozen
class Rated:
    order: str


BROKEN = set[str]()


class Order(Saga, correlate_by="order"):
    awaiting = State()
    reserved = State()
    failed = State(final=True)

    start = initially.on(Placed).goto(awaiting)

    @during(awaiting).on(Reserved).goto(reserved)
    async def reserve(self, event: Reserved, ctx: Context) -> None: ...

    @compensates(reserve)
    async def release(self, event: Reserved, ctx: Context) -> None:
        if "warehouse" in BROKEN:
            raise ConnectionError("no answer")

    later = during(awaiting, reserved).on(Paid).defer()

    @during_any.on(Rated).stay()
    async def rate(self, event: Rated, ctx: Context) -> None:
        raise ConnectionError("no answer")

    @during(reserved).after(60 * MINUTE).stay()
    async def remind(self, ctx: Context) -> None:
        raise ConnectionError("no answer")

    cancel = during_any.on(Cancelled).compensate().goto(failed)
    nothing = during(failed).on(Rated).ignore()


class Watching(Observer):
    def __init__(self) -> None:
        self.dropped: list[Activity] = []

    @contextmanager
    def observe(self, activity: Activity) -> Generator[None]:
        yield
        if activity.kind is ActivityKind.EVENT and activity.outcome == "dropped":
            self.dropped.append(activity)


@pytest.fixture(autouse=True)
def _everything_works(caplog: pytest.LogCaptureFixture) -> None:
    BROKEN.clear()
    caplog.set_level(logging.INFO, logger="sagaflow")


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def runner(repository: SagaRepository, clock: ManualClock, watching: Watching) -> Orchestrator:
    retry = RetryPolicy(initial_delay=SECOND, max_delay=SECOND, max_age=SECOND)
    return Orchestrator([Order], repository, clock=clock, observers=watching, retry=retry)


async def placed(runner: Orchestrator, *events: object) -> None:
    """Place an order, and hand these events to it, each with its place for an id."""
    await runner.handle(Placed("o"))
    await runner.handle(Reserved("o"))
    for number, event in enumerate(events):
        await runner.handle(event, message_id=f"m{number}", headers={"tenant": "t"})


async def of(runner: Orchestrator) -> Instance[Order]:
    found = await runner.find(Order, "o")
    assert found is not None
    return found


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[object, str]]:
    """Return the messages that the log says came to nothing, and how loudly."""
    return [
        (getattr(record, "message_id", None), record.levelname)
        for record in caplog.records
        if "it has no effect" in record.getMessage()
    ]


def traces(found: Instance[Order]) -> list[tuple[object, str]]:
    """Return what the history says came to nothing, and why."""
    return [(e.message_id, e.step) for e in found.history if e.kind is HistoryKind.DROPPED]


async def check(
    runner: Orchestrator,
    watching: Watching,
    caplog: pytest.LogCaptureFixture,
    messages: list[str],
    why: str,
) -> None:
    assert traces(await of(runner)) == [(message, why) for message in messages]
    assert told(caplog) == [(message, "WARNING") for message in messages]
    assert [a.message_id for a in watching.dropped] == messages
    assert {(a.name, *a.headers.items()) for a in watching.dropped} == {("Paid", ("tenant", "t"))}


async def test_events_that_wait_when_the_saga_ends(
    runner: Orchestrator, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    await placed(runner, Paid("o"), Paid("o"), Cancelled("o"))
    await check(runner, watching, caplog, ["m0", "m1"], "the saga has ended")


async def test_event_that_waits_when_a_compensation_ends_the_saga(
    runner: Orchestrator,
    watching: Watching,
    caplog: pytest.LogCaptureFixture,
    clock: ManualClock,
) -> None:
    BROKEN.add("warehouse")
    await placed(runner, Cancelled("o"), Paid("o"))
    BROKEN.clear()
    clock.advance(MINUTE)
    await runner.run_due()
    await check(runner, watching, caplog, ["m1"], "the saga has ended")


async def test_event_that_waits_when_the_last_step_is_skipped(
    runner: Orchestrator,
    watching: Watching,
    caplog: pytest.LogCaptureFixture,
    clock: ManualClock,
) -> None:
    BROKEN.add("warehouse")
    await placed(runner, Cancelled("o"), Paid("o"))
    for _ in range(2):
        clock.advance(2 * SECOND)
        await runner.run_due()
    await runner.skip(Order, "o")
    assert (await of(runner)).state == Order.failed
    await check(runner, watching, caplog, ["m1"], "the saga has ended")


@pytest.mark.parametrize("broken", [False, True])
async def test_event_that_waits_when_an_operator_cancels_the_saga(
    runner: Orchestrator, watching: Watching, caplog: pytest.LogCaptureFixture, broken: bool
) -> None:
    """Also if it takes a while until that has ended."""
    await placed(runner, Paid("o"))
    if broken:
        BROKEN.add("warehouse")
    await runner.cancel(Order, "o", state=Order.failed)
    assert (await of(runner)).parked == ()
    await check(runner, watching, caplog, ["m0"], "the saga is cancelled")


async def test_event_and_timer_that_an_operator_skips(
    runner: Orchestrator, watching: Watching, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    await placed(runner)
    clock.advance(60 * MINUTE + SECOND)
    await runner.handle(Rated("o"), message_id="rate")  # behind the timer, which fails
    (armed,) = (await of(runner)).timers
    for _ in range(2):
        clock.advance(2 * SECOND)
        await runner.run_due()
    await runner.skip(Order, "o")  # the timer
    for _ in range(2):
        clock.advance(2 * SECOND)
        await runner.run_due()
    await runner.skip(Order, "o")  # the event
    assert traces(await of(runner)) == [(armed.id, "skipped"), ("rate", "skipped")]
    assert told(caplog) == [(armed.id, "WARNING"), ("rate", "WARNING")]
    assert [activity.name for activity in watching.dropped] == ["timeout", "Rated"]


async def test_more_events_than_the_history_holds_are_all_logged(
    runner: Orchestrator, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    await placed(runner, *(Paid("o", number) for number in range(99)), Cancelled("o"))
    found = await of(runner)
    assert len(found.history) == 64
    assert (
        found.history[-1].kind is HistoryKind.COMPENSATION
    )  # the last write is in it, whatever was dropped
    assert [message for message, _ in told(caplog)] == [f"m{number}" for number in range(99)]
    assert len(watching.dropped) == 99


@pytest.mark.parametrize(
    ("event", "kind", "level"),
    [
        (Paid("o"), OutcomeKind.FINISHED, "INFO"),
        (Paid("unknown"), OutcomeKind.NOT_FOUND, "WARNING"),
        (Placed("p"), OutcomeKind.UNHANDLED, "WARNING"),
        (Paid(None), OutcomeKind.UNCORRELATED, "WARNING"),  # type: ignore[arg-type]
        (Rated("o"), OutcomeKind.IGNORED, None),
    ],
)
async def test_event_that_nothing_is_stored_of_is_logged_unless_the_class_expects_it(
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    event: object,
    kind: OutcomeKind,
    level: str | None,
) -> None:
    runner = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock)
    await placed(runner, Cancelled("o"))
    await runner.handle(Placed("p"))
    caplog.clear()
    assert (await runner.handle(event, message_id="m")).kind is kind
    message = None if kind is OutcomeKind.UNCORRELATED else "m"
    expected = [] if level is None else [(level, message)]
    assert [(r.levelname, getattr(r, "message_id", None)) for r in caplog.records] == expected
