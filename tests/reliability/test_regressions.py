"""Bugs that the simulation has found, each as small as it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from attrs import define, field, frozen

from sagaflow import (
    BusError,
    Context,
    MemoryRepository,
    MessageId,
    Orchestrator,
    Saga,
    SagaId,
    ServerUnavailableError,
    State,
    Status,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping
from sagaflow.testing import ManualClock

pytestmark = pytest.mark.anyio

MOMENT = timedelta(seconds=10)


@frozen
class Opened:
    diary: str
    text: str


@frozen
class Written:
    diary: str
    text: str


@frozen
class Note:
    text: str


class Diary(Saga, correlate_by="diary", timeout=timedelta(hours=1)):
    """Sends a note of whatever is written."""

    open = State()
    closed = State(final=True)

    @initially.on(Opened).goto(open)
    def begin(self, event: Opened, ctx: Context) -> None:
        ctx.send(Note(event.text))

    @during(open).on(Written).stay()
    def write(self, event: Written, ctx: Context) -> None:
        ctx.send(Note(event.text))

    close = during(open).on(Note).goto(closed)


@define
class Bus:
    """Keeps the texts that it was given, unless it refuses them."""

    refuses: bool = False
    taken: list[str] = field(factory=list[str])

    def subscribe(self, *_: object, **__: object) -> None:
        """Nobody is to be told."""

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Take a note."""
        del correlation_id, message_id, headers
        if self.refuses:
            raise BusError("refused")
        assert isinstance(message, Note)
        self.taken.append(message.text)


class Repository(MemoryRepository):
    """Has something happen once, before something is noted."""

    then: Callable[[], Awaitable[None]] | None = None

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Note it after that."""
        then, self.then = self.then, None
        if then is not None:
            await then()
        return await super().bookkeep(saga, note)


async def _document(repository: MemoryRepository) -> dict[str, Any]:
    document = await repository.load_document("Diary", "d", message_id=None)
    assert document is not None
    return document


async def test_saga_that_was_woken_for_nothing_is_not_woken_for_ever(clock: ManualClock) -> None:
    """A write that was decided on before others noted their sending leaves wake too early."""
    repository = MemoryRepository(clock=clock)
    async with Orchestrator(
        [Diary], repository, bus=Bus(), clock=clock, background=False
    ) as orchestrator:
        await orchestrator.handle(Opened("d", "1"))
        assert await orchestrator.find(Diary, "d") is not None  # which has the removal written
        document = await _document(repository)
        timeout = document["wake"]
        too_early = Bookkeeping(
            correlation_id="d",
            incarnation=document["incarnation"],
            version=document["version"],
            set={"wake": clock.now()},
        )
        assert await repository.bookkeep("Diary", too_early)
        assert await orchestrator.run_due() == 1
        assert await orchestrator.run_due() == 0
        assert (await _document(repository))["wake"] == timeout


async def test_message_behind_a_refused_one_waits_also_if_it_is_added_while_that_is_noted(
    clock: ManualClock,
) -> None:
    repository, bus = Repository(clock=clock), Bus(refuses=True)
    async with Orchestrator(
        [Diary], repository, bus=bus, clock=clock, background=False
    ) as orchestrator:

        async def write() -> None:
            bus.refuses = False
            await orchestrator.handle(Written("d", "2"))

        repository.then = write
        await orchestrator.handle(Opened("d", "1"))
        assert bus.taken == []
        clock.advance(MOMENT)
        await orchestrator.run_due()
    assert bus.taken == ["1", "2"]


async def test_refusal_is_noted_also_if_the_saga_changes_meanwhile(clock: ManualClock) -> None:
    """Or its retry would wait for the lease, and its patience would never end."""
    repository, bus = Repository(clock=clock), Bus(refuses=True)
    async with Orchestrator(
        [Diary], repository, bus=bus, clock=clock, background=False
    ) as orchestrator:

        async def write() -> None:
            await orchestrator.handle(Written("d", "2"))

        repository.then = write
        await orchestrator.handle(Opened("d", "1"))
    document = await _document(repository)
    assert document["version"] == 2
    assert document["sending"]["attempts"] == 1
    assert document["wake"] == document["sending"]["due"]
    assert "lease" not in document


@pytest.mark.parametrize("hot_sagas", [0, 10])
async def test_message_whose_removal_failed_is_removed_with_the_next(
    clock: ManualClock, hot_sagas: int
) -> None:
    """It must not be taken for removed, or it stays in the saga for ever."""
    repository, bus = Repository(clock=clock), Bus()
    async with Orchestrator(
        [Diary], repository, bus=bus, clock=clock, background=False, hot_sagas=hot_sagas
    ) as orchestrator:

        async def write_and_fail() -> None:
            await orchestrator.handle(Written("d", "2"))
            raise ServerUnavailableError("away")

        repository.then = write_and_fail
        await orchestrator.handle(Opened("d", "1"))
        for _ in range(2):  # a removal that waits for the next write does not wait for this
            assert await orchestrator.find(Diary, "d") is not None
        assert (await _document(repository))["outbox"] == []
        assert await orchestrator.run_due() == 0
    assert bus.taken == ["1", "2"]


async def test_message_of_a_saga_that_is_suspended_for_another_reason_is_still_sent(
    clock: ManualClock,
) -> None:
    repository, bus = MemoryRepository(clock=clock), Bus()
    async with Orchestrator(
        [Diary], repository, bus=bus, clock=clock, background=False
    ) as orchestrator:
        await orchestrator.handle(Opened("d", "1"))
        clock.advance(timedelta(minutes=59))
        bus.refuses = True
        await orchestrator.handle(Written("d", "2"))
        clock.advance(timedelta(minutes=1))
        await orchestrator.run_due()
        instance = await orchestrator.find(Diary, "d")
        assert instance is not None
        assert instance.status is Status.SUSPENDED
        bus.refuses = False
        clock.advance(MOMENT)
        await orchestrator.run_due()
    assert bus.taken == ["1", "2"]
