"""Databases on a MongoDB-protocol server, and what is said to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from typing import Any
from uuid import uuid4

import pymongo
from attrs import define
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, WriteConcern, monitoring
from pymongo.read_concern import ReadConcern

from sagaflow import Saga
from sagaflow.mongo import MongoRepository

DURABLE: dict[str, Any] = {
    "read_concern": ReadConcern("majority"),
    "write_concern": WriteConcern(w="majority", j=True),
}
"""What sagaflow asks for, so that the floor asks for no less."""

_QUIET = {"endSessions", "hello", "ping"}


@contextmanager
def fresh_database(uri: str) -> Generator[str, None, None]:
    """Yield the name of a database that nobody else uses, and drop it at the end."""
    name = f"benchmark_{uuid4().hex[:12]}"
    try:
        yield name
    finally:
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            client.drop_database(name)


@asynccontextmanager
async def open_repository(
    driver: str,
    uri: str,
    database: str,
    *saga_types: type[Saga],
    listeners: Sequence[monitoring.CommandListener] = (),
) -> AsyncGenerator[MongoRepository, None]:
    """Yield a repository with the indexes of these sagas, on this driver's client."""
    options: dict[str, Any] = {"event_listeners": list(listeners)} if listeners else {}
    client: Any
    if driver == "motor":
        client = AsyncIOMotorClient(uri, **options)
    elif driver == "pymongo-async":
        client = AsyncMongoClient(uri, **options)
    elif driver == "pymongo-threads":
        client = pymongo.MongoClient(uri, **options)
    else:
        raise ValueError(f"there is no driver {driver!r}")
    try:
        repository = MongoRepository(client[database])
        for saga_type in saga_types:
            await repository.create_indexes(saga_type)
        yield repository
    finally:
        closing = client.close()
        if closing is not None:
            await closing


class Commands(monitoring.CommandListener):
    """Counts round trips, and the writes in them.

    A transition stores a new token, which tells it from what only removes sent messages.

    :ivar round_trips: commands that were sent.
    :ivar writes: documents that were to be written, whether one by one or many in a command.
    :ivar attempted: those that were transitions.
    :ivar lost: transitions that another write came before.
    """

    def __init__(self) -> None:
        self.round_trips = self.writes = self.attempted = self.lost = 0
        self._open: dict[int, int] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count a command."""
        if event.command_name in _QUIET:
            return
        self.round_trips += 1
        written = _writes(event.command)
        transitions = sum(_is_transition(statement) for statement in written)
        self.writes += len(written)
        self.attempted += transitions
        if transitions:
            self._open[event.request_id] = len(written)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count what did not take place."""
        sent = self._open.pop(event.request_id, None)
        if sent is not None:
            reply = event.reply
            done = reply.get("n", reply.get("nMatched", 0) + reply.get("nInserted", 0))
            self.lost += sent - done

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count a command that failed as a whole."""
        self.lost += self._open.pop(event.request_id, 0)


def _writes(command: Mapping[str, Any]) -> list[Any]:
    """Return the changes and documents that a command holds."""
    changes = [update["u"] for update in command.get("updates", ())]
    operations = [
        operation.get("updateMods", operation.get("document"))
        for operation in (command.get("ops", ()) if "bulkWrite" in command else ())
    ]
    return [*command.get("documents", ()), *changes, *operations]


def _is_transition(statement: Any) -> bool:
    if isinstance(statement, Mapping):
        return "token" in statement or "token" in statement.get("$set", ())
    if isinstance(statement, Sequence):  # a pipeline
        return any("token" in stage.get("$set", ()) for stage in statement)
    return False


@define
class Write:
    """A write of one document.

    :ivar query: None if the document was inserted.
    :ivar document: what was inserted, or the update.
    :ivar matches: whether it must find its document. That may be at another version already for
        what removes a sent message: it was under way at the same time as a transition.
    """

    query: dict[str, Any] | None
    document: dict[str, Any]
    matches: bool = False


class Written(monitoring.CommandListener):
    """Keeps the writes of single documents."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self._open: dict[int, list[Write]] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Keep a write."""
        command: Any = event.command
        inserted, updated = command.get("documents", ()), command.get("updates", ())
        written = [
            *(Write(None, deepcopy(dict(document))) for document in inserted),
            *(Write(deepcopy(dict(one["q"])), deepcopy(dict(one["u"]))) for one in updated),
        ]
        self.writes += written
        self._open[event.request_id] = written

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Note which transitions have found their document."""
        written = self._open.pop(event.request_id, [])
        for write in written:
            write.matches = event.reply["n"] == len(written) and _is_transition(write.document)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Give up: what failed cannot be repeated.

        :raises RuntimeError: always.
        """
        raise RuntimeError(f"{event.command_name} failed: {event.failure}")
