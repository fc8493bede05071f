"""Carries messages over Kafka: a topic for each service, and one for its dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from datetime import timedelta
from typing import Any, Final

import anyio
from attrs import define, field

from sagaflow._concurrency.groups import cause_of
from sagaflow._model.clock import Clock
from sagaflow._model.verdict import Undeliverable
from sagaflow.bus.transport import DeadLetter, Handle, Outgoing, Transport
from sagaflow.bus.wire import Binding
from sagaflow.kafka.client import Client
from sagaflow.kafka.member import Member
from sagaflow.kafka.names import Names, is_letter_id, letter_id_of, member_of
from sagaflow.kafka.producing import Publisher
from sagaflow.kafka.reading import PARTITION, KeyedTopic, Registry
from sagaflow.kafka.records import (
    Record,
    entry_of,
    headers_of,
    key_of,
    letter_of,
    read_letter,
)
from sagaflow.kafka.session import Memory, Session
from sagaflow.kafka.threads import Answer, Worker, joined, teller

_BEYOND: Final = 60_000
"""Milliseconds for which a member may ask for nothing, beyond what a handover takes."""


@define(kw_only=True)
class KafkaTransport(Transport):
    """Keeps the messages of each service in a topic, whose partitions its processes share.

    :ivar owner: the name of this process, if it is to have its partitions again.
    :ivar lease: for how long Kafka leaves a process that it does not hear from its partitions.
    :ivar handover: for how long handlers may go on with a partition that is given away.
    """

    client: Client = field(repr=False)
    publisher: Publisher = field(repr=False)
    names: Names
    owner: str | None
    clock: Clock
    lease: timedelta
    handover: timedelta
    _registry: Registry = field(init=False, repr=False)
    _worker: Worker = field(factory=lambda: Worker("sagaflow-kafka-letters"), init=False)
    _memory: Memory = field(factory=Memory, init=False, repr=False)

    binding = Binding.KAFKA

    def __attrs_post_init__(self) -> None:
        self._registry = Registry(self.client, self.names.services)

    async def subscribe(self, names: Collection[str]) -> None:
        """Say in the topic of all services that this one takes these names."""
        service = self.names.service
        with self.client.bounded("subscribe"):
            await self._ensure_topics()
            await self._registry.refresh()
            new = [name for name in sorted(names) if service not in self._registry.takers(name)]
            entries = [
                self.publisher.send(
                    self.names.services,
                    key=entry_of(service, name),
                    headers=[],
                    value=b"{}",
                    partition=PARTITION,
                )
                for name in new
            ]
            for entry in entries:
                await entry.wait()

    async def publish(self, message: Outgoing) -> bool:
        """Write a message to the topic of each service that takes its name.

        While it is written for those that are known, it is found out whether there are more.
        """
        with self.client.bounded(f"publish {message.name} {message.id[:100]!r}"):
            await self.publisher.ensure(self.names.services)
            known = self._registry.takers(message.name)
            written = [self._write(service, message) for service in known]
            await self._registry.refresh()
            takers = self._registry.takers(message.name)
            written += [self._write(service, message) for service in takers - known]
            for one in written:
                await one.wait()
        return bool(takers)

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        """Take part in the consumer group of the service."""
        if stopping.is_set():
            return
        with self.client.bounded("take messages"):
            await self._ensure_topics()
        session = Session(
            service=self.names.service,
            letters=self,
            handle=handle,
            limiter=anyio.Semaphore(concurrency),
            memory=self._memory,
            clock=self.clock,
            stopping=stopping,
        )
        member = Member(
            client=self.client,
            topic=self.names.inbox,
            settings=self._membership(),
            patience=self.handover.total_seconds(),
            tell=teller(),
            receive=session.receive,
        )
        member.thread.start()
        try:
            await session.run(member)
        except BaseExceptionGroup as group:
            raise cause_of(group) from group
        finally:
            session.settle(member)
            member.end()
            with anyio.CancelScope(shield=True), anyio.move_on_after(self.client.seconds):
                await joined(member.thread)

    async def put_aside(self, record: Record, verdict: Undeliverable, attempts: int) -> None:
        """Write a message to the topic of the dead letters, under its place in the inbox."""
        with self.client.bounded("store a dead letter"):
            letter = self.publisher.send(
                self.names.dead,
                key=letter_id_of(record.partition, record.offset).encode(),
                headers=letter_of(record, verdict, attempts, self.clock.now()),
                value=record.body,
                partition=PARTITION,
            )
            await letter.wait()

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Yield the dead letters of the service, the oldest first."""
        for letter in await self._read_letters():
            yield letter

    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter of the service, or None."""
        if not is_letter_id(letter_id):
            return None
        return next((one for one in await self._read_letters() if one.id == letter_id), None)

    async def retry_dead_letter(self, letter_id: str) -> bool:
        """Write a dead letter to the end of the inbox, and then remove it."""
        letter = await self.find_dead_letter(letter_id)
        if letter is None:
            return False
        with self.client.bounded(f"retry the dead letter {letter_id!r}"):
            await self.publisher.ensure(self.names.inbox)
            again = self.publisher.send(
                self.names.inbox,
                key=key_of(letter.key),
                headers=headers_of(letter.headers),
                value=letter.body,
            )
            await again.wait()
            await self._remove_letter(letter_id)
        return True

    async def drop_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter: what is written under its id says that it is gone."""
        if await self.find_dead_letter(letter_id) is None:
            return False
        with self.client.bounded(f"drop the dead letter {letter_id!r}"):
            await self._remove_letter(letter_id)
        return True

    async def ping(self) -> None:
        """Have a broker answer."""
        with self.client.bounded("reach a broker"):
            await self.publisher.ping()

    async def aclose(self) -> None:
        """Let go of the clients."""
        try:
            await self._registry.aclose()
            await self._worker.aclose()
        finally:
            await self.publisher.aclose()

    async def _ensure_topics(self) -> None:
        await self.publisher.ensure(self.names.services, self.names.inbox, self.names.dead)

    def _write(self, service: str, message: Outgoing) -> Answer[None]:
        return self.publisher.send(
            self.names.inbox_of(service),
            key=key_of(message.key),
            headers=headers_of(message.headers),
            value=message.body,
        )

    async def _read_letters(self) -> list[DeadLetter]:
        topic = KeyedTopic(self.client, self.names.dead)
        with self.client.bounded("read the dead letters"):
            await self.publisher.ensure(self.names.dead)
            found = await self._worker.call(topic.read)
        letters = [read_letter(self.names.service, one) for one in found]
        return sorted(letters, key=lambda letter: letter.since)

    async def _remove_letter(self, letter_id: str) -> None:
        gone = self.publisher.send(
            self.names.dead, key=letter_id.encode(), headers=[], value=None, partition=PARTITION
        )
        await gone.wait()

    def _membership(self) -> dict[str, Any]:
        lease = max(int(self.lease.total_seconds() * 1000), 1)
        settings = {
            "group.id": self.names.inbox,
            "session.timeout.ms": lease,
            "heartbeat.interval.ms": max(lease // 10, 1),
            "max.poll.interval.ms": max(lease, self.handover // timedelta(milliseconds=1))
            + _BEYOND,
        }
        if self.owner is not None:
            settings["group.instance.id"] = member_of(self.owner)
        return settings
