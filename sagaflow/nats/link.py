"""A connection to NATS. All of it runs on asyncio, which the client needs."""

# The client leaves some types open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final, cast

from attrs import define, field, frozen
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from sagaflow._model.errors import BusError
from sagaflow.nats.uris import hosts

_PING: Final = 5
"""Seconds between two questions whether the server is there; after two without an answer, the
connection is given up."""
_CLOSING: Final = 1
"""Seconds that closing may take when no connection was made. The client would wait for ever after
a server whose certificate is not trusted."""
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_NOT_THE_LAST: Final = frozenset({10071, 10164})
"""What the server says when another message has come: the second while it is still on its way to
the other servers of a cluster."""


@frozen
class Received:
    """A message or a notice that has come in.

    :ivar reply: where a message is acknowledged.
    :ivar status: what a notice of the server says; None for a message.
    """

    subject: str
    reply: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: str | None = None


@frozen
class Stored:
    """A message in a stream.

    :ivar number: its place there.
    """

    number: int
    subject: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Inbox:
    """What has come in on some subjects and was not taken yet."""

    def __init__(self) -> None:
        self._waiting: deque[Received] = deque()
        self._came = asyncio.Event()
        self.is_closed = False

    async def add(self, message: Msg) -> None:
        """Note one more: the client calls this."""
        headers = message.headers or {}
        status = headers.get("Status") if not message.data else None
        self._waiting.append(
            Received(message.subject, message.reply, headers, message.data, status)
        )
        self._came.set()

    async def take(self) -> list[Received]:
        """Wait for something, and return all of it in order.

        :raises BusError: if the connection is lost.
        """
        while not self._waiting:
            if self.is_closed:
                raise BusError("the connection to NATS was lost")
            self._came.clear()
            await self._came.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def close(self) -> None:
        """End waiting."""
        self.is_closed = True
        self._came.set()


@define(kw_only=True, eq=False)
class Link:
    """A connection that is made when it is needed, and again after it was lost.

    :ivar servers: the URIs of the servers; any of them will do.
    :ivar timeout: how long one operation may take.
    """

    servers: list[str] = field(repr=False)
    name: str
    timeout: timedelta
    credentials: str | None = field(repr=False)
    tls: ssl.SSLContext | None
    _client: Client | None = field(default=None, init=False)
    _opening: asyncio.Lock | None = field(default=None, init=False)
    _limits: set[asyncio.Timeout] = field(factory=set[asyncio.Timeout], init=False)
    _inboxes: list[Inbox] = field(factory=list[Inbox], init=False)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._client is not None and self._client.is_connected

    @asynccontextmanager
    async def bounded(self, operation: str) -> AsyncGenerator[JetStreamContext]:
        """Connect if need be, limit the time of an operation, and raise the errors of a bus.

        :raises BusError: if the server cannot be reached, refuses, or does not answer in time.
        """
        limit = asyncio.timeout(self.timeout.total_seconds())
        client: Client | None = None
        try:
            async with limit:
                self._limits.add(limit)
                client = await self._connected()
                yield client.jetstream(timeout=self.timeout.total_seconds())
        except TimeoutError as exc:
            if client is not None and client.is_closed:
                raise BusError(f"cannot {operation}: the connection to NATS was lost") from exc
            where = f"NATS at {hosts(self.servers)}"
            raise BusError(
                f"cannot {operation}: no answer from {where} within {self.timeout}"
            ) from exc
        except NoStreamResponseError as exc:
            raise BusError(f"cannot {operation}: no stream takes it, or it has no leader") from exc
        except ServiceUnavailableError as exc:
            raise BusError(
                f"cannot {operation}: {exc.description or 'JetStream is not enabled there'}"
            ) from exc
        except MaxPayloadError as exc:
            raise BusError(
                f"cannot {operation}: the server takes no message of that size (max_payload)"
            ) from exc
        except APIError as exc:
            raise BusError(f"cannot {operation}: {exc.description} ({exc.err_code})") from exc
        except (NatsError, OSError) as exc:
            raise BusError(f"cannot {operation}: {str(exc) or type(exc).__name__}") from exc
        finally:
            self._limits.discard(limit)

    async def client(self) -> Client:
        """Return the client, connected.

        :raises BusError: if the server cannot be reached.
        """
        if self._client is not None and self._client.is_connected:
            return self._client  # as with each message: there is nothing to wait for
        async with self.bounded("connect to NATS"):
            return await self._connected()

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject; None if there is none, or no such stream.

        :raises BusError: if the server cannot be reached.
        """
        async with self.bounded(f"read from the stream {stream}") as context:
            try:
                return _stored(await context.get_last_msg(stream, subject))
            except NotFoundError:
                return None

    async def first(self, stream: str, subjects: str, number: int) -> Stored | None:
        """Return the first message of some subjects from a number on; None if there is none.

        :raises BusError: if the server cannot be reached.
        """
        async with self.bounded(f"read from the stream {stream}") as context:
            try:
                return _stored(await context.get_msg(stream, number, subjects, next=True))
            except NotFoundError:
                return None

    async def put(
        self, subject: str, body: bytes, headers: Mapping[str, str], operation: str
    ) -> int:
        """Have a stream store a message, and return its number there.

        :raises BusError: if it is not stored, or nobody knows.
        """
        async with self.bounded(operation) as context:
            return (await context.publish(subject, body, headers=dict(headers))).seq

    async def replace(self, subject: str, body: bytes, number: int, operation: str) -> bool:
        """Have a stream store a message, if the last of its subject has a number; tell whether.

        :param number: 0 if there is to be none yet.
        :raises BusError: if it is not stored for another reason, or nobody knows.
        """
        async with self.bounded(operation) as context:
            try:
                await context.publish(subject, body, headers={_EXPECTED: str(number)})
            except APIError as exc:
                if exc.err_code not in _NOT_THE_LAST:
                    raise
                return False
        return True

    async def say(self, subject: str, body: bytes = b"", reply: str = "") -> None:
        """Send what no stream keeps, such as an acknowledgement; nobody confirms it.

        :raises BusError: if there is no connection: it is not made anew for this.
        """
        client = self._client
        if client is None or not client.is_connected:
            raise BusError("the connection to NATS was lost")
        async with self.bounded(f"send to {subject}"):
            await client.publish(subject, body, reply=reply)

    async def ask(self, subject: str, body: bytes, operation: str) -> None:
        """Send what the server confirms, and wait for that.

        :raises BusError: if it does not.
        """
        async with self.bounded(operation):
            client = await self._connected()
            await client.request(subject, body, timeout=self.timeout.total_seconds())

    async def listen(self, *subjects: str) -> Inbox:
        """Take what comes on some subjects from now on, until the connection is lost.

        :raises BusError: if the server cannot be reached.
        """
        inbox = Inbox()
        async with self.bounded("listen"):
            client = await self._connected()
            for subject in subjects:
                # Without limits: the client throws away what is beyond them. How much can wait
                # here is limited by what the lanes ask for.
                await client.subscribe(
                    subject, cb=inbox.add, pending_msgs_limit=0, pending_bytes_limit=0
                )
            await client.flush()
            self._inboxes.append(inbox)
        return inbox

    async def close(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> Client:
        if self._client is not None and self._client.is_connected:
            return self._client
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._client is None or not self.is_open:
                self._client = await self._open()
            return self._client

    async def _open(self) -> Client:
        client, options = Client(), dict[str, Any]()
        if self.credentials is not None:
            options["user_credentials"] = self.credentials
        if self.tls is not None:
            options["tls"] = self.tls
        refusals: deque[Exception] = deque(maxlen=1)

        async def note(error: Exception) -> None:
            refusals.append(error)

        async def ended() -> None:
            if self._client is client:  # and not one that was never connected
                self._end_all()

        try:
            # A lost connection is not made anew by the client: what it had in its buffers, such as
            # acknowledgements, would be lost without anybody being told.
            await client.connect(
                self.servers,
                name=self.name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, round(self.timeout.total_seconds())),
                ping_interval=_PING,
                error_cb=note,
                closed_cb=ended,
                **options,
            )
        except BaseException as exc:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await client.close()
            if not isinstance(exc, Exception) or isinstance(exc, TimeoutError):
                raise
            if isinstance(exc, (NatsError, OSError)):
                cause = refusals[0] if refusals else exc
                said = str(cause) or type(cause).__name__
            elif self.credentials is not None:  # whatever the client stumbles over in the file
                said = f"the credentials cannot be read ({type(exc).__name__})"
            else:
                raise
            raise BusError(f"NATS at {hosts(self.servers)} cannot be reached: {said}") from exc
        return client

    def _end_all(self) -> None:
        """Let nobody wait for an answer on a connection that is closed."""
        inboxes, self._inboxes = self._inboxes, []
        for inbox in inboxes:
            inbox.close()
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(now)


def _stored(found: RawStreamMsg) -> Stored:
    headers = cast("dict[str, str] | None", found.headers)
    return Stored(found.seq or 0, found.subject or "", headers or {}, found.data or b"")
