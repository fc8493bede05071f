"""The clients of brokers alone: they publish, wait to be confirmed, take and acknowledge.

They do it with the same settings as a bus of sagaflow, on asyncio, and nothing beside it: no order,
no retries, no dead letters, no services that come and go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, Final, Protocol

from attrs import define, frozen

from sagaflow.bus.transport import Outgoing
from sagaflow.bus.wire import Binding

_BATCH: Final = 100
_PREFETCH: Final = 256
_PERSISTENT: Final = 2
_TIMEOUT: Final = 30


class Connection(Protocol):
    """A client that is connected, and what it does."""

    async def publish(self, message: Outgoing) -> None:
        """Publish a message, and return once the broker has confirmed it."""
        ...

    async def take(self, number: int) -> None:
        """Take and acknowledge so many messages."""
        ...


@frozen
class Bare:
    """A client.

    :ivar binding: how its messages carry their attributes.
    :ivar connected: connects, given the URI of the broker and what names begin with there.
    """

    binding: Binding
    connected: Callable[[str, str], AbstractAsyncContextManager[Connection]]


@define(eq=False)
class _Nats:
    context: Any
    subscription: Any
    subject: str

    async def publish(self, message: Outgoing) -> None:
        headers = {**message.headers, "Nats-Msg-Id": f"{message.name}/{message.id}"}
        await self.context.publish(self.subject, message.body, headers=headers)

    async def take(self, number: int) -> None:
        while number > 0:
            found = await self.subscription.fetch(min(number, _BATCH), timeout=_TIMEOUT)
            for message in found:
                await message.ack()
            number -= len(found)


@asynccontextmanager
async def _nats(uri: str, prefix: str) -> AsyncGenerator[Connection, None]:
    import nats  # noqa: PLC0415 - it may not be installed
    from nats.js.api import (  # noqa: PLC0415
        AckPolicy,
        ConsumerConfig,
        DiscardPolicy,
        RetentionPolicy,
        StorageType,
        StreamConfig,
    )

    client: Any = await nats.connect(uri)
    try:
        context, subject = client.jetstream(timeout=_TIMEOUT), f"{prefix}.bare"
        stream = StreamConfig(
            name=f"{prefix}-bare",
            subjects=[subject],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            duplicate_window=120.0,
        )
        await context.add_stream(stream)
        subscription = await context.pull_subscribe(
            subject,
            durable="bare",
            config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=1_000),
        )
        yield _Nats(context, subscription, subject)
        await client.flush()
        await context.delete_stream(f"{prefix}-bare")
    finally:
        await client.close()


@define(eq=False)
class _Rabbit:
    pika: Any
    publishing: Any
    taking: Any
    queue: str
    confirmed: dict[int, asyncio.Future[None]]
    arrived: asyncio.Queue[int]
    last: int = 0

    async def publish(self, message: Outgoing) -> None:
        headers = {name: text for name, text in message.headers.items() if name != "content-type"}
        properties = self.pika.BasicProperties(
            content_type=message.headers.get("content-type"),
            headers=headers,
            delivery_mode=_PERSISTENT,
            message_id=message.id,
        )
        self.publishing.basic_publish(
            exchange="",
            routing_key=self.queue,
            properties=properties,
            body=message.body,
            mandatory=True,
        )
        self.last += 1
        confirmed = asyncio.get_running_loop().create_future()
        self.confirmed[self.last] = confirmed
        await confirmed

    async def take(self, number: int) -> None:
        for _ in range(number):
            self.taking.basic_ack(delivery_tag=await self.arrived.get())

    def note_confirmed(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        tags = [one for one in self.confirmed if one <= tag] if frame.method.multiple else [tag]
        for one in tags:
            self.confirmed.pop(one).set_result(None)

    def note_arrived(self, _: Any, method: Any, __: Any, ___: bytes) -> None:
        self.arrived.put_nowait(method.delivery_tag)


@asynccontextmanager
async def _rabbitmq(uri: str, prefix: str) -> AsyncGenerator[Connection, None]:
    pika: Any = import_module("pika")
    adapter: Any = import_module("pika.adapters.asyncio_connection")
    loop = asyncio.get_running_loop()
    closed, queue = asyncio.Event(), f"{prefix}.bare"

    async def answer(method: Callable[..., Any], callback: str, **arguments: Any) -> Any:
        answered = loop.create_future()
        method(**arguments, **{callback: answered.set_result})
        return await answered

    opened = loop.create_future()
    connection: Any = adapter.AsyncioConnection(
        pika.URLParameters(uri),
        on_open_callback=opened.set_result,
        on_open_error_callback=lambda _, error: opened.set_exception(error),
        on_close_callback=lambda _, __: closed.set(),
    )
    await opened
    try:
        publishing = await answer(connection.channel, "on_open_callback")
        taking = await answer(connection.channel, "on_open_callback")
        arguments = {"x-queue-type": "quorum"}
        await answer(
            publishing.queue_declare, "callback", queue=queue, durable=True, arguments=arguments
        )
        client = _Rabbit(pika, publishing, taking, queue, {}, asyncio.Queue())
        confirms = {"ack_nack_callback": client.note_confirmed}
        await answer(publishing.confirm_delivery, "callback", **confirms)
        await answer(taking.basic_qos, "callback", prefetch_count=_PREFETCH)
        deliver = {"on_message_callback": client.note_arrived}
        await answer(taking.basic_consume, "callback", queue=queue, **deliver)
        yield client
    finally:
        connection.close()
        await closed.wait()


@define(eq=False)
class _Redis:
    client: Any
    stream: str

    async def publish(self, message: Outgoing) -> None:
        await self.client.xadd(self.stream, {**message.headers, "body": message.body})

    async def take(self, number: int) -> None:
        while number > 0:
            found = await self.client.xreadgroup(
                "bare", "bare", {self.stream: ">"}, count=min(number, _BATCH), block=1_000
            )
            for _, entries in found:
                for entry_id, _ in entries:
                    await self.client.xack(self.stream, "bare", entry_id)
                number -= len(entries)


@asynccontextmanager
async def _redis(uri: str, prefix: str) -> AsyncGenerator[Connection, None]:
    from redis.asyncio import Redis  # noqa: PLC0415 - it may not be installed

    stream = f"{prefix}:bare"
    async with Redis.from_url(uri) as client:
        await client.xgroup_create(stream, "bare", id="0", mkstream=True)
        yield _Redis(client, stream)
        await client.delete(stream)


BARE: Final[Mapping[str, Bare]] = {
    "nats": Bare(Binding.NATS, _nats),
    "rabbitmq": Bare(Binding.AMQP, _rabbitmq),
    "redis": Bare(Binding.PLAIN, _redis),
}
"""By the name of a bus, the client of its broker."""
