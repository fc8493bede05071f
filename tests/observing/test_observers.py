"""What observers are told, and that they hurt nobody."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaflowError,
    SagaRepository,
    ServerUnavailableError,
    State,
    SuspensionReason,
    compensates,
    during,
    initially,
)
from sagaflow.observing import (
    Activity,
    ActivityKind,
    Ended,
    Fact,
    Observer,
    Retrying,
    StoreFails,
    StoreIsBack,
    Suspended,
    observers_of,
)
from sagaflow.testing import ManualClock
from tests.observing.shop import Order, Paid, Placed, Rated, Reminded, SoldOut, Told, shop
from tests.semantics.support import (
    Away,
    Interrupted,
    LosesAnswers,
    Passing,
    ReadsTogether,
    RecordingBus,
)

pytestmark = pytest.mark.anyio


async def test_whole_order_is_told(repository: SagaRepository, clock: ManualClock) -> None:
    told = Told()
    orders = Orchestrator([Order], repository, clock=clock, bus=shop(), observers=told)
    async with orders:
        outcome = await orders.handle(Placed("o"), message_id="m-1")
    assert outcome.kind is OutcomeKind.STARTED
    found = await repository.find(Order, "o")
    assert found is not None and found.state == Order.failed
    assert [line for line in told.lines if not line.startswith("event Placed")] == [
        "handler place done",
        "commit place won",
        "handler reserve done",
        "commit reserve won",
        "event Paid transitioned",
        "publish Pay accepted",
        "handler sold_out done",
        "commit sold_out won",
        "commit reserve won",
        "compensation reserve done",
        "event SoldOut transitioned",
        "publish Reserve accepted",
        "publish Refund accepted",
    ]
    (event,) = told.named("Placed")
    assert (event.kind, event.saga, event.correlation_id) == (ActivityKind.EVENT, "Order", "o")
    assert (event.message_id, event.outcome, event.version) == ("m-1", "started", 1)
    assert (event.error, event.late, event.attempt, event.timer) == (None, None, 1, None)
    assert [activity.version for activity in told.named("reserve")] == [1, 2, 4, 4]
    ended = Ended(saga="Order", correlation_id="o", state="failed", took=timedelta(0))
    assert [fact for fact in told.facts if isinstance(fact, Ended)] == [ended]


async def test_event_that_nothing_is_done_with_is_told(clock: ManualClock) -> None:
    told = Told()
    orders = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock, observers=[told])
    for event in (Paid("o"), Placed("o"), SoldOut("o"), Rated("o")):
        await orders.handle(event, message_id="m" if isinstance(event, Placed) else None)
    await orders.handle(Placed("o"), message_id="m")
    events = [line for line in told.lines if line.startswith("event")]
    assert events == [
        "event Paid not_found",
        "event Placed started",
        "event SoldOut unhandled",
        "event Rated deferred",
        "event Placed duplicate",
    ]


async def test_event_of_no_saga_is_told(clock: ManualClock) -> None:
    told = Told()
    orders = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock, observers=told)
    outcome = await orders.handle(Placed(None), saga_type=Order)  # type: ignore[arg-type]
    assert outcome.kind is OutcomeKind.UNCORRELATED
    (event,) = told.activities
    assert (event.name, event.correlation_id, event.outcome) == ("Placed", None, "uncorrelated")


async def test_handler_that_raises_is_told(clock: ManualClock) -> None:
    told = Told()
    orders = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock, observers=told)
    await orders.handle(Placed("o"))
    with pytest.raises(RuntimeError) as raised:
        await orders.handle(Paid("o", fails=True))
    assert told.lines[-2:] == ["handler reserve failed", "event Paid failed"]
    assert [activity.error for activity in told.activities[-2:]] == [raised.value] * 2


async def test_failure_that_is_kept_is_told_until_its_saga_is_suspended(
    repository: SagaRepository, clock: ManualClock
) -> None:
    told, bus = Told(), shop()
    policy = RetryPolicy(max_age=timedelta(minutes=1))
    orders = Orchestrator(
        [Order], repository, clock=clock, bus=bus, observers=told, retry=policy, background=False
    )
    await orders.handle(Placed("o"))  # nobody sends what it sends
    async with orders:
        await bus.publish(Paid("o", fails=True), message_id="m-2")
        (paid,) = told.named("Paid")
        assert (paid.outcome, str(paid.error)) == ("deferred", "card of o was refused")
        (retrying,) = [fact for fact in told.facts if isinstance(fact, Retrying)]
        assert (retrying.saga, retrying.correlation_id, retrying.attempts) == ("Order", "o", 1)
        await bus.publish(Rated("o"))  # parked behind it: nothing has failed again
        clock.advance(timedelta(minutes=2))
        late = clock.now() - retrying.due
        await orders.run_due()
        await bus.publish(Rated("o"))  # parked, too: it was suspended before
    again = told.named("Paid")[-1]
    assert (again.outcome, again.attempt, again.late) == ("suspended", 2, late)
    assert again.message_id == "m-2"
    assert str(again.error) == "card of o was refused"
    suspended = Suspended(saga="Order", correlation_id="o", reason=SuspensionReason.HANDLER)
    assert [fact for fact in told.facts if isinstance(fact, Retrying | Suspended)] == [
        retrying,
        suspended,
    ]


async def test_message_that_the_bus_refuses_is_told(
    repository: SagaRepository, clock: ManualClock
) -> None:
    told, bus = Told(), RecordingBus(refusal=RuntimeError("queue is full"))
    orders = Orchestrator([Order], repository, clock=clock, bus=bus, observers=told)
    await orders.handle(Placed("o"))
    (pay,) = told.named("Pay")
    assert (pay.outcome, pay.error, pay.late) == ("refused", bus.refusal, timedelta(0))
    assert [type(fact) for fact in told.facts] == [Retrying]
    bus.refusal = None
    clock.advance(timedelta(seconds=2))
    await orders.run_due()
    again = told.named("Pay")[-1]
    assert (again.outcome, again.error, again.late) == ("accepted", None, timedelta(seconds=2))


async def test_timers_are_told_with_their_lateness(
    repository: SagaRepository, clock: ManualClock
) -> None:
    told, bus = Told(), RecordingBus()
    orders = Orchestrator([Order], repository, clock=clock, bus=bus, observers=told)
    await orders.handle(Placed("o"))
    clock.advance(timedelta(minutes=5, seconds=3))
    await orders.run_due()
    (reminded,) = told.named("Reminded")
    assert (reminded.kind, reminded.outcome) == (ActivityKind.EVENT, "stayed")
    assert (reminded.timer, reminded.late) == ("Reminded", timedelta(seconds=3))
    clock.advance(timedelta(hours=1))
    await orders.run_due()
    (timeout,) = told.named("timeout")
    assert (timeout.timer, timeout.outcome) == ("give_up", "transitioned")
    assert timeout.late == timedelta(minutes=5, seconds=3)


async def test_parked_event_is_told_again_when_it_is_handled(clock: ManualClock) -> None:
    told = Told()
    orders = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock, observers=told)
    await orders.handle(Placed("o"))
    await orders.handle(Rated("o"), message_id="m-2")
    await orders.handle(Paid("o"))
    assert [(a.outcome, a.message_id, a.late) for a in told.named("Rated")] == [
        ("deferred", "m-2", None),
        ("stayed", "m-2", None),
    ]


@frozen
class Begun:
    key: str


@frozen
class Opened:
    key: str


@frozen
class Stopped:
    key: str


@frozen
class Hinted:
    key: str


class Door(Saga, correlate_by="key"):
    """Keeps what comes too early, and stops when it is open."""

    waiting = State()
    open = State()
    closed = State(final=True)

    start = initially.on(Begun).goto(waiting)
    too_early = during(waiting).on(Stopped, Hinted).defer()

    @during(waiting).on(Opened).goto(open)
    async def opens(self, event: Opened, ctx: Context) -> None: ...

    @compensates(opens)
    async def closes(self, event: Opened, ctx: Context) -> None: ...

    still_too_early = during(open).on(Hinted).when(lambda saga, event: True).defer()
    hint = during(open).on(Hinted).stay()
    stop = during(open).on(Stopped).compensate().goto(closed)


async def test_parked_events_are_told_with_what_becomes_of_them(
    repository: SagaRepository, clock: ManualClock
) -> None:
    told = Told()
    doors = Orchestrator([Door], repository, clock=clock, observers=told)
    for event in (Begun("d"), Hinted("d"), Stopped("d"), Opened("d")):
        await doors.handle(event)
    hinted = [activity.outcome for activity in told.named("Hinted")]
    assert hinted == ["deferred", "deferred", "dropped"]  # the end of the saga drops it
    assert [activity.outcome for activity in told.named("Stopped")] == ["deferred", "compensating"]
    assert [activity.outcome for activity in told.named("opens")][-1] == "done"


async def test_timer_that_loses_its_race_is_told(clock: ManualClock) -> None:
    memory, told = MemoryRepository(clock=clock), Told()
    await Orchestrator([Order], memory, clock=clock).handle(Placed("o"))
    clock.advance(timedelta(minutes=5))
    losing = LosesAnswers(memory, applies=False)
    await Orchestrator([Order], losing, clock=clock, observers=told).run_due()
    outcomes = [activity.outcome for activity in told.named("Reminded")]
    assert outcomes == ["conflict", "stayed"]


async def test_failure_that_is_tried_again_is_told(clock: ManualClock) -> None:
    told, bus = Told(), shop()
    repository = MemoryRepository(clock=clock)
    async with Orchestrator(
        [Order], repository, clock=clock, bus=bus, observers=told, background=False
    ) as orders:
        await Orchestrator([Order], repository, clock=clock).handle(Placed("o"))
        await bus.publish(Paid("o", fails=True), message_id="m-2")
        clock.advance(timedelta(seconds=2))
        await orders.run_due()
    again = [activity for activity in told.named("Paid") if activity.message_id == "m-2"]
    assert [(activity.outcome, activity.attempt) for activity in again] == [
        ("deferred", 1),
        ("failed", 2),
    ]
    attempts = [fact.attempts for fact in told.facts if isinstance(fact, Retrying)]
    assert attempts == [1, 2]


async def test_timer_that_means_nothing_any_more_is_told(clock: ManualClock) -> None:
    told = Told()
    orders = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock, observers=told)
    await orders.handle(Placed("o"))
    await orders.handle(Paid("o"))
    clock.advance(timedelta(minutes=31))
    await orders.run_due()
    assert [activity.outcome for activity in told.named("Checked")] == ["unhandled"]


async def test_lost_race_is_told(repository: SagaRepository, clock: ManualClock) -> None:
    first, second = Told(), Told()
    racing = ReadsTogether(repository, 2)
    await Orchestrator([Order], repository, clock=clock).handle(Placed("o"))
    async with anyio.create_task_group() as tasks:
        for told, event in ((first, Paid("o")), (second, Reminded("o"))):
            orders = Orchestrator([Order], racing, clock=clock, observers=told)
            tasks.start_soon(orders.handle, event)
    store = [a.outcome for told in (first, second) for a in told.activities if _is_commit(a)]
    assert sorted(store) == ["lost", "won", "won"]


async def test_events_that_share_a_write_are_told_each(
    repository: SagaRepository, clock: ManualClock
) -> None:
    told = Told()
    slow = Interrupted(repository, update=lambda _: anyio.sleep(0.001))
    orders = Orchestrator([Order], slow, clock=clock, observers=told)
    await orders.handle(Placed("o"))
    await orders.handle(Paid("o"))
    before = len(told.activities)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(orders.handle, Reminded("o"))
    handled = told.activities[before:]
    assert [a.outcome for a in handled if a.kind is ActivityKind.EVENT] == ["stayed"] * 5
    handlers = [a.name for a in handled if a.kind is ActivityKind.HANDLER]
    assert handlers == ["remind"] * 5
    assert len([a for a in handled if _is_commit(a)]) < 5


def _is_commit(activity: Activity) -> bool:
    return activity.kind is ActivityKind.COMMIT


async def test_outage_and_its_end_are_told_once(clock: ManualClock) -> None:
    told, failing = Told(), Away(ServerUnavailableError("nobody there"), allowed=2)
    repository = Interrupted(MemoryRepository(clock=clock), update=failing.fail)
    orders = Orchestrator([Order], repository, clock=clock, observers=told)
    for order in ("o", "p"):
        failing.allowed = 2
        await orders.handle(Placed(order))
        await orders.handle(Rated(order))
        await orders.handle(Paid(order))  # what was parked is then tried in vain
    outages = [fact for fact in told.facts if isinstance(fact, StoreFails | StoreIsBack)]
    assert [str(fact.error) for fact in outages if isinstance(fact, StoreFails)] == ["nobody there"]
    assert (await orders.health()).outage_since == clock.now()
    failing.allowed = 100
    await orders.run_due()
    await orders.run_due()
    outages = [fact for fact in told.facts if isinstance(fact, StoreFails | StoreIsBack)]
    assert outages[1:] == [StoreIsBack()]
    assert (await orders.health()).outage_since is None


async def test_write_that_fails_is_told(clock: ManualClock) -> None:
    told, failing = Told(), Away(ServerUnavailableError("nobody there"), allowed=2)
    repository = Interrupted(MemoryRepository(clock=clock), update=failing.fail)
    orders = Orchestrator([Order], repository, clock=clock, observers=told)
    await orders.handle(Placed("o"))
    failing.allowed = 0
    with pytest.raises(ServerUnavailableError) as raised:
        await orders.handle(Paid("o"))
    assert told.lines[-2:] == ["commit reserve failed", "event Paid failed"]
    assert [activity.error for activity in told.activities[-2:]] == [raised.value] * 2


async def test_headers_that_an_observer_adds_are_stored_and_come_back(
    repository: SagaRepository, clock: ManualClock
) -> None:
    told, bus = Told(added={"trace": "t-1"}), RecordingBus()
    first = Orchestrator([Order], repository, clock=clock, bus=bus, observers=told)
    await first.handle(Placed("o"), headers={"tenant": "x"})
    await first.handle(Rated("o"), headers={"tenant": "y"})
    await first.handle(Paid("o"), headers={"tenant": "z"})
    found = await repository.find(Order, "o")
    assert found is not None
    assert {timer.name: timer.headers for timer in found.timers} == {
        "Reminded": {"tenant": "x", "trace": "t-1"},
        "Checked": {"tenant": "z", "trace": "t-1"},
        "give_up": {"tenant": "z", "trace": "t-1"},
    }
    assert [entry.headers for entry in found.compensations] == [{"tenant": "z", "trace": "t-1"}]
    (rated,) = [activity for activity in told.named("Rated") if activity.outcome == "stayed"]
    assert rated.headers == {"tenant": "y", "trace": "t-1"}
    clock.advance(timedelta(hours=2))
    later = Told()
    await Orchestrator([Order], repository, clock=clock, bus=bus, observers=later).run_due()
    assert [dict(later.named(name)[0].headers) for name in ("Reminded", "timeout", "Refund")] == [
        {"tenant": "x", "trace": "t-1"},
        {"tenant": "z", "trace": "t-1"},
        {"tenant": "z", "trace": "t-1"},
    ]
    assert [(m.headers["tenant"], m.headers["trace"]) for m in bus.published] == [
        ("x", "t-1"),
        ("z", "t-1"),
        ("x", "t-1"),
        ("z", "t-1"),
    ]


class Breaking(Observer):
    """Raises wherever it can."""

    def observe(self, activity: Activity) -> AbstractContextManager[object]:
        raise ValueError("observe")

    def note(self, fact: Fact) -> None:
        raise ValueError("note")

    def headers(self) -> Mapping[str, str]:
        raise ValueError("headers")


class BreakingLater(Observer):
    """Raises when an activity ends."""

    @contextmanager
    def observe(self, activity: Activity) -> Generator[None]:
        yield
        raise ValueError("end")


async def test_observers_that_raise_hurt_no_saga_and_are_logged_once(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    told = Told()
    observers = [Breaking(), BreakingLater(), told]
    async with Orchestrator(
        [Order], repository, clock=clock, bus=shop(), observers=observers
    ) as orders:
        await orders.handle(Placed("o"))
    found = await repository.find(Order, "o")
    assert found is not None
    assert (found.state, found.saga.refunds, found.outbox) == (Order.failed, 1, ())
    assert "compensation reserve done" in told.lines
    records = [record for record in caplog.records if record.name.startswith("sagaflow")]
    assert len(records) == 2
    assert "Breaking object" in records[0].message and "observe" in records[0].message
    assert "BreakingLater object" in records[1].message and "end" in records[1].message
    assert all(record.exc_info for record in records)


async def test_cancelled_activity_is_told_and_stays_cancelled(clock: ManualClock) -> None:
    class Stuck(Passing):
        async def load_recent(self, saga: str, correlation_id: Any) -> Any:
            await anyio.sleep_forever()

    told = Told()
    orders = Orchestrator([Order], Stuck(MemoryRepository()), clock=clock, observers=told)
    with anyio.move_on_after(0.01) as scope:
        await orders.handle(Paid("o"))
    assert scope.cancelled_caught
    (event,) = told.activities
    assert isinstance(event.error, anyio.get_cancelled_exc_class())


async def test_without_observers_nothing_is_made_that_could_be_told(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagaflow._runtime.trace.Activity", None)  # to make one would fail
    repository = MemoryRepository(clock=clock)
    orders = Orchestrator([Order], repository, clock=clock, bus=shop(), observers=())
    async with orders:
        assert (await orders.handle(Placed("o"))).kind is OutcomeKind.STARTED
    assert observers_of(()) is None


async def test_what_is_no_observer_is_refused() -> None:
    wrong: Any = object()
    with pytest.raises(SagaflowError, match="takes an Observer or several, not <object"):
        Orchestrator([Order], MemoryRepository(), observers=[wrong])


async def test_an_observer_may_do_nothing(clock: ManualClock) -> None:
    orders = Orchestrator([Order], MemoryRepository(), clock=clock, observers=Observer())
    outcome = await orders.handle(Placed("o"))
    assert outcome.kind is OutcomeKind.STARTED
