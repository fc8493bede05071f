"""What tests of the bus over RabbitMQ share."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.bus.rabbitmq.broker import remove_all
from tests.bus.rabbitmq.proxy import TcpProxy

URI = os.environ.get("SAGAFLOW_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")


@pytest.fixture(scope="session")
def rabbitmq_uri() -> str:
    """A server that answers; all that a test makes there begins with a name of its own."""
    server = urlsplit(URI)
    try:
        socket.create_connection((server.hostname or "", server.port or 5672), timeout=2).close()
    except OSError:
        pytest.skip("no RabbitMQ answers: start one, or set SAGAFLOW_TEST_RABBITMQ to its URI")
    return URI


@pytest.fixture(scope="session")
def rabbitmq_proxy(rabbitmq_uri: str) -> Iterator[TcpProxy]:
    """A proxy before the server, which tests can have hold what goes through it."""
    server = urlsplit(rabbitmq_uri)
    with TcpProxy(server.hostname or "", server.port or 5672).running() as proxy:
        yield proxy


@pytest.fixture
def prefix(rabbitmq_uri: str) -> Iterator[str]:
    """What the names of queues and exchanges of one test begin with."""
    name = f"test-{uuid4().hex[:12]}"
    yield name
    remove_all(rabbitmq_uri, name)
