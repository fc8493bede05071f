"""The repositories that come with the library, each ready for one test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymongo
from anyio import to_thread
from motor.motor_asyncio import AsyncIOMotorClient

from examples.sqlite_repository import SqliteRepository
from sagaflow import MemoryRepository, SagaRepository
from sagaflow.mongo import MongoRepository
from sagaflow.testing import ManualClock

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
    try:
        if store == "motor":
            motor: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri)
            yield MongoRepository(motor[database], clock=clock)
            motor.close()
        elif store == "pymongo-async":
            async with MongoRepository.connect(uri, database=database, clock=clock) as made:
                yield made
        else:
            client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri)
            yield MongoRepository(client[database], clock=clock)
            client.close()
    finally:
        await to_thread.run_sync(_drop, uri, database)


def _drop(uri: str, database: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.drop_database(database)
