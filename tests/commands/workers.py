"""Worker processes as they are started from a shell, and what tests do beside them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pymongo
from attrs import define, field

from sagaflow.mongo import MongoBus
from tests.commands.working import MESSAGES, Placed
from tests.counting import counted

ROOT = Path(__file__).parents[2]
AT_WORK = "is at work"


@define
class Running:
    """A worker process; its log is read line by line."""

    process: subprocess.Popen[str]
    lines: list[str] = field(factory=list[str])

    def until(self, *texts: str) -> str:
        """Read the log until a line has all of these texts, and return the line."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if all(text in line for text in texts):
                return self.lines[-1]
        raise AssertionError(f"no line says {texts}: {self.lines}")

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Return the status once the process has ended, and read the rest of the log."""
        assert self.process.stderr is not None
        self.lines += self.process.stderr.read().splitlines()
        return self.process.wait()

    def stop(self) -> int:
        self.tell(signal.SIGTERM)
        return self.end()


@define
class Workers:
    """Starts worker processes on one database, and ends them all."""

    uri: str
    database: str
    client: pymongo.MongoClient[dict[str, Any]]
    _stack: ExitStack = field(factory=ExitStack)

    @property
    def notes(self) -> Any:
        return self.client[self.database]["notes"]

    def begin(
        self, target: str, *options: str, service: str = "orders", **environment: str
    ) -> Running:
        """Start a worker of `tests.commands.working`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "sagaflow", "run", f"tests.commands.{target}", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **counted(),
                "SAGAFLOW_MONGODB_URI": self.uri,
                "SAGAFLOW_DATABASE": self.database,
                "SAGAFLOW_SERVICE": service,
                **environment,
            },
        )
        self._stack.callback(end, process)
        return Running(process)

    def at_work(self, target: str, *options: str, **given: str) -> Running:
        worker = self.begin(target, *options, **given)
        worker.until(AT_WORK)
        return worker

    def place(self, *orders: str) -> None:
        """Place orders, from a process that takes no messages."""

        async def publish() -> None:
            bus = MongoBus(self.client[self.database], service="shop", messages=MESSAGES)
            async with bus:
                for order in orders:
                    await bus.publish(Placed(order), correlation_id=order, message_id=f"m-{order}")

        anyio.run(publish)

    def send(self, *messages: Any) -> None:
        """Publish other messages of orders."""

        async def publish() -> None:
            bus = MongoBus(self.client[self.database], service="shop", messages=MESSAGES)
            async with bus:
                for message in messages:
                    await bus.publish(message, correlation_id=message.order_id)

        anyio.run(publish)

    def charged(self, order: str) -> str:
        """Wait until an order is charged, and return who has done it."""

        def look() -> Any:
            query = {"_id": order, "state": "charged"}
            return self.client[self.database]["Order"].find_one(query)

        found: dict[str, Any] = until_found(look)
        by: str = found["data"]["by"]
        return by

    def written(self, note: str) -> None:
        """Wait until a process has written something down."""
        until_found(lambda: self.notes.find_one({"_id": note}))

    def close(self) -> None:
        self._stack.close()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def until_found(look: Callable[[], Any], within: float = 40) -> Any:
    """Return what *look* finds, once it finds something."""
    ends = time.monotonic() + within
    while (found := look()) is None:
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.005)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def asked(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the content of an answer about health."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def children(pid: int) -> set[int]:
    """Return the processes that a process has started and that live."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return set(map(int, text.split()))


def descendants_end(pids: Iterable[int]) -> None:
    """Wait until none of these processes lives."""
    for pid in pids:
        until_found(partial(_ended, pid))


def _ended(pid: int) -> bool | None:
    """Tell whether a process has ended; None if not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return True if stat.rpartition(")")[2].split()[0] == "Z" else None
