"""What tests of the bus over Redis share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.bus.redis.servers import MISSING, PROGRAM, RedisServer, Way, client_of, running


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of this test run."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_way(redis_server: RedisServer) -> Iterator[Way]:
    """A way to that server which can be silenced."""
    with Way(redis_server.port).running() as way:
        yield way


@pytest.fixture
def prefix() -> str:
    """What the keys of no other test begin with."""
    return f"test_{uuid4().hex}"


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[Any]:
    """A plain client for looking behind the library's back."""
    with client_of(redis_server) as client:
        yield client
