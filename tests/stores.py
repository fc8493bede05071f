"""The repositories that come with the library, each ready for one test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pymongo
from anyio import to_thread
from motor.motor_asyncio import AsyncIOMotorClient

from sagaflow import MemoryRepository, SagaRepository
from sagaflow.mongo import MongoRepository
from sagaflow.testing import ManualClock


@asynccontextmanager
async def opened(
    store: str, uri: str, database: str, clock: ManualClock
) -> AsyncGenerator[SagaRepository]:
    """Open an empty repository: in memory, or with a driver on a database that is dropped after."""
    if store == "memory":
        yield MemoryRepository(clock=clock)
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
