"""What sagaflow does with RabbitMQ, for one service. Runs on asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from sagaflow._model.log import about, get_logger
from sagaflow.rabbitmq.amqp import LOCKED, OTHER, AmqpError, Channel, Link, load_pika
from sagaflow.rabbitmq.messages import Content, delivery_count, read_content
from sagaflow.rabbitmq.names import QUORUM, SLOTS, Names, pattern
from sagaflow.rabbitmq.publishing import Publisher

logger = get_logger("sagaflow.bus")

PREFETCH: Final = 256
"""How many messages of a partition a process has at the same time. It is the same for all: who
takes over a partition then has all that RabbitMQ took back, before it is taken back again, and only
so do quorum queues keep its order."""

_OLDEST: Final = (3, 10)


@define(eq=False)
class Taken:
    """A partition that is taken, or is about to be."""

    partition: int
    channel: Channel | None = None


@frozen
class Received:
    """A message of a partition.

    :ivar returned: how often RabbitMQ has taken it back.
    """

    taken: Taken
    tag: int
    content: Content = field(repr=False)
    returned: int


@frozen
class Lost:
    """A partition whose channel was closed: all of its messages go back."""

    taken: Taken
    reason: AmqpError


Arrival: TypeAlias = Received | Lost


@define(eq=False)
class RabbitClient:
    """Two connections: RabbitMQ may stop reading from the one that publishes.

    :ivar patience: seconds that a connection may take to be closed.
    """

    parameters: Any
    names: Names
    partitions: int
    patience: float
    publisher: Publisher = field(init=False)
    _publishing: Link | None = field(default=None, init=False)
    _taking: Link | None = field(default=None, init=False)
    _watch: Channel | None = field(default=None, init=False)
    _prepared: Link | None = field(default=None, init=False)
    _lock: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _arrivals: deque[Arrival] = field(factory=deque[Arrival], init=False)
    _arrived: asyncio.Event = field(factory=asyncio.Event, init=False)
    _has_warned: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.publisher = Publisher(load_pika(), self._open_for_publishing)

    @property
    def blocked(self) -> str:
        """Why RabbitMQ takes no messages at present; "" if it does."""
        return "" if self._publishing is None else self._publishing.blocked

    async def link(self) -> Link:
        """Return the connection for publishing and all else that is not taking messages.

        :raises AmqpError: if RabbitMQ cannot be reached.
        """
        async with self._lock:
            if self._publishing is None or not self._publishing.is_open:
                link = Link(self.parameters)
                await link.open()
                self._check(link)
                self._publishing = link
            return self._publishing

    async def _open_for_publishing(self) -> Channel:
        channel = await (await self.link()).channel()
        await channel.declare_exchange(self.names.exchange, "topic")
        return channel

    def _check(self, link: Link) -> None:
        """Warn of a server that is older than what these queues need."""
        told = str(link.server.get("version", "")).split(".")
        if self._has_warned or not all(part.isdigit() for part in told[:2]) or len(told) < 2:  # noqa: PLR2004
            return
        if tuple(map(int, told[:2])) < _OLDEST:
            self._has_warned = True
            message = "%s: RabbitMQ %s is older than 3.10, with which this bus was tested"
            logger.warning(message, self.names.service, ".".join(told), extra=about())

    # Queues

    async def prepare(self, names: Collection[str]) -> None:
        """Have RabbitMQ keep messages of these names for the service.

        :raises AmqpError: if RabbitMQ refuses that, or cannot be reached; with the code `OTHER` if
            the service has another number of partitions.
        """
        link = await self.link()
        channel = await link.channel()
        try:
            if self._prepared is not link:
                await self._declare(channel)
                self._prepared = link
            for name in sorted(names):
                await channel.bind_exchange(
                    self.names.service_exchange, self.names.exchange, pattern(name)
                )
        finally:
            if channel.is_open:
                await channel.close()

    async def _declare(self, channel: Channel) -> None:
        mine = self.names
        # An exchange is refused if it is there with another argument: so the number is agreed on.
        number = {"alternate-exchange": str(self.partitions)}
        await channel.declare_exchange(mine.number, "fanout", number)
        await channel.declare_queue(mine.dead, QUORUM)
        await channel.declare_queue(mine.members, QUORUM)
        await channel.declare_exchange(mine.exchange, "topic")
        await channel.declare_exchange(mine.service_exchange, "topic")
        for partition in range(self.partitions):
            await channel.declare_queue(mine.queue(partition), mine.arguments())
            for slot in range(partition, SLOTS, self.partitions):
                await channel.bind_queue(mine.queue(partition), mine.service_exchange, f"{slot}.*")

    # Taking messages

    async def begin(self, names: Collection[str]) -> None:
        """Connect for taking messages, and be counted as a process of the service.

        :raises AmqpError: as for `prepare`.
        """
        await self.prepare(names)
        self._arrivals.clear()
        link = Link(self.parameters)
        await link.open()
        self._taking = link
        self._watch = await link.channel()
        await (await link.channel()).consume(self.names.members, 1, _ignore)

    async def survey(self, mine: Collection[int]) -> tuple[int, list[int]]:
        """Return how many processes there are, and which partitions nobody has.

        :param mine: those that this process has.
        :raises AmqpError: if the connection is lost.
        """
        watch = self._watch
        assert watch is not None  # noqa: S101 - it has begun
        _, members = await watch.count(self.names.members)
        free: list[int] = []
        for partition in set(range(self.partitions)) - set(mine):
            _, takers = await watch.count(self.names.queue(partition))
            if takers == 0:
                free.append(partition)
        return members, free

    async def take(self, taken: Taken) -> bool:
        """Take the messages of a partition; tell whether it was free.

        :raises AmqpError: if the connection is lost.
        """
        link = self._taking
        assert link is not None  # noqa: S101 - it has begun
        channel = await link.channel()
        try:
            await channel.lock(self.names.owner(taken.partition))
        except AmqpError as exc:
            if exc.code == LOCKED:
                return False
            raise
        taken.channel = channel

        def deliver(tag: int, properties: Any, body: bytes) -> None:
            content = read_content(
                properties.message_id, properties.content_type, properties.headers, body
            )
            returned = delivery_count(properties.headers)
            self._arrive(Received(taken, tag, content, returned))

        channel.on_close = lambda error: self._arrive(Lost(taken, error))
        await channel.consume(self.names.queue(taken.partition), PREFETCH, deliver)
        return True

    async def release(self, taken: Taken) -> None:
        """Give a partition back, with all messages that were not acknowledged, in their order.

        What was acknowledged before does not come again.
        """
        channel, watch = taken.channel, self._watch
        if channel is None:
            return
        channel.on_close = None
        with suppress(AmqpError):  # it is closed: then all has gone back
            await channel.settle(self.names.queue(taken.partition))
        await channel.close()
        if watch is not None and watch.is_open:
            await watch.delete_queue(self.names.owner(taken.partition))

    async def ack(self, received: Received) -> None:
        """Acknowledge a message.

        :raises AmqpError: if its channel is closed: the message comes again.
        """
        channel = received.taken.channel
        assert channel is not None  # noqa: S101 - it has delivered the message
        channel.ack(received.tag)

    async def pull(self) -> list[Arrival]:
        """Return what has arrived, as soon as there is anything."""
        while not self._arrivals:
            self._arrived.clear()
            await self._arrived.wait()
        found = list(self._arrivals)
        self._arrivals.clear()
        return found

    def _arrive(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        self._arrived.set()

    async def end(self) -> None:
        """Take no more messages. Before they are taken again, it is looked what is there."""
        link, self._taking, self._watch = self._taking, None, None
        self._prepared = None
        if link is not None:
            await link.close(self.patience)

    async def ping(self) -> None:
        """Ask RabbitMQ for something.

        :raises AmqpError: if it cannot be reached.
        """
        channel = await (await self.link()).channel()
        await channel.close()

    async def close(self) -> None:
        """Close both connections."""
        await self.end()
        link, self._publishing = self._publishing, None
        if link is not None:
            await link.close(self.patience)


def _ignore(_: int, __: Any, ___: bytes) -> None:
    """Take no notice of a message that somebody has put where there are none."""


def is_other_number(error: AmqpError) -> bool:
    """Tell whether RabbitMQ refuses a number of partitions, since the service has another."""
    return error.code == OTHER and "alternate-exchange" in str(error)
