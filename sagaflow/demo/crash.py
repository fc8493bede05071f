"""``sagaflow demo --crash``: the work is done by a process that is killed, again and again."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import attrs
from attrs import define, frozen

from sagaflow._model.errors import SagaflowError
from sagaflow.demo.server import Server
from sagaflow.demo.settings import Settings, Watcher
from sagaflow.demo.worker import Job

KILLS: Final = 5
"""How often the process is killed."""

logger = logging.getLogger("sagaflow")


@frozen(kw_only=True)
class Crashes:
    """How often the process was killed, and what it left.

    :ivar kills: how often the process was killed.
    :ivar leftovers: how many sagas were left half done by a killed process, and finished by the
        next one.
    """

    kills: int = 0
    leftovers: int = 0


def work_and_crash(
    settings: Settings, server: Server, waiting: Collection[str], watcher: Watcher
) -> Crashes:
    """Have a process place orders, kill it on the way, and have another one go on.

    :param waiting: the ids of the orders.
    :raises SagaflowError: if a process ends by itself.
    """
    draw = random.Random(settings.seed)  # noqa: S311 - to be repeated, not to be secret
    job = Job(
        uri=server.uri,
        options=server.options,
        database=server.database,
        runtime=settings.runtime,
        orders=settings.orders,
        failures=settings.failures,
        seed=settings.seed,
        concurrency=settings.concurrency,
    )
    progress = _Progress(watcher)
    queue, kills = tuple(waiting), 0
    for life in range(KILLS + 1):
        # Each process has its share of the orders, and what earlier ones did not get accepted.
        share = -(-len(queue) * (life + 1) // (KILLS + 1))
        left = tuple(order for order in queue[:share] if order not in progress.placed)
        task = attrs.evolve(job, waiting=left, last=life == KILLS)
        enough = None if task.last else _enough(draw, life, len(progress.placed), share)
        with WorkerProcess(task) as process:
            if progress.follow(process, enough) and process.kill():
                kills += 1
                watcher.killed()
    return Crashes(kills=kills, leftovers=progress.leftovers)


def _enough(draw: random.Random, life: int, placed: int, share: int) -> int:
    """Return how many orders shall have been placed when this process is killed.

    A process is killed before all of its orders are accepted. One of the processes is killed at
    once: while it finishes what the process before it has left.
    """
    if life == KILLS // 2 or placed >= share:
        return placed
    return draw.randint(min(placed + 1, share - 1), share - 1)


@define
class _Progress:
    """What the worker processes have reported so far."""

    watcher: Watcher
    placed: set[str] = attrs.field(factory=set[str])
    leftovers: int = 0

    def follow(self, process: WorkerProcess, enough: int | None) -> bool:
        """Listen to a process until it has done all its work or enough; tell whether it is enough.

        :raises SagaflowError: if the process ends before that.
        """
        for kind, what in process.told():
            match kind, what:
                case "placed", str(order) if order not in self.placed:
                    self.placed.add(order)
                    self.watcher.order_done()
                case "leftovers", int(number):
                    self.leftovers += number
                case "log", [int(level), str(text)]:
                    logger.log(level, "%s", text)
                    continue
                case "error", str(text):
                    raise SagaflowError(text)
                case "done", _:
                    process.wait()
                    return False
                case _:
                    pass
            if enough is not None and len(self.placed) >= enough:
                return True
        raise SagaflowError(
            f"the process that does the work has ended by itself, with status {process.wait()}"
        )


class WorkerProcess:
    """A process that does a job. A context manager that leaves none behind."""

    def __init__(self, job: Job) -> None:
        self._job = job
        # In a session of its own: Ctrl-C is for its parent, which ends it. What the driver has to
        # warn of has been said.
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "sagaflow.demo.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def told(self) -> Iterator[tuple[str, object]]:
        """Give the process its job, and yield what it reports until it ends."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(self._job.to_json().encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # otherwise it has ended in the middle of a line
                kind, what = json.loads(line)
                yield kind, what

    def kill(self) -> bool:
        """Kill the process; tell whether it was alive."""
        alive = self._process.poll() is None
        self._process.kill()
        self._process.wait()
        return alive

    def wait(self) -> int:
        """Wait until the process has ended, and return its status, negative for a signal."""
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdout.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
