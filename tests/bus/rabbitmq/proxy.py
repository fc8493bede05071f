"""A proxy before RabbitMQ, which tests can have hold what goes through it, or cut it off."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.from_thread import start_blocking_portal

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class TcpProxy:
    """Passes bytes on, in a thread of its own.

    :ivar port: where it listens.
    """

    port: int

    def __init__(self, host: str, port: int) -> None:
        self._host, self._server_port = host, port

    @contextmanager
    def running(self) -> Generator[TcpProxy]:
        with start_blocking_portal("asyncio") as self._portal:
            _, self.port = self._portal.start_task(self._serve)
            try:
                yield self
            finally:
                self._portal.call(self._stop)

    def hold(self) -> None:
        """Pass nothing on until `release`."""
        self._portal.call(self._hold)

    def release(self) -> None:
        self._portal.call(self._release)

    def cut(self) -> None:
        """End all connections."""
        self._portal.call(self._cut)

    async def _hold(self) -> None:
        self._open = anyio.Event()

    async def _release(self) -> None:
        self._open.set()

    async def _cut(self) -> None:
        for scope in list(self._connections):
            scope.cancel()

    async def _stop(self) -> None:
        self._scope.cancel()

    async def _serve(self, *, task_status: anyio.abc.TaskStatus[int]) -> None:
        self._open = anyio.Event()
        self._open.set()
        self._connections: set[anyio.CancelScope] = set()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self._scope = anyio.CancelScope()
        with self._scope:
            async with listener:
                task_status.started(listener.extra(SocketAttribute.local_port))  # noqa: S610
                await listener.serve(self._connection)

    async def _connection(self, client: ByteStream) -> None:
        async with client:
            try:
                server = await anyio.connect_tcp(self._host, self._server_port)
            except OSError:
                return
            async with server:
                with anyio.CancelScope() as scope:
                    self._connections.add(scope)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._pass, client, server, scope)
                        tasks.start_soon(self._pass, server, client, scope)
                self._connections.discard(scope)

    async def _pass(self, one: ByteStream, other: ByteStream, scope: anyio.CancelScope) -> None:
        try:
            while True:
                data = await one.receive()
                await self._open.wait()
                await other.send(data)
        except _BROKEN:
            scope.cancel()
