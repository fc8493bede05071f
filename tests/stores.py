"""The repositories that come with the library, each ready for one test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.sqlite_repository import SqliteRepository
from sagaflow import MemoryRepository, SagaRepository
from sagaflow.mongo import MongoRepository
from sagaflow.testing import ManualClock
from tests.databases import opened_database

WITHOUT_SERVER = ("memory", "sqlite")


@asynccontextmanager
async def opened(
    store: str, uri: str, database: str, clock: ManualClock
) -> AsyncGenerator[SagaRepository]:
    """Open an empty repository: in memory, or with a driver on a database that is dropped after."""
    if store == "memory":
        yield MemoryRepository(clock=clock)
        return
    if store == "sqlite":
        with TemporaryDirectory() as folder:
            async with SqliteRepository.open(Path(folder) / "sagas.db", clock=clock) as file:
                yield file
        return
    async with opened_database(store, uri, database) as found:
        yield MongoRepository(found, clock=clock)
