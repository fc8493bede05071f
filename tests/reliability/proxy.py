"""A proxy between driver and server that knows where MongoDB's messages begin and end.

It harms the messages that it is told to harm, counted and not timed, so that a test always meets
the same fault.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

import anyio
import bson
from anyio import to_thread
from anyio.abc import ByteStream, SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import define, field

_HEADER: Final = struct.Struct("<iiii")  # length, request id, answers to, operation
_OP_MSG: Final = 2013
_bson: Any = bson  # its own types are incomplete
_BROKEN: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    OSError,
)


class Harm(Enum):
    """What happens to a message."""

    CUT_BEFORE = "cut before the request"
    """The server never sees the request."""
    CUT_WITHIN_REQUEST = "cut within the request"
    """The server sees half of it."""
    CUT_AFTER = "cut after the request"
    """The server has done what it was asked to; the answer is lost."""
    CUT_WITHIN_ANSWER = "cut within the answer"
    """The same, but half of the answer arrives."""
    HOLD = "hold the request"
    """The request waits until the test lets it go."""
    REFUSE = "refuse the request"
    """The server never sees the request, and an error is the answer."""
    AMEND = "amend the answer"
    """The server has done what it was asked to; something is added to its answer."""


DONE: Final = frozenset({Harm.CUT_AFTER, Harm.CUT_WITHIN_ANSWER, Harm.AMEND})
"""With these, the server has done what it was asked to."""


@define(eq=False)
class Fault:
    """What happens to which message.

    :ivar harm: what.
    :ivar command: the command of the request, such as ``update``.
    :ivar number: to which request with this command, counted from 1 once the fault is planted.
    :ivar times: to how many in a row.
    :ivar about: bytes that the request contains, such as the name of a collection.
    :ivar answer: the answer to a refused request, or what is added to an amended one.
    :ivar reached: set once it has happened.
    """

    harm: Harm
    command: str
    number: int = 1
    times: int = 1
    about: str = ""
    answer: dict[str, Any] = field(factory=dict[str, Any])
    reached: threading.Event = field(factory=threading.Event)
    released: threading.Event = field(factory=threading.Event)
    seen: int = 0

    def meets(self, request: bytes) -> bool:
        """Count a request, and tell whether it is to be harmed."""
        # The command is the first element of the first document, behind flags, kind and length.
        if not request[_HEADER.size + 9 :].startswith(b"\x02" + self.command.encode() + b"\0"):
            return False
        if self.about.encode() not in request:
            return False
        self.seen += 1
        return self.number <= self.seen < self.number + self.times


class Proxy:
    """Passes messages on, but for the faults that are planted.

    :ivar port: where it listens.
    :ivar delay: seconds for which it keeps each message, of which the second half comes later.
    """

    port: int
    delay: float = 0

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._server_port = port
        self._faults: list[Fault] = []

    def plant(self, fault: Fault) -> Fault:
        """Have *fault* happen from now on."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Let every message pass from now on."""
        for fault in self._faults:
            fault.released.set()
        self._faults.clear()

    @contextmanager
    def running(self) -> Generator[Proxy]:
        """Run it in a thread of its own."""
        with start_blocking_portal("asyncio") as portal:
            _, port = portal.start_task(self._serve)
            self.port = port
            try:
                yield self
            finally:
                self.clear()
                portal.call(self._stop)

    async def _serve(self, *, task_status: anyio.abc.TaskStatus[int]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self._scope = anyio.CancelScope()
        with self._scope:
            async with listener:
                port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
                task_status.started(port)
                await listener.serve(self._connection)

    async def _stop(self) -> None:
        self._scope.cancel()

    async def _connection(self, client: ByteStream) -> None:
        async with client:
            try:
                server = await anyio.connect_tcp(self._host, self._server_port)
            except OSError:
                return
            async with server:
                await _Connection(client, server, self._faults, self.delay).run()


class _Connection:
    def __init__(
        self, client: ByteStream, server: ByteStream, faults: list[Fault], delay: float
    ) -> None:
        self._client = client
        self._server = server
        self._faults = faults
        self._delay = delay
        self._answers: dict[int, Fault] = {}
        """The faults of the answers, by the id of their request."""

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for source, passed_on in (
                (self._client, self._request),
                (self._server, self._answer),
            ):
                tasks.start_soon(self._pump, source, passed_on, tasks.cancel_scope)

    async def _pump(
        self, source: ByteStream, pass_on: Callable[..., Any], scope: anyio.CancelScope
    ) -> None:
        buffered = BufferedByteReceiveStream(source)
        try:
            while True:
                header = await buffered.receive_exactly(_HEADER.size)
                length, *_ = _HEADER.unpack(header)
                if not await pass_on(header + await buffered.receive_exactly(length - len(header))):
                    break
        except _BROKEN:
            pass
        scope.cancel()  # either end takes the other one with it

    async def _send(self, stream: ByteStream, message: bytes) -> None:
        if self._delay:
            await anyio.sleep(self._delay)
            half = len(message) // 2
            await stream.send(message[:half])
            await anyio.sleep(self._delay)
            message = message[half:]
        await stream.send(message)

    async def _request(self, request: bytes) -> bool:
        """Pass a request on, and tell whether the connection goes on."""
        fault = next((known for known in list(self._faults) if known.meets(request)), None)
        if fault is None:
            await self._send(self._server, request)
            return True
        request_id = _HEADER.unpack(request[: _HEADER.size])[1]
        match fault.harm:
            case Harm.CUT_BEFORE:
                fault.reached.set()
                return False
            case Harm.CUT_WITHIN_REQUEST:
                await self._server.send(request[: len(request) // 2])
                fault.reached.set()
                return False
            case Harm.HOLD:
                fault.reached.set()
                await to_thread.run_sync(fault.released.wait, abandon_on_cancel=True)
                await self._server.send(request)
            case Harm.REFUSE:
                fault.reached.set()
                await self._client.send(_message(request_id, fault.answer))
            case Harm.CUT_AFTER | Harm.CUT_WITHIN_ANSWER | Harm.AMEND:
                self._answers[request_id] = fault
                await self._server.send(request)
        return True

    async def _answer(self, answer: bytes) -> bool:
        _, _, answers_to, _ = _HEADER.unpack(answer[: _HEADER.size])
        fault = self._answers.pop(answers_to, None)
        if fault is None:
            await self._send(self._client, answer)
            return True
        fault.reached.set()
        if fault.harm is Harm.AMEND:
            said: dict[str, Any] = _bson.decode(answer[_HEADER.size + 5 :])
            await self._client.send(_message(answers_to, said | fault.answer))
            return True
        if fault.harm is Harm.CUT_WITHIN_ANSWER:
            await self._client.send(answer[: len(answer) // 2])
        return False


def _message(answers_to: int, said: dict[str, Any]) -> bytes:
    body: bytes = struct.pack("<iB", 0, 0) + _bson.encode(said)
    return _HEADER.pack(_HEADER.size + len(body), 0, answers_to, _OP_MSG) + body
