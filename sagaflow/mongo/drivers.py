"""One small adapter for each driver, so that the repository knows none of them."""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

import anyio
import bson
from anyio import CapacityLimiter, to_thread
from attrs import field, frozen
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING, InsertOne, ReadPreference, UpdateOne, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    WriteConcernError,
    WriteError,
)
from pymongo.read_concern import ReadConcern

from sagaflow._concurrency.event_loops import PerLoop, running_on_trio
from sagaflow._concurrency.single_cancellation import cancelled_once
from sagaflow._model.errors import SagaflowError

Document = dict[str, Any]
Request: TypeAlias = InsertOne[Document] | UpdateOne
ResultT = TypeVar("ResultT")

CODEC_OPTIONS: Final[CodecOptions[Document]] = CodecOptions(
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
    document_class=dict,
    # A value that Python cannot hold is read as something else: only its document is damaged then,
    # and the other documents of the same answer can be read.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="surrogateescape",
)
_OPTIONS: Final[dict[str, Any]] = {
    # A decision that ends without a write must not rest on data that may be rolled back, and no
    # message is sent before its transition is durable.
    "read_concern": ReadConcern("majority"),
    "write_concern": WriteConcern(w="majority", j=True),
    "read_preference": ReadPreference.PRIMARY,
    "codec_options": CODEC_OPTIONS,
}
_BATCH: Final = 500
_DUPLICATE_KEY: Final = 11000


@frozen(kw_only=True)
class BulkAnswer:
    """What the server says to several writes.

    :ivar matched: how many updates matched.
    :ivar errors: why the server refused some of the writes, by their place.
    :ivar unconfirmed: why it does not confirm that the other writes are durable; None if it does.
    """

    matched: int
    errors: Mapping[int, OperationFailure] = field(factory=dict[int, OperationFailure])
    unconfirmed: WriteConcernError | None = None


class Driver(ABC):
    """What the repository asks of a driver. Driver errors pass through."""

    @abstractmethod
    async def find_one(
        self, collection: str, query: Document, fields: Mapping[str, Any] | None
    ) -> Any:
        """Return one document or None."""

    @abstractmethod
    async def insert_one(self, collection: str, document: Document) -> bool:
        """Insert a document and tell whether its id was free."""

    @abstractmethod
    async def update_one(self, collection: str, query: Mapping[str, Any], update: Document) -> int:
        """Update at most one document and return how many matched."""

    @abstractmethod
    async def bulk_write(self, collection: str, requests: Sequence[Request]) -> BulkAnswer:
        """Make several writes of one kind; each is tried, even if others fail."""

    @abstractmethod
    async def delete_one(self, collection: str, query: Document) -> int:
        """Delete at most one document and return how many there were."""

    @abstractmethod
    def find(
        self,
        collection: str,
        query: Document,
        fields: Mapping[str, Any] | None,
        *,
        sort: str | None = None,
        limit: int = 0,
    ) -> AsyncIterator[Document]:
        """Yield the documents that match, by ascending *sort*; at most *limit*, if it is not 0."""

    @abstractmethod
    def aggregate(self, collection: str, pipeline: list[Document]) -> AsyncIterator[Document]:
        """Yield the documents that the pipeline makes."""

    @abstractmethod
    async def create_index(self, collection: str, keys: list[str], **options: Any) -> None:
        """Make an index, if it is not there yet."""

    @abstractmethod
    async def index_information(self, collection: str) -> Document:
        """Return the indexes of a collection, by name."""


class _AwaitedDriver(Driver):
    """A driver whose collections are awaited. Runs on asyncio only."""

    _name: str

    def __init__(self, database: Any) -> None:
        self._database = database
        self._collections: dict[str, Any] = {}
        self._loop: object = None

    def _collection(self, name: str) -> Any:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:  # on trio
            running = None
        if running is None or running is not self._loop:
            self._check(running)
        return _kept(self._collections, self._database, name)

    def _check(self, running: object) -> None:
        """Refuse trio, and an asyncio event loop that is not the first one."""
        if running is None or running_on_trio():
            raise SagaflowError(
                f"{self._name} runs on asyncio only: "
                "on trio, pass a database of pymongo.MongoClient"
            )
        if self._loop is not None:
            raise other_loop()
        self._loop = running

    async def _do(self, operation: Awaitable[ResultT]) -> ResultT:
        """Await what the client does."""
        return await operation

    async def _documents(self, cursor: Any) -> AsyncGenerator[Document, None]:
        try:
            while batch := await self._do(cursor.to_list(_BATCH)):
                for document in batch:
                    yield document
        finally:
            with anyio.CancelScope(shield=True):
                await cursor.close()

    async def find_one(
        self, collection: str, query: Document, fields: Mapping[str, Any] | None
    ) -> Any:
        return await self._do(self._collection(collection).find_one(query, fields))

    async def insert_one(self, collection: str, document: Document) -> bool:
        try:
            await self._do(self._collection(collection).insert_one(document))
        except DuplicateKeyError:
            return False
        return True

    async def update_one(self, collection: str, query: Mapping[str, Any], update: Document) -> int:
        result = await self._do(self._collection(collection).update_one(query, update))
        return int(result.matched_count)

    async def bulk_write(self, collection: str, requests: Sequence[Request]) -> BulkAnswer:
        try:
            target = self._collection(collection)
            result = await self._do(target.bulk_write(requests, ordered=False))
        except BulkWriteError as exc:
            return _partial(exc)
        return BulkAnswer(matched=result.matched_count)

    async def delete_one(self, collection: str, query: Document) -> int:
        result = await self._do(self._collection(collection).delete_one(query))
        return int(result.deleted_count)

    async def find(
        self,
        collection: str,
        query: Document,
        fields: Mapping[str, Any] | None,
        *,
        sort: str | None = None,
        limit: int = 0,
    ) -> AsyncIterator[Document]:
        cursor = self._collection(collection).find(query, fields, **_order(sort, limit))
        async with aclosing(self._documents(cursor)) as documents:
            async for document in documents:
                yield document

    async def create_index(self, collection: str, keys: list[str], **options: Any) -> None:
        target = self._collection(collection)
        await self._do(target.create_index(_ascending(keys), **options))

    async def index_information(self, collection: str) -> Document:
        found: Document = await self._do(self._collection(collection).index_information())
        return found


class MotorDriver(_AwaitedDriver):
    """Motor, on asyncio."""

    _name = "Motor"

    async def aggregate(self, collection: str, pipeline: list[Document]) -> AsyncIterator[Document]:
        cursor = self._collection(collection).aggregate(pipeline)
        async with aclosing(self._documents(cursor)) as documents:
            async for document in documents:
                yield document


class PyMongoAsyncDriver(_AwaitedDriver):
    """PyMongo's own asynchronous client, on asyncio."""

    _name = "PyMongo's asynchronous client"

    if sys.version_info < (3, 12):

        async def _do(self, operation: Awaitable[ResultT]) -> ResultT:
            """Await what the client does; its locks would not survive a second cancellation."""
            return await cancelled_once(operation)

    async def aggregate(self, collection: str, pipeline: list[Document]) -> AsyncIterator[Document]:
        cursor = await self._do(self._collection(collection).aggregate(pipeline))
        async with aclosing(self._documents(cursor)) as documents:
            async for document in documents:
                yield document


class PyMongoThreadsDriver(Driver):
    """PyMongo's synchronous client in worker threads, on asyncio and on trio.

    :param abandons_writes: whether a write that is cancelled is left to its thread, where it may
        still take place. Otherwise cancelling waits for the answer of the server.
    """

    def __init__(self, database: Database[Document], *, abandons_writes: bool = False) -> None:
        self._database = database
        self._abandons_writes = abandons_writes
        self._collections: dict[str, Any] = {}
        # As many threads as the client has connections: more would wait for one anyway.
        most = database.client.options.pool_options.max_pool_size or 100
        self._limiter = PerLoop(lambda: CapacityLimiter(most))

    def _collection(self, name: str) -> Any:
        return _kept(self._collections, self._database, name)

    async def _run(self, work: Callable[[], ResultT], *, abandon: bool = False) -> ResultT:
        return await to_thread.run_sync(
            work,
            limiter=self._limiter.get(),
            abandon_on_cancel=abandon or self._abandons_writes,
        )

    async def find_one(
        self, collection: str, query: Document, fields: Mapping[str, Any] | None
    ) -> Any:
        target = self._collection(collection)
        return await self._run(lambda: target.find_one(query, fields), abandon=True)

    async def insert_one(self, collection: str, document: Document) -> bool:
        target = self._collection(collection)
        try:
            await self._run(lambda: target.insert_one(document))
        except DuplicateKeyError:
            return False
        return True

    async def update_one(self, collection: str, query: Mapping[str, Any], update: Document) -> int:
        target = self._collection(collection)
        return int(await self._run(lambda: target.update_one(query, update).matched_count))

    async def bulk_write(self, collection: str, requests: Sequence[Request]) -> BulkAnswer:
        target = self._collection(collection)
        try:
            result = await self._run(lambda: target.bulk_write(requests, ordered=False))
        except BulkWriteError as exc:
            return _partial(exc)
        return BulkAnswer(matched=result.matched_count)

    async def delete_one(self, collection: str, query: Document) -> int:
        target = self._collection(collection)
        return int(await self._run(lambda: target.delete_one(query).deleted_count))

    async def find(
        self,
        collection: str,
        query: Document,
        fields: Mapping[str, Any] | None,
        *,
        sort: str | None = None,
        limit: int = 0,
    ) -> AsyncIterator[Document]:
        cursor = self._collection(collection).find(query, fields, **_order(sort, limit))
        async with aclosing(self._batches(cursor)) as documents:
            async for document in documents:
                yield document

    async def aggregate(self, collection: str, pipeline: list[Document]) -> AsyncIterator[Document]:
        target = self._collection(collection)
        cursor = await self._run(lambda: target.aggregate(pipeline))
        async with aclosing(self._batches(cursor)) as documents:
            async for document in documents:
                yield document

    async def _batches(self, cursor: Any) -> AsyncGenerator[Document, None]:
        try:
            while batch := await self._run(partial(_take, cursor)):
                for document in batch:
                    yield document
        finally:
            with anyio.CancelScope(shield=True):
                await self._run(cursor.close)

    async def create_index(self, collection: str, keys: list[str], **options: Any) -> None:
        target = self._collection(collection)
        await self._run(lambda: target.create_index(_ascending(keys), **options))

    async def index_information(self, collection: str) -> Document:
        target = self._collection(collection)
        return await self._run(lambda: dict(target.index_information()))


def _kept(collections: dict[str, Any], database: Any, name: str) -> Any:
    """Return a collection, made only once: making it takes as long as some operations."""
    found = collections.get(name)
    if found is None:
        found = collections[name] = database.get_collection(name, **_OPTIONS)
    return found


def encoded_size(document: Mapping[str, Any]) -> int:
    """Return how many bytes the driver makes of *document*; raise what the driver would raise."""
    return len(bson.encode(document, codec_options=CODEC_OPTIONS))


def _partial(error: BulkWriteError) -> BulkAnswer:
    details: Any = error.details
    unconfirmed: WriteConcernError | None = None
    for found in details["writeConcernErrors"]:
        unconfirmed = WriteConcernError(found.get("errmsg", ""), found.get("code"), found)
    return BulkAnswer(
        matched=details["nMatched"],
        errors={found["index"]: _refusal(found) for found in details["writeErrors"]},
        unconfirmed=unconfirmed,
    )


def _refusal(found: Mapping[str, Any]) -> OperationFailure:
    kind = DuplicateKeyError if found["code"] == _DUPLICATE_KEY else WriteError
    return kind(found.get("errmsg", ""), found["code"])


def _order(sort: str | None, limit: int) -> Document:
    """Return the options of a query for *limit* documents by ascending *sort*.

    Before MongoDB 6.0, a server refuses to sort more than 100 MB that no index has in order, unless
    it is told that it may use its disk.
    """
    options: Document = {"limit": limit}
    if sort is not None:
        options["sort"] = [(sort, ASCENDING)]
        if not limit:
            options["allow_disk_use"] = True
    return options


def _take(cursor: Any) -> list[Document]:
    return list(islice(cursor, _BATCH))


def driver_for(database: object, *, abandons_writes: bool = False) -> Driver:
    """Return the adapter for a database of one of the three drivers.

    :param abandons_writes: whether a write that is cancelled may still take place, where the driver
        cannot break it off.
    :raises SagaflowError: if *database* is of none of these drivers.
    """
    if isinstance(database, Database):
        return PyMongoThreadsDriver(
            database,  # pyright: ignore[reportUnknownArgumentType]
            abandons_writes=abandons_writes,
        )
    if isinstance(database, AsyncDatabase):
        return PyMongoAsyncDriver(database)
    if isinstance(database, AsyncIOMotorDatabase):
        return MotorDriver(database)
    raise SagaflowError(
        f"MongoRepository takes a database of Motor, of pymongo.AsyncMongoClient or of "
        f'pymongo.MongoClient, such as client["shop"], not {type(database).__qualname__}'
    )


def other_loop() -> SagaflowError:
    """Return the error about an asynchronous client that is used in a second event loop."""
    return SagaflowError(
        "an asynchronous MongoDB client belongs to the event loop that has used it first, and this "
        "is another loop: make a client and a repository in each event loop, or pass a database of "
        "pymongo.MongoClient, which event loops in several threads may share"
    )


def _ascending(keys: list[str]) -> list[tuple[str, int]]:
    return [(key, ASCENDING) for key in keys]
