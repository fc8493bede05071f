"""The background of an orchestrator: timers to the millisecond, sweeps, outages, shutdown."""

from __future__ import annotations

import logging
from datetime import timedelta

import anyio
import pytest

from sagaflow import (
    Context,
    Instance,
    LimitExceededError,
    Limits,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaRepository,
    ServerUnavailableError,
    State,
    Status,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.patient import Noted, Opened, Paid, Release
from tests.semantics.support import Away, Gate, Interrupted, RecordingBus

pytestmark = pytest.mark.anyio
QUICK = timedelta(milliseconds=20)


class Short(Saga, correlate_by="key"):
    waiting = State()
    over = State(final=True)

    @initially.on(Opened).goto(waiting)
    def start(self, event: Opened, ctx: Context) -> None:
        ctx.send(Release(event.key))

    expire = during(waiting).after(timedelta(milliseconds=80)).goto(over)
    end = during(waiting).on(Paid).goto(over)


async def until_over(runner: Orchestrator, key: str = "b") -> Instance[Short]:
    """Look until the saga has ended; the time limit of the test bounds it."""
    while True:
        found = await runner.find(Short, key)
        if found is not None and found.status is Status.FINISHED and not found.outbox:
            return found
        await anyio.sleep(0.005)


async def test_timer_fires_to_the_millisecond_in_the_process_that_armed_it(
    anyio_backend: str,
) -> None:
    bus = MemoryBus()
    bus.subscribe(Release, lambda _: None)
    delays: list[timedelta] = []
    # The sweep is far away: only the process's own timers can be in time.
    async with Orchestrator(
        [Short], MemoryRepository(), bus=bus, poll_interval=timedelta(hours=1)
    ) as runner:
        for key in ("b", "c", "d"):
            await runner.handle(Opened(key))
            found = await until_over(runner, key)
            delays.append(found.history[-1].at - found.created_at - timedelta(milliseconds=80))
    assert min(delays) >= timedelta(0)
    # One of them is in time on any machine; the others may have found it busy.
    assert min(delays) < timedelta(milliseconds=60)


class Chatty(Saga, correlate_by="key"):
    waiting = State()
    over = State(final=True)
    start = initially.on(Opened).goto(waiting)
    end = during(waiting).after(timedelta(milliseconds=120)).goto(over)

    @during(waiting).after(timedelta(milliseconds=20)).stay()
    def remind(self, ctx: Context) -> None:
        ctx.send(Release("b"))


async def test_timer_that_elapses_while_its_saga_is_worked_on_is_not_left_to_the_sweep(
    anyio_backend: str,
) -> None:
    bus = MemoryBus()
    sending, go_on = anyio.Event(), anyio.Event()

    @bus.subscribe(Release)
    async def slow(message: Release) -> None:
        sending.set()
        await go_on.wait()

    # The sweep is far away.
    async with Orchestrator(
        [Chatty], MemoryRepository(), bus=bus, poll_interval=timedelta(hours=1)
    ) as runner:
        async with anyio.create_task_group() as tasks:
            # On a slow machine it fires the first timer itself, and waits for the sending.
            tasks.start_soon(runner.handle, Opened("b"))
            await sending.wait()
            await anyio.sleep(0.2)  # the other timer elapses now
            go_on.set()
        with anyio.fail_after(5):
            while (found := await runner.find(Chatty, "b")) is None or not found.finished_at:
                await anyio.sleep(0.005)


async def test_timer_of_a_dead_process_is_picked_up_by_another(repository: SagaRepository) -> None:
    # Never entered: it has no background.
    dead = Orchestrator([Short], repository, lease_duration=QUICK)
    await dead.handle(Opened("b"))
    bus = MemoryBus()
    received: list[Release] = []
    bus.subscribe(Release, received.append)
    async with Orchestrator(
        [Short], repository, bus=bus, poll_interval=QUICK, lease_duration=QUICK, clock=None
    ) as runner:
        with anyio.fail_after(20):
            # The repository of this test has a clock that stands still; the sagas' does not.
            found = await until_over(runner)
        assert found.state == Short.over
    assert received == [Release("b")]


async def test_work_is_left_to_the_holder_of_a_lease(
    clock: ManualClock, anyio_backend: str
) -> None:
    repository = MemoryRepository(clock=clock)
    gate = Gate()
    first = Orchestrator([Short], repository, clock=clock, bus=RecordingBus(on_publish=gate.hold))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.handle, Opened("b"))
        await gate.begun.wait()
        now = clock.now()
        assert [found async for found in repository.due("Short", now, unclaimed=True)] == []
        assert [found async for found in repository.due("Short", now, unclaimed=False)] == ["b"]
        later = now + timedelta(seconds=10)
        assert [found async for found in repository.due("Short", later, unclaimed=True)] == ["b"]
        gate.go_on.set()


async def test_outage_is_logged_once_and_ends_without_a_restart(
    caplog: pytest.LogCaptureFixture, anyio_backend: str
) -> None:
    away = Away(ServerUnavailableError("away"))
    store = Interrupted(MemoryRepository(), due=away.fail)
    bus = MemoryBus()
    bus.subscribe(Release, lambda _: None)
    await Orchestrator([Short], store, lease_duration=QUICK).handle(Opened("b"))
    async with Orchestrator(
        [Short], store, bus=bus, poll_interval=timedelta(milliseconds=5), lease_duration=QUICK
    ) as runner:
        with anyio.fail_after(20):
            while away.asked < 4:
                await anyio.sleep(0.005)
            away.error = None
            await until_over(runner)
    lines = [record.message for record in caplog.records if record.name.startswith("sagaflow")]
    assert len([line for line in lines if "the store fails" in line]) == 1
    assert len([line for line in lines if "the store is back" in line]) == 1


async def test_refused_message_is_logged_once_until_it_is_accepted(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, anyio_backend: str
) -> None:
    caplog.set_level(logging.WARNING)
    bus = MemoryBus()
    async with Orchestrator(
        [Short], MemoryRepository(clock=clock), bus=bus, clock=clock, background=False
    ) as runner:
        for number in range(5):
            await runner.handle(Opened(str(number)))
        clock.advance(timedelta(minutes=1))
        await runner.run_due()
        assert caplog.text.count("did not accept Release") == 1
        bus.subscribe(Release, lambda _: None)
        clock.advance(timedelta(minutes=10))
        await runner.run_due()
        assert caplog.text.count("accepts Release again") == 1


async def test_refused_message_is_offered_again_with_growing_delays(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Counting(MemoryBus):
        offered = 0

        async def publish(self, message: object, /, **rest: object) -> None:
            self.offered += 1
            raise ConnectionError("down")

    bus = Counting()
    retry = RetryPolicy(initial_delay=timedelta(seconds=1), max_delay=timedelta(minutes=1))
    runner = Orchestrator([Short], repository, bus=bus, clock=clock, retry=retry, background=False)
    await runner.handle(Opened("b"))
    offered: list[int] = []
    for _ in range(40):
        clock.advance(timedelta(seconds=1))
        await runner.run_due()
        offered.append(bus.offered)
    assert 3 <= bus.offered < 25, offered
    found = await runner.find(Short, "b")
    assert found is not None and len(found.outbox) == 1


async def test_closing_waits_for_what_is_being_sent(anyio_backend: str) -> None:
    bus = MemoryBus()
    started, go_on = anyio.Event(), anyio.Event()
    received: list[str] = []

    @bus.subscribe(Release)
    async def slow(message: Release) -> None:
        started.set()
        await go_on.wait()
        received.append(message.key)

    repository = MemoryRepository()
    async with anyio.create_task_group() as tasks:
        async with Orchestrator([Short], repository, bus=bus, background=False) as runner:
            tasks.start_soon(runner.handle, Opened("b"))
            await started.wait()
            tasks.start_soon(_set_soon, go_on)
    assert received == ["b"]
    found = await repository.find(Short, "b")
    assert found is not None and found.outbox == ()


async def _set_soon(event: anyio.Event) -> None:
    await anyio.lowlevel.checkpoint()
    event.set()


async def test_closing_hands_back_what_it_cannot_finish_in_time(anyio_backend: str) -> None:
    bus = MemoryBus()
    started = anyio.Event()

    @bus.subscribe(Release)
    async def never(message: Release) -> None:
        started.set()
        await anyio.sleep_forever()

    repository = MemoryRepository()
    with anyio.fail_after(10):
        async with (
            anyio.create_task_group() as tasks,
            Orchestrator(
                [Short], repository, bus=bus, background=False, shutdown_timeout=QUICK
            ) as runner,
        ):
            tasks.start_soon(_ignoring_failure, runner)
            await started.wait()
    found = await repository.find(Short, "b")
    assert found is not None and len(found.outbox) == 1
    document = await repository.load_document("Short", "b", message_id=None)
    assert document is not None and "lease" not in document  # due at once for anyone


async def _ignoring_failure(runner: Orchestrator) -> None:
    await runner.handle(Opened("b"))


async def test_several_orchestrators_share_the_work_with_one_effect_each(
    repository: SagaRepository, anyio_backend: str
) -> None:
    left_by_the_dead = Orchestrator([Short], repository, lease_duration=QUICK)
    for number in range(12):
        await left_by_the_dead.handle(Opened(str(number)))
    bus = MemoryBus()
    received: list[str] = []

    @bus.subscribe(Release, envelope=True)
    async def note(envelope: object) -> None:
        received.append(str(envelope))

    with anyio.fail_after(60):
        async with (
            Orchestrator(
                [Short], repository, bus=bus, poll_interval=QUICK, lease_duration=QUICK
            ) as one,
            Orchestrator([Short], repository, bus=bus, poll_interval=QUICK, lease_duration=QUICK),
        ):
            for number in range(12):
                found = await until_over(one, str(number))
                versions = [entry.version for entry in found.history]
                assert versions == sorted(set(versions))
                assert [entry.event for entry in found.history].count("timeout") == 1
    assert len(received) >= 12


class Growing(Saga, correlate_by="key"):
    waiting = State()
    over = State(final=True)
    text: str = ""
    start = initially.on(Opened).goto(waiting)
    end = during(waiting).on(Paid).goto(over)

    @during(waiting).on(Noted).stay()
    def note(self, event: Noted, ctx: Context) -> None:
        self.text = "x" * int(event.text)
        for _ in range(int(event.text) // 1000):
            ctx.send(Release(event.key))


async def test_saga_that_would_be_too_large_is_refused_before_anything_is_sent(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(warn_bytes=3_000, max_bytes=6_000, max_outbox=2)
    bus = MemoryBus()
    received: list[Release] = []
    bus.subscribe(Release, received.append)
    runner = Orchestrator(
        [Growing], repository, bus=bus, clock=clock, limits=limits, background=False
    )
    await runner.handle(Opened("b"))
    with pytest.raises(LimitExceededError, match=r"outgoing messages; 2 are allowed"):
        await runner.handle(Noted("b", "9999"))
    assert received == []
    with pytest.raises(LimitExceededError, match=r"bytes; 6,000 are allowed"):
        await Orchestrator(
            [Growing], repository, bus=bus, clock=clock, limits=Limits(max_bytes=6_000)
        ).handle(Noted("b", "9999"))
    assert received == []
    outcome = await runner.handle(Noted("b", "2500"))
    assert outcome.kind is OutcomeKind.STAYED
    assert len(received) == 2
    assert "Growing 'b' has" in caplog.text and "6000 are allowed" in caplog.text
    found = await runner.find(Growing, "b")
    assert found is not None and len(found.saga.text) == 2500


async def test_event_from_the_bus_that_would_make_a_saga_too_large_is_not_lost(
    clock: ManualClock, anyio_backend: str
) -> None:
    bus = MemoryBus()
    async with Orchestrator(
        [Growing],
        MemoryRepository(clock=clock),
        bus=bus,
        clock=clock,
        limits=Limits(max_bytes=6_000),
        background=False,
    ) as runner:
        await runner.handle(Opened("b"))
        with pytest.raises(LimitExceededError):
            await bus.publish(Noted("b", "9999"))
