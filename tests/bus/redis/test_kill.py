"""Processes and Redis are killed: nothing is lost, and no effect doubled or out of order."""

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
from tests.bus.redis.servers import MISSING, PROGRAM, client_of, running
from tests.bus.redis.services import AT_WORK, EACH, Placed, bus_of

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
    uri: str
    url: str
    log: Path
    running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.bus.redis.services"]
        with self.log.open("a") as log:
            self.running = subprocess.Popen(
                [*command, self.role, self.uri, self.url, self.owner, self.runtime],
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
def crew(uri: str, url: str, path: Path) -> Generator[list[Process]]:
    with ExitStack() as stack:
        found: list[Process] = []
        for role, owner, runtime in PROCESSES:
            process = Process(role, owner, runtime, uri, url, path / f"{owner}.log")
            stack.callback(process.kill)
            process.start()
            found.append(process)
        yield found


async def place(url: str, numbers: range) -> None:
    """Start orders from a process that takes no messages, whatever happens to Redis."""
    async with bus_of(url, "shop", "shop-1") as shop:
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


def prove(path: Path, seed: int, *, orders: int, kills: int, outages: int) -> None:
    """Kill each process *kills* times and Redis *outages* times while orders are charged."""
    chance = random.Random(seed)
    with (
        EmbeddedServer(path / "data") as server,
        running(path / "redis") as redis,
        crew(server.uri, redis.url, path) as processes,
        pymongo.MongoClient[dict[str, Any]](server.uri) as client,
        client_of(redis) as plain,
    ):
        turns: list[Process | None] = [*processes * kills, *[None] * outages]
        chance.shuffle(turns)
        some = orders // (len(turns) + 1)
        anyio.run(place, redis.url, range(some))
        for turn, process in enumerate(turns, start=1):
            wait_for(client, chance.randrange(some * (turn - 1), some * turn), 60)
            if process is None:
                redis.kill()
                redis.start()
            else:
                process.kill()
                process.start()
            anyio.run(place, redis.url, range(some * turn, some * (turn + 1)))
        anyio.run(place, redis.url, range(some * (len(turns) + 1), orders))
        wait_for(client, orders, 120)
        books = list(client["shop"]["books"].find())
        assert len(books) == orders * EACH
        wrong = [line for line in books if line["number"] != line["before"]]
        assert wrong == [], "commands of an order were handled out of order"
        answers = [saga["data"]["answers"] for saga in client["shop"]["Order"].find()]
        assert answers == [EACH] * orders
        for service in ("orders", "payments"):
            keys = f"sagaflow_bus:service:{service}:"
            assert plain.xlen(f"{keys}dead") == 0
            ends = time.monotonic() + 10
            while plain.xlen(f"{keys}stream"):  # what was handled last is settled just now
                assert time.monotonic() < ends
                time.sleep(0.02)


@pytest.mark.uncounted
@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
@pytest.mark.timeout(180)
def test_each_process_is_killed_once(tmp_path: Path) -> None:
    prove(tmp_path, 1, orders=40, kills=1, outages=1)


@pytest.mark.soak
@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_processes_and_redis_are_killed_many_times(seed: int, tmp_path: Path) -> None:
    print(f"seed {seed}")
    prove(tmp_path, seed, orders=200, kills=6, outages=2)
