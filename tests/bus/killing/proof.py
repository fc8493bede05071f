"""Processes and a broker are killed: nothing is lost, and no effect doubled or out of order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
import pymongo
from attrs import define, field, frozen

from sagaflow.exceptions import BusError
from sagaflow.mongo import EmbeddedServer
from tests.bus.killing.services import AT_WORK, EACH, Placed, bus_of

ROOT = Path(__file__).parents[3]
PROCESSES = (
    ("orders", "orders-1", "asyncio"),
    ("orders", "orders-2", "trio"),
    ("payments", "payments-1", "asyncio"),
    ("payments", "payments-2", "trio"),
)


class Broker(Protocol):
    """A server that can be killed, and started again with what it had written."""

    @property
    def uri(self) -> str: ...

    def kill(self) -> None: ...

    def start(self) -> None: ...


Running = Callable[[Path], AbstractContextManager[Broker]]
"""Runs a broker that keeps its data in a folder."""


@frozen
class Place:
    """Where a proof takes place.

    :ivar kind: which bus.
    """

    kind: str
    database: str
    broker: str


@define
class Process:
    """One of the processes, which is started again when it was killed."""

    place: Place
    role: str
    owner: str
    runtime: str
    log: Path
    running: subprocess.Popen[str] | None = field(default=None, init=False)

    def start(self) -> None:
        place = self.place
        command = [sys.executable, "-m", "tests.bus.killing.services", place.kind]
        with self.log.open("a") as log:
            self.running = subprocess.Popen(
                [*command, place.database, place.broker, self.role, self.owner, self.runtime],
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
def crew(place: Place, path: Path) -> Generator[list[Process]]:
    with ExitStack() as stack:
        found: list[Process] = []
        for role, owner, runtime in PROCESSES:
            process = Process(place, role, owner, runtime, path / f"{owner}.log")
            stack.callback(process.kill)
            process.start()
            found.append(process)
        yield found


async def order(place: Place, numbers: range) -> None:
    """Start orders from a process that takes no messages, whatever happens to the broker."""
    with pymongo.MongoClient[dict[str, Any]](
        place.database, serverSelectionTimeoutMS=2_000
    ) as client:
        async with bus_of(place.kind, place.broker, client["shop"], "shop", "shop-1") as shop:
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


async def dead_letters(place: Place) -> list[str]:
    found: list[str] = []
    with pymongo.MongoClient[dict[str, Any]](place.database) as client:
        for service in ("orders", "payments"):
            async with bus_of(place.kind, place.broker, client["shop"], service, "looks") as bus:
                found += [letter.reason async for letter in bus.dead_letters()]
    return found


def wait_for(client: Any, done: int, within: float) -> None:
    """Return once so many orders are charged."""
    ends = time.monotonic() + within
    found = -1
    while found < done:
        found = client["shop"]["Order"].count_documents({"state": "charged"})
        assert time.monotonic() < ends, f"{found} of {done} orders are charged"
        time.sleep(0.02)


def prove(
    kind: str,
    running: Running | None,
    path: Path,
    *,
    seed: int,
    orders: int,
    kills: int,
    outages: int,
) -> None:
    """Kill each process *kills* times and the broker *outages* times while orders are charged.

    :param running: runs the broker; None if that is the server of the database.
    """
    chance = random.Random(seed)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(path / "data"))
        broker = server if running is None else stack.enter_context(running(path / "broker"))
        place = Place(kind, server.uri, broker.uri)
        processes = stack.enter_context(crew(place, path))
        client = stack.enter_context(pymongo.MongoClient[dict[str, Any]](server.uri))
        turns: list[Process | None] = [*processes * kills, *[None] * outages]
        chance.shuffle(turns)
        some = orders // (len(turns) + 1)
        anyio.run(order, place, range(some))
        for turn, process in enumerate(turns, start=1):
            wait_for(client, chance.randrange(some * (turn - 1), some * turn), 60)
            killed = broker if process is None else process
            killed.kill()
            killed.start()
            anyio.run(order, place, range(some * turn, some * (turn + 1)))
        anyio.run(order, place, range(some * (len(turns) + 1), orders))
        wait_for(client, orders, 120)
        books = list(client["shop"]["books"].find())
        assert len(books) == orders * EACH
        wrong = [line for line in books if line["number"] != line["before"]]
        assert wrong == [], "commands of an order were handled out of order"
        assert anyio.run(dead_letters, place) == []
        answers = [saga["data"]["answers"] for saga in client["shop"]["Order"].find()]
        assert answers == [EACH] * orders
