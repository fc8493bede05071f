"""The official client, how it is set up, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import anyio
from attrs import define, field

from sagaflow._model.errors import BusError
from sagaflow._model.texts import cleaned

_SILENT: Final = 0
"""Its log says the same again and again, on standard error; errors tell what matters of it."""
_SHORTEST: Final = 2_000
"""Milliseconds: a request for messages alone may take half a second."""


def load_client() -> Any:
    """Return the client's package.

    :raises BusError: if it is not installed.
    """
    try:
        import confluent_kafka  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise BusError("KafkaBus needs the client of Kafka: pip install 'sagaflow[kafka]'") from exc
    return confluent_kafka


@define(eq=False)
class Client:
    """Makes producers and consumers, and translates their errors.

    :ivar place: the brokers as errors name them.
    :ivar settings: the way to them; a password is in there.
    :ivar timeout: how long one operation may take.
    :ivar trouble: what went wrong last with a connection, in the client's words.
    """

    place: str
    settings: Mapping[str, Any] = field(repr=False)
    timeout: timedelta
    trouble: str = field(default="", init=False)
    _package: Any = field(factory=load_client, init=False, repr=False)

    @property
    def seconds(self) -> float:
        """How long one operation may take."""
        return self.timeout.total_seconds()

    def check(self) -> None:
        """Have the client look at the settings; it connects to nothing.

        :raises BusError: if they are of no use.
        """
        self._made(self._package.Producer, {})

    def producer(self, most_bytes: int) -> Any:
        """Return a producer that loses, doubles and reorders nothing.

        :param most_bytes: how large a message may be.
        :raises BusError: if the settings are of no use.
        """
        return self._made(
            self._package.Producer,
            {
                "acks": "all",
                "enable.idempotence": True,
                "delivery.timeout.ms": max(int(self.seconds * 1000), 1),
                "linger.ms": 0,
                "message.max.bytes": most_bytes,
                "partitioner": "murmur2_random",  # that of the Java client
            },
        )

    def reader(self) -> Any:
        """Return a consumer that reads partitions which it is told, and is in no group.

        :raises BusError: if the settings are of no use.
        """
        return self._made(
            self._package.Consumer,
            {
                "group.id": "sagaflow-reader",  # it has to have one, and does not use it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                # A broker answers one request after another: what is asked next waits for this.
                "fetch.wait.max.ms": 10,
                "auto.offset.reset": "earliest",
            },
        )

    def member(self, settings: Mapping[str, Any], on_error: Callable[[Any], None]) -> Any:
        """Return a consumer that is in a group.

        :param on_error: called with errors that are about no message.
        :raises BusError: if the settings are of no use.
        """

        def noted(error: Any) -> None:
            self._note(error)
            on_error(error)

        return self._made(
            self._package.Consumer,
            {
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.error.backoff.ms": 100,
                "partition.assignment.strategy": "cooperative-sticky",
                "error_cb": noted,
                **settings,
            },
        )

    def place_in(self, topic: str, partition: int, *rest: Any) -> Any:
        """Return a place in a topic as the client takes it.

        :param rest: an offset, and the text that is committed with it.
        """
        return self._package.TopicPartition(topic, partition, *rest)

    def is_code(self, error: Any, *names: str) -> bool:
        """Tell whether an error of the client has one of these codes."""
        return error.code() in {getattr(self._package.KafkaError, name) for name in names}

    def error(self, what: str, error: Any) -> BusError:
        """Return an error of the bus that says what the client says."""
        said = cleaned(error.str(), 500)
        if "fenced" in said:  # the code says only that it is fatal
            said = f"another process with the same owner= has taken its place ({said})"
        return BusError(f"cannot {what}: Kafka at {self.place}: {said}")

    @contextmanager
    def translated(self, what: str) -> Generator[None]:
        """Raise the bus's errors instead of the client's.

        :param what: what is being done.
        """
        try:
            yield
        except self._package.KafkaException as exc:
            error = exc.args[0]
            if self.is_code(error, "_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN", "_RESOLVE"):
                raise self._silence(what) from exc
            raise self.error(what, error) from exc
        except BufferError as exc:
            raise BusError(
                f"cannot {what}: too many messages wait for Kafka at {self.place}"
            ) from exc

    @contextmanager
    def bounded(self, what: str) -> Generator[None]:
        """Limit the time of an operation as well.

        :param what: what is being done.
        """
        try:
            with anyio.fail_after(self.seconds), self.translated(what):
                yield
        except TimeoutError as exc:
            raise self._silence(what) from exc

    def _silence(self, what: str) -> BusError:
        why = f" ({self.trouble})" if self.trouble else ""
        return BusError(
            f"cannot {what}: Kafka at {self.place} has not answered within {self.timeout}{why}"
        )

    def _note(self, error: Any) -> None:
        if not self.is_code(error, "_ALL_BROKERS_DOWN"):  # it says only how many they are
            self.trouble = cleaned(error.str(), 200)

    def _made(self, kind: Any, settings: Mapping[str, Any]) -> Any:
        ours = {
            "log_level": _SILENT,
            "error_cb": self._note,
            "socket.timeout.ms": max(int(self.seconds * 1000), _SHORTEST),
            "reconnect.backoff.max.ms": 1_000,
        }
        try:
            return kind({**ours, **self.settings, **settings})
        except self._package.KafkaException as exc:
            # It names the setting, and repeats values of those that have a fixed list of them.
            raise BusError(
                f"a client for Kafka cannot be made: {cleaned(exc.args[0].str(), 300)}"
            ) from exc
