"""A program that forks child processes: one for each line of its input, a job in JSON.

A child starts within milliseconds that way, since everything is imported already. The output of the
program tells which children have started and ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Job(Protocol):
    """What a child process is to do."""

    @property
    def log(self) -> str:
        """The file that it logs to."""
        ...

    def to_json(self) -> str:
        """Return it as one line."""
        ...


JobT = TypeVar("JobT", bound=Job)


class Template(Generic[JobT]):
    """Forks children, and reports their ends.

    :param read: makes a job of a line of the input.
    :param run: does a job, in the child.
    """

    def __init__(self, read: Callable[[bytes], JobT], run: Callable[[JobT], None]) -> None:
        self._read_job = read
        self._run = run
        self._children: set[int] = set()
        self._rest = b""

    def serve(self) -> None:
        """Take jobs until the input ends, and end all children then."""
        while True:
            ready, _, _ = select.select([0], [], [], 0.01)
            if ready and not self._read():
                break
            self._reap()
        for child in self._children:
            os.kill(child, signal.SIGKILL)

    def _read(self) -> bool:
        received = os.read(0, 1 << 20)
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            self._fork(self._read_job(line))
        return bool(received)

    def _fork(self, job: JobT) -> None:
        child = os.fork()
        if child == 0:
            _in_child(lambda: self._run(job), job.log)
        self._children.add(child)
        _say({"started": child})

    def _reap(self) -> None:
        while self._children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            self._children.discard(child)
            code = os.waitstatus_to_exitcode(status)
            _say({"ended": child, "code": code})


def _say(what: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _in_child(work: Callable[[], None], log: str) -> None:
    """Do *work* and end this process, without what the template would do at its end."""
    code = 1
    try:
        os.close(0)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - it is reported, and the process ends
        with open(log, "a", encoding="utf-8") as file:  # noqa: PTH123
            traceback.print_exc(file=file)
    finally:
        os._exit(code)
