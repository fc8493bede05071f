"""A command with a terminal, as a person has it. POSIX only."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class OnTerminal:
    """A command with a terminal as its input and output.

    :param directory: where it makes its temporary directories.
    :param command: which command of sagaflow.
    :param errors_apart: whether its errors go elsewhere.
    """

    def __init__(
        self, directory: Path, *arguments: str, command: str = "demo", errors_apart: bool = True
    ) -> None:
        self._controller, terminal = pty.openpty()
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"NO_COLOR", "FORCE_COLOR", "CI", "TTY_COMPATIBLE"}
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sagaflow", command, *arguments],
                stdin=terminal,
                stdout=terminal,
                stderr=subprocess.PIPE if errors_apart else terminal,
                start_new_session=True,
                env=environment | {"TERM": "xterm", "TMPDIR": str(directory), "COLUMNS": "100"},
            )
        finally:
            os.close(terminal)

    def watch(self, until: str, then: Callable[[int], object]) -> tuple[int, str, str]:
        """Read to the end, do *then* to the process group when *until* has been seen.

        :return: the exit status, the output and the errors.
        """
        seen, met = "", False
        while True:
            try:
                piece = os.read(self._controller, 65536)
            except OSError:  # how Linux says that nobody holds the terminal any more
                break
            if not piece:
                break
            seen += piece.decode(errors="replace")
            if not met and re.search(until, seen):
                met = True
                then(self._process.pid)
        os.close(self._controller)
        _, errors = self._process.communicate(timeout=60)
        assert met, seen
        return self._process.returncode, seen, (errors or b"").decode()

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._controller, text.encode())


def interrupt(group: int) -> None:
    """Press Ctrl-C: the whole group of the terminal gets it, the server as well."""
    os.killpg(group, signal.SIGINT)


def interrupt_a_reader(group: int) -> None:
    """Press Ctrl-C once the process waits for input.

    One that came between the question and the reading of the answer, as no person's does, Python
    would notice only after the answer.
    """
    status = Path(f"/proc/{group}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] == "R":
        os.sched_yield()
    interrupt(group)


def kill(process: int) -> None:
    """Kill the demo, and nothing that it has started."""
    os.kill(process, signal.SIGKILL)
