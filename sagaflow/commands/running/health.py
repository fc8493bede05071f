"""Answers ``GET /live`` and ``GET /ready`` over HTTP, and nothing else.

Every request has a connection of its own, and of a request only the first line is looked at: there
is no body, no second request and no header that could be read in two ways.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream, Listener, SocketAttribute, SocketStream
from attrs import define, frozen

from sagaflow._model.errors import SagaflowError
from sagaflow._model.log import about, get_logger
from sagaflow._model.texts import line_of
from sagaflow.commands.running.status import Report

logger = get_logger("sagaflow.worker")

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]*)):(\d{1,5})")
_LAST_PORT: Final = 65535
_MOST_BYTES: Final = 8_192
_MOST_CONNECTIONS: Final = 100
_PATIENCE: Final = 5.0
"""How many seconds a connection may last."""
_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,255}) HTTP/1\.[01]\r?\n")
_GONE: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    OSError,
)
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

Ask = Callable[[], Awaitable[Report]]
"""Says how the worker is."""


@frozen
class Address:
    """Where the questions are answered; an empty host stands for every interface."""

    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Address:
        """Return the address that was typed, such as ``127.0.0.1:8080`` or ``[::1]:8080``.

        :raises SagaflowError: if it is none.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None or int(found[3]) > _LAST_PORT:
            raise SagaflowError(
                f"--health is HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, not {text!r}"
            )
        return cls(found[1] or found[2] or "", int(found[3]))


@asynccontextmanager
async def answering(address: Address | None, ask: Ask) -> AsyncGenerator[None]:
    """Answer questions about the health of a worker within the block.

    :param address: where; None for nowhere.
    :raises SagaflowError: if nobody can listen there, such as when another program does.
    """
    if address is None:
        yield
        return
    try:
        listener = await anyio.create_tcp_listener(
            local_host=address.host or None, local_port=address.port, backlog=_MOST_CONNECTIONS
        )
    except OSError as exc:
        raise SagaflowError(
            f"cannot answer at --health {address.host}:{address.port}: {exc.strerror or exc}"
        ) from exc
    async with listener, anyio.create_task_group() as tasks:
        port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no query of Django's
        host = address.host or "127.0.0.1"
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        message = "health is answered at http://%s/live and http://%s/ready"
        logger.info(message, where, where, extra=about())
        tasks.start_soon(_serve, listener, _Answers(ask).answer)
        yield
        tasks.cancel_scope.cancel()


async def _serve(
    listener: Listener[SocketStream], answer: Callable[[SocketStream], Awaitable[None]]
) -> None:
    while True:
        try:
            await listener.serve(answer)
        except* OSError as group:  # no more files, for a while
            error = line_of(group.exceptions[0])
            logger.warning("health is not answered for a moment: %s", error, extra=about())
        await anyio.sleep(1)


@define
class _Answers:
    """Answers connections.

    :ivar connections: how many there are at present.
    """

    ask: Ask
    connections: int = 0

    async def answer(self, stream: SocketStream) -> None:
        """Answer one connection; nothing that it does makes this raise."""
        self.connections += 1
        try:
            async with stream:
                if self.connections > _MOST_CONNECTIONS:
                    return
                with anyio.move_on_after(_PATIENCE):
                    if (head := await _head(stream)) is not None:
                        await stream.send(await self._response(head))
        except _GONE:
            pass
        finally:
            self.connections -= 1

    async def _response(self, head: bytes) -> bytes:
        found = _REQUEST.match(head)
        if found is None:
            return _written(400, {"error": "no request of HTTP/1"})
        method, path = found[1], found[2].partition(b"?")[0]
        if path not in (b"/live", b"/ready"):
            return _written(404, {"error": "ask for /live or /ready"})
        if method not in (b"GET", b"HEAD"):
            return _written(405, {"error": "GET or HEAD"}, b"Allow: GET, HEAD\r\n")
        try:
            report = await self.ask()
        except Exception as exc:  # noqa: BLE001 - whoever asks must be told something
            logger.warning("the health cannot be told: %s", line_of(exc), extra=about())
            return _written(500, {"error": "the health cannot be told"})
        is_well = report.live if path == b"/live" else report.ready
        said = {path[1:].decode(): is_well, "problems": report.problems}
        return _written(200 if is_well else 503, said, bodiless=method == b"HEAD")


async def _head(stream: ByteReceiveStream) -> bytes | None:
    """Return the first line and the headers of a request; None if there is no end to them.

    They are read to their end, though only the first line matters: a connection that is closed with
    something left to read loses the answer.
    """
    received = b""
    while b"\r\n\r\n" not in received and b"\n\n" not in received:
        if len(received) > _MOST_BYTES:
            return None
        received += await stream.receive(_MOST_BYTES)
    return received


def _written(
    status: int, said: Mapping[str, object], header: bytes = b"", *, bodiless: bool = False
) -> bytes:
    body = json.dumps(said).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n"
    ).encode()
    return head + header + b"\r\n" + (b"" if bodiless else body)
