"""Reads the dead letters of a service and takes single ones out. Runs on asyncio.

A queue can be read only by taking its messages; they go back, in their order, when the channel is
closed. One reader at a time does that, so that none finds the queue empty because of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from attrs import define, field, frozen

from sagaflow.rabbitmq.amqp import LOCKED, AmqpError, Channel, Link
from sagaflow.rabbitmq.client import RabbitClient
from sagaflow.rabbitmq.messages import Content, read_content
from sagaflow.rabbitmq.names import QUORUM

_MOST: Final = 65_535
"""How many letters can be read: AMQP counts them in two bytes."""
_AGAIN: Final = 0.02


@frozen
class _Letter:
    tag: int
    content: Content


@define(eq=False)
class DeadLetters:
    """The queue with the dead letters of a service."""

    client: RabbitClient
    _lock: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    async def read(self) -> list[Content]:
        """Return the dead letters; one that was put aside twice is returned once.

        :raises AmqpError: if RabbitMQ cannot be reached.
        """
        async with self._taken() as (_, letters):
            return list({one.content.id: one.content for one in letters}.values())

    async def take_out(
        self, letter_id: str, before: Callable[[Content], Awaitable[object]] | None
    ) -> bool:
        """Remove a dead letter, and tell whether it was there.

        :param before: what is to be done before with the letter.
        :raises AmqpError: if RabbitMQ cannot be reached.
        """
        async with self._taken() as (channel, letters):
            found = [one for one in letters if one.content.id == letter_id]
            if found and before is not None:
                await before(found[0].content)
            for one in found:
                channel.ack(one.tag)
            return bool(found)

    @asynccontextmanager
    async def _taken(self) -> AsyncGenerator[tuple[Channel, list[_Letter]]]:
        """Take all letters, and give back at the end those that were not acknowledged."""
        async with self._lock:
            link, queue = await self.client.link(), self.client.names.dead
            holder = await self._locked(link)
            channel: Channel | None = None
            try:
                await holder.declare_queue(queue, QUORUM)
                count, _ = await holder.count(queue)
                channel = await link.channel()
                letters: list[_Letter] = []
                if count:
                    await take_letters(channel, queue, min(count, _MOST), letters)
                yield channel, letters
            finally:
                await self._give_back(link, holder, channel)

    async def _give_back(self, link: Link, holder: Channel, channel: Channel | None) -> None:
        """Give the letters back and let others read, at the latest by ending the connection."""
        try:
            async with asyncio.timeout(self.client.patience):
                if channel is not None:
                    await channel.close()
                    await self._wait_for_return(holder, self.client.names.dead)
                await holder.delete_queue(self.client.names.lock)
                await holder.close()
        except (TimeoutError, AmqpError):
            link.cut()

    async def _locked(self, link: Link) -> Channel:
        """Wait until nobody else reads, and return the channel that keeps others from it."""
        while True:
            channel = await link.channel()
            try:
                await channel.lock(self.client.names.lock)
            except AmqpError as exc:
                if exc.code != LOCKED:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return channel

    async def _wait_for_return(self, holder: Channel, queue: str) -> None:
        """Wait until RabbitMQ has put the letters back, which it does after it has said so."""
        while True:
            _, readers = await holder.count(queue)
            if not readers:
                return
            await asyncio.sleep(_AGAIN)


async def take_letters(channel: Channel, queue: str, count: int, letters: list[_Letter]) -> None:
    """Have so many letters delivered."""
    complete = asyncio.Event()

    def deliver(tag: int, properties: Any, body: bytes) -> None:
        content = read_content(
            properties.message_id, properties.content_type, properties.headers, body
        )
        letters.append(_Letter(tag, content))
        if len(letters) >= count:
            complete.set()

    def lost(error: AmqpError) -> None:
        letters.clear()
        reasons.append(error)
        complete.set()

    reasons: list[AmqpError] = []
    channel.on_close = lost
    await channel.consume(queue, count, deliver)
    await complete.wait()
    channel.on_close = None
    if reasons:
        raise reasons[0]
