"""ctx.services: one container for each event, closed after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest
from attrs import define, field, frozen
from svcs import Registry

from sagaflow import (
    CompensationStatus,
    Context,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaflowError,
    SagaRepository,
    State,
    compensates,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.support import PausesAfterRead

pytestmark = pytest.mark.anyio


@define
class Till:
    """A synchronous service."""

    number: int


@define
class Printer:
    """An asynchronous service."""

    till: Till


@define
class Log:
    """What has happened to the services."""

    lines: list[str] = field(factory=list[str])
    made: int = 0


def registry_of(log: Log) -> Registry:
    """Return a registry whose services note when they are made and closed."""
    registry: Any = Registry()

    @contextmanager
    def till() -> Generator[Till]:
        log.made += 1
        made = Till(log.made)
        log.lines.append(f"till {made.number} opened")
        yield made
        log.lines.append(f"till {made.number} closed")

    @asynccontextmanager
    async def printer() -> AsyncGenerator[Printer]:
        log.lines.append("printer on")
        yield Printer(Till(0))
        await anyio.lowlevel.checkpoint()
        log.lines.append("printer off")

    registry.register_factory(Till, till)
    registry.register_factory(Printer, printer)
    found: Registry = registry
    return found


@frozen
class Entered:
    shop: str


@frozen
class Bought:
    shop: str
    fails: bool = False


@frozen
class Returned:
    shop: str


class TillJammedError(Exception):
    """What the handler of these tests raises."""


class Shopping(Saga, correlate_by="shop"):
    inside = State()
    outside = State(final=True)

    tills: list[int] = field(factory=list[int])

    @initially.on(Entered).goto(inside)
    def enter(self, event: Entered, ctx: Context) -> None: ...

    @during(inside).on(Bought).stay()
    async def buy(self, event: Bought, ctx: Context) -> None:
        first = ctx.services.get(Till)
        await ctx.services.aget(Printer)
        assert ctx.services.get(Till) is first  # one container for the whole event
        self.tills.append(first.number)
        if event.fails:
            raise TillJammedError

    @compensates(buy)
    async def refund(self, event: Bought, ctx: Context) -> None:
        self.tills.append(-ctx.services.get(Till).number)

    leave = during(inside).on(Returned).compensate().goto(outside)


async def tills(repository: SagaRepository) -> list[int]:
    """Return the tills that the saga has used."""
    instance = await repository.find(Shopping, "s")
    assert instance is not None
    return instance.saga.tills


async def test_each_event_has_a_container_of_its_own_which_is_closed_after_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    log = Log()
    orchestrator = Orchestrator([Shopping], repository, clock=clock, services=registry_of(log))
    await orchestrator.handle(Entered("s"))
    assert log.lines == []  # nothing is made that nobody asks for
    for number in (1, 2):
        await orchestrator.handle(Bought("s"))
        assert log.lines == [
            f"till {number} opened",
            "printer on",
            "printer off",
            f"till {number} closed",
        ]
        log.lines.clear()
    assert await tills(repository) == [1, 2]


async def test_container_is_closed_when_the_handler_raises(
    repository: SagaRepository, clock: ManualClock
) -> None:
    log = Log()
    orchestrator = Orchestrator([Shopping], repository, clock=clock, services=registry_of(log))
    await orchestrator.handle(Entered("s"))
    with pytest.raises(TillJammedError):
        await orchestrator.handle(Bought("s", fails=True))
    assert log.lines == ["till 1 opened", "printer on", "printer off", "till 1 closed"]


async def test_container_is_closed_when_the_event_is_cancelled(
    clock: ManualClock, memory: SagaRepository
) -> None:
    log, reached = Log(), anyio.Event()

    class Waiting(Shopping):
        async def buy(self, event: Bought, ctx: Context) -> None:
            ctx.services.get(Till)
            reached.set()
            await anyio.sleep_forever()

    orchestrator = Orchestrator([Waiting], memory, clock=clock, services=registry_of(log))
    await orchestrator.handle(Entered("s"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orchestrator.handle, Bought("s"))
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert log.lines == ["till 1 opened", "till 1 closed"]


async def test_every_attempt_has_a_container_of_its_own(
    repository: SagaRepository, clock: ManualClock
) -> None:
    log, other = Log(), Log()
    winner = Orchestrator([Shopping], repository, clock=clock, services=registry_of(other))
    await winner.handle(Entered("s"))
    slow = PausesAfterRead(repository)
    loser = Orchestrator([Shopping], slow, clock=clock, services=registry_of(log))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loser.handle, Bought("s"))
        await slow.has_read.wait()
        await winner.handle(Bought("s"))
        slow.go_on.set()
    assert log.lines.count("till 1 closed") == log.lines.count("till 2 closed") == 1
    assert await tills(repository) == [1, 2]


async def test_each_compensation_has_a_container_of_its_own(
    repository: SagaRepository, clock: ManualClock
) -> None:
    log = Log()
    orchestrator = Orchestrator([Shopping], repository, clock=clock, services=registry_of(log))
    for event in (Entered("s"), Bought("s"), Bought("s")):
        await orchestrator.handle(event)
    log.lines.clear()
    await orchestrator.handle(Returned("s"))
    assert log.lines == ["till 3 opened", "till 3 closed", "till 4 opened", "till 4 closed"]
    assert await tills(repository) == [1, 2, -3, -4]


async def test_without_services_asking_for_them_is_a_clear_error(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Shopping], memory, clock=clock)
    outcome = await orchestrator.handle(Entered("s"))
    assert outcome.kind is OutcomeKind.STARTED  # who does not ask needs none
    with pytest.raises(SagaflowError, match=r"pass Orchestrator\(\.\.\., services=registry\)"):
        await orchestrator.handle(Bought("s"))


async def test_without_services_a_compensation_that_asks_for_them_fails_with_that_error(
    clock: ManualClock,
) -> None:
    memory = MemoryRepository(clock=clock)
    full = Orchestrator([Shopping], memory, clock=clock, services=registry_of(Log()))
    await full.handle(Entered("s"))
    await full.handle(Bought("s"))
    outcome = await Orchestrator([Shopping], memory, clock=clock).handle(Returned("s"))
    assert outcome.kind is OutcomeKind.COMPENSATING
    instance = await memory.find(Shopping, "s")
    assert instance is not None
    (entry,) = instance.compensations
    assert entry.failing is not None
    assert (entry.status, entry.failing.attempts) == (CompensationStatus.PENDING, 1)
    assert "this orchestrator has no services" in entry.failing.error
