"""A cancellation that nobody asked for, out of other people's code, is a failure of that code.

Only whoever runs the orchestrator cancels it; and such a cancellation is never taken for a failure.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest
import trio
from anyio import to_thread
from anyio.lowlevel import checkpoint
from attrs import define, field, frozen
from svcs import Registry

from sagaflow import (
    Context,
    MemoryBus,
    MemoryRepository,
    MessageId,
    Observer,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaflowError,
    SagaId,
    SagaRepository,
    State,
    Status,
    StrayCancellationError,
    compensates,
    during,
    initially,
    migrates,
)
from sagaflow._concurrency.cancellation import failure, is_cancelled
from sagaflow.observing import Activity, Fact
from sagaflow.testing import ManualClock

pytestmark = [
    pytest.mark.anyio,
    # svcs leaves the other cleanups if one of them is cancelled, and says so.
    pytest.mark.filterwarnings("ignore:Container was garbage-collected:ResourceWarning"),
]

QUICK = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    closes = trouble().place == "service closed"
    _trouble[0] = Trouble()
    if closes:
        gc.collect()


async def stray() -> BaseException:
    """Return a cancellation whose scope is long over."""
    found: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as exc:
            found.append(exc)
            raise
    return found[0]


@define
class Trouble:
    """Where what is raised, or what happens there."""

    place: str = ""
    error: BaseException | None = None
    then: Callable[[], Awaitable[object]] | None = None
    met: int = 0

    def now(self, place: str) -> None:
        """Raise, if this is the place, once."""
        if place == self.place and self.error is not None and not self.met:
            self.met += 1
            raise self.error

    async def here(self, place: str) -> None:
        """Raise or wait, if this is the place."""
        self.now(place)
        if place == self.place and self.then is not None:
            self.met += 1
            await self.then()


_trouble = [Trouble()]


def trouble() -> Trouble:
    return _trouble[0]


@frozen
class Begin:
    order: str


@frozen
class Print:
    order: str


@frozen
class Printed:
    order: str


@frozen
class Undone:
    order: str


class Printer: ...


def order_of(event: Begin) -> str:
    trouble().now("by=")
    return event.order


def guard(_: Fragile, __: Begin) -> bool:
    trouble().now("guard")
    return True


class Fragile(Saga, correlate_by="order"):
    """Runs everything that other people's code may be."""

    open = State()
    waiting = State()
    closed = State(final=True)

    @initially.on(Begin, by=order_of).when(guard).goto(open)
    async def begin(self, event: Begin, ctx: Context) -> None:
        await trouble().here("handler")
        await ctx.services.aget(Printer)
        ctx.send(Print(event.order))

    @during(open).on(Printed).goto(waiting)
    async def printed(self, event: Printed, ctx: Context) -> None:
        await trouble().here("handler of a message")

    @compensates(printed)
    async def undo(self, event: Printed, ctx: Context) -> None:
        await trouble().here("compensation")

    @during(waiting).after(QUICK).compensate().goto(closed)
    async def expire(self, ctx: Context) -> None:
        await trouble().here("handler of a timer")


class Bus(MemoryBus):
    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        await trouble().here("bus")
        await super().publish(
            message, correlation_id=correlation_id, message_id=message_id, headers=headers
        )


class Watching(Observer):
    def observe(self, activity: Activity) -> AbstractContextManager[object]:
        trouble().now("observe")
        return self._observation()

    @contextmanager
    def _observation(self) -> Generator[None]:
        trouble().now("observation entered")
        yield
        trouble().now("observation left")

    def note(self, fact: Fact) -> None:
        trouble().now("note")

    def headers(self) -> Mapping[str, str]:
        trouble().now("headers")
        return {}


def services() -> Registry:
    registry: Any = Registry()

    @asynccontextmanager
    async def printer() -> AsyncGenerator[Printer]:
        await trouble().here("service")
        yield Printer()
        await trouble().here("service closed")

    registry.register_factory(Printer, printer)
    return cast("Registry", registry)


@asynccontextmanager
async def running(
    repository: SagaRepository, observer: Observer | None = None
) -> AsyncGenerator[Orchestrator]:
    bus = Bus()

    @bus.subscribe(Print)
    async def print_it(command: Print) -> None:
        await trouble().here("subscriber")
        await bus.publish(Printed(command.order), message_id=f"printed-{command.order}")

    async with Orchestrator(
        [Fragile],
        repository,
        bus=bus,
        services=services(),
        observers=observer,
        poll_interval=timedelta(milliseconds=5),
        lease_duration=timedelta(milliseconds=100),
        retry=RetryPolicy(initial_delay=QUICK, max_delay=QUICK),
    ) as orchestrator:
        yield orchestrator


async def until_closed(orchestrator: Orchestrator, order: str) -> None:
    with anyio.fail_after(20):
        while True:
            found = await orchestrator.find(Fragile, order)
            if found is not None and found.state == Fragile.closed and not found.outbox:
                return
            await anyio.sleep(0.002)


WITHIN_HANDLE = ("by=", "guard", "handler", "service", "service closed")
LATER = ("bus", "subscriber", "handler of a message", "handler of a timer", "compensation")
OBSERVING = ("observe", "observation entered", "observation left", "note", "headers")


@pytest.mark.parametrize("place", WITHIN_HANDLE + LATER + OBSERVING)
async def test_stray_cancellation_fails_where_it_was_raised_and_nothing_else(
    place: str, anyio_backend: str
) -> None:
    """The saga goes on with the next attempt, and so does everything around it."""
    went_on = False
    async with running(MemoryRepository(), Watching()) as orchestrator:
        _trouble[0] = Trouble(place, await stray())
        if place in WITHIN_HANDLE:
            with pytest.raises(SagaflowError, match="cancelled by somebody else"):
                await orchestrator.handle(Begin("o"))
            assert await orchestrator.find(Fragile, "o") is None
        outcome = await orchestrator.handle(Begin("o"))
        assert outcome.kind is OutcomeKind.STARTED
        await until_closed(orchestrator, "o")
        assert trouble().met == 1
        await orchestrator.handle(Begin("another"))
        await until_closed(orchestrator, "another")
        assert (await orchestrator.health()).ok
        went_on = True
    assert went_on


@pytest.mark.parametrize("place", ["handler of a timer", "compensation", "bus"])
async def test_code_that_is_always_cancelled_suspends_its_saga_and_says_why(
    place: str, repository: SagaRepository, clock: ManualClock
) -> None:
    bus = Bus()
    bus.subscribe(Print, lambda _: None)
    orchestrator = Orchestrator(
        [Fragile],
        repository,
        bus=bus,
        services=services(),
        clock=clock,
        retry=RetryPolicy(max_age=timedelta(minutes=5)),
    )
    error = await stray()

    async def cancelled() -> None:
        raise error

    _trouble[0] = Trouble(place, then=cancelled)
    await orchestrator.handle(Begin("o"))
    await orchestrator.handle(Printed("o"))
    for _ in range(10):
        clock.advance(timedelta(minutes=5))
        await orchestrator.run_due()
    found = await orchestrator.find(Fragile, "o")
    assert found is not None
    assert found.status is Status.SUSPENDED
    assert found.suspension is not None
    assert "StrayCancellationError: what this code waited for was cancelled" in (
        found.suspension.error
    )


async def test_migration_that_is_cancelled_is_a_fault_of_its_saga() -> None:
    clock = ManualClock()
    repository = MemoryRepository(clock=clock)
    error = await stray()

    class Parcel(Saga, name="Parcel", correlate_by="order"):
        open = State()
        closed = State(final=True)
        begin = initially.on(Begin).goto(open)
        close = during(open).on(Printed).goto(closed)

    await Orchestrator([Parcel], repository, clock=clock).handle(Begin("o"))

    class Renewed(Saga, name="Parcel", correlate_by="order", schema=2):
        open = State()
        closed = State(final=True)
        begin = initially.on(Begin).goto(open)
        close = during(open).on(Printed).goto(closed)

        @migrates(1, 2)
        @staticmethod
        def renew(data: dict[str, Any]) -> None:
            raise error

    with pytest.raises(SagaflowError, match="cancelled by somebody else"):
        await Orchestrator([Renewed], repository, clock=clock).handle(Printed("o"))


async def test_task_that_is_not_cancelled_is_told_from_one_that_is(anyio_backend: str) -> None:
    error = await stray()
    assert not is_cancelled()
    assert isinstance(failure(error), StrayCancellationError)
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert is_cancelled()
        with pytest.raises(type(error)):
            failure(error)
        with anyio.CancelScope(shield=True):
            assert not is_cancelled()
            await checkpoint()
    assert not is_cancelled()
    with anyio.move_on_after(0.001):
        await anyio.sleep_forever()
    assert not is_cancelled()


async def test_group_is_a_failure_if_all_of_it_is(anyio_backend: str) -> None:
    error = await stray()
    group = BaseExceptionGroup("several", [error, ValueError("x")])
    assert isinstance(failure(group), StrayCancellationError)
    assert failure(group).__cause__ is group
    deadly = BaseExceptionGroup("several", [error, KeyboardInterrupt()])
    with pytest.raises(BaseExceptionGroup):
        failure(deadly)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_end_of_the_program_is_no_failure(
    kind: type[BaseException], anyio_backend: str
) -> None:
    with pytest.raises(kind):
        failure(kind())
    _trouble[0] = Trouble("handler", kind())
    orchestrator = Orchestrator([Fragile], MemoryRepository(), services=services())
    with pytest.raises(kind):
        await orchestrator.handle(Begin("o"))


def test_code_that_is_closed_outside_of_any_runtime_ends() -> None:
    with pytest.raises(GeneratorExit):
        failure(GeneratorExit())


# What asyncio and trio do by themselves


async def _asyncio_places() -> dict[str, Callable[[], Awaitable[object]]]:
    async def future() -> None:
        waited = asyncio.get_running_loop().create_future()
        waited.cancel()
        await waited

    async def task() -> None:
        waited = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(waited.cancel)
        await waited

    async def gathered() -> None:
        waited = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(waited.cancel)
        await asyncio.gather(waited, asyncio.sleep(0))

    async def after_a_timeout() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        await future()

    return {"future": future, "task": task, "gather": gathered, "timeout": after_a_timeout}


@pytest.mark.parametrize("place", ["handler", "service"])
async def test_future_that_somebody_else_cancels_is_a_failure(
    place: str, anyio_backend: str
) -> None:
    if anyio_backend != "asyncio":
        pytest.skip("of asyncio alone")
    for then in (await _asyncio_places()).values():
        _trouble[0] = Trouble(place, then=then)
        orchestrator = Orchestrator([Fragile], MemoryRepository(), services=services())
        with pytest.raises(StrayCancellationError):
            await orchestrator.handle(Begin("o"))
        assert await orchestrator.find(Fragile, "o") is None


async def test_loop_in_a_thread_that_was_cancelled_is_a_failure_on_trio(
    anyio_backend: str,
) -> None:
    if anyio_backend != "trio":
        pytest.skip("of trio alone")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def thread() -> None:
        await to_thread.run_sync(lambda: asyncio.run(cancelled()))

    _trouble[0] = Trouble("handler", then=thread)
    orchestrator = Orchestrator([Fragile], MemoryRepository(), services=services())
    with pytest.raises(StrayCancellationError):
        await orchestrator.handle(Begin("o"))


# A cancellation that is meant


@define
class Waiting:
    """Other people's code that waits for ever, and whether it was cancelled."""

    begun: anyio.Event = field(factory=anyio.Event)
    cancelled: bool = False

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise


WAITING = ("handler", "service", "service closed", "bus", "subscriber", "handler of a message")


async def _started(repository: SagaRepository) -> Orchestrator:
    """Return an orchestrator that does everything within the call."""
    bus = Bus()

    @bus.subscribe(Print)
    async def print_it(command: Print) -> None:
        await trouble().here("subscriber")
        await bus.publish(Printed(command.order), message_id=f"printed-{command.order}")

    orchestrator = Orchestrator([Fragile], repository, bus=bus, services=services())
    receive: Any = orchestrator._receive  # pyright: ignore[reportPrivateUsage]
    bus.subscribe(Printed, receive, envelope=True)
    return orchestrator


async def _assert_nothing_failed(orchestrator: Orchestrator, waiting: Waiting) -> None:
    assert waiting.cancelled
    found = await orchestrator.find(Fragile, "o")
    if found is not None:
        assert found.status is Status.ACTIVE
        assert [event.failing for event in found.parked] == []


@pytest.mark.parametrize("place", WAITING)
async def test_cancelled_scope_cancels_what_is_within(
    place: str, anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Waiting()
    _trouble[0] = Trouble(place, then=waiting)
    orchestrator = await _started(MemoryRepository())
    with anyio.move_on_after(0.02) as scope:
        await orchestrator.handle(Begin("o"))
    assert scope.cancelled_caught
    await _assert_nothing_failed(orchestrator, waiting)
    assert caplog.records == []


@pytest.mark.parametrize("place", WAITING)
async def test_cancelled_task_group_cancels_what_is_within(
    place: str, anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Waiting()
    _trouble[0] = Trouble(place, then=waiting)
    orchestrator = await _started(MemoryRepository())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orchestrator.handle, Begin("o"))
        await waiting.begun.wait()
        tasks.cancel_scope.cancel()
    await _assert_nothing_failed(orchestrator, waiting)
    assert caplog.records == []


async def _task_is_cancelled(handle: Callable[[], Any], waiting: Waiting) -> None:
    task = asyncio.create_task(handle())
    await waiting.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def _time_is_over(handle: Callable[[], Any], waiting: Waiting) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await handle()


async def _waiting_is_over(handle: Callable[[], Any], waiting: Waiting) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handle(), 0.02)


async def _sibling_fails(handle: Callable[[], Any], waiting: Waiting) -> None:
    async def failing() -> None:
        await waiting.begun.wait()
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(handle())
            tasks.create_task(failing())
    assert [type(error) for error in caught.value.exceptions] == [LookupError]


async def _cancelled_before_it_begins(handle: Callable[[], Any], waiting: Waiting) -> None:
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await handle()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(cancels_itself())
    waiting.cancelled = True  # if it has not even begun, that is as well


NATIVE = (
    _task_is_cancelled,
    _time_is_over,
    _waiting_is_over,
    _sibling_fails,
    _cancelled_before_it_begins,
)


@pytest.mark.parametrize("place", WAITING)
@pytest.mark.parametrize("way", NATIVE)
async def test_cancellation_of_asyncio_is_never_swallowed(
    way: Callable[[Callable[[], Any], Waiting], Awaitable[None]],
    place: str,
    anyio_backend: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if anyio_backend != "asyncio":
        pytest.skip("of asyncio alone")
    waiting = Waiting()
    _trouble[0] = Trouble(place, then=waiting)
    orchestrator = await _started(MemoryRepository())
    await way(lambda: orchestrator.handle(Begin("o")), waiting)
    await _assert_nothing_failed(orchestrator, waiting)
    assert caplog.records == []


@pytest.mark.parametrize("place", WAITING)
async def test_cancellation_of_trio_is_never_swallowed(place: str, anyio_backend: str) -> None:
    if anyio_backend != "trio":
        pytest.skip("of trio alone")
    waiting = Waiting()
    _trouble[0] = Trouble(place, then=waiting)
    orchestrator = await _started(MemoryRepository())
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(0.02):
            await orchestrator.handle(Begin("o"))
    await _assert_nothing_failed(orchestrator, waiting)


async def test_closing_ends_what_still_runs(clock: ManualClock, anyio_backend: str) -> None:
    waiting = Waiting()
    _trouble[0] = Trouble("handler of a timer", then=waiting)
    bus = Bus()
    bus.subscribe(Print, lambda _: None)
    async with Orchestrator(
        [Fragile],
        MemoryRepository(clock=clock),
        bus=bus,
        services=services(),
        clock=clock,
        shutdown_timeout=timedelta(milliseconds=10),
    ) as orchestrator:
        await orchestrator.handle(Begin("o"))
        await orchestrator.handle(Printed("o"))
        clock.advance(QUICK)
        await waiting.begun.wait()
    assert waiting.cancelled
