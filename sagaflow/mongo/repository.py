"""Sagas in MongoDB: one document each, changed by conditional updates."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar, Final, NoReturn

import anyio
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from sagaflow._codec.data import fields_of
from sagaflow._codec.documents import Bookkeeping, DocumentChange, decode_id
from sagaflow._codec.elements import Document, encode_lease
from sagaflow._codec.instance import unreadable_of
from sagaflow._codec.selection import Selection, Summary, Trait, Unreadable, summary_of, trait
from sagaflow._concurrency.event_loops import PerLoop, running_on_trio
from sagaflow._concurrency.generators import closing
from sagaflow._definition.saga import Saga
from sagaflow._forms.size import field_sizes
from sagaflow._model.clock import Clock
from sagaflow._model.errors import RepositoryError, SerializationError
from sagaflow._model.ids import MessageId, SagaId, check_id
from sagaflow._model.record import Lease, Status
from sagaflow.abc import SagaRepository
from sagaflow.mongo.drivers import driver_for
from sagaflow.mongo.errors import TooLargeError, told, translated
from sagaflow.mongo.indexes import indexes_of
from sagaflow.mongo.statements import is_traceable, note_of, removal_of, transition
from sagaflow.mongo.survey import ANY_STATE, SUMMARY_FIELDS, listing, living, surveys
from sagaflow.mongo.writes import Writes

_HOT_FIELDS: Final = (
    "version",
    "token",
    "incarnation",
    "schema",
    "state",
    "status",
    "goal",
    "data",
    "sequence",
    "outbox",
    "sending",
    "compensations",
    "timers",
    "parked",
    "suspension",
    "cancelled",
    "wake",
    "lease",
    "created_at",
    "updated_at",
    "finished_at",
    "expire_at",
)
_STARTED: Final = [None, *(status.value for status in Status if status is not Status.EMBRYO)]
"""The statuses of sagas that are in a state. None finds a document without a status as well, which
is refused where it is read."""
_LIMIT: Final = 16 * 1024 * 1024


class MongoRepository(SagaRepository):
    """Keeps each saga in one document, each class of sagas in a collection of its name.

    Writes are acknowledged by a majority and journaled, whatever the client's defaults are; reads
    see the documents that a majority has. Neither transactions nor a replica set are needed.

    :param database: a database of Motor or PyMongo's ``AsyncMongoClient`` (on asyncio), or of
        PyMongo's ``MongoClient``, which is used in worker threads (on asyncio and trio). With the
        last one, several event loops may share the repository. The client is not closed here.
    :param clock: tells which sagas are stale and which documents have expired.
    :raises SagaflowError: if *database* is none of these.
    """

    _closes_within: ClassVar = 10.0  # seconds, for a client that `connect` has made

    def __init__(
        self,
        database: AsyncIOMotorDatabase[Any] | AsyncDatabase[Any] | Database[Any],
        *,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        self._database = database
        self._driver = driver_for(database)
        self._collections: PerLoop[dict[str, Writes]] = PerLoop(dict[str, Writes])

    @property
    def database(self) -> AsyncIOMotorDatabase[Any] | AsyncDatabase[Any] | Database[Any]:
        """The database, such as for a `MongoBus` that uses the same connections."""
        return self._database

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, uri: str, *, database: str, clock: Clock | None = None, **options: Any
    ) -> AsyncGenerator[MongoRepository, None]:
        """Connect to a server, check that it answers, and close the connection at the end.

        :param uri: such as ``mongodb://localhost:27017``.
        :param database: the name of the database.
        :param options: further options of the driver's client.
        :raises ServerUnavailableError: if no server answers within its selection timeout.
        :raises RepositoryError: if the URI is wrong, or the server refuses.
        """
        _refuse_ambiguous(uri)
        client_type: Any = MongoClient if running_on_trio() else AsyncMongoClient
        with translated("connect", writing=False):
            try:
                client: Any = client_type(uri, **options)
            except (ValueError, TypeError, OSError) as exc:  # no port, a missing certificate
                raise RepositoryError(f"cannot connect: {exc}") from exc
        try:
            with translated("connect", writing=False):
                try:
                    found = client[database]
                except TypeError as exc:  # a name that is no str
                    raise RepositoryError(f"cannot connect: {exc}") from exc
            repository = cls(found, clock=clock)
            await repository.ping()
            yield repository
        finally:
            closed = client.close()
            if closed is not None:
                with anyio.move_on_after(cls._closes_within, shield=True):
                    await closed

    async def ping(self) -> None:
        """Check that the server answers.

        :raises ServerUnavailableError: if no server answers within the driver's selection timeout.
        :raises RepositoryError: if the server refuses.
        """
        with translated("reach the server", writing=False):
            await self._driver.find_one("sagaflow", {"_id": 0}, {"_id": 1})

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        """Read a document; see `SagaRepository.load_document`."""
        fields: Document | None = None
        if message_id is not None:
            fields = dict.fromkeys(_HOT_FIELDS, 1)
            fields["inbox"] = {"$elemMatch": {"$eq": message_id}}
        with translated(f"read {saga} {correlation_id!r}", writing=False):
            found: Document | None = await self._driver.find_one(
                saga, {"_id": check_id(correlation_id)}, fields
            )
        return found

    async def load_recent(self, saga: str, correlation_id: SagaId) -> Document | None:
        """Read a document without its history; see `SagaRepository.load_recent`."""
        with translated(f"read {saga} {correlation_id!r}", writing=False):
            found: Document | None = await self._driver.find_one(
                saga, {"_id": check_id(correlation_id)}, {"history": 0}
            )
        return found

    async def insert_document(self, saga: str, document: Document) -> bool:
        """Store a new document; see `SagaRepository.insert_document`."""
        operation = f"store {saga} {document['_id']!r}"
        try:
            with translated(operation, writing=True):
                fate = await self._writes(saga).insert(document)
            return told(fate, operation)
        except TooLargeError as exc:
            _refuse_size(saga, document, document["data"], exc)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Apply a change to one document; see `SagaRepository.update_document`."""
        operation = f"store {saga} {change.correlation_id!r}"
        alone = not is_traceable(change)
        try:
            with translated(operation, writing=True):
                fate = await self._writes(saga).update(
                    transition(change), size=change.growth, alone=alone
                )
            return told(fate, operation)
        except TooLargeError as exc:
            data = {
                path.partition(".")[2]: value
                for path, value in change.set.items()
                if path.startswith("data.")
            }
            pushed = {name: push.items for name, push in change.push.items()}
            _refuse_size(saga, dict(change.set) | pushed, data, exc)

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Note something about a saga; see `SagaRepository.bookkeep`."""
        operation = f"note something about {saga} {note.correlation_id!r}"
        writes = self._writes(saga)
        with translated(operation, writing=True):
            fate = await writes.update(note_of(note))
            if told(fate, operation):
                return True
            if note.sent:
                told(await writes.update(removal_of(note)), operation)
            return False

    def _writes(self, saga: str) -> Writes:
        """Return the writes to a collection: each event loop has its own, and cannot share them."""
        known = self._collections.get()
        found = known.get(saga)
        if found is None:
            found = known[saga] = Writes(self._driver, saga)
        return found

    async def claim(
        self,
        saga: str,
        correlation_id: SagaId,
        lease: Lease,
        now: datetime,
        *,
        schema: int | None = None,
    ) -> bool:
        """Store a lease on a saga that is due; see `SagaRepository.claim`."""
        query = {"_id": check_id(correlation_id)} | _due(now, unclaimed=True, schema=schema)
        with translated(f"claim {saga} {correlation_id!r}", writing=True):
            update = {"$set": {"lease": encode_lease(lease)}}
            return await self._driver.update_one(saga, query, update) == 1

    async def due(
        self,
        saga: str,
        now: datetime,
        *,
        unclaimed: bool,
        schema: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SagaId]:
        """Yield the ids of sagas with work to do; see `SagaRepository.due`."""
        query = _due(now, unclaimed=unclaimed, schema=schema)
        with translated(f"read what is due of {saga}", writing=False):
            found = self._driver.find(saga, query, {"_id": 1}, sort="wake", limit=limit or 0)
            async with closing(found):
                async for document in found:
                    yield decode_id(document["_id"])

    async def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        """Yield documents; see `SagaRepository.scan_documents`."""
        query: Document = {}
        if state is not None:
            query["state"] = state if isinstance(state, str) else {"$in": list(state)}
            query["status"] = {"$in": _STARTED}  # named, so that the index is in order
        if unchanged_since is not None:
            query.setdefault("state", ANY_STATE)
            query["status"] = {"$in": ["active", "compensating", "suspended"]}
            query["updated_at"] = {"$lt": unchanged_since}
        with translated(f"read sagas of {saga}", writing=False):
            async with closing(self._driver.find(saga, query, None, sort="updated_at")) as found:
                async for document in found:
                    yield document

    async def count_states(self, saga: str) -> dict[str, int]:
        """Return how many sagas are in each state."""
        pipeline: list[Document] = [
            # Without sagas that have not started: their state is empty.
            {"$match": {"state": {"$gt": ""}}},
            {"$match": living(self._clock.now())},
            {"$group": {"_id": "$state", "count": {"$sum": 1}}},
        ]
        with translated(f"count sagas of {saga}", writing=False):
            async with closing(self._driver.aggregate(saga, pipeline)) as groups:
                return {group["_id"]: group["count"] async for group in groups}

    async def delete_document(self, saga: str, correlation_id: SagaId) -> bool:
        """Remove a document and tell whether there was one."""
        with translated(f"delete {saga} {correlation_id!r}", writing=True):
            return await self._driver.delete_one(saga, {"_id": check_id(correlation_id)}) == 1

    async def create_indexes(self, saga_type: type[Saga]) -> None:
        """Make the indexes that the queries and workers use. Call it once, at deployment.

        :raises SagaDefinitionError: if the class cannot be stored.
        :raises RepositoryError: if the server refuses, or has other indexes of these names.
        """
        fields_of(saga_type)
        saga, driver = saga_type.table.saga, self._driver
        with translated(f"make the indexes of {saga}", writing=False):
            for index in indexes_of(saga_type):
                await driver.create_index(saga, list(index.keys), name=index.name, **index.options)

    async def check_indexes(self, saga_type: type[Saga]) -> dict[str, bool]:
        """Tell of each index, by its name, whether the server has it with its keys and options."""
        saga = saga_type.table.saga
        with translated(f"read the indexes of {saga}", writing=False):
            known = await self._driver.index_information(saga)
        return {index.name: index.is_made(known) for index in indexes_of(saga_type)}

    async def summaries(
        self, saga_type: type[Saga], selection: Selection
    ) -> AsyncGenerator[Summary, None]:
        """Yield what a list shows of sagas; see `SagaRepository.summaries`."""
        saga = saga_type.table.saga
        query, sort = listing(selection, self._clock.now())
        fields = dict.fromkeys(SUMMARY_FIELDS, 1)
        with translated(f"list sagas of {saga}", writing=False):
            async with closing(self._driver.find(saga, query, fields, sort=sort)) as found:
                async for document in found:
                    if (summary := summary_of(document)) is not None:
                        yield summary

    async def unreadable(self, saga_type: type[Saga]) -> AsyncGenerator[Unreadable, None]:
        """Yield the documents that cannot be worked on; see `SagaRepository.unreadable`."""
        saga = saga_type.table.saga
        with translated(f"read sagas of {saga}", writing=False):
            async with closing(self._driver.find(saga, {}, None)) as documents:
                async for document in documents:
                    if (found := unreadable_of(saga_type, document)) is not None:
                        yield found

    async def survey(
        self, saga_type: type[Saga], *, finished: bool = False
    ) -> AsyncGenerator[Trait, None]:
        """Yield what sagas have in common; see `SagaRepository.survey`."""
        saga = saga_type.table.saga
        with translated(f"survey sagas of {saga}", writing=False):
            for part, pipeline in surveys(self._clock.now(), finished=finished):
                async with closing(self._driver.aggregate(saga, pipeline)) as groups:
                    async for group in groups:
                        ids = (group["least"], group["greatest"])
                        yield trait(part, group["_id"], group["count"], ids)


def _refuse_ambiguous(uri: object) -> None:
    """Refuse a URI of which the driver would take a part of the password for something else.

    That part would be in the driver's errors, or be looked up as a host name.
    """
    if not isinstance(uri, str):
        raise RepositoryError(
            f"a server is named by a URI such as 'mongodb://localhost', not by {type(uri).__name__}"
        )
    location, _, options = uri.partition("://")[2].partition("?")
    authority, _, path = location.partition("/")
    if "@" in path or ("@" in options and "@" not in authority):
        raise RepositoryError(
            "the URI has an '@' behind its '/' or '?': percent-encode these characters where they "
            "stand in a user name, a password or an option (%40, %2F, %3F)"
        )


def _due(now: datetime, *, unclaimed: bool, schema: int | None) -> Document:
    query: Document = {"wake": {"$lte": now}}
    if unclaimed:
        # Also true without a lease. With $or, not every server would use the index on wake.
        query["lease.until"] = {"$not": {"$gt": now}}
    if schema is not None:
        query["schema"] = {"$not": {"$gt": schema}}
    return query


def _refuse_size(
    saga: str, document: Mapping[str, Any], data: Mapping[str, Any], cause: Exception
) -> NoReturn:
    parts = {f"{saga}.{name}": size for name, size in field_sizes(data).items()}
    if not parts or max(parts.values()) < _LIMIT // 2:
        parts |= {f"{saga} {name}": size for name, size in field_sizes(document).items()}
    largest, size = max(parts.items(), key=lambda part: part[1])
    raise SerializationError(
        largest,
        f"the saga would be larger than the {_LIMIT:,} bytes that MongoDB allows; this part has "
        f"{size:,} bytes. Keep large content elsewhere and store a reference to it",
    ) from cause
