"""Carries messages through NATS JetStream: an inbox for each service, in lanes that keep order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import anyio
from attrs import define, field
from nats.js.errors import APIError

from sagaflow._concurrency.asyncio_portal import AsyncioPortal
from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.verdict import Undeliverable
from sagaflow.bus.transport import DeadLetter, Handle, Outgoing, Transport
from sagaflow.bus.wire import Binding
from sagaflow.nats.consuming import Consuming
from sagaflow.nats.lanes import Failures, Waiting
from sagaflow.nats.letters import (
    KEY,
    LETTER,
    ROOM,
    SUBJECT,
    dead_letter,
    letter_header,
    own_headers,
    read_header,
)
from sagaflow.nats.link import Link, Stored
from sagaflow.nats.members import Members
from sagaflow.nats.monitoring import warn_of_late_writes
from sagaflow.nats.names import Names, letter_id_of
from sagaflow.nats.owning import Owning
from sagaflow.nats.registry import Registry
from sagaflow.nats.streams import StreamSettings, make_streams

_ID: Final = "Nats-Msg-Id"


@define(kw_only=True, eq=False)
class NatsTransport(Transport):
    """Stores each message in the inbox of every service that takes it.

    :ivar owner: the name of this process.
    :ivar lease: how long a lane stays this process's own without a word from it.
    :ivar monitoring: where the server tells of itself; None if that is not to be asked.
    """

    link: Link
    names: Names
    owner: str
    clock: Clock
    lease: timedelta
    settings: StreamSettings
    monitoring: str | None
    _portal: AsyncioPortal = field(factory=AsyncioPortal, init=False)
    _registry: Registry = field(init=False)
    _has_streams: bool = field(default=False, init=False)
    _has_asked: bool = field(default=False, init=False)

    binding = Binding.NATS

    def __attrs_post_init__(self) -> None:
        self._registry = Registry(self.link, self.names)

    async def subscribe(self, names: Collection[str]) -> None:
        """Make the inbox of the service, and note in the registry which names it takes."""
        await self._portal.call(self._subscribe, names)

    async def publish(self, message: Outgoing) -> bool:
        """Store a message in the inbox of each service that takes its name."""
        return await self._portal.call(self._publish, message)

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        """Own lanes of the inbox, and handle their messages."""
        await self._portal.call(self._make_streams)
        consuming = Consuming(
            portal=self._portal,
            owning=Owning(self.link, self.names, self.owner, self.lease),
            members=Members(self.owner, self.lease.total_seconds()),
            handle=handle,
            put_aside=self._put_aside,
            concurrency=concurrency,
            stopping=stopping,
            clock=self.clock,
            inbox=f"_INBOX.{uuid4().hex}",
        )
        await consuming.run()

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Yield the dead letters of the service, the oldest first."""
        number = 1
        while True:
            found = await self._portal.call(
                self.link.first, self.names.dead, self.names.letters, number
            )
            if found is None:
                return
            number = found.number + 1
            yield self._read(found)

    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter of the service, or None."""
        found = await self._letter(letter_id)
        return None if found is None else self._read(found)

    async def retry_dead_letter(self, letter_id: str) -> bool:
        """Store a dead letter in the inbox of the service again."""
        found = await self._letter(letter_id)
        if found is None:
            return False
        headers = found.headers
        subject = str(read_header(headers).get(SUBJECT))
        if not subject.startswith(self.names.inbox_subjects.removesuffix(">")):
            raise BusError(f"the dead letter {letter_id!r} does not say where it belongs: drop it")
        again = {**own_headers(headers), _ID: f"again/{letter_id}/{found.number}"}
        if KEY in headers:
            again[KEY] = headers[KEY]
        operation = f"try the dead letter {letter_id!r} again"
        await self._portal.call(self.link.put, subject, found.body, again, operation)
        return await self._portal.call(self._remove_letter, found)

    async def drop_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter for good."""
        found = await self._letter(letter_id)
        return found is not None and await self._portal.call(self._remove_letter, found)

    async def ping(self) -> None:
        """Ask JetStream for what it says of the account."""
        await self._portal.call(self._ping)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._portal.call(self.link.close)
        await self._portal.aclose()

    # On asyncio

    async def _make_streams(self) -> None:
        if not self._has_streams:
            await make_streams(self.link, self.names, self.settings)
            self._has_streams = True
            if self.monitoring is not None and not self._has_asked:
                self._has_asked = True
                await warn_of_late_writes(self.monitoring)

    async def _subscribe(self, names: Collection[str]) -> None:
        await self._make_streams()
        await self._registry.add(names)

    async def _publish(self, message: Outgoing) -> bool:
        """Store a message for those that are known to take it, while the registry is read again."""
        reading = self._registry.read_soon()
        known = self._registry.known(message.name)
        for service in known:
            await self._store(service, message)
        await asyncio.shield(reading)
        services = self._registry.known(message.name)
        for service in services - known:
            await self._store(service, message)
        return bool(services)

    async def _store(self, service: str, message: Outgoing) -> None:
        key = message.id if message.key is None else message.key
        headers = {**message.headers, _ID: quote(f"{message.name}/{message.id}", safe="/")}
        if message.key is not None:
            headers[KEY] = quote(message.key, safe="")
        operation = f"publish {message.name} {message.id!r} for {service}"
        client = await self.link.client()
        size = len(message.body) + sum(len(n) + len(v) for n, v in message.headers.items())
        if size + ROOM > client.max_payload:
            raise BusError(
                f"cannot {operation}: it has {size:,} bytes, and the server takes "
                f"{client.max_payload:,} (max_payload) with the {ROOM:,} that a dead letter needs"
            )
        subject = self.names.subject(service, message.name, key)
        await self.link.put(subject, message.body, headers, operation)

    async def _put_aside(
        self, message: Waiting, verdict: Undeliverable, failures: Failures, now: datetime
    ) -> None:
        await self._portal.call(self._store_letter, message, verdict, failures, now)

    async def _store_letter(
        self, message: Waiting, verdict: Undeliverable, failures: Failures, now: datetime
    ) -> None:
        headers = own_headers(message.headers)
        told = {name.lower(): value for name, value in headers.items()}
        name, sent_id = told.get("ce-type", ""), told.get("ce-id")
        letter_id = letter_id_of(
            f"number {message.number}" if sent_id is None else f"{name} {sent_id}"
        )
        key = message.headers.get(KEY)
        if key is not None:
            headers[KEY] = key
        headers[LETTER] = letter_header(
            verdict,
            subject=message.subject,
            name=name,
            key=key,
            attempts=failures.attempts,
            now=now,
        )
        subject = self.names.letter(letter_id)
        await self.link.put(subject, message.body, headers, f"store the dead letter {letter_id}")

    async def _letter(self, letter_id: str) -> Stored | None:
        if not letter_id.isalnum() or not letter_id.isascii():
            return None
        subject = self.names.letter(letter_id)
        return await self._portal.call(self.link.last, self.names.dead, subject)

    async def _remove_letter(self, found: Stored) -> bool:
        """Remove a letter, and tell whether it was there: another may have removed it."""
        async with self.link.bounded("remove a dead letter") as context:
            try:
                return await context.delete_msg(self.names.dead, found.number)
            except APIError:  # the server has one for all reasons
                left = await self.link.last(self.names.dead, found.subject)
                if left is not None and left.number == found.number:
                    raise
                return False

    def _read(self, found: Stored) -> DeadLetter:
        letter_id = found.subject.rpartition(".")[2]
        return dead_letter(letter_id, self.names.service, found.headers, found.body)

    async def _ping(self) -> None:
        async with self.link.bounded("reach JetStream") as context:
            await context.account_info()
