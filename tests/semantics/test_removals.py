"""What the bus has accepted is removed by the next write of its saga, or soon without one.

Where a test does not say otherwise, nothing is removed only because time passes.
"""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import frozen

from sagaflow import (
    BusError,
    Context,
    MemoryBus,
    Orchestrator,
    Saga,
    SagaRepository,
    ServerUnavailableError,
    State,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow.testing import ManualClock
from tests.semantics.support import Passing, Published, RecordingBus, lingering, stored

pytestmark = pytest.mark.anyio


@frozen
class Opened:
    till: str


@frozen
class Sold:
    till: str


@frozen
class Shut:
    till: str


@frozen
class Receipt:
    number: int


class Till(Saga, correlate_by="till"):
    open_ = State()
    shut = State(final=True)
    forgotten = State(final=True)

    sold: int = 0

    @initially.on(Opened).goto(open_)
    @during(open_).on(Sold).stay()
    def sell(self, event: Opened | Sold, ctx: Context) -> None:
        self.sold += 1
        ctx.send(Receipt(self.sold))

    shutting = during(open_).on(Shut).goto(shut)
    forget = during(open_).after(timedelta(hours=1)).goto(forgotten)


class Parking(Saga, correlate_by="till"):
    running = State()
    over = State(final=True)

    @initially.on(Opened).goto(running)
    def begin(self, event: Opened, ctx: Context) -> None:
        ctx.send(Receipt(1))

    end = during(running).after(timedelta(milliseconds=20)).goto(over)


class Noting(Passing):
    """Tells what was written, and may fail when something is noted."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.notes: list[Bookkeeping] = []
        self.noted = anyio.Event()
        self.changed = anyio.Event()
        self.fails = False

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        stored = await super().update_document(saga, change)
        self.changed.set()
        return stored

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        await checkpoint()  # as a server far away would
        if self.fails:
            raise ServerUnavailableError("the server is away")
        self.notes.append(note)
        try:
            return await super().bookkeep(saga, note)
        finally:
            self.noted.set()


@pytest.fixture
def noting(memory: SagaRepository) -> Noting:
    return Noting(memory)


async def outbox(repository: SagaRepository, till: str = "t") -> list[int]:
    """Return the numbers of the messages that are in a saga as it is stored right now."""
    document = await stored(repository, Till, till)
    assert document is not None
    return [message["seq"] for message in document["outbox"]]


async def test_next_event_removes_what_was_sent(
    repository: SagaRepository, clock: ManualClock
) -> None:
    noting, bus = Noting(repository), RecordingBus()
    async with lingering(
        Orchestrator([Till], noting, clock=clock, bus=bus, background=False)
    ) as orchestrator:
        await orchestrator.handle(Opened("t"))
        assert await outbox(repository) == [1]
        assert bus.bodies == [Receipt(1)]
        await orchestrator.handle(Sold("t"))
        assert await outbox(repository) == [2]
        await orchestrator.handle(Shut("t"))
        assert await outbox(repository) == []
    assert bus.bodies == [Receipt(1), Receipt(2)]
    assert noting.notes == []
    document = await stored(repository, Till, "t")
    assert document is not None
    assert "wake" not in document
    assert "lease" not in document


async def test_without_a_next_event_it_is_removed_soon(noting: Noting, clock: ManualClock) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Till], noting, clock=clock, bus=bus)
    async with lingering(orchestrator, timedelta(milliseconds=1)):
        await orchestrator.handle(Opened("t"))
        await noting.noted.wait()
        assert await outbox(noting.inner) == []
        await anyio.wait_all_tasks_blocked()
        noting.noted = anyio.Event()
        await orchestrator.handle(Sold("t"))  # whoever removes it has to be started again
        await noting.noted.wait()
        assert await outbox(noting.inner) == []
    document = await stored(noting.inner, Till, "t")
    assert document is not None
    assert document["wake"] == clock.now() + timedelta(hours=1)
    assert "lease" not in document
    assert bus.bodies == [Receipt(1), Receipt(2)]


@pytest.mark.parametrize("asked", ["the orchestrator", "the repository"])
async def test_whoever_looks_at_sagas_sees_no_message_that_was_sent(
    asked: str, repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    async with lingering(Orchestrator([Till], repository, clock=clock, bus=bus)) as orchestrator:
        for till in ("t", "u", "v"):
            await orchestrator.handle(Opened(till))
            assert await outbox(repository, till) == [1]
        store = repository if asked == "the repository" else orchestrator
        found = await store.find(Till, "t")
        assert found is not None
        assert found.outbox == ()
        assert await outbox(repository, "u") == [1]
        assert [one.outbox async for one in store.find_by_state(Till, Till.open_)] == [()] * 3
        assert await outbox(repository, "u") == []
        await orchestrator.handle(Sold("u"))
        clock.advance(timedelta(seconds=1))
        assert [
            one.outbox async for one in store.find_stale(Till, timedelta(milliseconds=500))
        ] == [()] * 3
    assert len(bus.bodies) == 4


async def test_it_is_removed_before_the_orchestrator_is_closed(
    noting: Noting, clock: ManualClock
) -> None:
    async with lingering(
        Orchestrator([Till], noting, clock=clock, bus=RecordingBus())
    ) as orchestrator:
        await orchestrator.handle(Opened("t"))
    assert await outbox(noting.inner) == []


async def test_it_is_removed_also_if_the_block_fails(noting: Noting, clock: ManualClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with lingering(
            Orchestrator([Till], noting, clock=clock, bus=RecordingBus())
        ) as orchestrator:
            await orchestrator.handle(Opened("t"))
            raise ZeroDivisionError
    assert await outbox(noting.inner) == []


async def test_it_is_removed_also_if_the_block_is_cancelled(
    noting: Noting, clock: ManualClock
) -> None:
    with anyio.CancelScope() as scope:
        async with lingering(
            Orchestrator([Till], noting, clock=clock, bus=RecordingBus())
        ) as orchestrator:
            await orchestrator.handle(Opened("t"))
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await outbox(noting.inner) == []


async def test_what_others_have_stored_meanwhile_is_sent(
    noting: Noting, clock: ManualClock
) -> None:
    """They leave it to whoever sends the older messages, as the lease says."""
    offered: list[object] = []
    second = anyio.Event()

    async def note(message: Published) -> None:
        offered.append(message.body)
        if message.body == Receipt(2):
            second.set()

    others = Orchestrator([Till], noting.inner, clock=clock)
    async with lingering(
        Orchestrator(
            [Till], noting, clock=clock, bus=RecordingBus(on_publish=note), background=False
        )
    ) as orchestrator:
        await orchestrator.handle(Opened("t"))
        await others.handle(Sold("t"))
        assert await outbox(noting.inner) == [1, 2]
        assert await orchestrator.find(Till, "t") is not None
        with anyio.fail_after(5):
            await second.wait()
    assert offered == [Receipt(1), Receipt(2)]
    assert await outbox(noting.inner) == []


async def test_what_could_not_be_removed_is_not_sent_again(
    noting: Noting, clock: ManualClock
) -> None:
    bus = RecordingBus()
    async with lingering(Orchestrator([Till], noting, clock=clock, bus=bus)) as orchestrator:
        await orchestrator.handle(Opened("t"))
        noting.fails = True
        assert await orchestrator.find(Till, "t") is not None
        assert await outbox(noting.inner) == [1]
        noting.fails = False
        assert await orchestrator.run_due() == 1
        assert await outbox(noting.inner) == []
    assert bus.bodies == [Receipt(1)]


async def test_repository_that_fails_otherwise_keeps_nobody_from_going_on(
    noting: Noting, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Noting):
        async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
            if note.correlation_id == "t":
                raise ZeroDivisionError
            return await super().bookkeep(saga, note)

    broken = Broken(noting.inner)
    async with lingering(
        Orchestrator([Till], broken, clock=clock, bus=RecordingBus())
    ) as orchestrator:
        await orchestrator.handle(Opened("t"))
        await orchestrator.handle(Opened("u"))
    assert await outbox(noting.inner, "t") == [1]
    assert await outbox(noting.inner, "u") == []
    (record,) = caplog.records
    assert record.message == "Till 't': removing sent messages failed"
    assert record.exc_info is not None


async def test_what_was_refused_before_is_removed_at_once(
    noting: Noting, clock: ManualClock
) -> None:
    """Else it would stay noted that it was."""
    bus = RecordingBus(refusal=BusError("away"))
    async with lingering(
        Orchestrator([Till], noting, clock=clock, bus=bus, background=False)
    ) as orchestrator:
        await orchestrator.handle(Opened("t"))
        bus.refusal = None
        clock.advance(timedelta(minutes=1))
        await orchestrator.handle(Sold("t"))
        assert bus.bodies == [Receipt(1), Receipt(2)]
        assert await outbox(noting.inner) == []
        document = await stored(noting.inner, Till, "t")
        assert document is not None
        assert "sending" not in document


async def test_without_hot_sagas_it_is_removed_at_once(noting: Noting, clock: ManualClock) -> None:
    """No write would know what may be in the outbox."""
    async with lingering(
        Orchestrator([Till], noting, clock=clock, bus=RecordingBus(), hot_sagas=0)
    ) as orchestrator:
        await orchestrator.handle(Opened("t"))
        assert await outbox(noting.inner) == []


async def test_what_the_bus_takes_at_once_is_sent_by_the_task_of_the_caller(
    memory: SagaRepository, clock: ManualClock
) -> None:
    bus, at_once, later = MemoryBus(), list[int](), list[int]()

    async def take(_: Receipt) -> None:
        later.append(anyio.get_current_task().id)

    bus.subscribe(Receipt, lambda _: at_once.append(anyio.get_current_task().id))
    own = anyio.get_current_task().id
    async with lingering(Orchestrator([Till], memory, clock=clock, bus=bus)) as orchestrator:
        await orchestrator.handle(Opened("t"))
        bus.subscribe(Receipt, take)
        await orchestrator.handle(Sold("t"))
    assert at_once[0] == own
    # A handler that may wait must not be interrupted if the caller is.
    assert at_once[1] == later[0] != own


async def test_timer_does_not_wait_for_the_removal(noting: Noting) -> None:
    async with lingering(
        Orchestrator([Parking], noting, bus=RecordingBus(), poll_interval=timedelta(hours=1))
    ) as orchestrator:
        await orchestrator.handle(Opened("t"))
        with anyio.fail_after(5):
            await noting.changed.wait()
        found = await orchestrator.find(Parking, "t")
    assert found is not None
    assert found.state == Parking.over
