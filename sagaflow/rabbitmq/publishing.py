"""Publishes with confirmations, several messages at the same time. Runs on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field

from sagaflow.rabbitmq.amqp import AmqpError, Channel
from sagaflow.rabbitmq.messages import Content

_PERSISTENT = 2


@define(eq=False)
class _Sent:
    """A message that was not confirmed yet.

    :ivar confirmed: whether RabbitMQ has it.
    """

    exchange: str
    key: str
    id: str
    confirmed: asyncio.Future[bool]
    is_returned: bool = False


@define(eq=False)
class Publisher:
    """Publishes on a channel that is opened when it is needed, and again when it was closed.

    :ivar open: opens a channel, where all is there that is published to.
    """

    pika: Any
    open: Callable[[], Awaitable[Channel]]
    _lock: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _channel: Channel | None = field(default=None, init=False)
    _sent: dict[int, _Sent] = field(factory=dict[int, _Sent], init=False)
    _last: int = field(default=0, init=False)

    async def publish(self, exchange: str, key: str, content: Content) -> bool:
        """Publish a message, and tell whether any queue has got it.

        Messages have the order in which this is called, once a channel is open.

        :raises AmqpError: if RabbitMQ refuses it, or the channel is lost: it may have the message.
        """
        channel = self._channel
        if channel is None or not channel.is_open:
            channel = await self._opened()
        properties: Any = self.pika.BasicProperties(
            content_type=content.content_type,
            headers=dict(content.headers),
            delivery_mode=_PERSISTENT,
            message_id=content.id,
        )
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        sent = _Sent(exchange, key, content.id, confirmed)
        channel.publish(exchange, key, properties, content.body)
        self._last += 1
        self._sent[self._last] = sent
        if not await confirmed:
            raise AmqpError("RabbitMQ has refused the message")
        return not sent.is_returned

    async def _opened(self) -> Channel:
        async with self._lock:
            if self._channel is None or not self._channel.is_open:
                channel = await self.open()
                await channel.confirm(self._on_confirmed, self._on_returned)
                channel.on_close = self._on_close
                self._channel, self._sent, self._last = channel, {}, 0
            return self._channel

    def _on_confirmed(self, frame: Any) -> None:
        method = frame.method
        tag: int = method.delivery_tag
        tags = [one for one in self._sent if one <= tag] if method.multiple else [tag]
        for one in tags:
            sent = self._sent.pop(one, None)
            if sent is not None and not sent.confirmed.done():
                sent.confirmed.set_result(method.NAME == "Basic.Ack")

    def _on_returned(self, method: Any, properties: Any) -> None:
        """Note that no queue has got a message: one of the same id and key shares its fate."""
        for sent in self._sent.values():
            if (sent.exchange, sent.key, sent.id) == (
                method.exchange,
                method.routing_key,
                properties.message_id,
            ):
                sent.is_returned = True

    def _on_close(self, error: AmqpError) -> None:
        for sent in self._sent.values():
            if not sent.confirmed.done():
                sent.confirmed.set_exception(error)
        self._sent = {}
