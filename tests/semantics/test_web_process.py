"""A process that only hands events in: it returns once they are stored, and others do the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

import anyio
import pytest
from attrs import define, frozen

from sagaflow import (
    Context,
    Envelope,
    MemoryBus,
    MemoryRepository,
    MessageId,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaId,
    SagaRepository,
    State,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow.testing import ManualClock
from tests.semantics.support import (
    Crash,
    Gate,
    Interrupted,
    Passing,
    RecordingBus,
    lingering,
    stored,
)

pytestmark = pytest.mark.anyio

OFTEN = timedelta(milliseconds=5)
NEVER = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@frozen
class Placed:
    order: str


@frozen
class Noted:
    order: str
    number: int = 0


@frozen
class Dropped:
    order: str


@frozen
class Asked:
    order: str


@frozen
class Pay:
    order: str
    number: int = 0


@frozen
class Refund:
    order: str


@define
class _Slow:
    """A handler that takes its time."""

    gate: Gate


SLOW = _Slow(Gate())
WAITS = 1_000
"""The number of the note whose handler does."""


class Order(Saga, correlate_by="order"):
    paying = State()
    late = State()
    dropped = State(final=True)

    @initially.on(Placed).goto(paying)
    def place(self, event: Placed, ctx: Context) -> None:
        ctx.send(Pay(event.order))

    @compensates(place)
    def refund(self, event: Placed, ctx: Context) -> None:
        ctx.send(Refund(event.order))

    @during(paying).on(Noted).stay()
    async def note(self, event: Noted, ctx: Context) -> None:
        if event.number == WAITS:
            await SLOW.gate.hold(None)
        ctx.send(Pay(event.order, event.number))

    @during(paying).after(MINUTE).goto(late)
    def remind(self, ctx: Context) -> None:
        ctx.send(Pay(str(ctx.correlation_id), 99))

    asked = during(late).on(Asked).ignore()
    drop = during_any.on(Dropped).compensate().goto(dropped)


async def due(repository: SagaRepository, clock: ManualClock) -> list[SagaId]:
    """Return the orders that others may work on now."""
    return [found async for found in repository.due("Order", clock.now(), unclaimed=True)]


async def until(bus: RecordingBus, count: int) -> list[object]:
    """Look until so many messages were sent."""
    with anyio.fail_after(20):
        while len(bus.published) < count:
            await anyio.sleep(0.002)
    return bus.bodies


@asynccontextmanager
async def worker(
    repository: SagaRepository, clock: ManualClock
) -> AsyncGenerator[RecordingBus, None]:
    """Another process. No time passes by the clock of the sagas: no lease ever runs out."""
    bus = RecordingBus()
    async with Orchestrator([Order], repository, clock=clock, bus=bus, poll_interval=OFTEN):
        yield bus


# Who does not send

WAYS = ("has no bus", "has no background", "is not entered", "has neither")


@asynccontextmanager
async def web(
    way: str, repository: SagaRepository, clock: ManualClock
) -> AsyncGenerator[tuple[Orchestrator, RecordingBus], None]:
    """A process that does not send, for one of several reasons; its bus would hang."""
    bus = RecordingBus(on_publish=Gate().hold)
    orchestrator = Orchestrator(
        [Order],
        repository,
        clock=clock,
        bus=None if way in ("has no bus", "has neither") else bus,
        background=way not in ("has no background", "has neither"),
        poll_interval=OFTEN,
        shutdown_timeout=timedelta(0),
    )
    if way == "is not entered":
        yield orchestrator, bus
    else:
        async with orchestrator:
            yield orchestrator, bus


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_process_does_not_send_is_for_others_at_once(
    way: str, repository: SagaRepository, clock: ManualClock
) -> None:
    async with web(way, repository, clock) as (orchestrator, own):
        with anyio.fail_after(10):
            outcome = await orchestrator.handle(Placed("o"), wait=False)
        assert outcome.kind is OutcomeKind.STARTED
        assert await due(repository, clock) == ["o"]
        document = await stored(repository, Order, "o")
        assert document is not None
        assert "lease" not in document
        async with worker(repository, clock) as bus:
            assert await until(bus, 1) == [Pay("o")]
            # One that is there already, and known to the process.
            outcome = await orchestrator.handle(Noted("o", 1), wait=False)
            assert outcome.kind is OutcomeKind.STAYED
            assert await until(bus, 2) == [Pay("o"), Pay("o", 1)]
        assert own.attempts == []


@pytest.mark.parametrize("way", WAYS)
async def test_undoing_is_for_others_as_well(
    way: str, repository: SagaRepository, clock: ManualClock
) -> None:
    async with web(way, repository, clock) as (orchestrator, _):
        await orchestrator.handle(Placed("o"), wait=False)
        async with worker(repository, clock) as bus:
            await until(bus, 1)
        outcome = await orchestrator.handle(Dropped("o"), wait=False)
        assert (outcome.kind, outcome.state) == (OutcomeKind.COMPENSATING, Order.paying)
        async with worker(repository, clock) as bus:
            assert await until(bus, 1) == [Refund("o")]


async def test_event_that_is_kept_behind_what_is_left_to_others_is_left_to_them(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Order], repository, clock=clock, background=False)
    await orchestrator.handle(Placed("o"), wait=False)
    await orchestrator.handle(Dropped("o"), wait=False)
    outcome = await orchestrator.handle(Noted("o", 1), wait=False)
    assert outcome.kind is OutcomeKind.DEFERRED
    assert await due(repository, clock) == ["o"]
    async with worker(repository, clock) as bus:
        assert await until(bus, 2) == [Pay("o"), Refund("o")]


async def test_message_that_was_sent_before_and_is_stored_again_makes_no_lease(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Of a process that has forgotten the saga, and cannot know whether others have removed it."""
    bus = RecordingBus()
    async with lingering(
        Orchestrator([Order], repository, clock=clock, bus=bus, background=False, hot_sagas=1)
    ) as orchestrator:
        await orchestrator.handle(Placed("o"))
        SLOW.gate = gate = Gate()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(orchestrator.handle, Noted("o", WAITS), wait=False))
            await gate.begun.wait()
            await orchestrator.handle(Placed("p"))
            gate.go_on.set()
        assert await due(repository, clock) == ["o"]
        document = await stored(repository, Order, "o")
        assert document is not None
        assert len(document["outbox"]) == 2
    assert bus.bodies == [Pay("o"), Pay("p")]


async def test_process_dies_as_soon_as_the_event_is_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    web_process = Orchestrator([Order], repository, clock=clock, background=False)
    with pytest.raises(Crash):
        async with web_process:
            await web_process.handle(Placed("o"), message_id="m", wait=False)
            raise Crash
    async with worker(repository, clock) as bus:
        assert await until(bus, 1) == [Pay("o")]
        # Whoever has brought it does not know that, and brings it again.
        again = Orchestrator([Order], repository, clock=clock, background=False)
        for wait in (False, True):
            outcome = await again.handle(Placed("o"), message_id="m", wait=wait)
            assert outcome.kind is OutcomeKind.DUPLICATE
    assert bus.bodies == [Pay("o")]


class Counting(Passing):
    """Counts what an event costs."""

    may_wait = True

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.reads = self.writes = 0

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        self.reads += 1
        return await super().load_document(saga, correlation_id, message_id=message_id)

    async def insert_document(self, saga: str, document: Document) -> bool:
        self.writes += 1
        return await super().insert_document(saga, document)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.writes += 1
        return await super().update_document(saga, change)

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        self.writes += 1
        return await super().bookkeep(saga, note)


@pytest.mark.parametrize("hot_sagas", [0, 10])
async def test_event_that_is_left_to_others_is_one_read_and_one_write(
    hot_sagas: int, repository: SagaRepository, clock: ManualClock
) -> None:
    counting = Counting(repository)
    async with Orchestrator(
        [Order], counting, clock=clock, background=False, hot_sagas=hot_sagas
    ) as orchestrator:
        costs: list[tuple[int, int]] = []
        for event in (Placed("o"), Noted("o", 1), Noted("o", 2), Dropped("o")):
            counting.reads = counting.writes = 0
            await orchestrator.handle(event, wait=False)
            costs.append((counting.reads, counting.writes))
    read = 0 if hot_sagas else 1
    assert costs == [(0, 1), (read, 1), (read, 1), (read, 1)]


async def test_events_that_share_a_write_are_left_to_others_together(
    repository: SagaRepository, clock: ManualClock
) -> None:
    async with Orchestrator([Order], repository, clock=clock, background=False) as orchestrator:
        await orchestrator.handle(Placed("o"), wait=False)
        async with anyio.create_task_group() as tasks:
            for number in range(1, 6):
                tasks.start_soon(lambda n: orchestrator.handle(Noted("o", n), wait=False), number)
    assert await due(repository, clock) == ["o"]
    async with worker(repository, clock) as bus:
        assert set(await until(bus, 6)) == {Pay("o", number) for number in range(6)}


@pytest.mark.parametrize(
    ("second", "third"), [("waits", "leaves"), ("leaves", "waits"), ("is delivered", "leaves")]
)
async def test_write_that_is_shared_with_one_whose_messages_are_sent_here_is_not_left_to_others(
    second: str, third: str, clock: ManualClock, anyio_backend: str
) -> None:
    del anyio_backend
    repository, writing, paying = MemoryRepository(clock=clock), Gate(), Gate()
    bus, paid, writes = MemoryBus(), list[Pay](), 0

    @bus.subscribe(Pay)
    async def pay(command: Pay) -> None:
        if command.number:
            await paying.hold(None)
        paid.append(command)

    async def write(_: object) -> None:
        nonlocal writes
        writes += 1
        await writing.hold(None)

    slow = Interrupted(repository, update=write)
    async with Orchestrator([Order], slow, clock=clock, bus=bus, background=False) as orchestrator:
        await orchestrator.handle(Placed("o"))
        async with anyio.create_task_group() as tasks:

            async def hand(number: int, how: str) -> None:
                event = Noted("o", number)
                if how == "is delivered":
                    tasks.start_soon(partial(bus.publish, event, correlation_id="o"))
                else:
                    tasks.start_soon(partial(orchestrator.handle, event, wait=how == "waits"))
                await anyio.wait_all_tasks_blocked()

            await hand(1, "leaves")
            await hand(2, second)
            await hand(3, third)
            writing.go_on.set()
            with anyio.fail_after(10):
                await paying.begun.wait()
            assert writes == 2, "they have not shared a write"
            assert await due(repository, clock) == [], "others would send it as well"
            paying.go_on.set()
    assert paid == [Pay("o", number) for number in range(4)]


async def test_timer_before_the_event_leaves_its_messages_to_others(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """The event itself is ignored: no write of its own would give the lease up."""
    bus = RecordingBus()
    orchestrator = Orchestrator([Order], repository, clock=clock, bus=bus)
    await orchestrator.handle(Placed("o"))
    clock.advance(MINUTE * 2)
    outcome = await orchestrator.handle(Asked("o"), wait=False)
    assert (outcome.kind, outcome.state) == (OutcomeKind.IGNORED, Order.late)
    assert bus.bodies == [Pay("o")]
    assert await due(repository, clock) == ["o"]


# Who sends


async def test_bus_that_hangs_is_not_waited_for(
    repository: SagaRepository, clock: ManualClock
) -> None:
    gate = Gate()
    bus = RecordingBus(on_publish=gate.hold)
    async with Orchestrator(
        [Order], repository, clock=clock, bus=bus, poll_interval=NEVER
    ) as orchestrator:
        with anyio.fail_after(10):
            await orchestrator.handle(Placed("o"), wait=False)
            await gate.begun.wait()
            for number in range(1, 4):
                await orchestrator.handle(Noted("o", number), wait=False)
        assert bus.published == []
        assert await due(repository, clock) == [], "this process is at it"
        gate.go_on.set()
        assert await until(bus, 4) == [Pay("o", number) for number in range(4)]


async def test_bus_that_is_down_gets_the_messages_later(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus(refusal=ConnectionError("away"))
    async with Orchestrator(
        [Order], repository, clock=clock, bus=bus, poll_interval=NEVER
    ) as orchestrator:
        with anyio.fail_after(10):
            outcome = await orchestrator.handle(Placed("o"), wait=False)
        assert outcome.kind is OutcomeKind.STARTED
        with anyio.fail_after(10):
            while not bus.attempts:
                await anyio.sleep(0.002)
    bus.refusal = None
    clock.advance(MINUTE / 2)
    async with worker(repository, clock) as later:
        assert await until(later, 1) == [Pay("o")]
    assert bus.published == []


class Slow(Saga, correlate_by="order"):
    paying = State()
    dropped = State(final=True)

    @initially.on(Placed).goto(paying)
    def place(self, event: Placed, ctx: Context) -> None: ...

    @compensates(place)
    async def refund(self, event: Placed, ctx: Context) -> None:
        await SLOW.gate.hold(None)
        ctx.send(Refund(event.order))

    drop = during_any.on(Dropped).compensate().goto(dropped)


async def test_what_is_undone_slowly_is_not_waited_for(
    repository: SagaRepository, clock: ManualClock
) -> None:
    SLOW.gate = gate = Gate()
    bus = RecordingBus()
    async with Orchestrator(
        [Slow], repository, clock=clock, bus=bus, poll_interval=NEVER
    ) as orchestrator:
        await orchestrator.handle(Placed("o"))
        with anyio.fail_after(10):
            outcome = await orchestrator.handle(Dropped("o"), wait=False)
            assert outcome.kind is OutcomeKind.COMPENSATING
            # The clock stands still: what is to be looked at again later would never begin.
            await gate.begun.wait()
        gate.go_on.set()
        assert await until(bus, 1) == [Refund("o")]


async def test_within_a_delivery_it_returns_as_well(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, seen = MemoryBus(), list[object]()
    async with Orchestrator([Order], repository, clock=clock, bus=bus) as orchestrator:

        @bus.subscribe(Asked, envelope=True)
        async def hand_on(envelope: Envelope[Asked]) -> None:
            seen.append((await orchestrator.handle(Placed("o"), wait=False)).kind)

        bus.subscribe(Pay, seen.append)
        with anyio.fail_after(10):
            await bus.publish(Asked("o"), correlation_id="o")
            while len(seen) < 2:
                await anyio.sleep(0.002)
    assert seen == [OutcomeKind.STARTED, Pay("o")]


# Who has no bus


async def test_process_without_a_bus_keeps_nobody_from_sending(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Neither by the leases of what it stores nor by those of what its sweep finds."""
    claimed: list[object] = []

    async def note(correlation_id: object) -> None:
        claimed.append(correlation_id)

    swept, sweeps = anyio.Event(), 0

    async def count(_: object) -> None:
        nonlocal sweeps
        sweeps += 1
        if sweeps == 5:
            swept.set()

    watched = Interrupted(repository, claim=note, due=count)
    async with Orchestrator([Order], watched, clock=clock, poll_interval=OFTEN) as orchestrator:
        await orchestrator.handle(Placed("o"))
        await orchestrator.handle(Placed("p"), wait=False)
        with anyio.fail_after(20):
            await swept.wait()
    assert claimed == []
    assert sorted(map(str, await due(repository, clock))) == ["o", "p"]


async def test_process_without_a_bus_still_fires_timers(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await Orchestrator([Order], repository, clock=clock).handle(Placed("o"))
    clock.advance(MINUTE * 2)
    async with Orchestrator([Order], repository, clock=clock, poll_interval=OFTEN) as orchestrator:
        await orchestrator.wait_for(Order, "o", state=Order.late)
    assert await due(repository, clock) == ["o"]
    async with worker(repository, clock) as bus:
        assert await until(bus, 2) == [Pay("o"), Pay("o", 99)]


async def test_what_waits_for_a_bus_does_not_hide_what_is_due(
    clock: ManualClock, anyio_backend: str
) -> None:
    """Of a process without a bus; a sweep reads a batch at a time, the longest due first."""
    del anyio_backend
    repository = MemoryRepository(clock=clock)
    tool = Orchestrator([Order], repository, clock=clock)
    for number in range(450):
        await tool.handle(Placed(f"o-{number}"))
    clock.advance(timedelta(seconds=1))
    await tool.handle(Placed("last"))
    document = await stored(repository, Order, "last")
    assert document is not None
    await repository.delete_document("Order", "last")
    wake: datetime = clock.now()
    timers = [{**timer, "due": wake} for timer in document["timers"]]
    await repository.insert_document("Order", {**document, "timers": timers, "wake": wake})
    async with Orchestrator([Order], repository, clock=clock, poll_interval=OFTEN) as orchestrator:
        await orchestrator.wait_for(Order, "last", state=Order.late)


# Who does not listen


async def test_who_does_not_listen_sends_and_takes_nothing_from_the_bus(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, paid = MemoryBus(), list[Pay]()
    bus.subscribe(Pay, paid.append)
    async with Orchestrator(
        [Order], repository, clock=clock, bus=bus, listen=False
    ) as orchestrator:
        await bus.publish(Placed("from the bus"))
        await orchestrator.handle(Placed("o"))
        assert await orchestrator.find(Order, "from the bus") is None
    assert paid == [Pay("o")]
