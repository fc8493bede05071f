"""Timeouts of states, scheduled events and the default timeout."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import frozen

from sagaflow import (
    Context,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaflowError,
    SagaRepository,
    SerializationError,
    State,
    Status,
    SuspensionReason,
    TimerKind,
    UnknownEventError,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping
from sagaflow.testing import ManualClock
from tests.semantics.patient import (
    DAY,
    HOUR,
    MINUTE,
    Booking,
    Failed,
    Noted,
    Opened,
    Paid,
    Reserved,
    log_of,
    orchestrator,
)
from tests.semantics.support import stored

pytestmark = pytest.mark.anyio
NOW = ManualClock().now()


async def test_timeout_is_in_the_write_that_enters_the_state(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    found = await runner.find(Booking, "b")
    assert found is not None and found.version == 1
    (timer,) = found.timers
    assert (timer.kind, timer.name, timer.due) == (
        TimerKind.TIMEOUT,
        "expire",
        clock.now() + HOUR,
    )


async def test_timeout_fires_when_it_is_due_and_not_before(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    clock.advance(HOUR - timedelta(milliseconds=1))
    assert await runner.run_due() == 0
    clock.advance(timedelta(milliseconds=1))
    assert await runner.run_due() == 1
    found = await runner.find(Booking, "b")
    assert found is not None
    assert (found.state, found.saga.log) == (Booking.expired, ["opened", "expired"])
    assert found.timers == ()
    assert found.history[-1].event == "timeout"
    assert await runner.run_due() == 0


async def test_timeout_of_thirty_days_survives_a_restart(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Patient(Saga, correlate_by="key"):
        waiting = State()
        over = State(final=True)
        start = initially.on(Opened).goto(waiting)
        end = during(waiting).after(30 * DAY).goto(over)

    await Orchestrator([Patient], repository, clock=clock).handle(Opened("b"))
    clock.advance(45 * DAY)  # late after downtime, never lost
    fresh = Orchestrator([Patient], repository, clock=clock)
    assert await fresh.run_due() == 1
    found = await fresh.find(Patient, "b")
    assert found is not None and found.state == Patient.over


async def test_leaving_the_state_removes_its_timeout(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    clock.advance(59 * MINUTE)
    await runner.handle(Reserved("b"))
    found = await runner.find(Booking, "b")
    assert found is not None
    assert {timer.name: timer.due for timer in found.timers} == {
        "Reminder": clock.now() + 10 * MINUTE,
        "expire": clock.now() + HOUR,
    }
    clock.advance(2 * MINUTE)
    assert await runner.run_due() == 0


async def test_stay_neither_ends_nor_prolongs_the_timeout(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    await runner.handle(Reserved("b"))
    due = clock.now() + HOUR
    clock.advance(10 * MINUTE)
    await runner.run_due()  # the reminder stays
    found = await runner.find(Booking, "b")
    assert found is not None and found.saga.log[-1] == "reminded 1"
    assert {timer.due for timer in found.timers if timer.name == "expire"} == {due}


async def test_scheduled_event_is_handled_once_and_may_schedule_the_next(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    await runner.handle(Reserved("b"))
    for _ in range(5):
        clock.advance(10 * MINUTE)
        await runner.run_due()
    assert (await log_of(runner))[2:] == ["reminded 1", "reminded 2", "reminded 3"]


async def test_scheduling_a_name_again_replaces_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Restless(Saga, correlate_by="key"):
        waiting = State()
        over = State(final=True)
        start = initially.on(Opened).goto(waiting)
        end = during(waiting).on(Failed).goto(over)

        @during(waiting).on(Paid).stay()
        def push(self, event: Paid, ctx: Context) -> None:
            ctx.schedule(Failed(event.key), after=HOUR, name="end")

    runner = Orchestrator([Restless], repository, clock=clock)
    await runner.handle(Opened("b"))
    await runner.handle(Paid("b"))
    clock.advance(59 * MINUTE)
    await runner.handle(Paid("b"))
    clock.advance(59 * MINUTE)
    assert await runner.run_due() == 0
    clock.advance(MINUTE)
    await runner.run_due()
    found = await runner.find(Restless, "b")
    assert found is not None and found.state == Restless.over


async def test_cancelled_schedule_does_not_happen(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    for event in (Opened("b"), Reserved("b"), Paid("b")):
        await runner.handle(event)
    found = await runner.find(Booking, "b")
    assert found is not None and found.timers == ()
    clock.advance(DAY)
    assert await runner.run_due() == 0


async def test_timer_fired_by_two_processes_has_one_effect(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    clock.advance(HOUR)
    await runner.run_due()
    await orchestrator(repository, clock).run_due()
    assert (await log_of(runner)).count("expired") == 1


async def test_wake_that_is_early_is_put_right_by_who_finds_nothing_to_do(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Bookkeeping leaves it where it is if the saga has changed meanwhile."""
    runner = orchestrator(repository, clock)
    for event in (Opened("b"), Reserved("b")):
        await runner.handle(event)
    document = await stored(repository, Booking, "b")
    assert document is not None
    due = document["wake"]
    early = Bookkeeping(
        correlation_id="b",
        incarnation=document["incarnation"],
        version=document["version"],
        set={"wake": clock.now(), "lease": {"owner": "dead", "until": clock.now()}},
    )
    assert await repository.bookkeep("Booking", early)
    assert [await runner.run_due(), await runner.run_due()] == [1, 0]
    document = await stored(repository, Booking, "b")
    assert document is not None
    assert (document["wake"], document["version"], "lease" in document) == (due, 2, False)


async def test_timeout_compensates_first(repository: SagaRepository, clock: ManualClock) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    await runner.handle(Reserved("b"))
    clock.advance(HOUR)
    for _ in range(4):
        await runner.run_due()
    found = await runner.find(Booking, "b")
    assert found is not None and found.state == Booking.expired
    assert found.saga.log[-2:] == ["expired", "released"]
    assert [message.message.type for message in found.outbox] == ["Release"]


async def test_finished_saga_has_no_timers(repository: SagaRepository, clock: ManualClock) -> None:
    runner = orchestrator(repository, clock)
    for event in (Opened("b"), Reserved("b"), Failed("b")):
        await runner.handle(event)
    found = await runner.find(Booking, "b")
    assert found is not None and found.status is Status.FINISHED and found.timers == ()


async def test_default_timeout_suspends_a_saga_that_waits_too_long(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Watched(Saga, correlate_by="key", timeout=DAY):
        waiting = State()
        patient = State()
        over = State(final=True)
        start = initially.on(Opened).goto(waiting)
        go = during(waiting).on(Paid).goto(patient)
        expire = during(patient).after(2 * DAY).goto(over)

    runner = Orchestrator([Watched], repository, clock=clock)
    await runner.handle(Opened("b"))
    clock.advance(DAY)
    await runner.run_due()
    found = await runner.find(Watched, "b")
    assert found is not None and found.status is Status.SUSPENDED
    assert found.suspension is not None
    assert found.suspension.reason is SuspensionReason.TIMEOUT
    assert "'waiting'" in found.suspension.error
    await runner.retry(Watched, "b")  # waits for another day
    assert (await runner.handle(Paid("b"))).kind is OutcomeKind.TRANSITIONED
    found = await runner.find(Watched, "b")
    assert found is not None and [timer.name for timer in found.timers] == ["expire"]


async def test_timeout_that_the_class_no_longer_declares_is_dropped(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def version(*, with_timeout: bool) -> type[Saga]:
        class Changing(Saga, correlate_by="key", name="Changing"):
            waiting = State()
            over = State(final=True)
            start = initially.on(Opened).goto(waiting)
            end = during(waiting).on(Paid).goto(over)
            if with_timeout:
                expire = during(waiting).after(HOUR).goto(over)

        return Changing

    await Orchestrator([version(with_timeout=True)], repository, clock=clock).handle(Opened("b"))
    clock.advance(HOUR)
    later = version(with_timeout=False)
    runner = Orchestrator([later], repository, clock=clock)
    await runner.run_due()
    found = await runner.find(later, "b")
    assert found is not None and found.timers == () and found.state.name == "waiting"
    assert "no longer declared" in caplog.text


async def test_scheduled_event_that_the_state_defers_is_parked(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Deferring(Saga, correlate_by="key"):
        waiting = State()
        ready = State()
        over = State(final=True)

        @initially.on(Opened).goto(waiting)
        def start(self, event: Opened, ctx: Context) -> None:
            ctx.schedule(Noted(event.key), after=HOUR)

        later = during(waiting).on(Noted).defer()
        go = during(waiting).on(Paid).goto(ready)
        end = during(ready).on(Noted).goto(over)

    runner = Orchestrator([Deferring], repository, clock=clock)
    await runner.handle(Opened("b"))
    clock.advance(HOUR)
    await runner.run_due()
    found = await runner.find(Deferring, "b")
    assert found is not None and found.timers == () and len(found.parked) == 1
    await runner.handle(Paid("b"))
    found = await runner.find(Deferring, "b")
    assert found is not None and found.state == Deferring.over


@frozen
class Stranger:
    key: str


_WRONG_SCHEDULES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"event": Opened("b")}, SagaflowError, "either after= or at="),
    ({"event": Opened("b"), "after": HOUR, "at": NOW}, SagaflowError, "either after= or at="),
    ({"event": Opened("b"), "after": -HOUR}, SagaflowError, "0 or more"),
    ({"event": Opened("b"), "at": NOW.replace(tzinfo=None)}, SagaflowError, "aware"),
    ({"event": "b", "after": HOUR}, SerializationError, "attrs class"),
    ({"event": Stranger("b"), "after": HOUR}, UnknownEventError, "no saga takes Stranger"),
]


@pytest.mark.parametrize(("arguments", "error", "says"), _WRONG_SCHEDULES)
async def test_wrong_schedule_is_refused_and_nothing_is_stored(
    anyio_backend: str, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    class Wrong(Saga, correlate_by="key"):
        waiting = State()
        over = State(final=True)
        end = during(waiting).on(Paid).goto(over)

        @initially.on(Opened).goto(waiting)
        def start(self, event: Opened, ctx: Context) -> None:
            ctx.schedule(**arguments)

    runner = Orchestrator([Wrong], MemoryRepository())
    with pytest.raises(error, match=says):
        await runner.handle(Opened("b"))
    assert await runner.find(Wrong, "b") is None
