"""One repository in several threads, each with an event loop of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import anyio
import pymongo
import pytest
from attrs import frozen
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from sagaflow import (
    Context,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaflowError,
    State,
    during,
    initially,
)
from sagaflow.mongo import MongoRepository
from tests.mongo.watching import WATCH

THREADS = 4
SAGAS = 10
SECONDS = 20


@frozen
class Begin:
    order: str


@frozen
class Charge:
    order: str


@frozen
class Stop:
    order: str


class Order(Saga, correlate_by="order"):
    open = State()
    closed = State(final=True)

    @initially.on(Begin).goto(open)
    def begin(self, event: Begin, ctx: Context) -> None:
        ctx.send(Charge(event.order))

    stop = during(open).on(Stop).goto(closed)


def work_in_threads(uri: str, runtime: str, database: str) -> int:
    """Have several threads share a repository; return how many came to their end in time."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri, maxPoolSize=2)
    repository = MongoRepository(client[database])
    done: list[str] = []

    async def main(name: str) -> None:
        bus, charged = MemoryBus(), list[Charge]()
        bus.subscribe(Charge, charged.append)
        async with Orchestrator([Order], repository, bus=bus) as orchestrator:

            async def one(number: int) -> None:
                order = f"{name}-{number}"
                await orchestrator.handle(Begin(order))
                found = await orchestrator.find(Order, order)
                assert found is not None
                assert (await orchestrator.handle(Stop(order))).state == Order.closed

            async with anyio.create_task_group() as tasks:
                for number in range(SAGAS):
                    tasks.start_soon(one, number)
        done.append(name)

    def run(name: str) -> None:
        anyio.run(main, name, backend=runtime)

    threads = [
        threading.Thread(target=run, args=(f"t{number}",), daemon=True) for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS / THREADS)
    return len(done)


def test_threads_may_share_a_repository_over_few_connections(
    anyio_backend: str, mongodb_uri: str, database_name: str
) -> None:
    """Threads that hang could not be ended in this process."""
    ended = subprocess.run(
        [sys.executable, "-m", __name__, mongodb_uri, anyio_backend, database_name],
        capture_output=True,
        text=True,
        timeout=SECONDS + 30,
        check=False,
    )
    assert ended.stdout.strip() == f"{THREADS} of {THREADS}", ended.stderr[-2000:]


def test_repository_of_threads_goes_on_in_the_next_event_loop(
    anyio_backend: str, mongodb_uri: str, database_name: str
) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
        orchestrator = Orchestrator([Order], MongoRepository(client[database_name]))
        started = anyio.run(orchestrator.handle, Begin("o"), backend=anyio_backend)
        stopped = anyio.run(orchestrator.handle, Stop("o"), backend=anyio_backend)
    assert (started.kind, stopped.kind) == (OutcomeKind.STARTED, OutcomeKind.TRANSITIONED)


@pytest.mark.parametrize("client_type", [AsyncIOMotorClient, AsyncMongoClient])
@pytest.mark.parametrize("used_by", ["the repository", "its owner"])
def test_asynchronous_client_in_a_second_event_loop_is_refused_with_what_to_do(
    client_type: Any, used_by: str, mongodb_uri: str, database_name: str
) -> None:
    if (
        used_by == "its owner"
        and client_type.__name__ == "AsyncMongoClient"
        and pymongo.version_tuple[:2] < (4, 12)
    ):
        pytest.skip("PyMongo tells which loop its client belongs to from 4.12 on")
    client = client_type(mongodb_uri)
    database = client[database_name]
    repository = MongoRepository(database)
    orchestrator = Orchestrator([Order], repository, hot_sagas=0)

    async def use() -> None:
        if used_by == "the repository":
            await repository.ping()
            return
        with WATCH.away():
            await database["x"].find_one({})

    async def close() -> None:
        if (closed := client.close()) is not None:
            await closed

    with asyncio.Runner() as first:
        first.run(use())
        for event in (Begin("o"), Stop("o")):
            with (
                asyncio.Runner() as other,
                pytest.raises(SagaflowError, match=r"another loop: .*pymongo\.MongoClient"),
            ):
                other.run(orchestrator.handle(event))
        first.run(close())


if __name__ == "__main__":
    import os

    print(f"{work_in_threads(*sys.argv[1:4])} of {THREADS}", flush=True)
    os._exit(0)  # whoever hangs would keep the process
