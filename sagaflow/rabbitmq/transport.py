"""Carries messages through RabbitMQ: who takes which partition, and dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil
from random import random, shuffle
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus
from attrs import define, field

from sagaflow._concurrency.asyncio_portal import AsyncioPortal
from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow._model.verdict import Undeliverable
from sagaflow.bus.transport import DeadLetter, Handle, Outgoing, Transport
from sagaflow.bus.wire import Binding
from sagaflow.rabbitmq.amqp import AmqpError
from sagaflow.rabbitmq.client import Lost, RabbitClient, Received, Taken, is_other_number
from sagaflow.rabbitmq.lanes import Memory, Session
from sagaflow.rabbitmq.letters import DeadLetters
from sagaflow.rabbitmq.messages import (
    Content,
    content_of,
    letter_of,
    read_letter,
    without_fate,
)
from sagaflow.rabbitmq.names import routing_key, slot_of

logger = get_logger("sagaflow.bus")

_SPREAD: Final = 0.5
"""By how much of itself the interval between two looks at the partitions differs."""


@define(kw_only=True)
class RabbitTransport(Transport):
    """Has the messages of a service in partitions, each taken by one process at a time.

    :ivar place: the server as errors name it, without a password.
    :ivar timeout: how long one operation may take.
    :ivar balance_interval: how often a process looks whether the partitions are well divided.
    """

    client: RabbitClient
    place: str
    clock: Clock
    timeout: timedelta
    balance_interval: timedelta
    _portal: AsyncioPortal = field(factory=AsyncioPortal, init=False)
    _letters: DeadLetters = field(init=False)
    _memory: Memory = field(factory=Memory, init=False)
    _names: set[str] = field(factory=set[str], init=False)
    _sessions: dict[int, Session] = field(factory=dict[int, Session], init=False)
    _wake: anyio.Event = field(factory=anyio.Event, init=False)

    binding = Binding.AMQP

    def __attrs_post_init__(self) -> None:
        self._letters = DeadLetters(self.client)

    @property
    def _service(self) -> str:
        return self.client.names.service

    async def subscribe(self, names: Collection[str]) -> None:
        """Bind the exchange of the service to these names."""
        with self._bounded("subscribe"):
            await self._portal.call(self.client.prepare, names)
        self._names.update(names)

    async def publish(self, message: Outgoing) -> bool:
        """Publish a message to all services, and wait until RabbitMQ has confirmed it."""
        content = content_of(message)
        slot = slot_of(message.id if message.key is None else message.key)
        key = routing_key(slot, message.name)
        with self._bounded(f"publish {message.name} {message.id[:100]!r}"):
            return await self._portal.call(
                self.client.publisher.publish, self.client.names.exchange, key, content
            )

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        """Take a fair share of the partitions, and handle their messages."""
        if stopping.is_set():
            return
        limiter = anyio.Semaphore(concurrency)
        try:
            with self._bounded("take messages"):
                await self._portal.call(self.client.begin, frozenset(self._names))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._pull)
                tasks.start_soon(self._wake_when, stopping)
                async with anyio.create_task_group() as serving:
                    while not stopping.is_set():
                        await self._balance(serving, handle, limiter)
                        await self._rest()
                    for session in self._sessions.values():
                        session.drain()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._portal.call(self.client.end)

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Yield the dead letters of the service, the oldest first."""
        for letter in await self._read_letters():
            yield letter

    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter of the service, or None."""
        return next((one for one in await self._read_letters() if one.id == letter_id), None)

    async def retry_dead_letter(self, letter_id: str) -> bool:
        """Send a dead letter to the end of its partition, and then remove it."""

        async def again(content: Content) -> None:
            slot = slot_of(content.key or content.id)
            key = routing_key(slot, content.name)
            exchange = self.client.names.service_exchange
            if not await self.client.publisher.publish(exchange, key, without_fate(content)):
                raise AmqpError("the service has no queues: it has to subscribe first")

        with self._bounded(f"retry the dead letter {letter_id[:100]!r}"):
            await self._portal.call(self.client.prepare, ())
            return await self._portal.call(self._letters.take_out, letter_id, again)

    async def drop_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter for good."""
        with self._bounded(f"drop the dead letter {letter_id[:100]!r}"):
            return await self._portal.call(self._letters.take_out, letter_id, None)

    async def ping(self) -> None:
        """Open a channel and close it."""
        with self._bounded("reach the server"):
            await self._portal.call(self.client.ping)

    async def aclose(self) -> None:
        """Close the connections."""
        try:
            await self._portal.call(self.client.close)
        finally:
            await self._portal.aclose()

    async def accept(self, received: Received) -> None:
        """Acknowledge a message."""
        with self._bounded("acknowledge a message"):
            await self._portal.call(self.client.ack, received)

    async def put_aside(self, received: Received, verdict: Undeliverable, attempts: int) -> None:
        """Publish a message to the queue of the dead letters, and then acknowledge it."""
        letter = letter_of(received.content, verdict, attempts, self.clock.now())
        with self._bounded("store a dead letter"):
            names = self.client.names
            if not await self._portal.call(self.client.publisher.publish, "", names.dead, letter):
                raise AmqpError(f"the queue {names.dead} is missing")
            await self._portal.call(self.client.ack, received)

    async def _read_letters(self) -> list[DeadLetter]:
        with self._bounded("list the dead letters"):
            found = await self._portal.call(self._letters.read)
        return sorted((read_letter(one, self._service) for one in found), key=lambda one: one.since)

    async def _pull(self) -> None:
        """Hand what arrives to the sessions of the partitions."""
        while True:
            for arrival in await self._portal.call(self.client.pull):
                session = self._sessions.get(arrival.taken.partition)
                if session is None or session.taken is not arrival.taken:
                    continue  # it was given back meanwhile
                if isinstance(arrival, Lost):
                    message = "%s: partition %d was taken back: %s"
                    partition = arrival.taken.partition
                    logger.info(message, self._service, partition, arrival.reason, extra=about())
                    session.cancel()
                    self._wake.set()
                else:
                    session.add(arrival)

    async def _balance(self, serving: TaskGroup, handle: Handle, limiter: anyio.Semaphore) -> None:
        """Take partitions that nobody has, and give away what is more than a fair share."""
        with self._bounded("look at the partitions"):
            members, free = await self._portal.call(self.client.survey, frozenset(self._sessions))
        share = ceil(self.client.partitions / max(members, 1))
        for session in list(self._sessions.values())[share:]:
            session.drain()
        shuffle(free)
        for partition in free:
            if len(self._sessions) >= share:
                break
            session = Session(
                taken=Taken(partition),
                settles=self,
                handle=handle,
                limiter=limiter,
                memory=self._memory,
                clock=self.clock,
            )
            self._sessions[partition] = session
            await serving.start(self._serve, session)

    async def _serve(self, session: Session, *, task_status: TaskStatus[bool]) -> None:
        """Take a partition for as long as its session lasts."""
        try:
            await session.run(self._take, task_status)
        finally:
            self._sessions.pop(session.taken.partition, None)
            with (
                anyio.CancelScope(shield=True),
                anyio.move_on_after(self.timeout.total_seconds()),
            ):
                await self._portal.call(self.client.release, session.taken)

    async def _take(self, taken: Taken) -> bool:
        with self._bounded("take a partition"):
            return await self._portal.call(self.client.take, taken)

    async def _rest(self) -> None:
        seconds = self.balance_interval.total_seconds() * (1 + _SPREAD * (2 * random() - 1))  # noqa: S311
        with anyio.move_on_after(seconds):
            await self._wake.wait()
        if self._wake.is_set():
            self._wake = anyio.Event()

    async def _wake_when(self, stopping: anyio.Event) -> None:
        await stopping.wait()
        self._wake.set()

    @contextmanager
    def _bounded(self, operation: str) -> Generator[None]:
        """Limit the time of an operation, and raise the bus's errors instead of the client's."""
        try:
            with anyio.fail_after(self.timeout.total_seconds()):
                yield
        except TimeoutError as exc:
            why = f"; it takes no messages: {blocked}" if (blocked := self.client.blocked) else ""
            raise BusError(
                f"cannot {operation}: RabbitMQ at {self.place} has not answered within "
                f"{self.timeout}{why}"
            ) from exc
        except AmqpError as exc:
            if is_other_number(exc):
                raise BusError(
                    f"cannot {operation}: {self._service} has another number of partitions "
                    f"than {self.client.partitions} at RabbitMQ: give all of its processes the "
                    "same partitions=; to change it, drain and delete its queues and exchanges"
                ) from exc
            raise BusError(f"cannot {operation}: RabbitMQ at {self.place}: {exc}") from exc
