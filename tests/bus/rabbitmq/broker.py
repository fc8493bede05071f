"""What tests do at RabbitMQ itself, beside the bus."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from importlib import import_module
from typing import Any

SERVICES = ("billing", "audit", "shop", "stranger", "orders", "payments")
MOST_PARTITIONS = 32


@contextmanager
def channel_at(uri: str) -> Generator[Any]:
    """Open a channel of pika's blocking connection."""
    pika: Any = import_module("pika")
    connection = pika.BlockingConnection(pika.URLParameters(uri))
    try:
        yield connection.channel()
    finally:
        connection.close()


def remove_all(uri: str, prefix: str, services: Iterable[str] = SERVICES) -> None:
    """Remove whatever a test has left."""
    with channel_at(uri) as channel:
        for service in services:
            name = f"{prefix}.{service}"
            for what in ("dead", "members", *range(MOST_PARTITIONS)):
                channel.queue_delete(f"{name}.{what}")
            channel.exchange_delete(f"{name}.partitions")
            channel.exchange_delete(name)
        channel.exchange_delete(prefix)
