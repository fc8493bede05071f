"""What a saga sends holds up neither its own timers nor anything else, and is bounded in time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import count

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import field, frozen

from sagaflow import (
    BusError,
    Context,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    RetryPolicy,
    Saga,
    SagaRepository,
    State,
    Status,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow._codec.elements import Document
from sagaflow._model.record import Lease
from sagaflow._runtime.process import Process
from sagaflow.testing import ManualClock
from tests.semantics.support import Gate, Published, RecordingBus, lingering, stored

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@frozen
class Ordered:
    trip: str


@frozen
class Noted:
    trip: str
    number: int


@frozen
class Book:
    trip: str
    number: int = 0


@frozen
class Booked:
    trip: str
    number: int = 0


class Trip(Saga, correlate_by="trip"):
    booking = State()
    gave_up = State(final=True)

    @initially.on(Ordered).goto(booking)
    def order(self, event: Ordered, ctx: Context) -> None:
        ctx.send(Book(event.trip))

    late = during(booking).after(timedelta(milliseconds=50)).goto(gave_up)


class Dialogue(Saga, correlate_by="trip"):
    """Asks again as soon as it is answered."""

    asking = State()
    over = State(final=True)

    rounds: int = 0

    @initially.on(Ordered).goto(asking)
    def begin(self, event: Ordered, ctx: Context) -> None:
        ctx.send(Book(event.trip))

    @during(asking).on(Booked).branch(asking, over)
    def go_on(self, event: Booked, ctx: Context) -> State:
        self.rounds += 1
        if self.rounds == ROUNDS:
            return Dialogue.over
        ctx.send(Book(event.trip, self.rounds))
        return Dialogue.asking


ROUNDS = 300


class Diary(Saga, correlate_by="trip"):
    writing = State()
    over = State(final=True)

    @initially.on(Ordered).goto(writing)
    def begin(self, event: Ordered, ctx: Context) -> None:
        ctx.send(Book(event.trip))

    @during(writing).on(Noted).stay()
    def note(self, event: Noted, ctx: Context) -> None:
        ctx.send(Book(event.trip, event.number))

    end = during(writing).on(Booked).goto(over)


async def until_state(repository: SagaRepository, saga: type[Saga], key: str, state: State) -> None:
    """Look until a saga has that state; the time limit of the test bounds it."""
    while True:
        document = await repository.load_document(saga.table.saga, key, message_id=None)
        if document is not None and document["state"] == state.name:
            return
        await anyio.sleep(0.002)


# A time limit


async def test_timeout_fires_while_a_participant_works_on_the_command(anyio_backend: str) -> None:
    del anyio_backend
    bus, repository = MemoryBus(), MemoryRepository()

    @bus.subscribe(Book)
    async def book(_: Book) -> None:
        await anyio.sleep_forever()

    async with (
        Orchestrator(
            [Trip],
            repository,
            bus=bus,
            poll_interval=timedelta(hours=1),
            shutdown_timeout=timedelta(0),
        ) as orchestrator,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(orchestrator.handle, Ordered("t"))
        with anyio.fail_after(5):
            await until_state(repository, Trip, "t", Trip.gave_up)
        tasks.cancel_scope.cancel()


async def test_sagas_whose_messages_hang_keep_no_other_from_its_turn(anyio_backend: str) -> None:
    """More of them than the background works on at a time, left by a process that has died."""
    del anyio_backend
    repository, sent = MemoryRepository(), list[str]()
    dead = Orchestrator([Trip], repository, lease_duration=timedelta(milliseconds=1))
    hanging = [f"hangs {number}" for number in range(25)]
    for trip in hanging:
        await dead.handle(Ordered(trip))
    both = anyio.Event()

    async def publish(message: Published) -> None:
        trip = str(message.correlation_id)
        if trip in hanging:
            await anyio.sleep_forever()
        sent.append(trip)
        both.set()

    async with Orchestrator(
        [Trip],
        repository,
        bus=RecordingBus(on_publish=publish),
        poll_interval=timedelta(milliseconds=5),
        shutdown_timeout=timedelta(0),
    ):
        with anyio.fail_after(20):
            for trip in hanging:
                await until_state(repository, Trip, trip, Trip.gave_up)
            await dead.handle(Ordered("late"))
            await both.wait()
    assert sent == ["late"]


async def test_due_sagas_whose_messages_hang_do_so_at_the_same_time(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Otherwise each would keep `run_due` for as long as one message may take."""
    left = Orchestrator([Trip], repository, clock=clock)
    trips = [f"t{number}" for number in range(5)]
    for trip in trips:
        await left.handle(Ordered(trip))
    offered, all_of_them = set[object](), anyio.Event()

    async def hang(message: Published) -> None:
        offered.add(message.correlation_id)
        if len(offered) == len(trips):
            all_of_them.set()
        await all_of_them.wait()

    bus = RecordingBus(on_publish=hang)
    async with Orchestrator(
        [Trip], repository, clock=clock, bus=bus, background=False
    ) as orchestrator:
        with anyio.fail_after(10):
            assert await orchestrator.run_due() == len(trips)
        assert sorted(str(message.correlation_id) for message in bus.published) == trips


async def test_message_that_takes_too_long_is_refused(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    begun = list[int]()

    async def hang(_: Published) -> None:
        begun.append(1)
        await anyio.sleep_forever()

    bus = RecordingBus(on_publish=hang)
    async with Orchestrator(
        [Trip],
        repository,
        clock=clock,
        bus=bus,
        background=False,
        send_timeout=timedelta(milliseconds=10),
    ) as orchestrator:
        await orchestrator.handle(Ordered("t"))  # not held up for longer than that
        document = await stored(repository, Trip, "t")
        assert document is not None
        assert document["sending"]["attempts"] == len(begun) == 1
        assert "lease" not in document
        error = "BusError: the bus has neither accepted nor refused it within 0:00:00.010000"
        assert document["sending"]["error"].startswith(error)
        assert "(Orchestrator(send_timeout=...))" in document["sending"]["error"]
        bus.on_publish = None
        clock.advance(MINUTE)
        await orchestrator.run_due()
        assert bus.bodies == [Book("t")]
    assert [line.levelname for line in caplog.records] == ["ERROR", "WARNING"]
    assert caplog.records[0].exc_info is None


async def test_participant_of_a_memory_bus_is_cancelled_after_that_time(clock: ManualClock) -> None:
    bus, cancelled = MemoryBus(), list[str]()

    @bus.subscribe(Book)
    async def book(command: Book) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:
            cancelled.append(command.trip)
            raise

    repository = MemoryRepository(clock=clock)
    orchestrator = Orchestrator(
        [Trip], repository, clock=clock, bus=bus, send_timeout=timedelta(milliseconds=5)
    )
    await orchestrator.handle(Ordered("t"))
    assert cancelled == ["t"]
    found = await orchestrator.find(Trip, "t")
    assert found is not None
    assert len(found.outbox) == 1


@pytest.mark.parametrize("seconds", [0, -1])
def test_time_limit_is_positive(seconds: int) -> None:
    with pytest.raises(ValueError, match="send_timeout must be more than nothing"):
        Orchestrator([Trip], MemoryRepository(), send_timeout=timedelta(seconds=seconds))


async def test_health_tells_of_a_bus_that_says_nothing(clock: ManualClock) -> None:
    offered, go_on = anyio.Event(), anyio.Event()

    async def hang(_: Published) -> None:
        offered.set()
        await go_on.wait()

    bus = RecordingBus(on_publish=hang)
    since = clock.now()
    async with (
        Orchestrator(
            [Trip], MemoryRepository(clock=clock), clock=clock, bus=bus, background=False
        ) as orchestrator,
        anyio.create_task_group() as tasks,
    ):
        assert (await orchestrator.health()).ok
        tasks.start_soon(orchestrator.handle, Ordered("t"))
        await offered.wait()
        clock.advance(14 * SECOND)
        assert (await orchestrator.health()).ok
        clock.advance(SECOND)
        health = await orchestrator.health()
        assert (health.ok, health.bus_silent_since) == (False, since)
        # Another one of the kind that is answered, refused even, says that it is alive.
        bus.on_publish, bus.refusal = None, BusError("full")
        await orchestrator.handle(Ordered("u"))
        assert (await orchestrator.health()).ok
        clock.advance(15 * SECOND)
        assert not (await orchestrator.health()).ok
        bus.refusal = None
        go_on.set()
    assert (await orchestrator.health()).bus_silent_since is None


async def test_health_remembers_that_a_message_was_given_up(clock: ManualClock) -> None:
    async def hang(_: Published) -> None:
        await anyio.sleep_forever()

    bus = RecordingBus(on_publish=hang)
    retry = RetryPolicy(initial_delay=SECOND, max_delay=MINUTE)
    orchestrator = Orchestrator(
        [Trip],
        MemoryRepository(clock=clock),
        clock=clock,
        bus=bus,
        retry=retry,
        send_timeout=timedelta(milliseconds=5),
    )
    await orchestrator.handle(Ordered("t"))
    assert not (await orchestrator.health()).ok
    clock.advance(MINUTE)
    assert not (await orchestrator.health()).ok
    clock.advance(2 * MINUTE)  # it would have been offered again: nobody wants to send it any more
    assert (await orchestrator.health()).ok
    await orchestrator.run_due()
    assert not (await orchestrator.health()).ok
    bus.on_publish = None
    clock.advance(MINUTE)
    await orchestrator.run_due()
    assert (await orchestrator.health()).ok


# Back-off


@pytest.mark.parametrize("fresh", [False, True])
async def test_events_do_not_have_a_refused_message_offered_before_its_time(
    repository: SagaRepository, clock: ManualClock, fresh: bool
) -> None:
    bus = RecordingBus(refusal=BusError("full"))

    def made() -> Orchestrator:
        return Orchestrator([Diary], repository, clock=clock, bus=bus, background=False)

    async with made() as first:
        await first.handle(Ordered("t"))
        for number in range(10):
            if fresh:
                await made().handle(Noted("t", number))
            else:
                await first.handle(Noted("t", number))
        assert len(bus.attempts) == 1
        async with anyio.create_task_group() as tasks:
            for number in range(10, 50):
                tasks.start_soon(first.handle, Noted("t", number))
        assert len(bus.attempts) == 1
        clock.advance(SECOND)  # the first delay is no longer than that
        await first.run_due()
        await first.handle(Noted("t", 50))
        assert len(bus.attempts) == 2
        document = await stored(repository, Diary, "t")
        assert document is not None
        assert document["sending"]["attempts"] == 2
        bus.refusal = None
        clock.advance(MINUTE)
        await first.run_due()
    ids = [str(message.message_id).rpartition("-")[2] for message in bus.published]
    assert ids == [str(number) for number in range(1, 53)]


async def test_refusal_that_a_write_has_overwritten_is_remembered(
    clock: ManualClock, anyio_backend: str
) -> None:
    """The handler of an event has read the saga before its message was refused."""
    del anyio_backend
    bus, repository = RecordingBus(refusal=BusError("full")), MemoryRepository(clock=clock)
    running, go_on, offered = anyio.Event(), anyio.Event(), anyio.Event()

    class Slow(Saga, name="Slow", correlate_by="trip"):
        booking = State()
        over = State(final=True)

        @initially.on(Ordered).goto(booking)
        def order(self, event: Ordered, ctx: Context) -> None:
            ctx.send(Book(event.trip))

        @during(booking).on(Noted).stay()
        async def note(self, event: Noted, ctx: Context) -> None:
            running.set()
            await go_on.wait()

        end = during(booking).on(Booked).goto(over)

    async def wait(_: Published) -> None:
        offered.set()
        await running.wait()

    bus.on_publish = wait
    async with Orchestrator(
        [Slow], repository, clock=clock, bus=bus, background=False
    ) as orchestrator:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orchestrator.handle, Ordered("t"))
            await offered.wait()
            tasks.start_soon(orchestrator.handle, Noted("t", 1))
            await running.wait()
            while (document := await stored(repository, Slow, "t")) is None or (
                "sending" not in document
            ):
                await checkpoint()
            go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert len(bus.attempts) == 1
        document = await stored(repository, Slow, "t")
        assert document is not None
        assert document["version"] == 2
        assert document["sending"]["attempts"] == 1
        assert document["wake"] == document["sending"]["due"]


class Fragile(Saga, correlate_by="trip"):
    """Fails in each way that is tried again later."""

    waiting = State()
    over = State(final=True)

    log: list[str] = field(factory=list[str])

    @initially.on(Ordered).goto(waiting)
    def order(self, event: Ordered, ctx: Context) -> None:
        self.log.append("ordered")

    @compensates(order)
    def undo(self, event: Ordered, ctx: Context) -> None:
        TRIED.append("undo")
        raise ZeroDivisionError

    @during(waiting).on(Booked).stay()
    def book(self, event: Booked, ctx: Context) -> None:
        TRIED.append("event")
        raise ZeroDivisionError

    @during(waiting).after(10 * MINUTE).goto(over)
    def expire(self, ctx: Context) -> None:
        TRIED.append("timer")
        raise ZeroDivisionError

    @during_any.on(Noted).stay()
    def note(self, event: Noted, ctx: Context) -> None:
        self.log.append("noted")

    cancel = during_any.on(Book).compensate().goto(over)


TRIED: list[str] = []


@pytest.fixture
def _untried() -> Iterator[None]:
    TRIED.clear()
    yield
    TRIED.clear()


@pytest.mark.usefixtures("_untried")
@pytest.mark.parametrize("what", ["event", "timer", "undo"])
async def test_events_do_not_have_other_work_tried_before_its_time(
    repository: SagaRepository, clock: ManualClock, what: str
) -> None:
    bus = MemoryBus()
    async with Orchestrator(
        [Fragile], repository, clock=clock, bus=bus, background=False
    ) as orchestrator:
        await orchestrator.handle(Ordered("t"))
        if what == "event":
            await bus.publish(Booked("t"), correlation_id="t")
        elif what == "timer":
            clock.advance(10 * MINUTE)
            await orchestrator.run_due()
        else:
            await orchestrator.handle(Book("t"))
        assert [what] == TRIED
        for number in range(20):
            await bus.publish(Noted("t", number), correlation_id="t")
        async with anyio.create_task_group() as tasks:
            for number in range(20, 30):
                tasks.start_soon(orchestrator.handle, Noted("t", number))
        assert [what] == TRIED
        clock.advance(SECOND)
        await orchestrator.run_due()
        assert [what] * 2 == TRIED


# A saga that is never idle


@pytest.mark.parametrize("hot_sagas", [0, 100])
async def test_outbox_of_a_busy_saga_is_bounded(clock: ManualClock, hot_sagas: int) -> None:
    bus, repository, sizes = MemoryBus(), MemoryRepository(clock=clock), list[int]()

    @bus.subscribe(Book)
    async def book(command: Book) -> None:
        document = await stored(repository, Dialogue, command.trip)
        assert document is not None
        sizes.append(len(document["outbox"]))
        await bus.publish(Booked(command.trip, command.number))

    async with Orchestrator(
        [Dialogue], repository, clock=clock, bus=bus, hot_sagas=hot_sagas
    ) as orchestrator:
        await orchestrator.handle(Ordered("t"))
    assert len(sizes) == ROUNDS
    assert max(sizes) <= (3 if hot_sagas else 34)
    document = await stored(repository, Dialogue, "t")
    assert document is not None
    assert document["state"] == "over"
    assert document["outbox"] == []


async def test_round_of_a_busy_saga_costs_no_more_after_a_thousand(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In calls, which no load of the machine changes."""
    monkeypatch.setitem(globals(), "ROUNDS", 1_000)
    bus, calls, counts = MemoryBus(), count(), list[int]()

    @bus.subscribe(Book)
    async def book(command: Book) -> None:
        counts.append(next(calls))
        if command.number in (101, 899):
            sys.setprofile(None)
        elif command.number in (1, 899 - 100):
            sys.setprofile(profile)
        await bus.publish(Booked(command.trip, command.number))

    def profile(frame: object, event: str, arg: object) -> None:
        if event == "call":
            next(calls)

    try:
        async with Orchestrator(
            [Dialogue], MemoryRepository(clock=clock), clock=clock, bus=bus
        ) as orchestrator:
            await orchestrator.handle(Ordered("t"))
    finally:
        sys.setprofile(None)
    assert len(counts) == 1_000
    first, last = counts[100] - counts[1], counts[898] - counts[799]
    assert first > 1_000
    assert last <= first * 1.1


async def test_outbox_of_a_busy_saga_is_bounded_on_each_store(
    repository: SagaRepository, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROUNDS", 20)
    bus, sizes = MemoryBus(), list[int]()

    @bus.subscribe(Book)
    async def book(command: Book) -> None:
        document = await stored(repository, Dialogue, command.trip)
        assert document is not None
        sizes.append(len(document["outbox"]))
        await bus.publish(Booked(command.trip, command.number))

    orchestrator = Orchestrator([Dialogue], repository, clock=clock, bus=bus)
    async with lingering(orchestrator):  # the next writes alone see to it
        await orchestrator.handle(Ordered("t"))
    assert len(sizes) == 20
    assert max(sizes) <= 3


async def test_what_was_accepted_is_removed_soon_though_the_next_message_hangs(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Two(Saga, name="Two", correlate_by="trip"):
        over = State(final=True)

        @initially.on(Ordered).goto(over)
        def order(self, event: Ordered, ctx: Context) -> None:
            ctx.send(Book(event.trip, 1))
            ctx.send(Book(event.trip, 2))

    async def hang(message: Published) -> None:
        if message.body == Book("t", 2):
            await anyio.sleep_forever()

    async with (
        Orchestrator(
            [Two],
            repository,
            clock=clock,
            bus=RecordingBus(on_publish=hang),
            background=False,
            shutdown_timeout=timedelta(0),
        ) as orchestrator,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(orchestrator.handle, Ordered("t"))
        with anyio.fail_after(10):
            while (document := await stored(repository, Two, "t")) is None or (
                [message["seq"] for message in document["outbox"]] != [2]
            ):
                await anyio.sleep(0.002)
        assert document["lease"]["until"] == clock.now() + 10 * SECOND  # it is sending still
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("entered", [False, True])
async def test_many_messages_at_once_are_removed_in_parts(
    clock: ManualClock, entered: bool
) -> None:
    """Whoever dies meanwhile has no more of them delivered again than one part."""

    class Many(Saga, name="Many", correlate_by="trip"):
        over = State(final=True)

        @initially.on(Ordered).goto(over)
        def order(self, event: Ordered, ctx: Context) -> None:
            for number in range(1, 201):
                ctx.send(Book(event.trip, number))

    repository, unnoted = MemoryRepository(clock=clock), list[int]()

    async def look(message: Published) -> None:
        document = await stored(repository, Many, "t")
        assert document is not None and isinstance(message.body, Book)
        unnoted.append(message.body.number - document["outbox"][0]["seq"])

    bus = RecordingBus(on_publish=look)
    orchestrator = Orchestrator([Many], repository, clock=clock, bus=bus, background=False)
    if entered:
        async with orchestrator:
            await orchestrator.handle(Ordered("t"))
    else:
        await orchestrator.handle(Ordered("t"))
    assert len(bus.bodies) == 200
    assert max(unnoted) <= 32
    document = await stored(repository, Many, "t")
    assert document is not None
    assert document["outbox"] == []


async def test_removal_does_not_wait_for_a_pause(clock: ManualClock, anyio_backend: str) -> None:
    """The next message comes before what was accepted has lingered for long enough."""
    del anyio_backend

    class Several(Saga, name="Several", correlate_by="trip"):
        over = State(final=True)

        @initially.on(Ordered).goto(over)
        def order(self, event: Ordered, ctx: Context) -> None:
            for number in range(1, 31):
                ctx.send(Book(event.trip, number))

    repository, unnoted = MemoryRepository(clock=clock), list[int]()

    async def look(message: Published) -> None:
        document = await stored(repository, Several, "t")
        assert document is not None and isinstance(message.body, Book)
        unnoted.append(message.body.number - document["outbox"][0]["seq"])
        await anyio.sleep(0.002)

    bus = RecordingBus(on_publish=look)
    orchestrator = Orchestrator([Several], repository, clock=clock, bus=bus)
    async with lingering(orchestrator, timedelta(milliseconds=3)):
        await orchestrator.handle(Ordered("t"))
    assert max(unnoted) < 20


# Leases


def lease_of(document: Document | None) -> Lease | None:
    assert document is not None
    found = document.get("lease")
    return None if found is None else Lease(owner=found["owner"], until=found["until"])


async def test_lease_is_renewed_while_a_message_is_being_sent(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Otherwise another process would begin to send it as well."""
    offered, go_on = anyio.Event(), anyio.Event()

    async def hang(_: Published) -> None:
        offered.set()
        await go_on.wait()

    lease = timedelta(milliseconds=40)
    async with (
        Orchestrator(
            [Dialogue],
            repository,
            clock=clock,
            bus=RecordingBus(on_publish=hang),
            lease_duration=lease,
            owner="first",
            poll_interval=timedelta(hours=1),
        ) as orchestrator,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(orchestrator.handle, Ordered("t"))
        await offered.wait()
        for _ in range(3):
            clock.advance(lease / 2)
            renewed = Lease(owner="first", until=clock.now() + lease)
            with anyio.fail_after(10):
                while lease_of(await stored(repository, Dialogue, "t")) != renewed:
                    await anyio.sleep(0.002)
            due = repository.due("Dialogue", clock.now(), unclaimed=True)
            assert [one async for one in due] == []
            document = await stored(repository, Dialogue, "t")
            assert document is not None
            assert document["version"] == 1
        go_on.set()
    document = await stored(repository, Dialogue, "t")
    assert document is not None
    assert "lease" not in document


async def test_what_a_process_of_the_same_name_has_left_is_its_own_at_once(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It does not wait until the leases have run out, as others do."""
    gates = {"w-1": Gate(), "w-2": Gate()}
    sent = anyio.Event()

    async def note(_: Published) -> None:
        sent.set()

    bus = RecordingBus(on_publish=note)
    async with anyio.create_task_group() as dead:
        for (name, gate), trip in zip(gates.items(), ("mine", "another's"), strict=True):
            hangs = RecordingBus(on_publish=gate.hold)
            before = Orchestrator([Trip], repository, clock=clock, bus=hangs, owner=name)
            dead.start_soon(before.handle, Ordered(trip))
            await gate.begun.wait()
        async with Orchestrator(
            [Trip], repository, clock=clock, bus=bus, owner="w-1", poll_interval=timedelta(hours=1)
        ):
            with anyio.fail_after(10):
                await sent.wait()
            await anyio.wait_all_tasks_blocked()
        assert bus.bodies == [Book("mine")]
        dead.cancel_scope.cancel()


async def test_without_a_name_each_process_is_another(clock: ManualClock) -> None:
    first, second = (Process(clock=clock, lease=SECOND) for _ in range(2))
    assert first.owner != second.owner


def test_name_of_a_process_is_not_empty() -> None:
    with pytest.raises(ValueError, match="owner must be the name of this process"):
        Orchestrator([Trip], MemoryRepository(), owner="")


async def test_timer_of_a_saga_that_a_process_without_background_sends_for_is_left_to_others(
    clock: ManualClock, anyio_backend: str
) -> None:
    """Such a process fires no timers: its lease must not outlast the next."""
    del anyio_backend
    repository, offered = MemoryRepository(clock=clock), anyio.Event()

    async def hang(_: Published) -> None:
        offered.set()
        await anyio.sleep_forever()

    lease = timedelta(milliseconds=20)
    async with (
        Orchestrator(
            [Trip],
            repository,
            clock=clock,
            bus=RecordingBus(on_publish=hang),
            lease_duration=lease,
            background=False,
            shutdown_timeout=timedelta(0),
        ) as orchestrator,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(orchestrator.handle, Ordered("t"))
        await offered.wait()
        clock.advance(timedelta(milliseconds=40))
        due = clock.now() + timedelta(milliseconds=10)
        with anyio.fail_after(10):
            while True:
                held = lease_of(await stored(repository, Trip, "t"))
                if held is not None and held.until == due:
                    break
                await anyio.sleep(0.002)
        clock.advance(timedelta(milliseconds=10))
        assert [one async for one in repository.due("Trip", clock.now(), unclaimed=True)] == ["t"]
        found = await orchestrator.find(Trip, "t")
        assert found is not None and found.status is Status.ACTIVE
        tasks.cancel_scope.cancel()
