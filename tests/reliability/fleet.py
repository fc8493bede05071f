"""Worker processes, as the tests see them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any, Final, Generic, Self

from attrs import define, field

from tests.reliability.template import JobT
from tests.reliability.worker import AT_WORK

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 60.0


@define
class Worker(Generic[JobT]):
    """One worker process."""

    pid: int
    plan: JobT
    code: int | None = None
    _ended: threading.Event = field(factory=threading.Event)

    def end(self, code: int) -> None:
        """Note how it has ended."""
        self.code = code
        self._ended.set()

    def kill(self) -> bool:
        """End it at once, whatever it is doing; tell whether it still ran."""
        if self._ended.is_set():
            return False
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return self.wait() == -signal.SIGKILL

    def wait(self, seconds: float = _PATIENCE) -> int:
        """Wait for its end and return its exit code; a signal's is negative."""
        if not self._ended.wait(seconds):
            raise AssertionError(f"a worker has not ended within {seconds} s:\n{self.log()}")
        assert self.code is not None
        return self.code

    def has_ended_within(self, seconds: float) -> bool:
        """Tell whether it ends within so many seconds."""
        return self._ended.wait(seconds)

    def wait_until(self, holds: Callable[[Worker[JobT]], bool]) -> None:
        """Return once *holds* is true of it, or it has ended."""
        for _ in range(3_000):
            if holds(self) or self.has_ended_within(0.01):
                return
        raise AssertionError(f"{holds.__name__} does not hold within 30 s:\n{self.log()}")

    def wait_until_at_work(self) -> None:
        """Return once it has reached the server."""
        self.wait_until(_is_at_work)

    def finish(self, seconds: float = _PATIENCE) -> None:
        """Wait until it has done all its work."""
        code = self.wait(seconds)
        if code != 0:
            raise AssertionError(f"a worker ended with {code}:\n{self.log()}")

    def log(self) -> str:
        """Return what it has logged."""
        path = Path(self.plan.log)
        return path.read_text(encoding="utf-8") if path.exists() else ""


def _is_at_work(worker: Worker[Any]) -> bool:
    return AT_WORK in worker.log()


class Fleet(Generic[JobT]):
    """Starts worker processes. A context manager that leaves none behind.

    :param module: the program that forks them, a `Template`.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[str] | None = None
        self._workers: dict[int, Worker[JobT]] = {}
        self._started: Queue[int] = Queue()
        self._early: dict[int, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", self._module]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(self, plan: JobT) -> Worker[JobT]:
        """Start a worker."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(plan.to_json() + "\n")
        self._process.stdin.flush()
        worker = Worker(self._started.get(timeout=_PATIENCE), plan)
        with self._lock:
            self._workers[worker.pid] = worker
            if worker.pid in self._early:
                worker.end(self._early.pop(worker.pid))
        return worker

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "started" in said:
                self._started.put(said["started"])
                continue
            with self._lock:
                worker = self._workers.pop(said["ended"], None)
                if worker is None:  # before its start was taken note of
                    self._early[said["ended"]] = said["code"]
                else:
                    worker.end(said["code"])
