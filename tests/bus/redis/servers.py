"""Redis servers of the tests' own, and a way to them that can be silenced."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.from_thread import start_blocking_portal
from attrs import define, field

PROGRAM: Final = shutil.which("redis-server")
MISSING: Final = "redis-server is not on this machine (Debian: apt-get install redis-server)"
SAFE: Final = (
    *("--appendonly", "yes", "--appendfsync", "always"),
    *("--maxmemory-policy", "noeviction"),
)
_BROKEN: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@define
class RedisServer:
    """A server, which may be killed and started again."""

    path: Path
    settings: tuple[str, ...] = SAFE
    port: int = field(factory=free_port)
    _running: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert PROGRAM is not None, MISSING
        self.path.mkdir(exist_ok=True)
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.path))
        with (self.path / "redis.log").open("ab") as log:
            self._running = subprocess.Popen(
                [PROGRAM, *where, "--save", "", *self.settings], stdout=log, stderr=log
            )
        ends = time.monotonic() + 30
        while not self._answers():
            assert self._running.poll() is None, (self.path / "redis.log").read_text()
            assert time.monotonic() < ends, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def running(path: Path, settings: tuple[str, ...] = SAFE) -> Generator[RedisServer]:
    server = RedisServer(path, settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def client_of(server: RedisServer) -> Generator[Any]:
    """Return the client's plain interface, with texts."""
    import redis  # noqa: PLC0415 - an extra

    client: Any = redis.Redis(port=server.port, decode_responses=True)
    with client:
        yield client


class Way:
    """Passes on what clients and a server say, unless it is silenced.

    :ivar port: where it listens.
    """

    port: int

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._is_open = anyio.Event()

    @contextmanager
    def running(self) -> Generator[Way]:
        """Run it in a thread of its own."""
        with start_blocking_portal("asyncio") as self._portal:
            _, self.port = self._portal.start_task(self._serve)
            try:
                yield self
            finally:
                self._portal.call(self._stop)

    @contextmanager
    def silenced(self) -> Generator[None]:
        """Keep what comes from clients; it goes on to the server later."""
        self._portal.call(self._close)
        try:
            yield
        finally:
            self._portal.call(self._open)

    async def _close(self) -> None:
        self._is_open = anyio.Event()

    async def _open(self) -> None:
        self._is_open.set()

    async def _stop(self) -> None:
        self._scope.cancel()

    async def _serve(self, *, task_status: anyio.abc.TaskStatus[int]) -> None:
        self._is_open = anyio.Event()
        self._is_open.set()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        with anyio.CancelScope() as self._scope:
            async with listener:
                port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
                task_status.started(port)
                await listener.serve(self._connection)

    async def _connection(self, client: ByteStream) -> None:
        async with client:
            try:
                server = await anyio.connect_tcp("127.0.0.1", self._server_port)
            except OSError:
                return
            async with server, anyio.create_task_group() as tasks:
                tasks.start_soon(self._pass_on, client, server, tasks)
                tasks.start_soon(self._pass_on, server, client, tasks)

    async def _pass_on(
        self, source: ByteStream, target: ByteStream, tasks: anyio.abc.TaskGroup
    ) -> None:
        try:
            while True:
                said = await source.receive()
                await self._is_open.wait()
                await target.send(said)
        except _BROKEN:
            tasks.cancel_scope.cancel()
