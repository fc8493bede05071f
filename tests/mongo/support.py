"""Repositories with each driver, and what they say to the server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, monitoring

from sagaflow.mongo import MongoRepository
from sagaflow.testing import ManualClock


class Commands(monitoring.CommandListener):
    """Notes the commands that a client sends for its user."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.open_cursors: set[int] = set()

    @property
    def names(self) -> list[str]:
        """What the commands are called, in their order."""
        return [next(iter(command)) for command in self.sent]

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Note a command."""
        if event.command_name not in {"endSessions", "ping"}:
            self.sent.append(dict(event.command))
        if event.command_name == "getMore":
            self.open_cursors.discard(event.command["getMore"])
        elif event.command_name == "killCursors":
            self.open_cursors.difference_update(event.command["cursors"])

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Note the cursor that a command has left open."""
        cursor = event.reply.get("cursor", {}).get("id", 0)
        if cursor:
            self.open_cursors.add(cursor)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""


class Clients(monitoring.TopologyListener):
    """Counts the clients that are open."""

    def __init__(self) -> None:
        self.open = 0

    def opened(self, event: monitoring.TopologyOpenedEvent) -> None:
        """Count one more."""
        self.open += 1

    def closed(self, event: monitoring.TopologyClosedEvent) -> None:
        """Count one less."""
        self.open -= 1

    def description_changed(self, event: monitoring.TopologyDescriptionChangedEvent) -> None:
        """Do nothing."""


@asynccontextmanager
async def repository_of(
    store: str, uri: str, database: str, *, clock: ManualClock | None = None, **options: Any
) -> AsyncGenerator[MongoRepository, None]:
    """Yield a repository whose client has these options."""
    if store == "motor":
        motor: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri, **options)
        yield MongoRepository(motor[database], clock=clock)
        motor.close()
    elif store == "pymongo-async":
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri, **options)
        yield MongoRepository(client[database], clock=clock)
        await client.close()
    else:
        threads: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri, **options)
        yield MongoRepository(threads[database], clock=clock)
        threads.close()
