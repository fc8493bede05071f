"""Sagas that others change or delete, and stores that fail, while something is done for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta

import anyio
import pytest
from attrs import define, field

from sagaflow import (
    Context,
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
    SuspensionReason,
    compensates,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow.testing import ManualClock
from tests.semantics.patient import (
    MINUTE,
    Booking,
    Failed,
    Noted,
    Opened,
    Paid,
    Release,
    Reminder,
    Reserved,
    log_of,
    orchestrator,
)
from tests.semantics.support import Passing, ReadsTogether, stored

pytestmark = pytest.mark.anyio


async def nothing(_: str) -> None: ...


@define
class Meanwhile:
    """What happens while a handler runs, by the handler's name."""

    then: Callable[[str], Awaitable[None]] = nothing
    ran: list[str] = field(factory=list[str])

    async def handler(self, name: str) -> None:
        self.ran.append(name)
        await self.then(name)


MEANWHILE = Meanwhile()


@pytest.fixture(autouse=True)
def meanwhile() -> Iterator[Meanwhile]:
    MEANWHILE.ran.clear()
    yield MEANWHILE
    MEANWHILE.then = nothing


class Slow(Saga, correlate_by="key"):
    """Its handlers take their time."""

    waiting = State()
    noted = State()
    over = State(final=True)

    size: int = 0
    log: list[str] = field(factory=list[str])

    @initially.on(Opened).goto(waiting)
    def start(self, event: Opened, ctx: Context) -> None:
        self.log.append("started")

    @compensates(start)
    async def undo(self, event: Opened, ctx: Context) -> None:
        await MEANWHILE.handler("undo")
        self.log.append("undone")

    @during(waiting).on(Paid).stay()
    def pay(self, event: Paid, ctx: Context) -> None:
        self.log.append("paid")

    early = during(waiting).on(Noted).defer()

    @during(waiting).on(Reserved).goto(noted)
    def reserve(self, event: Reserved, ctx: Context) -> None:
        self.log.append("reserved")

    @during(noted).on(Noted).stay()
    async def note(self, event: Noted, ctx: Context) -> None:
        await MEANWHILE.handler("note")
        self.log.append("x" * int(event.text or 0))

    @during(waiting, noted).after(MINUTE).stay()
    async def remind(self, ctx: Context) -> None:
        await MEANWHILE.handler("remind")
        ctx.send(Release("s"))

    unheard = during(noted).on(Reminder).ignore()
    fail = during(waiting, noted).on(Failed).compensate().goto(over)


def slow(repository: SagaRepository, clock: ManualClock, **options: object) -> Orchestrator:
    return Orchestrator([Slow], repository, clock=clock, background=False, **options)  # type: ignore[arg-type]


# Deleted


async def test_saga_that_is_deleted_while_its_timer_fires_is_left_alone(
    repository: SagaRepository, clock: ManualClock, meanwhile: Meanwhile
) -> None:
    async def delete(_: str) -> None:
        await repository.delete(Slow, "s")

    runner = slow(repository, clock)
    await runner.handle(Opened("s"))
    meanwhile.then = delete
    clock.advance(MINUTE)
    assert await runner.run_due() == 1
    assert await repository.find(Slow, "s") is None


async def test_saga_that_is_deleted_while_it_is_undone_is_left_alone(
    repository: SagaRepository, clock: ManualClock, meanwhile: Meanwhile
) -> None:
    async def delete(_: str) -> None:
        await repository.delete(Slow, "s")

    runner = slow(repository, clock)
    await runner.handle(Opened("s"))
    meanwhile.then = delete
    assert (await runner.handle(Failed("s"))).kind is OutcomeKind.COMPENSATING
    assert await repository.find(Slow, "s") is None
    assert await runner.run_due() == 0


async def test_saga_that_is_deleted_while_its_messages_are_sent_is_left_alone(
    repository: SagaRepository, clock: ManualClock
) -> None:
    without_bus = slow(repository, clock)
    await without_bus.handle(Opened("s"))
    clock.advance(MINUTE)
    await without_bus.run_due()
    bus = MemoryBus()

    @bus.subscribe(Release)
    async def delete(_: Release) -> None:
        await repository.delete(Slow, "s")

    assert await slow(repository, clock, bus=bus).run_due() == 1
    assert await repository.find(Slow, "s") is None


# Overtaken


class Overtaken(Passing):
    """Some of its updates lose a race, as if another process had been faster.

    :param lost: which ones, counted from 0.
    """

    def __init__(self, inner: SagaRepository, *lost: int) -> None:
        super().__init__(inner)
        self.lost = lost
        self.updates = 0

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.updates += 1
        if self.updates - 1 in self.lost:
            return False
        return await super().update_document(saga, change)


async def test_two_early_events_at_once_are_both_kept(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    other = orchestrator(ReadsTogether(repository, 1), clock)
    together = ReadsTogether(repository, 2)
    async with anyio.create_task_group() as tasks:
        for number in ("1", "2"):
            tasks.start_soon(orchestrator(together, clock).handle, Noted("b", number))
    for event in (Opened("b"), Reserved("b"), Paid("b")):
        await other.handle(event)
    assert sorted(await log_of(runner))[:2] == ["noted 1", "noted 2"]


async def test_two_deferred_events_at_once_are_both_kept(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = orchestrator(repository, clock)
    await runner.handle(Opened("b"))
    together = ReadsTogether(repository, 2)
    async with anyio.create_task_group() as tasks:
        for number in ("1", "2"):
            tasks.start_soon(orchestrator(together, clock).handle, Noted("b", number))
    found = await runner.find(Booking, "b")
    assert found is not None
    assert sorted(str(event.message.body["text"]) for event in found.parked) == ["1", "2"]
    assert found.version == 3


async def test_event_whose_failure_cannot_be_noted_for_a_faster_write_is_tried_again(
    repository: SagaRepository, clock: ManualClock, meanwhile: Meanwhile
) -> None:
    async def fail(_: str) -> None:
        raise ValueError("no paper")

    bus = MemoryBus()
    overtaken = Overtaken(repository, 1)
    async with slow(overtaken, clock, bus=bus) as runner:
        await runner.handle(Opened("s"))
        await runner.handle(Reserved("s"))
        meanwhile.then = fail
        await bus.publish(Noted("s"), message_id="n-1")
        assert meanwhile.ran == ["note", "note"]
        found = await runner.find(Slow, "s")
        assert found is not None
        assert [event.id for event in found.parked] == ["n-1"]
        assert found.parked[0].failing is not None and found.parked[0].failing.attempts == 1


async def test_saga_that_others_have_suspended_while_it_was_undone_says_so(
    repository: SagaRepository, clock: ManualClock, meanwhile: Meanwhile
) -> None:
    """This process is slow; meanwhile another one has lost its patience."""
    impatient = slow(repository, clock, retry=RetryPolicy(max_age=MINUTE))

    async def others(_: str) -> None:
        if len(meanwhile.ran) == 1:
            for _attempt in range(3):
                await impatient.run_due()
                clock.advance(MINUTE)
        else:
            raise OSError("closed")

    runner = slow(repository, clock)
    await runner.handle(Opened("s"))
    meanwhile.then = others
    outcome = await runner.handle(Failed("s"))
    assert outcome.kind is OutcomeKind.SUSPENDED
    found = await runner.find(Slow, "s")
    assert found is not None and found.suspension is not None
    assert found.suspension.reason is SuspensionReason.COMPENSATION
    assert found.saga.log == ["started"]  # the slow attempt was not stored


# Refused


async def test_parked_event_that_makes_its_saga_too_large_counts_as_failed(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = slow(repository, clock, limits=Limits(max_bytes=4_000))
    await runner.handle(Opened("s"))
    await runner.handle(Noted("s", "9999"), message_id="n-1")
    assert (await runner.handle(Reserved("s"))).kind is OutcomeKind.TRANSITIONED
    found = await runner.find(Slow, "s")
    assert found is not None
    assert found.saga.log == ["started", "reserved"]
    failing = found.parked[0].failing
    assert failing is not None and "LimitExceededError" in failing.error
    larger = slow(repository, clock)
    clock.advance(MINUTE / 2)
    await larger.run_due()
    found = await runner.find(Slow, "s")
    assert found is not None and len(found.saga.log[-1]) == 9999 and found.parked == ()


async def test_error_of_the_store_in_a_handler_is_the_stores_not_the_handlers(
    repository: SagaRepository, clock: ManualClock, meanwhile: Meanwhile
) -> None:
    """The bus, or the next sweep, tries again; the event is not kept as one that failed."""

    async def look_up(_: str) -> None:
        raise ServerUnavailableError("away")

    bus = MemoryBus()
    async with slow(repository, clock, bus=bus) as runner:
        await runner.handle(Opened("s"))
        await runner.handle(Reserved("s"))
        before = await stored(repository, Slow, "s")
        meanwhile.then = look_up
        with pytest.raises(ServerUnavailableError):
            await bus.publish(Noted("s"), message_id="n-1")
        clock.advance(MINUTE)
        with pytest.raises(ServerUnavailableError):
            await runner.run_due()
        assert await stored(repository, Slow, "s") == before


# Dropped


class Scheduling(Saga, correlate_by="key"):
    waiting = State()
    quiet = State()
    over = State(final=True)

    @initially.on(Opened).goto(waiting)
    def start(self, event: Opened, ctx: Context) -> None:
        ctx.schedule(Reminder(event.key), after=MINUTE)

    remind = during(waiting).on(Reminder).stay()
    hush = during(waiting).on(Reserved).goto(quiet)
    ignored = during(quiet).on(Reminder).when(lambda _, event: event.number == 1).ignore()
    end = during(quiet).on(Paid).goto(over)

    @during(quiet).on(Opened).stay()
    def again(self, event: Opened, ctx: Context) -> None:
        ctx.schedule(Reminder(event.key, 2), after=MINUTE)


async def test_scheduled_event_that_its_state_does_not_take_is_dropped_with_a_warning(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Orchestrator([Scheduling], repository, clock=clock, background=False)
    for event in (Opened("s"), Reserved("s"), Opened("s")):
        await runner.handle(event)
    clock.advance(MINUTE)
    await runner.run_due()
    found = await runner.find(Scheduling, "s")
    assert found is not None
    assert (found.timers, found.history[-1].step) == ((), "unhandled")
    assert "the timer 'Reminder' is unhandled in state quiet; it was dropped" in caplog.text


async def test_scheduled_event_that_its_state_ignores_is_dropped_without_a_word(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Orchestrator([Scheduling], repository, clock=clock, background=False)
    for event in (Opened("s"), Reserved("s")):
        await runner.handle(event)
    clock.advance(MINUTE)
    await runner.run_due()
    found = await runner.find(Scheduling, "s")
    assert found is not None
    assert (found.timers, found.history[-1].step) == ((), "ignored")
    assert caplog.records == []


# The store fails after it has taken an event


class FailsAfter(Passing):
    """Goes away after so many updates."""

    def __init__(self, inner: SagaRepository, updates: int) -> None:
        super().__init__(inner)
        self.left = updates

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        if self.left == 0:
            raise ServerUnavailableError("away")
        self.left -= 1
        return await super().update_document(saga, change)


async def test_event_that_was_parked_is_told_so_though_the_store_fails_afterwards(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    runner = slow(repository, clock)
    await runner.handle(Opened("s"))
    clock.advance(MINUTE)  # its reminder is due, and would come with the next event
    outcome = await slow(FailsAfter(repository, 1), clock).handle(Noted("s"))
    assert outcome.kind is OutcomeKind.DEFERRED
    assert "the store fails" in caplog.text
    assert await runner.run_due() == 1
    found = await runner.find(Slow, "s")
    assert found is not None
    assert [entry.event for entry in found.history] == ["Opened", "Noted", "timeout"]


# Leases


class Short(Saga, correlate_by="key"):
    waiting = State()
    over = State(final=True)
    start = initially.on(Opened).goto(waiting)
    expire = during(waiting).after(timedelta(milliseconds=300)).goto(over)


async def test_timer_is_left_to_the_holder_of_the_lease_and_fired_when_that_has_ended(
    anyio_backend: str,
) -> None:
    class Leased(MemoryRepository):
        """Another process claims the saga as soon as it is stored, and dies."""

        until: datetime | None = None

        async def insert_document(self, saga: str, document: Document) -> bool:
            done = await super().insert_document(saga, document)
            self.until = document["created_at"] + timedelta(milliseconds=500)
            lease = {"owner": "dead", "until": self.until}
            note = Bookkeeping(
                correlation_id=document["_id"],
                incarnation=document["incarnation"],
                version=1,
                set={"lease": lease},
            )
            return done and await self.bookkeep(saga, note)

    repository = Leased()
    # The sweep is far away.
    async with Orchestrator([Short], repository, poll_interval=timedelta(hours=1)) as runner:
        await runner.handle(Opened("s"))
        with anyio.fail_after(5):
            found = await runner.find(Short, "s")
            while found is None or found.status is not Status.FINISHED:
                await anyio.sleep(0.01)
                found = await runner.find(Short, "s")
    assert repository.until is not None and found.updated_at >= repository.until


async def test_limit_is_refused_to_the_caller_where_there_is_one(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = slow(repository, clock, limits=Limits(max_bytes=4_000))
    await runner.handle(Opened("s"))
    await runner.handle(Reserved("s"))
    with pytest.raises(LimitExceededError):
        await runner.handle(Noted("s", "9999"))
