"""Many events for one saga at once: how often it is written, and how many writes are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from attrs import frozen

from benchmarks.measuring import Measurement, in_flight
from benchmarks.server import Commands, fresh_database, open_repository
from sagaflow import (
    Context,
    MemoryRepository,
    Orchestrator,
    Saga,
    SagaRepository,
    State,
    during,
    initially,
)

_METER = "meter"


@frozen
class Opened:
    """The meter starts."""


@frozen
class Counted:
    """One more."""


@frozen
class Closed:
    """The meter ends."""


class MeterSaga(Saga, name="BenchmarkMeter"):
    """Counts."""

    counting = State()
    closed = State(final=True)

    count: int = 0

    opened = initially.on(Opened).goto(counting)
    ended = during(counting).on(Closed).goto(closed)

    @during(counting).on(Counted).stay()
    async def add(self, event: Counted, ctx: Context) -> None:
        """Count one more."""
        self.count += 1


class _CountingRepository(MemoryRepository):
    """Counts the writes."""

    def __init__(self) -> None:
        super().__init__()
        self.commands = Commands()

    async def insert_document(self, saga: str, document: Any) -> bool:
        """Count a transition."""
        return self._noted(await super().insert_document(saga, document))

    async def update_document(self, saga: str, change: Any) -> bool:
        """Count a transition."""
        return self._noted(await super().update_document(saga, change))

    async def bookkeep(self, saga: str, note: Any) -> bool:
        """Count a write that is no transition."""
        self.commands.writes += 1
        return await super().bookkeep(saga, note)

    def _noted(self, stored: bool) -> bool:  # noqa: FBT001
        self.commands.writes += 1
        self.commands.attempted += 1
        self.commands.lost += not stored
        return stored


def in_memory(*, number: int, tasks: int) -> Measurement:
    """Count the writes of the memory repository."""

    async def measure() -> Measurement:
        repository = _CountingRepository()
        return await _measure(repository, lambda: repository.commands, number, tasks)

    return anyio.run(measure)


def on_server(*, driver: str, runtime: str, number: int, tasks: int, uri: str) -> Measurement:
    """Count the writes that the driver sends."""

    async def measure(database: str) -> Measurement:
        commands = Commands()
        async with open_repository(
            driver, uri, database, MeterSaga, listeners=[commands]
        ) as repository:
            return await _measure(repository, lambda: commands, number, tasks)

    with fresh_database(uri) as database:
        return anyio.run(measure, database, backend=runtime)


async def _measure(
    repository: SagaRepository, counted: Callable[[], Commands], number: int, tasks: int
) -> Measurement:
    async with Orchestrator([MeterSaga], repository) as orchestrator:
        await orchestrator.handle(Opened(), correlation_id=_METER, message_id="opened")
        commands = counted()
        writes, attempted, lost = commands.writes, commands.attempted, commands.lost

        async def count(index: int) -> None:
            await orchestrator.handle(Counted(), correlation_id=_METER, message_id=f"m-{index}")

        timing = await in_flight(tasks, count, range(number), warm_up=0)
        instance = await orchestrator.find(MeterSaga, _METER)
        if instance is None or instance.saga.count != number:
            raise RuntimeError(f"{number} events were handled, but the saga says {instance}")
    return Measurement(
        timing.per(number)
        | {
            "writes": commands.writes - writes,
            "attempted": commands.attempted - attempted,
            "lost": commands.lost - lost,
        }
    )
