"""The bus that a word or a URL on the command line stands for; its client is imported then only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final

from sagaflow._model.errors import BusError
from sagaflow.bus.broker import BrokerBus
from sagaflow.mongo import MongoBus, MongoRepository

MONGODB: Final = "mongodb"
"""The bus that needs no server beside the database of the sagas."""
KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "kafka": ("kafka", "KafkaBus"),
    "kafkas": ("kafka", "KafkaBus"),
    "nats": ("nats", "NatsBus"),
    "tls": ("nats", "NatsBus"),
    "redis": ("redis", "RedisBus"),
    "rediss": ("redis", "RedisBus"),
    "unix": ("redis", "RedisBus"),
    "amqp": ("rabbitmq", "RabbitBus"),
    "amqps": ("rabbitmq", "RabbitBus"),
}
"""By the scheme: the extra, which has the name of its package in sagaflow, and the class in it."""

MakeBus = Callable[..., BrokerBus]
"""Makes a bus with the keyword settings that all buses have."""


def check_bus(bus: str) -> None:
    """Refuse what stands for no bus.

    :raises BusError: if it does; its text repeats no more than the scheme.
    """
    if bus != MONGODB:
        _kind_of(bus)


def bus_at(bus: str, repository: MongoRepository | None) -> MakeBus:
    """Return what makes the bus that *bus* stands for.

    :param bus: ``mongodb``, or a URL.
    :param repository: the database, for a bus over MongoDB.
    :raises BusError: if there is no such bus, or it needs a database.
    """
    if bus != MONGODB:
        return partial(_kind_of(bus), bus)
    if repository is None:
        raise BusError(
            "the bus mongodb is in the database: say --mongodb and --database, or --bus URL"
        )
    return partial(MongoBus, repository.database)


def _kind_of(bus: str) -> Any:
    scheme, separator, rest = bus.partition("://")
    known = KINDS.get(scheme.lower()) if separator and rest.strip("/") else None
    if known is None:
        given = f"{scheme}://..." if separator else "what was given"
        schemes = ", ".join(f"{name}://HOST" for name in KINDS)
        raise BusError(f"{given} is no bus: --bus is {MONGODB}, or a URL: {schemes}")
    package, name = known
    kind: Any = getattr(import_module(f"sagaflow.{package}"), name)
    return kind
