"""The pytest plugin of sagaflow: fixtures for tests of sagas; `docs/testing.md` tells of them.

Every pytest in an environment with sagaflow loads it, whether it is about sagas or not. So it lies
beside the package and imports nothing of it until a fixture is used: that costs nothing, and a
measurement of coverage that starts later misses nothing of the package.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from sagaflow import MemoryRepository
    from sagaflow.mongo import MongoRepository
    from sagaflow.testing import AsyncSagaTest, ManualClock, SagaTest

    Runtime = Literal["asyncio", "trio"]

# What an event loop reads the time from has to go on when the rest stands still.
_LOOPS = ["anyio", "asyncio", "trio"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare what may be set in the configuration file."""
    parser.addini(
        "saga_runtimes",
        "what tests of sagas run on: asyncio, trio; by default what is installed of them",
        type="args",
        default=[],
    )
    parser.addini(
        "saga_mongodb_uri",
        "the MongoDB server for tests of sagas; without one, an embedded server is started",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    config.addinivalue_line(
        "markers", "saga_runtimes(*names): run on these runtimes only, instead of all of them"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `saga_runtime` on every runtime."""
    if "saga_runtime" not in metafunc.fixturenames:
        return
    chosen = metafunc.definition.get_closest_marker("saga_runtimes")
    given: list[str] = metafunc.config.getini("saga_runtimes")
    installed = [name for name in ("asyncio", "trio") if find_spec(name) is not None]
    runtimes = [*chosen.args] if chosen is not None else given or installed
    if "anyio_backend" in metafunc.fixturenames:
        both = ("anyio_backend", "saga_runtime")
        pairs = [(name, name) for name in runtimes]
        # As a mark, it takes the place of the runtimes that anyio would choose.
        mark = pytest.mark.parametrize(both, pairs, ids=runtimes, indirect=["saga_runtime"])
        metafunc.definition.add_marker(mark)
    else:
        metafunc.parametrize("saga_runtime", runtimes, indirect=True)


@pytest.fixture
def saga_runtime(request: pytest.FixtureRequest) -> Runtime:
    """Name the runtime of this run of the test: ``asyncio`` or ``trio``."""
    name: Runtime = request.param
    return name


@pytest.fixture
def saga_clock() -> ManualClock:
    """Make a clock that stands still; the other fixtures share it."""
    from sagaflow.testing import ManualClock

    return ManualClock()


@pytest.fixture
def saga_test(saga_clock: ManualClock, saga_runtime: Runtime) -> Callable[..., SagaTest[Any]]:
    """Give `sagaflow.testing.SagaTest` the clock and the runtime of this test."""
    from sagaflow.testing import SagaTest

    return partial(SagaTest, clock=saga_clock, runtime=saga_runtime)


@pytest.fixture
def async_saga_test(
    saga_clock: ManualClock, saga_runtime: Runtime, anyio_backend: object
) -> Callable[..., AsyncSagaTest[Any]]:
    """Give `sagaflow.testing.AsyncSagaTest` the clock of this test, which runs on each runtime."""
    from sagaflow.testing import AsyncSagaTest

    return partial(AsyncSagaTest, clock=saga_clock)


@pytest.fixture
def memory_repository(saga_clock: ManualClock) -> MemoryRepository:
    """Make an empty repository in memory."""
    from sagaflow import MemoryRepository

    return MemoryRepository(clock=saga_clock)


@pytest.fixture(scope="session")
def saga_mongodb_uri(pytestconfig: pytest.Config) -> Iterator[str]:
    """Tell where a MongoDB-protocol server is: one that is named, or one that is started here."""
    given: str = os.environ.get("SAGAFLOW_TEST_MONGODB_URI", "")
    given = given or pytestconfig.getini("saga_mongodb_uri")
    if given:
        yield given
        return
    if find_spec("secantus") is None:
        pytest.skip(
            "there is no MongoDB to test with: pip install 'sagaflow[embedded]' (CPython 3.11 to "
            "3.13), or set saga_mongodb_uri or SAGAFLOW_TEST_MONGODB_URI to a server"
        )
    from sagaflow.mongo import EmbeddedServer

    with EmbeddedServer() as server:
        yield server.uri


@pytest.fixture
def mongodb_repository(saga_clock: ManualClock, saga_mongodb_uri: str) -> Iterator[MongoRepository]:
    """Make an empty repository on a MongoDB-protocol server, for either runtime."""
    import pymongo

    from sagaflow.mongo import MongoRepository

    name = f"saga_test_{uuid4().hex}"
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(saga_mongodb_uri)
    with client:
        yield MongoRepository(client[name], clock=saga_clock)
        client.drop_database(name)


@pytest.fixture
def frozen_time() -> Callable[..., AbstractContextManager[Any]]:
    """Have `freezegun.freeze_time` leave event loops alone."""
    freezegun = pytest.importorskip("freezegun")
    freeze: Callable[..., AbstractContextManager[Any]] = freezegun.freeze_time
    return partial(freeze, ignore=_LOOPS)
