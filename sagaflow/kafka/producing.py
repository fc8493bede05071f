"""Publishes records, and waits until Kafka has them."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from attrs import define, field

from sagaflow._model.errors import BusError
from sagaflow.kafka.client import Client
from sagaflow.kafka.records import Headers
from sagaflow.kafka.threads import Answer, Worker, joined, teller

_POLL: Final = 0.1
"""Seconds for which a thread waits for the client at once."""


@define(eq=False)
class Publisher:
    """A producer, and the thread in which it tells what became of records.

    :ivar most_bytes: how large a record may be.
    """

    client: Client
    most_bytes: int
    _producer: Any = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _worker: Worker = field(factory=lambda: Worker("sagaflow-kafka-topics"), init=False)
    _lock: threading.Condition = field(factory=threading.Condition, init=False)
    _awaited: int = field(default=0, init=False)
    _ends: bool = field(default=False, init=False)
    _known: set[str] = field(factory=set[str], init=False)

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        headers: Headers,
        value: bytes | None,
        partition: int | None = None,
    ) -> Answer[None]:
        """Hand a record to the client, and return what will tell when Kafka has it.

        :param partition: None for that of the key.
        :raises KafkaException: or `BufferError`, if the client does not take it.
        """
        answer: Answer[None] = Answer(teller())

        def delivered(error: Any, _: Any) -> None:
            with self._lock:
                self._awaited -= 1
            answer.give(None, None if error is None else self._refused(topic, error))

        where = {} if partition is None else {"partition": partition}
        self._started().produce(
            topic, value=value, key=key, headers=headers, on_delivery=delivered, **where
        )
        with self._lock:
            self._awaited += 1
            self._lock.notify()
        return answer

    async def ensure(self, *topics: str) -> None:
        """See that topics are there; brokers that may, make those that are missing.

        :raises BusError: if one is missing, or the brokers cannot be reached.
        """
        for topic in topics:
            if topic not in self._known:
                await self._worker.call(self._look, topic)
                self._known.add(topic)

    async def ping(self) -> None:
        """Have a broker answer.

        :raises KafkaException: if none does.
        """
        producer = self._started()
        await self._worker.call(lambda: producer.list_topics(timeout=self.client.seconds))

    async def aclose(self) -> None:
        """Let go of the producer; what it has not delivered is dropped."""
        with self._lock:
            self._ends = True
            self._lock.notify()
        await self._worker.aclose()
        if self._thread is not None:
            await joined(self._thread)

    def _started(self) -> Any:
        if self._producer is None:
            if self._ends:
                raise BusError("the bus is closed")
            self._producer = self.client.producer(self.most_bytes)
            self._thread = threading.Thread(target=self._poll, name="sagaflow-kafka", daemon=True)
            self._thread.start()
        return self._producer

    def _poll(self) -> None:
        producer = self._producer
        while self._is_wanted():
            producer.poll(_POLL)
        producer.purge()
        producer.poll(0)
        self._producer = None

    def _is_wanted(self) -> bool:
        """Wait until there is something to be told, and tell whether the thread is to go on."""
        with self._lock:
            self._lock.wait_for(lambda: self._ends or self._awaited > 0)
            return not self._ends

    def _look(self, topic: str) -> None:
        """Ask for a topic until it is there: brokers that make it do not have it at once."""
        ends = time.monotonic() + self.client.seconds
        producer = self._started()
        while True:
            with self.client.translated(f"find the topic {topic}"):
                found = producer.list_topics(topic, timeout=max(ends - time.monotonic(), 0.001))
            error = found.topics[topic].error
            if error is None:
                return
            is_coming = self.client.is_code(
                error, "LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"
            )
            if not is_coming or time.monotonic() + _POLL > ends:
                raise BusError(
                    f"Kafka at {self.client.place} has no topic {topic}: make it, or let the "
                    f"brokers make topics (auto.create.topics.enable): {error.str()}"
                )
            time.sleep(_POLL)

    def _refused(self, topic: str, error: Any) -> BusError:
        return self.client.error(f"publish to {topic}", error)
