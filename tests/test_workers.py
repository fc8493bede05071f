"""The background by itself: whom it works for, and what becomes of failures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import define, field, frozen

from sagaflow import (
    MemoryRepository,
    MessageId,
    NewerSchemaError,
    RepositoryError,
    Saga,
    SagaId,
    SagaRepository,
    ServerUnavailableError,
    State,
    initially,
)
from sagaflow._codec.documents import encode_record
from sagaflow._codec.elements import Document
from sagaflow._model.ids import saga_key
from sagaflow._model.record import Lease, SagaRecord, Timer, TimerKind, evolve
from sagaflow._runtime.background import Background
from sagaflow._runtime.left_alone import LeftAlone
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.store import Store
from sagaflow._runtime.sweep import Sweep
from sagaflow._runtime.wakes import Wakes
from sagaflow._runtime.workers import Workers
from sagaflow.testing import ManualClock
from tests.conftest import RUNTIMES
from tests.contract.records import record as plain_record
from tests.processes import process_at
from tests.semantics.support import Interrupted, Passing
from tests.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SWEEPS = timedelta(milliseconds=1)
TICK = timedelta(milliseconds=20)


@frozen
class Started:
    """Starts the saga."""


class Job(Saga):
    over = State(final=True)
    start = initially.on(Started).goto(over)


class Other(Saga, name="Another"):
    over = State(final=True)
    start = initially.on(Started).goto(over)


SAGAS = (Job, Other)


def record(correlation_id: SagaId, wake: datetime | None, lease: Lease | None = None) -> SagaRecord:
    return plain_record(correlation_id, state="over", data={}, wake=wake, lease=lease)


@define
class World:
    """A background with its surroundings; `work` is what its workers do for a saga."""

    repository: SagaRepository = field(factory=MemoryRepository)
    clock: ManualClock = field(factory=lambda: ManualClock(NOW))
    poll_interval: timedelta = timedelta(hours=1)
    concurrency: int = 5
    most_left_alone: int = 10
    worked: list[SagaId] = field(factory=list[SagaId])
    arrived: anyio.Event = field(factory=anyio.Event)
    work: Callable[[SagaId], Awaitable[None]] | None = None

    def background(self) -> Background:
        process = process_at(self.clock, lease=MINUTE)
        store = Store(process=process, repository=self.repository)
        left_alone = LeftAlone(self.most_left_alone)
        outages = Outages(clock=self.clock, left_alone=left_alone)
        workers = Workers(outages=outages, resume=self._resume, concurrency=self.concurrency)
        sweep = Sweep(
            process=process,
            store=store,
            outages=outages,
            sagas=SAGAS,
            workers=workers,
            poll_interval=self.poll_interval,
        )
        return Background(
            process=process,
            store=store,
            outages=outages,
            sagas=SAGAS,
            workers=workers,
            sweep=sweep,
        )

    async def _resume(self, saga_type: type[Saga], correlation_id: SagaId) -> None:
        self.worked.append(correlation_id)
        if self.work is not None:
            await self.work(correlation_id)
        self.arrived.set()

    async def store(self, *records: SagaRecord) -> None:
        for stored in records:
            await self.repository.insert_document("Job", encode_record(stored))

    async def until(self, number: int) -> None:
        """Return when so many pieces of work were begun; the time limit of the test bounds it."""
        while len(self.worked) < number:
            self.arrived = anyio.Event()
            with anyio.move_on_after(0.01):
                await self.arrived.wait()


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def running(background: Background) -> AsyncGenerator[None]:
    """Run a background, and end it with all that its workers have begun."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(background.run, tasks)
        yield
        tasks.cancel_scope.cancel()


# What this process has stored


async def test_work_that_falls_due_while_its_saga_is_sent_for_is_not_left_to_the_lease(
    world: World,
) -> None:
    """The lease is of this process: nobody else would do it, and the next renewal may be far."""
    background = world.background()
    timer = Timer(id="t", name="t", due=NOW + TICK, kind=TimerKind.DEFAULT, causation_id="m")
    lease = Lease(owner="this process", until=NOW + MINUTE)
    armed = evolve(record("a", NOW, lease), timers=(timer,))
    background.note(Job, armed)
    world.clock.advance(TICK)
    background.note(Job, armed)  # one of its messages has left, and more are being sent
    world.clock.advance(MINUTE / 2)
    with anyio.fail_after(10):
        async with running(background):
            await world.until(1)
    assert world.worked == ["a"]


async def test_saga_is_worked_on_when_it_wakes_and_once(world: World) -> None:
    background = world.background()
    background.note(Job, record("a", NOW + TICK))
    background.note(Job, record("b", NOW + 2 * TICK))
    async with running(background):
        await anyio.wait_all_tasks_blocked()
        assert world.worked == []
        world.clock.advance(TICK)
        await world.until(1)
        assert world.worked == ["a"]
        world.clock.advance(TICK)
        await world.until(2)
        await anyio.wait_all_tasks_blocked()
    assert world.worked == ["a", "b"]


async def test_what_only_waits_for_others_to_send_is_not_looked_at_again(world: World) -> None:
    """A process without a bus has nothing to do for it, however often it looks."""
    background = world.background()
    background.process.sends = False
    background.note(Job, record("a", NOW))
    world.clock.advance(MINUTE)
    background.note(Job, record("b", NOW + 2 * MINUTE))
    world.clock.advance(MINUTE)
    async with running(background):
        await world.until(1)
        await anyio.wait_all_tasks_blocked()
    assert world.worked == ["b"]


async def test_earlier_wake_is_not_slept_through(world: World) -> None:
    background = world.background()
    async with running(background):
        background.note(Job, record("late", NOW + 9 * MINUTE))
        await anyio.wait_all_tasks_blocked()
        background.note(Job, record("soon", NOW + TICK))
        world.clock.advance(TICK)
        with anyio.fail_after(3):  # the longest sleep is 5 seconds
            await world.until(1)
    assert world.worked == ["soon"]


@pytest.mark.parametrize("wake", [None, NOW + 2 * MINUTE, NOW + timedelta(days=30)])
async def test_later_write_of_a_saga_replaces_its_wake(world: World, wake: datetime | None) -> None:
    background = world.background()
    background.note(Job, record("a", NOW + MINUTE))
    background.note(Job, record("a", wake))
    background.note(Job, record("b", NOW + MINUTE))
    world.clock.advance(MINUTE)
    async with running(background):
        await world.until(1)
        await anyio.wait_all_tasks_blocked()
    assert world.worked == ["b"]


def test_number_of_wakes_that_are_remembered_is_bounded_by_that_of_the_sagas() -> None:
    wakes = Wakes()
    wakes.set(saga_key("Job", "first"), NOW + MINUTE)  # what is to come later is behind it
    for number in range(5_000):
        for name in ("a", "b", "c"):
            wakes.set(saga_key("Job", name), NOW + 2 * MINUTE + number * TICK / 1_000)
    assert len(wakes._heap) < 100  # pyright: ignore[reportPrivateUsage]
    found: list[SagaId] = []
    while (earliest := wakes.earliest()) is not None:
        found.append(earliest[1][-1])
        wakes.forget(earliest[1])
    assert found == ["first", "a", "b", "c"]


async def test_ids_of_two_types_are_two_sagas(world: World) -> None:
    background = world.background()
    background.note(Job, record(7, NOW + MINUTE))
    background.note(Job, record("7", NOW + MINUTE))
    background.note(Other, record("7", NOW + MINUTE))
    world.clock.advance(MINUTE)
    async with running(background):
        await world.until(3)
    assert sorted(world.worked, key=repr) == ["7", "7", 7]


async def test_saga_that_others_work_on_is_looked_at_again_soon(world: World) -> None:
    background = world.background()
    others = Lease(owner="another process", until=NOW + MINUTE)
    background.note(Job, record("a", NOW, others))
    async with running(background):
        for _ in range(5):
            await checkpoint()
        assert world.worked == []
        world.clock.advance(timedelta(milliseconds=100))
        await world.until(1)


async def test_who_stores_what_is_due_does_it_without_being_woken(world: World) -> None:
    background = world.background()
    background.note(Job, record("a", NOW, Lease(owner="this process", until=NOW + MINUTE)))
    world.clock.advance(MINUTE)
    async with running(background):
        await anyio.wait_all_tasks_blocked()
    assert world.worked == []


async def test_wake_of_a_saga_that_is_being_worked_on_comes_after_that(world: World) -> None:
    """Who is busy with it may have read it before the wake was stored."""
    go_on = anyio.Event()

    async def wait(_: SagaId) -> None:
        await go_on.wait()

    world.work = wait
    background = world.background()
    background.note(Job, record("a", NOW + TICK))
    world.clock.advance(TICK)
    async with running(background):
        await world.until(1)
        background.note(Job, record("a", NOW + 2 * TICK))
        world.clock.advance(TICK)
        await anyio.sleep(3 * TICK.total_seconds())  # the wake passes meanwhile
        world.clock.advance(MINUTE)
        go_on.set()
        await world.until(2)
    assert world.worked == ["a", "a"]


# What others have left


async def test_sweep_claims_what_is_due_and_no_one_holds(world: World) -> None:
    ended = Lease(owner="dead", until=NOW)
    held = Lease(owner="another process", until=NOW + MINUTE)
    await world.store(
        record("free", NOW),
        record("held", NOW, held),
        record("ended", NOW, ended),
        record("later", NOW + MINUTE),
        record("idle", None),
    )
    world.poll_interval = SWEEPS
    async with running(world.background()):
        await world.until(2)
    assert sorted(map(str, world.worked)) == ["ended", "free"]
    document = await world.repository.load_document("Job", "free", message_id=None)
    assert document is not None
    assert document["lease"] == {"owner": "this process", "until": NOW + MINUTE}


async def test_saga_that_is_being_worked_on_is_not_begun_again(world: World) -> None:
    class Counting(MemoryRepository):
        asked = 0

        def due(
            self,
            saga: str,
            now: datetime,
            *,
            unclaimed: bool,
            schema: int | None = None,
            limit: int | None = None,
        ) -> AsyncIterator[SagaId]:
            self.asked += 1
            if self.asked == 9:
                swept.set()
            return super().due(saga, now, unclaimed=unclaimed, schema=schema, limit=limit)

    async def hang(_: SagaId) -> None:
        await anyio.sleep_forever()

    swept = anyio.Event()
    world.repository, world.work, world.poll_interval = Counting(), hang, SWEEPS
    await world.store(record("a", NOW))
    async with running(world.background()):
        await world.until(1)
        world.clock.advance(2 * MINUTE)  # its lease has ended
        await swept.wait()
    assert world.worked == ["a"]


async def test_more_than_one_batch_is_worked_on(world: World) -> None:
    await world.store(*(record(number, NOW) for number in range(250)))
    world.poll_interval = SWEEPS
    async with running(world.background()):
        await world.until(250)
    assert sorted(map(int, map(str, world.worked))) == list(range(250))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_sweep_looks_less_often_once_it_has_found_nothing_for_a_minute(runtime: str) -> None:
    """So that work which others leave to it is begun soon, and a night costs little."""
    asked = 0

    async def count(saga: object) -> None:
        nonlocal asked
        asked += saga == "Job"

    async def asked_within(span: timedelta) -> int:
        before = asked
        await anyio.sleep(span.total_seconds())
        return asked - before

    async def program() -> tuple[int, int, int, int]:
        inner = MemoryRepository()
        world = World(
            repository=Interrupted(inner, due=count), poll_interval=timedelta(milliseconds=100)
        )
        async with running(world.background()):
            at_first = await asked_within(MINUTE)
            await asked_within(MINUTE / 12)
            at_night = await asked_within(MINUTE)
            await inner.insert_document("Job", encode_record(record("a", NOW)))
            await world.until(1)
            again = await asked_within(MINUTE / 2)
            return at_first, at_night, again, len(world.worked)

    at_first, at_night, again, worked = run_in_virtual_time(runtime, program)
    assert at_first == pytest.approx(600, rel=0.1)
    assert at_night == pytest.approx(120, rel=0.2)
    assert again == pytest.approx(300, rel=0.1)
    assert worked == 1


@pytest.mark.parametrize(
    ("takes", "looks"),
    [(timedelta(milliseconds=25), 60 / 0.5), (timedelta(seconds=10), 3)],
)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_store_that_is_slow_to_say_what_is_due_is_asked_less_often(
    runtime: str, takes: timedelta, looks: float
) -> None:
    """It has a tenth of the time to spare for that, and need not be waited for longer than 5 s."""
    asked = 0

    async def look(saga: object) -> None:
        nonlocal asked
        asked += saga == "Job"
        await anyio.sleep(takes.total_seconds())

    async def program() -> None:
        world = World(
            repository=Interrupted(MemoryRepository(), due=look),
            poll_interval=timedelta(milliseconds=100),
        )
        async with running(world.background()):
            await anyio.sleep(60)

    run_in_virtual_time(runtime, program)
    assert asked == pytest.approx(looks, rel=0.2)  # there are two classes, which take as long each


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_left_by_a_full_batch_is_claimed_without_a_rest(runtime: str) -> None:
    """A dead process may leave more than a batch for each rest could ever work off."""
    world = World(poll_interval=timedelta(seconds=1))

    async def program() -> float:
        await world.store(*(record(number, NOW) for number in range(650)))
        began = anyio.current_time()
        async with running(world.background()):
            await world.until(650)
        return anyio.current_time() - began

    assert run_in_virtual_time(runtime, program) < 2  # the rest before its first look
    assert sorted(map(int, map(str, world.worked))) == list(range(650))


async def test_sweep_goes_on_though_a_whole_batch_hangs(world: World) -> None:
    async def hang(correlation_id: SagaId) -> None:
        if isinstance(correlation_id, int):
            await anyio.sleep_forever()

    world.work, world.poll_interval, world.concurrency = hang, SWEEPS, 500
    await world.store(*(record(number, NOW) for number in range(200)))
    async with running(world.background()):
        await world.until(200)
        await world.store(record("late", NOW))
        await world.until(201)
    assert world.worked[-1] == "late"


async def test_store_that_fails_while_several_are_claimed_is_one_outage(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[SagaId] = []

    async def fail_at_first(correlation_id: SagaId) -> None:
        asked.append(correlation_id)
        number = len(asked)
        await checkpoint()
        if number <= 20:
            raise RepositoryError("away")

    await world.store(*(record(number, NOW) for number in range(30)))
    world.repository, world.poll_interval = (
        Interrupted(world.repository, claim=fail_at_first),
        SWEEPS,
    )
    async with running(world.background()):
        await world.until(30)
    assert caplog.text.count("the store fails") == 1
    assert caplog.text.count("the store is back") == 1


async def test_no_more_sagas_are_worked_on_at_once_than_allowed(world: World) -> None:
    at_once: list[int] = []
    active = 0

    async def count(_: SagaId) -> None:
        nonlocal active
        active += 1
        at_once.append(active)
        await anyio.wait_all_tasks_blocked()
        active -= 1

    world.work, world.poll_interval, world.concurrency = count, SWEEPS, 2
    await world.store(*(record(number, NOW) for number in range(6)))
    async with running(world.background()):
        await world.until(6)
    assert max(at_once) == 2


async def test_claim_that_another_process_wins_is_no_work(world: World) -> None:
    inner = world.repository

    async def claim_before(correlation_id: SagaId) -> None:
        if correlation_id == "a":
            others = Lease(owner="another process", until=NOW + MINUTE)
            assert await inner.claim("Job", correlation_id, others, NOW)

    await world.store(record("a", NOW), record("b", NOW))
    world.repository, world.poll_interval = Interrupted(inner, claim=claim_before), SWEEPS
    async with running(world.background()):
        await world.until(1)
    assert world.worked == ["b"]


async def test_sweep_that_meets_newer_sagas_says_so_once_and_asks_for_no_more_of_them(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Asked(Passing):
        def due(
            self,
            saga: str,
            now: datetime,
            *,
            unclaimed: bool,
            schema: int | None = None,
            limit: int | None = None,
        ) -> AsyncIterator[SagaId]:
            if saga == "Job":
                schemas.append(schema)
                if len(schemas) == 4:
                    swept.set()
            return super().due(saga, now, unclaimed=unclaimed, schema=schema, limit=limit)

    schemas, swept = list[int | None](), anyio.Event()
    newer = (evolve(record(name, NOW - MINUTE), schema=2) for name in ("a", "b"))
    await world.store(*newer, record("c", NOW))
    world.repository, world.poll_interval = Asked(world.repository), SWEEPS
    async with running(world.background()):
        await swept.wait()
    assert world.worked == ["c"]
    assert schemas[:4] == [None, 1, 1, 1]
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    assert "Job 'a' is stored with schema 2" in caplog.text


# Failures and the end


async def test_saga_that_cannot_be_worked_on_keeps_no_other_from_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(correlation_id: SagaId) -> None:
        if correlation_id == "bad":
            raise LookupError("a bug")

    world.work, world.concurrency = fail, 1
    background = world.background()
    for name in ("good", "bad", "better"):
        background.note(Job, record(name, NOW + MINUTE))
    world.clock.advance(MINUTE)
    async with running(background):
        await world.until(3)
        await background.wait_until_idle()
    assert sorted(map(str, world.worked)) == ["bad", "better", "good"]
    assert "Job 'bad': its work failed" in caplog.text


async def test_saga_that_newer_code_has_stored_is_passed_over_and_said_so_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(correlation_id: SagaId) -> None:
        raise NewerSchemaError("Job", correlation_id, 2, 1)

    world.work = fail
    background = world.background()
    for name in ("a", "b"):
        background.note(Job, record(name, NOW + MINUTE))
    world.clock.advance(MINUTE)
    async with running(background):
        await world.until(2)
        await background.wait_until_idle()
    assert caplog.text.count("is left to processes that run the newer code") == 1
    assert "the store fails" not in caplog.text
    assert len(caplog.records) == 1


async def test_store_that_fails_during_work_is_an_outage_until_a_sweep_succeeds(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_: SagaId) -> None:
        raise RepositoryError("away")

    class Hidden(MemoryRepository):
        def due(
            self,
            saga: str,
            now: datetime,
            *,
            unclaimed: bool,
            schema: int | None = None,
            limit: int | None = None,
        ) -> AsyncIterator[SagaId]:
            swept.set()
            return super().due(saga, now, unclaimed=unclaimed, schema=schema, limit=limit)

    swept = anyio.Event()
    world.repository, world.work = Hidden(), fail
    background = world.background()
    for name in ("a", "b"):
        background.note(Job, record(name, NOW + MINUTE))
    world.clock.advance(MINUTE)
    async with running(background):
        await world.until(2)
        await background.wait_until_idle()
    assert [line.message for line in caplog.records] == [
        "the store fails; work is tried again until it is back: away"
    ]
    world.poll_interval = SWEEPS
    fresh = world.background()
    fresh.sweep.outages = background.outages
    async with running(fresh):
        await swept.wait()
        await anyio.wait_all_tasks_blocked()
    assert caplog.records[-1].message == "the store is back: work goes on"


async def test_idle_means_that_all_begun_work_is_done(world: World) -> None:
    go_on, done = anyio.Event(), list[SagaId]()

    async def wait(correlation_id: SagaId) -> None:
        await go_on.wait()
        done.append(correlation_id)

    world.work = wait
    background = world.background()
    await background.wait_until_idle()
    for name in ("a", "b"):
        background.note(Job, record(name, NOW + MINUTE))
    world.clock.advance(MINUTE)
    async with running(background):
        await world.until(2)
        with anyio.move_on_after(0) as scope:
            await background.wait_until_idle()
        assert scope.cancelled_caught
        go_on.set()
        await background.wait_until_idle()
        assert sorted(map(str, done)) == ["a", "b"]


async def test_work_goes_on_when_the_workers_are_stopped(world: World) -> None:
    """It is in the task group of the orchestrator, which waits for it a while."""
    begun, go_on, done = anyio.Event(), anyio.Event(), list[SagaId]()

    async def wait(correlation_id: SagaId) -> None:
        begun.set()
        await go_on.wait()
        done.append(correlation_id)

    world.work = wait
    background = world.background()
    background.note(Job, record("a", NOW + MINUTE))
    world.clock.advance(MINUTE)
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as loops:
            loops.start_soon(background.run, tasks)
            await begun.wait()
            loops.cancel_scope.cancel()
        go_on.set()
    assert done == ["a"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_background_is_alive_while_its_sweep_goes_round(runtime: str) -> None:
    """A sweep that hangs is taken for stuck after ten pauses and a minute and a half."""

    class Hangs(MemoryRepository):
        hangs = False

        async def due(self, *asked: Any, **options: Any) -> AsyncIterator[SagaId]:
            if self.hangs:
                begun.append(anyio.current_time())
                await anyio.sleep_forever()
            async for found in super().due(*asked, **options):
                yield found

    begun = list[float]()
    repository = Hangs()
    world = World(repository=repository, poll_interval=timedelta(seconds=1))

    async def program() -> None:
        background = world.background()
        assert not background.is_alive()
        async with running(background):
            await anyio.sleep(1_000)
            assert background.is_alive()
            repository.hangs = True
            while not begun:
                await anyio.sleep(1)
            await anyio.sleep(begun[0] + 99 - anyio.current_time())
            assert background.is_alive()
            await anyio.sleep(2)
            assert not background.is_alive()
        assert not background.is_alive()

    run_in_virtual_time(runtime, program)


# What it passes


@pytest.mark.parametrize("most", [0, 3, 10_000])
@pytest.mark.parametrize("left_alone", [150, 450])
async def test_no_number_of_damaged_documents_keeps_those_behind_them_from_their_turn(
    most: int, left_alone: int
) -> None:
    """Also if they are more than are remembered and a sweep takes."""
    world = World(most_left_alone=most, poll_interval=SWEEPS)
    for number in range(left_alone):
        document = {"_id": number, "state": "over", "status": "active", "wake": NOW - MINUTE}
        await world.repository.insert_document("Job", document)
    await world.store(record("good", NOW))
    async with running(world.background()):
        with anyio.fail_after(10):
            await world.until(1)
    assert world.worked == ["good"]


async def test_swept_saga_is_looked_at_once_before_it_is_claimed() -> None:
    """That is what it costs to leave what other code has stored to that code, from the first on."""

    class Watched(Passing):
        async def load_document(
            self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
        ) -> Document | None:
            asked.append(("look", correlation_id))
            return await super().load_document(saga, correlation_id, message_id=message_id)

        async def claim(
            self,
            saga: str,
            correlation_id: SagaId,
            lease: Lease,
            now: datetime,
            *,
            schema: int | None = None,
        ) -> bool:
            asked.append(("claim", correlation_id))
            return await super().claim(saga, correlation_id, lease, now, schema=schema)

    asked = list[tuple[str, SagaId]]()
    world = World(repository=Watched(MemoryRepository()), poll_interval=SWEEPS)
    await world.store(record("a", NOW), record("b", NOW))
    async with running(world.background()):
        await world.until(2)
    assert sorted(asked) == [(what, one) for what in ("claim", "look") for one in ("a", "b")]
    for one in ("a", "b"):
        assert asked.index(("look", one)) < asked.index(("claim", one))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ServerUnavailableError("away"), "the store fails"),
        (LookupError("a bug"), "looking for its due work failed"),
    ],
)
async def test_what_cannot_be_taken_back_is_left_to_the_sweep(
    world: World, caplog: pytest.LogCaptureFixture, error: Exception, told: str
) -> None:
    class Failing(MemoryRepository):
        def due(self, *_: Any, **__: Any) -> AsyncIterator[SagaId]:
            raise error

    world.repository, world.poll_interval = Failing(), timedelta(hours=1)
    background = world.background()
    background.takes_back = True
    async with running(background):
        await anyio.wait_all_tasks_blocked()
    assert told in caplog.text


async def test_saga_that_cannot_be_read_is_not_taken_back(world: World) -> None:
    await world.store(record("a", NOW))

    class Failing(MemoryRepository):
        async def load_document(self, *_: Any, **__: Any) -> Any:
            raise ServerUnavailableError("away")

    failing = Failing()
    await failing.insert_document("Job", encode_record(record("a", NOW)))
    world.repository = failing
    background = world.background()
    background.takes_back = True
    async with running(background):
        await anyio.wait_all_tasks_blocked()
    assert world.worked == []
