"""A database for one test, opened with a driver, and dropped after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pymongo
from anyio import to_thread
from motor.motor_asyncio import AsyncIOMotorClient

DRIVERS = (
    ("asyncio", "motor"),
    ("asyncio", "pymongo-async"),
    ("asyncio", "pymongo-threads"),
    ("trio", "pymongo-threads"),
)
"""Each driver with a runtime that it has."""
_CLIENTS: dict[str, Any] = {
    "motor": AsyncIOMotorClient,
    "pymongo-async": pymongo.AsyncMongoClient,
    "pymongo-threads": pymongo.MongoClient,
}


@asynccontextmanager
async def opened_database(driver: str, uri: str, name: str) -> AsyncGenerator[Any]:
    """Open a database that no other test uses."""
    client: Any = _CLIENTS[driver](uri)
    try:
        yield client[name]
    finally:
        with anyio.CancelScope(shield=True):
            closed = client.close()
            if closed is not None:
                await closed
            await to_thread.run_sync(drop_database, uri, name)


def drop_database(uri: str, name: str) -> None:
    """Drop a database, whatever driver was used before."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.drop_database(name)
