"""A MongoDB-protocol server for development, tests and the demo, in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import ClassVar, Final, Self
from uuid import uuid4

from sagaflow._model.errors import SagaflowError

# The program of the child process. The child ends with its parent, however the parent ends: the
# standard input of the child is closed then. Ctrl-C reaches the child as well as the parent, which
# needs the server a little longer, so the child ignores it. It begins once it is told to: a parent
# that Ctrl-C interrupts while it starts the child does not know the child, and cannot end it before
# the directory of its data is removed. The server stands alone: as a replica set of one, it would
# write a log for its replicas with each change.
PROGRAM: Final = """\
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)
if not sys.stdin.readline():
    sys.exit()
from secantus import SecantusDBServer

server = SecantusDBServer(
    port=int(sys.argv[2]),
    storage_path=sys.argv[1],
    replica_set_name=None,
    enable_test_commands=False,
)
server.start()
print(server.port, flush=True)
sys.stdin.read()
server.stop()
"""

_LAST_PORT: Final = 65535


class EmbeddedServer:
    """SecantusDB, started as a child process: MongoDB's wire protocol on WiredTiger.

    A context manager; needs the extra ``sagaflow[embedded]``. For development: it is a standalone
    server in one process, which has neither replicas nor change streams.

    :param path: the directory of its data; a temporary one, removed at the end, if missing.
    :param port: the port where it listens on the loopback interface; a free one by default.
    :raises SagaflowError: if *port* cannot be the number of a port.
    """

    # No settings: only a test runs another program in the child process, or waits for less time.
    _program: ClassVar[str] = PROGRAM
    _start_timeout: ClassVar[timedelta] = timedelta(minutes=1)

    def __init__(self, path: Path | str | None = None, *, port: int = 0) -> None:
        if not 0 <= port <= _LAST_PORT:
            raise SagaflowError(f"port={port} cannot be: a port is a number up to {_LAST_PORT}")
        self._temporary = path is None
        self._path = None if path is None else Path(path)
        self._port = port
        self._process: subprocess.Popen[str] | None = None

    @property
    def uri(self) -> str:
        """The URI at which the server is reached.

        :raises SagaflowError: if the server is not running.
        """
        if self._process is None:
            raise SagaflowError("this EmbeddedServer is not running: use it in a `with` block")
        # The server's bookkeeping of retryable writes grows with every write. sagaflow needs none
        # of that: the token of each write tells whether the write took place.
        return f"mongodb://127.0.0.1:{self._port}/?retryWrites=false"

    def start(self) -> None:
        """Start the server and wait until it answers.

        :raises SagaflowError: if SecantusDB is not installed, does not start, or runs already.
        """
        if self._process is not None:
            raise SagaflowError(f"this EmbeddedServer is running already, at {self.uri}")
        if find_spec("secantus") is None:
            raise SagaflowError(
                "the embedded server is not installed: pip install 'sagaflow[embedded]' (CPython "
                "3.11 to 3.13), or pass the URI of a MongoDB server"
            )
        fresh = self._path is None
        # Known before it is there, so that whatever interrupts this can remove it.
        path = self._path or Path(tempfile.gettempdir(), f"sagaflow-{uuid4().hex}")
        self._path = path
        try:
            if fresh:
                path.mkdir(mode=0o700)
            self._port = self._spawn(path)
        except BaseException:
            self.kill()
            if fresh:
                self.stop()
            raise

    def _spawn(self, path: Path) -> int:
        """Start the child process and return the port where it listens."""
        command = [sys.executable, "-c", self._program, str(path), str(self._port)]
        # A file, since nobody would read a pipe: once full, it would stop the server.
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, constant arguments
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            assert self._process.stdin is not None  # noqa: S101 - it is a pipe
            assert self._process.stdout is not None  # noqa: S101 - likewise
            too_late = Timer(self._start_timeout.total_seconds(), self._process.kill)
            too_late.start()
            try:
                with suppress(BrokenPipeError):  # it has ended, and has said why
                    self._process.stdin.write("begin\n")
                    self._process.stdin.flush()
                line = self._process.stdout.readline()
            finally:
                too_late.cancel()
            if not line:
                self._process.communicate()
                self._process = None
                errors.seek(0)
                reason = errors.read().strip().rpartition("\n")[2] or "it said nothing"
                raise SagaflowError(f"the embedded server did not start: {reason}")
        return int(line)

    def stop(self) -> None:
        """Stop the server in good order, and remove its data if the directory was temporary."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        if self._temporary and self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None

    def kill(self) -> None:
        """Kill the server, as a power cut would. `start` starts it again with its durable data."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
