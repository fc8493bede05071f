"""Worker processes, the database behind them, and a repository on a wire that can be cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pymongo
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.database import Database

from sagaflow.mongo import MongoRepository
from tests.reliability.fleet import Fleet
from tests.reliability.proxy import Proxy
from tests.reliability.worker import Plan
from tests.stores import WITHOUT_SERVER

Document = dict[str, Any]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the repositories without a server where a wire is needed."""
    wireless = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and {"proxy", "store"} <= set(item.fixturenames)
        and item.callspec.params["store"] in WITHOUT_SERVER
    ]
    if wireless:
        config.hook.pytest_deselected(items=wireless)
        items[:] = [item for item in items if item not in wireless]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet[Plan]]:
    """Where worker processes come from."""
    with Fleet[Plan]("tests.reliability.worker") as fleet:
        yield fleet


@pytest.fixture
def database(
    mongodb_client: pymongo.MongoClient[Document], database_name: str
) -> Iterator[Database[Document]]:
    """The database of one test, behind the library's back."""
    yield mongodb_client[database_name]
    mongodb_client.drop_database(database_name)


@pytest.fixture
def proxy(mongodb_client: pymongo.MongoClient[Document]) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    address = mongodb_client.address
    assert address is not None
    with Proxy(*address).running() as running:
        yield running


@pytest.fixture
async def wired(
    anyio_backend: str, store: str, proxy: Proxy, database: Database[Document]
) -> AsyncIterator[MongoRepository]:
    """A repository that reaches the server through the proxy, with each driver and runtime."""
    uri = f"mongodb://127.0.0.1:{proxy.port}/"
    options: dict[str, Any] = {
        "directConnection": True,
        "retryReads": False,  # so that the fault reaches the repository
        "retryWrites": False,
        "serverSelectionTimeoutMS": 5_000,
    }
    if store == "motor":
        motor: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, **options)
        yield MongoRepository(motor[database.name])
        motor.close()
    elif store == "pymongo-async":
        client: AsyncMongoClient[Document] = AsyncMongoClient(uri, **options)
        yield MongoRepository(client[database.name])
        await client.close()
    else:
        threads: pymongo.MongoClient[Document] = pymongo.MongoClient(uri, **options)
        yield MongoRepository(threads[database.name])
        threads.close()
