"""Where a run of a benchmark has its messages and sagas, and the buses there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any, Final
from uuid import uuid4

from attrs import frozen
from pymongo import AsyncMongoClient

from benchmarks.buses.messages import MESSAGES
from benchmarks.server import fresh_database
from sagaflow.bus import BrokerBus
from sagaflow.commands.running.buses import MONGODB
from sagaflow.commands.running.buses import bus_at as bus_of
from sagaflow.mongo import MongoRepository

SERVICES: Final = ("shop", "orders", "participants")


@frozen(kw_only=True)
class Place:
    """Where the messages and sagas of one run are, which nobody else uses.

    :ivar bus: the name of the bus.
    :ivar broker: the URI of its server.
    :ivar server: the URI of the MongoDB-protocol server of the sagas.
    :ivar database: the database there.
    :ivar prefix: what all names on the broker begin with.
    """

    bus: str
    broker: str
    server: str
    database: str
    prefix: str


@contextmanager
def fresh_place(*, bus: str, broker: str = "", uri: str = "") -> Generator[Place]:
    """Yield a place of a run's own, and leave nothing there.

    :param broker: the URI of the broker's server; not needed for ``mongodb``.
    :param uri: the URI of a MongoDB-protocol server, if sagas or messages are stored there.
    """
    prefix = f"benchmark_{uuid4().hex[:12]}"
    if not uri:
        yield from _cleaned(Place(bus=bus, broker=broker, server="", database="", prefix=prefix))
        return
    with fresh_database(uri) as name:
        yield from _cleaned(Place(bus=bus, broker=broker, server=uri, database=name, prefix=prefix))


@asynccontextmanager
async def bus_at(place: Place, service: str) -> AsyncGenerator[BrokerBus, None]:
    """Yield a bus of a service, which is not entered yet.

    :param service: one of `SERVICES`.
    """
    client: AsyncMongoClient[dict[str, Any]] | None = None
    repository: MongoRepository | None = None
    if place.bus == MONGODB:
        client = AsyncMongoClient(place.server)
        repository = MongoRepository(client[place.database])
    try:
        make = bus_of(place.broker or MONGODB, repository)
        yield make(service=service, messages=MESSAGES, prefix=place.prefix)
    finally:
        if client is not None:
            await client.close()


def _cleaned(place: Place) -> Generator[Place]:
    try:
        yield place
    finally:
        if place.bus == "rabbitmq":  # its server is not ours; those of others are thrown away
            _remove_queues(place)


def _remove_queues(place: Place) -> None:
    pika: Any = import_module("pika")
    connection: Any = pika.BlockingConnection(pika.URLParameters(place.broker))
    try:
        channel = connection.channel()
        channel.queue_delete(f"{place.prefix}.bare")
        for service in SERVICES:
            name = f"{place.prefix}.{service}"
            for what in ("dead", "members", *range(8)):
                channel.queue_delete(f"{name}.{what}")
            for exchange in (f"{name}.partitions", name):
                channel.exchange_delete(exchange)
        channel.exchange_delete(place.prefix)
    finally:
        connection.close()
