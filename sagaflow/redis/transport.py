"""Carries messages over Redis Streams: a stream for each service, and one for its dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from datetime import timedelta
from typing import Final

import anyio
from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow.bus.transport import DeadLetter, Handle, Outgoing, Transport
from sagaflow.bus.wire import Binding
from sagaflow.redis.client import Client
from sagaflow.redis.entries import fields_of, is_letter_id, read_dead_letter
from sagaflow.redis.scripts import PUBLISH, READ_DEAD_LETTERS, RETRY_DEAD_LETTER, SUBSCRIBE
from sagaflow.redis.session import Session
from sagaflow.redis.settings import check_server, dangers

logger = get_logger("sagaflow.bus")

_PAGE: Final = 100
"""How many dead letters are read at once."""


@define(kw_only=True)
class RedisTransport(Transport):
    """Keeps the messages of each service in a stream, and the order of each saga beside it.

    :ivar owner: the name of this process.
    :ivar lease: for how long others leave what this process handles alone; renewed while it lives.
    :ivar remembered: for how long a message that is published again is recognised.
    :ivar timeout: how long one operation may take.
    """

    client: Client = field(repr=False)
    service: str
    prefix: str
    owner: str
    clock: Clock
    lease: timedelta
    remembered: timedelta
    timeout: timedelta
    _is_checked: bool = field(default=False, init=False)

    binding = Binding.PLAIN

    @property
    def _base(self) -> str:
        return f"{self.prefix}:service:{self.service}:"

    async def subscribe(self, names: Collection[str]) -> None:
        """Note that this service reads these names, and make its stream with a group from 0."""
        await self._check()
        await self.client.run("subscribe", SUBSCRIBE, self.prefix, self.service, *sorted(names))

    async def publish(self, message: Outgoing) -> bool:
        """Add a message to the stream of each service that reads its name, to all in one go."""
        await self._check()
        remembered = max(int(self.remembered.total_seconds() * 1000), 1)
        services: int = await self.client.run(
            f"publish {message.name} {message.id!r}",
            PUBLISH,
            *(self.prefix, remembered, message.name, message.id),
            *fields_of(message),
        )
        return services > 0

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        """Take messages in a session with a lease."""
        await self._check()
        session = Session(
            client=self.client,
            service=self.service,
            base=self._base,
            owner=self.owner,
            clock=self.clock,
            lease=self.lease,
            timeout=self.timeout,
            handle=handle,
            concurrency=concurrency,
            stopping=stopping,
        )
        await session.run()

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Yield the dead letters of the service, the oldest first."""
        after = "-"
        while True:
            page = await self._letters(after, "+")
            for letter_id, fields in page:
                yield read_dead_letter(self.service, letter_id, fields)
            if len(page) < _PAGE:
                return
            after = f"({page[-1][0].decode()}"

    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter of the service, or None."""
        if not is_letter_id(letter_id):
            return None
        for found, fields in await self._letters(letter_id, letter_id):
            return read_dead_letter(self.service, found, fields)
        return None

    async def retry_dead_letter(self, letter_id: str) -> bool:
        """Move a dead letter to the end of the stream."""
        if not is_letter_id(letter_id):
            return False
        what = f"retry the dead letter {letter_id!r}"
        moved: int = await self.client.run(what, RETRY_DEAD_LETTER, self._base, letter_id)
        return moved == 1

    async def drop_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter for good."""
        if not is_letter_id(letter_id):
            return False
        what = f"drop the dead letter {letter_id!r}"
        dropped: int = await self.client.command(what, "XDEL", f"{self._base}dead", letter_id)
        return dropped == 1

    async def ping(self) -> None:
        """Have the server answer."""
        await self.client.command("reach the server", "PING")

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def _letters(self, first: str, last: str) -> list[tuple[bytes, list[bytes]]]:
        found: list[tuple[bytes, list[bytes]]] = await self.client.run(
            "read the dead letters", READ_DEAD_LETTERS, self._base, first, last, _PAGE
        )
        return found

    async def _check(self) -> None:
        """Refuse a server that is of no use, and warn once of settings that lose messages.

        :raises BusError: if the server is of no use, or cannot be reached.
        """
        if self._is_checked:
            return
        info = await self.client.command("ask for the settings", "INFO")
        check_server(info)
        try:
            found = await self.client.command("ask", "CONFIG", "GET", "appendfsync")
            fsync = found[1].decode() if found else None
        except BusError:  # a hosted server does not tell
            fsync = None
        self._is_checked = True
        danger = dangers(info, fsync)
        if danger is not None:
            logger.warning("%s: %s", self.service, danger, extra=about())
