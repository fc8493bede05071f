"""Reads what a topic holds for each key: which services there are, and dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import anyio
from attrs import define, field

from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow.kafka.client import Client
from sagaflow.kafka.records import read_entry
from sagaflow.kafka.threads import Worker

logger = get_logger("sagaflow.bus")

PARTITION = 0
"""Where these topics have everything: one partition has one order, and one end."""


def read_up_to(client: Client, consumer: Any, topic: str, offset: int, end: int) -> Iterator[Any]:
    """Yield the records of a topic that is being read, from *offset* up to *end*.

    :raises BusError: if the brokers do not hand them out in time.
    """
    ends = time.monotonic() + client.seconds
    while offset < end:
        found = consumer.poll(max(ends - time.monotonic(), 0))
        if found is None:
            raise BusError(f"cannot read {topic}: Kafka at {client.place} does not hand it out")
        error = found.error()
        if error is None:
            offset = found.offset() + 1
            yield found
        elif client.is_code(error, "_PARTITION_EOF"):
            offset = max(offset, found.offset())
        elif not error.retriable():
            raise client.error(f"read {topic}", error)


@define(eq=False)
class KeyedTopic:
    """A topic in which a record takes the place of an earlier one with its key.

    :ivar name: of the topic.
    """

    client: Client
    name: str

    def read(self) -> list[Any]:
        """Return the records that are in force, in their order.

        :raises BusError: if the brokers cannot be reached.
        """
        with self.client.translated(f"read {self.name}"):
            consumer = self.client.reader()
            try:
                place = self.client.place_in(self.name, PARTITION)
                low, high = consumer.get_watermark_offsets(place, timeout=self.client.seconds)
                consumer.assign([self.client.place_in(self.name, PARTITION, low)])
                found: dict[bytes, Any] = {}
                for record in read_up_to(self.client, consumer, self.name, low, high):
                    found.pop(record.key() or b"", None)
                    if record.value() is not None:
                        found[record.key() or b""] = record
                return list(found.values())
            finally:
                consumer.close()


@define(eq=False)
class Registry:
    """Which services take which names, as the topic says that all services share.

    :ivar topic: its name.
    """

    client: Client
    topic: str
    _takers: dict[str, set[str]] = field(factory=dict[str, set[str]], init=False)
    _consumer: Any = field(default=None, init=False)
    _next: int | None = field(default=None, init=False)
    _worker: Worker = field(factory=lambda: Worker("sagaflow-kafka-services"), init=False)
    _lock: anyio.Lock = field(factory=anyio.Lock, init=False)
    _asked: int = field(default=0, init=False)
    _covered: int = field(default=0, init=False)

    def takers(self, name: str) -> set[str]:
        """Return the services that are known to take messages of this name."""
        return set(self._takers.get(name, ()))

    async def refresh(self) -> None:
        """Read what the topic says now. Those who ask at the same time share a reading.

        :raises BusError: if the brokers cannot be reached.
        """
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._covered >= mine:
                return
            covering = self._asked
            await self._worker.call(self._read)
            self._covered = covering

    async def aclose(self) -> None:
        """Let go of the consumer."""
        if self._consumer is not None:
            await self._worker.call(self._close)
        await self._worker.aclose()

    def _read(self) -> None:
        with self.client.translated(f"read {self.topic}"):
            if self._consumer is None:
                self._consumer = self.client.reader()
            place = self.client.place_in(self.topic, PARTITION)
            low, high = self._consumer.get_watermark_offsets(place, timeout=self.client.seconds)
            if self._next is None or high < self._next:  # the topic was made anew
                self._begin(low)
            start = low if self._next is None else self._next
            if start < high:
                self._read_on(start, high)

    def _begin(self, low: int) -> None:
        if low > 0:
            message = (
                "Kafka removes what the topic %s holds, and then services miss messages: give it "
                "cleanup.policy=compact, and start each service again"
            )
            logger.warning(message, self.topic, extra=about())
        self._takers.clear()
        self._next = low

    def _read_on(self, start: int, end: int) -> None:
        """Read what is new, and leave the topic alone then."""
        self._consumer.assign([self.client.place_in(self.topic, PARTITION, start)])
        try:
            for record in read_up_to(self.client, self._consumer, self.topic, start, end):
                self._next = record.offset() + 1
                service, name = read_entry(record.key())
                if record.value() is None:
                    self._takers.get(name, set()).discard(service)
                else:
                    self._takers.setdefault(name, set()).add(service)
            self._next = end
        finally:
            self._consumer.unassign()

    def _close(self) -> None:
        self._consumer.close()
