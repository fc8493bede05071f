"""Processes and RabbitMQ are killed: nothing is lost, and no effect doubled or out of order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
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
from tests.bus.mongo.test_kill import PROCESSES, wait_for
from tests.bus.rabbitmq.servers import MISSING, PROGRAM, running
from tests.bus.rabbitmq.services import bus_of

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@define
class Process:
    """One of the processes, which is started again when it was killed."""

    role: str
    owner: str
    runtime: str
    uris: tuple[str, str]
    log: Path
    running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.bus.rabbitmq.services", self.role, *self.uris]
        with self.log.open("a") as log:
            self.running = subprocess.Popen(
                [*command, self.owner, self.runtime],
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
def crew(uris: tuple[str, str], path: Path) -> Generator[list[Process]]:
    with ExitStack() as stack:
        found: list[Process] = []
        for role, owner, runtime in PROCESSES:
            process = Process(role, owner, runtime, uris, path / f"{owner}.log")
            stack.callback(process.kill)
            process.start()
            found.append(process)
        yield found


async def place(uri: str, numbers: range) -> None:
    """Start orders from a process that takes no messages, whatever happens to the server."""
    async with bus_of(uri, "shop", "shop-1") as shop:
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


async def count_dead_letters(uri: str) -> int:
    count = 0
    for service in ("orders", "payments"):
        async with bus_of(uri, service, "reader") as bus:
            count += len([letter async for letter in bus.dead_letters()])
    return count


def prove(path: Path, seed: int, *, orders: int, kills: int, outages: int) -> None:
    """Kill each process *kills* times and RabbitMQ *outages* times while orders are charged."""
    chance = random.Random(seed)
    with (
        EmbeddedServer(path / "data") as database,
        running(path / "rabbitmq") as server,
        crew((server.uri, database.uri), path) as processes,
        pymongo.MongoClient[dict[str, Any]](database.uri) as client,
    ):
        turns: list[Process | None] = [*processes * kills, *[None] * outages]
        chance.shuffle(turns)
        some = orders // (len(turns) + 1)
        anyio.run(place, server.uri, range(some))
        for turn, process in enumerate(turns, start=1):
            wait_for(client, chance.randrange(some * (turn - 1), some * turn), 60)
            if process is None:
                server.kill()
                server.start()
            else:
                process.kill()
                process.start()
            anyio.run(place, server.uri, range(some * turn, some * (turn + 1)))
        anyio.run(place, server.uri, range(some * (len(turns) + 1), orders))
        wait_for(client, orders, 120)
        books = list(client["shop"]["books"].find())
        assert len(books) == orders * EACH
        wrong = [line for line in books if line["number"] != line["before"]]
        assert wrong == [], "commands of an order were handled out of order"
        assert anyio.run(count_dead_letters, server.uri) == 0
        answers = [saga["data"]["answers"] for saga in client["shop"]["Order"].find()]
        assert answers == [EACH] * orders


@pytest.mark.timeout(180)
def test_each_process_is_killed_once(tmp_path: Path) -> None:
    prove(tmp_path, 1, orders=40, kills=1, outages=1)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_processes_and_server_are_killed_many_times(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    prove(tmp_path, seed, orders=200, kills=6, outages=2)
