"""The server itself is killed and started again: workers go on by themselves, and lose nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import pymongo
import pytest

from sagaflow import Orchestrator, OutcomeKind
from sagaflow.mongo import EmbeddedServer, MongoRepository
from tests.reliability.books import audit
from tests.reliability.fleet import Fleet, Worker
from tests.reliability.shop import FATES, Opened, Tally, order_ids
from tests.reliability.worker import Plan

Document = dict[str, Any]

FAILS: Final = "ERROR the store fails"
BACK: Final = "WARNING the store is back"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test's own, with data that outlives it."""
    with EmbeddedServer(tmp_path / "data") as server:
        yield server


def test_workers_outlive_the_server(
    fleet: Fleet[Plan], server: EmbeddedServer, tmp_path: Path
) -> None:
    crew = _kill_server(fleet, server, tmp_path, rounds=10, outages=1, chance=random.Random())
    _check_logs(crew, outages=1)


@pytest.mark.anyio
async def test_acknowledged_writes_outlive_the_server(
    server: EmbeddedServer, anyio_backend: str
) -> None:
    del anyio_backend
    stored: list[str] = []
    with pymongo.MongoClient[Document](server.uri, serverSelectionTimeoutMS=500) as client:
        orchestrator = Orchestrator([Tally], MongoRepository(client["shop"]))

        async def open_some(first: int) -> None:
            for number in range(first, 200, 10):
                outcome = await orchestrator.handle(Opened(str(number)))
                assert outcome.kind is OutcomeKind.STARTED
                stored.append(str(number))

        async with anyio.create_task_group() as tasks:
            for first in range(10):
                tasks.start_soon(open_some, first)
        server.kill()
    server.start()
    with pymongo.MongoClient[Document](server.uri) as client:
        found = {document["_id"] for document in client["shop"]["Tally"].find()}
    assert found == set(stored)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
def test_workers_outlive_the_server_many_times(
    seed: int, fleet: Fleet[Plan], server: EmbeddedServer, tmp_path: Path
) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    crew = _kill_server(fleet, server, tmp_path, rounds=60, outages=10, chance=chance)
    _check_logs(crew, outages=10)


def _kill_server(
    fleet: Fleet[Plan],
    server: EmbeddedServer,
    path: Path,
    *,
    rounds: int,
    outages: int,
    chance: random.Random,
) -> list[Worker[Plan]]:
    """Kill the server now and then while two workers place orders on it; audit the orders."""
    orders = tuple(order_ids(rounds * len(FATES)))
    uri = server.uri
    crew = [
        fleet.start(
            Plan(
                uri=uri,
                database="shop",
                orders=orders,
                log=str(path / f"{runtime}.log"),
                runtime=runtime,
            )
        )
        for runtime in ("asyncio", "trio")
    ]
    for worker in crew:
        worker.wait_until_at_work()
    for _ in range(outages):
        if crew[0].has_ended_within(chance.uniform(0.1, 0.4)):
            break  # there is nothing left to do
        server.kill()
        for worker in crew:
            worker.wait_until(_sees_an_outage)
        server.start()
        assert server.uri == uri
    for worker in crew:
        worker.finish(240)
    client: pymongo.MongoClient[Document] = pymongo.MongoClient(uri)
    audit(client["shop"], orders)
    client.close()
    return crew


def _sees_an_outage(worker: Worker[Plan]) -> bool:
    """Tell whether the last that a worker has said of the server is that it fails."""
    lines = _said_of_the_store(worker)
    return bool(lines) and FAILS in lines[-1]


def _said_of_the_store(worker: Worker[Plan]) -> list[str]:
    return [line for line in worker.log().splitlines() if re.match(r"\d+ [A-Z]+ the store ", line)]


def _check_logs(crew: list[Worker[Plan]], *, outages: int) -> None:
    """Check that each outage was announced once, and its end, and nothing else about it."""
    announced = 0
    for worker in crew:
        lines = _said_of_the_store(worker)
        print(*lines, sep="\n")
        fails = [line for line in lines if FAILS in line]
        back = [line for line in lines if BACK in line]
        assert len(fails) <= outages
        announced += len(fails)
        # A worker that finds nothing left to do may end before it has looked again.
        assert len(back) in (len(fails), len(fails) - 1)
        assert len(lines) == len(fails) + len(back)
    assert announced >= 1
