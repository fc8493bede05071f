"""Every asynchronous test runs on asyncio and trio; a test that takes `repository` also runs on
memory and on a real MongoDB-protocol server with each driver that the runtime has.

`SAGAFLOW_TEST_MONGODB_URI` names a server to use instead of the embedded one, and
`SAGAFLOW_TEST_STORES` the pairs to run on, such as ``trio-memory,asyncio-motor``, instead of all.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest

from sagaflow import SagaRepository
from sagaflow.mongo import EmbeddedServer
from sagaflow.testing import ManualClock
from tests.counting import leave_children_uncounted
from tests.mongo.watching import WATCH
from tests.stores import WITHOUT_SERVER, opened

RUNTIMES = ("asyncio", "trio")
_ALL_STORES = (
    ("asyncio", "memory"),
    ("trio", "memory"),
    ("asyncio", "motor"),
    ("asyncio", "pymongo-async"),
    ("asyncio", "pymongo-threads"),
    ("trio", "pymongo-threads"),
    ("trio", "sqlite"),
)
_CHOSEN = os.environ.get("SAGAFLOW_TEST_STORES", "").split(",")
STORES = tuple(pair for pair in _ALL_STORES if "-".join(pair) in _CHOSEN) or _ALL_STORES


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what the child processes of the tests inherit.

    The coverage of the workers of a parallel run is measured, but not that of what they start,
    unless a test says so with `counted`. A shell has what it runs in the background ignore Ctrl-C,
    which tests send to their children.
    """
    if hasattr(config, "workerinput"):
        leave_children_uncounted()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# To note which lines run takes twice the time. These stores run every line that others run as well,
# but for the drivers, which have tests of their own; and proofs repeat what others do, many times.
_COUNTED_STORES = (("asyncio", "memory"), ("trio", "pymongo-threads"))
_COUNTED_ON_ALL_STORES = ("tests/contract/", "tests/mongo/", "tests/bus/")
_NOT_COUNTED = ("tests/proofs/",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests for which the lines that they run are not counted."""
    for item in items:
        if _is_uncounted(item):
            item.add_marker(pytest.mark.uncounted)


def _is_uncounted(item: pytest.Item) -> bool:
    if item.nodeid.startswith(_NOT_COUNTED):
        return True
    call = (
        item.callspec if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    )
    if call is None or "store" not in call.params or item.nodeid.startswith(_COUNTED_ON_ALL_STORES):
        return False
    return (call.params["anyio_backend"], call.params["store"]) not in _COUNTED_STORES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on every runtime, and with a store on every pair of runtime and store."""
    names = metafunc.fixturenames
    if "store" in names:
        ids = [f"{runtime}-{store}" for runtime, store in STORES]
        metafunc.parametrize(("anyio_backend", "store"), STORES, ids=ids, indirect=True)
    elif "anyio_backend" in names:
        metafunc.parametrize("anyio_backend", RUNTIMES, indirect=True)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The runtime of this run of the test."""
    name: str = request.param
    return name


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """The kind of repository that this run of the test is about."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """Where the MongoDB-protocol server of this test run is."""
    given = os.environ.get("SAGAFLOW_TEST_MONGODB_URI")
    if given is not None:
        yield given
        return
    with EmbeddedServer() as server:
        yield server.uri


@pytest.fixture(scope="session")
def mongodb_client(mongodb_uri: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A plain client for looking behind the library's back."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongodb_uri)
    yield client
    client.close()


@pytest.fixture
def database_name() -> str:
    """A database that no other test uses."""
    return f"test_{uuid4().hex}"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
async def repository(
    anyio_backend: str,
    store: str,
    clock: ManualClock,
    database_name: str,
    request: pytest.FixtureRequest,
) -> AsyncIterator[SagaRepository]:
    """An empty repository of the kind that this run of the test is about."""
    uri = "" if store in WITHOUT_SERVER else request.getfixturevalue("mongodb_uri")
    async with opened(store, uri, database_name, clock) as made:
        yield made


@pytest.fixture(autouse=True)
def _quiet_driver(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="pymongo")


@pytest.fixture(autouse=True)
def _plain_commands() -> Iterator[None]:
    """Whatever the library has said to a server, every MongoDB server would understand."""
    yield
    if found := WATCH.taken():
        pytest.fail("\n".join(found))
