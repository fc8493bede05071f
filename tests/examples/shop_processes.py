"""The programs of the shop as they are started from a shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from attrs import define, field

from tests.commands.workers import AT_WORK, Running, end

ROOT = Path(__file__).parents[2]


@define
class Shop:
    """Starts the programs on one database and one bus, and ends them all."""

    environment: dict[str, str]
    _stack: ExitStack = field(factory=ExitStack, init=False)

    def begin(self, *command: str) -> Running:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.environment,
        )
        self._stack.callback(end, process)
        return Running(process)

    def begin_workers(self) -> Running:
        return self.begin(
            *("sagaflow", "run", "examples.shop.saga"), "--service=orders", "--processes=2"
        )

    def begin_payments(self) -> Running:
        target = "examples.shop.payments:payments"
        return self.begin("sagaflow", "run", target, "--service=payments")

    def begin_web(self) -> Running:
        return self.begin("uvicorn", "examples.shop.web:app", "--port=0")

    def close(self) -> None:
        self._stack.close()


def at_work(worker: Running, processes: int = 1) -> Running:
    for _ in range(processes):
        worker.until(AT_WORK)
    return worker


def address_of(web: Running) -> str:
    """Wait until the web process answers, and return the host and port."""
    found = re.search(r"http://(\S+)", web.until("Uvicorn running on"))
    assert found is not None
    return found[1]


def kill_a_child(worker: Running) -> int:
    """Kill one of the processes of a worker, and return which."""
    pid = worker.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    os.kill(int(children[0]), signal.SIGKILL)
    return int(children[0])
