from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pymongo
import pytest
from anyio import from_thread
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandStartedEvent

from sagaflow import SagaflowError, ServerUnavailableError
from sagaflow._concurrency.event_loops import running_on_trio
from sagaflow._concurrency.generators import closing
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.drivers import (
    Driver,
    MotorDriver,
    PyMongoAsyncDriver,
    PyMongoThreadsDriver,
    driver_for,
)
from tests.contract.records import (
    NOW,
    PARCEL,
    document,
    load,
    plain_change,
    record,
)
from tests.contract.records import (
    store as stored,
)
from tests.mongo.support import Commands, repository_of

pytestmark = pytest.mark.anyio

MANY = 300
"""More than the server sends at once, unless it is asked for more."""


async def test_each_database_has_its_driver(anyio_backend: str) -> None:
    threads: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(connect=False)
    assert isinstance(driver_for(threads["shop"]), PyMongoThreadsDriver)
    threads.close()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(connect=False)
    assert isinstance(driver_for(client["shop"]), PyMongoAsyncDriver)
    if anyio_backend == "asyncio":
        await client.close()
    motor: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(connect=False)
    assert isinstance(driver_for(motor["shop"]), MotorDriver)
    motor.close()


async def test_runtime_is_told_apart(anyio_backend: str) -> None:
    assert running_on_trio() is (anyio_backend == "trio")


@pytest.mark.parametrize("client_type", [AsyncIOMotorClient, AsyncMongoClient])
async def test_asynchronous_client_on_trio_is_refused_with_what_to_use(
    client_type: Any, anyio_backend: str
) -> None:
    if anyio_backend != "trio":
        pytest.skip("about trio")
    repository = MongoRepository(client_type("mongodb://127.0.0.1:1", connect=False)["shop"])
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: load(repository),
        lambda: repository.insert_document(PARCEL, document()),
        lambda: repository.update_document(PARCEL, plain_change("p-1", 1)),
        lambda: repository.count_states(PARCEL),
        lambda: anext(aiter(repository.due(PARCEL, NOW, unclaimed=True))),
        repository.ping,
    ]
    for attempt in attempts:
        with pytest.raises(SagaflowError) as caught:
            await attempt()
        assert "runs on asyncio only" in str(caught.value)
        assert "on trio, pass a database of pymongo.MongoClient" in str(caught.value)


@pytest.fixture
async def repository(
    anyio_backend: str, store: str, mongodb_uri: str, database: str, commands: Commands
) -> AsyncIterator[MongoRepository]:
    """A repository with each driver, whose commands are noted."""
    async with repository_of(store, mongodb_uri, database, event_listeners=[commands]) as made:
        yield made


@pytest.fixture
def many(mongodb_client: pymongo.MongoClient[dict[str, Any]], database: str) -> None:
    """Very many stored sagas."""
    mongodb_client[database][PARCEL].insert_many(document(number) for number in range(MANY))


@pytest.mark.usefixtures("many")
async def test_leaving_a_query_early_closes_its_cursor(
    repository: MongoRepository, commands: Commands
) -> None:
    async with closing(repository.scan_documents(PARCEL)) as found:
        assert (await anext(found))["state"] == "moving"
    assert commands.names[0] == "find"
    assert not commands.open_cursors


@pytest.mark.usefixtures("many")
async def test_failing_within_a_query_closes_its_cursor(
    repository: MongoRepository, commands: Commands
) -> None:
    with pytest.raises(LookupError):
        async with closing(repository.scan_documents(PARCEL)) as found:
            async for _ in found:
                raise LookupError
    assert commands.names[0] == "find"
    assert not commands.open_cursors


@pytest.mark.usefixtures("many")
async def test_cancelling_a_query_ends_it(repository: MongoRepository, commands: Commands) -> None:
    with anyio.CancelScope() as scope:
        async with closing(repository.scan_documents(PARCEL)) as found:
            async for _ in found:
                scope.cancel()
                await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not commands.open_cursors
    assert await repository.count_states(PARCEL) == {"moving": MANY}


class CancelsInserts(Commands):
    """Cancels whoever waits for an insert once it is on its way to the server."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        super().__init__()
        self.scope = scope

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "insert":
            from_thread.run_sync(self.scope.cancel)


async def test_write_in_a_thread_is_waited_for_though_its_caller_is_cancelled(
    mongodb_uri: str, database: str
) -> None:
    inserted: list[bool] = []
    with anyio.CancelScope() as scope:
        async with repository_of(
            "pymongo-threads", mongodb_uri, database, event_listeners=[CancelsInserts(scope)]
        ) as repository:
            inserted.append(await repository.insert_document(PARCEL, document()))
            with anyio.CancelScope(shield=True):
                assert await load(repository) == record()
    assert inserted == [True]
    assert scope.cancel_called


async def test_more_calls_than_connections_wait_their_turn(
    store: str, mongodb_uri: str, database: str
) -> None:
    async with repository_of(
        store, mongodb_uri, database, maxPoolSize=2, waitQueueTimeoutMS=60_000
    ) as repository:
        await stored(repository, *(document(number) for number in range(50)))
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(load, repository, number)


async def test_threads_do_not_wait_for_a_connection(mongodb_uri: str, database: str) -> None:
    """There are no more threads than connections: else the others would run into the timeout."""
    async with repository_of(
        "pymongo-threads", mongodb_uri, database, maxPoolSize=2, waitQueueTimeoutMS=1
    ) as repository:
        await stored(repository, *(document(number) for number in range(50)))


async def test_pool_without_limit_has_threads_too(mongodb_uri: str, database: str) -> None:
    async with repository_of("pymongo-threads", mongodb_uri, database, maxPoolSize=0) as repository:
        await stored(repository, document())


@pytest.mark.parametrize("client_type", [AsyncIOMotorClient, AsyncMongoClient, pymongo.MongoClient])
async def test_operations_cancelled_in_an_outage_leave_the_client_usable(
    client_type: Callable[..., Any], anyio_backend: str
) -> None:
    """On Python 3.11 a lock of PyMongo's asynchronous client stayed locked for good."""
    if anyio_backend == "trio" and client_type is not pymongo.MongoClient:
        pytest.skip("about asyncio")
    client = client_type("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=1_000)
    repository = MongoRepository(client["shop"])
    for _ in range(2):
        with anyio.move_on_after(0.2):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(repository.ping)
    with anyio.fail_after(10), pytest.raises(ServerUnavailableError):
        await repository.ping()
    closed = client.close()
    if closed is not None:
        with anyio.fail_after(10):
            await closed


async def test_client_that_does_not_close_is_left(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str, mongodb_uri: str
) -> None:
    if anyio_backend == "trio":
        pytest.skip("about the asynchronous client")

    class Quick(MongoRepository):
        _closes_within = 0.05

    asynchronous: Any = AsyncMongoClient
    close = asynchronous.close
    closing_clients: list[AsyncMongoClient[Any]] = []

    async def hang(client: AsyncMongoClient[Any]) -> None:
        closing_clients.append(client)
        await anyio.sleep_forever()

    monkeypatch.setattr(AsyncMongoClient, "close", hang)
    with anyio.fail_after(10):
        async with Quick.connect(mongodb_uri, database="shop"):
            pass
    (client,) = closing_clients
    await close(client)


def test_every_driver_has_every_operation() -> None:
    """Else one would only fail where it is used."""
    for driver in (MotorDriver, PyMongoAsyncDriver, PyMongoThreadsDriver):
        assert issubclass(driver, Driver)
        assert not driver.__abstractmethods__
