"""A cluster of Kafka for tests: the one in memory that librdkafka brings, in this process.

The client's package has librdkafka in it, and that has a mock of a cluster: it speaks the protocol
over sockets, keeps topics and groups, and can be told to fail. It ends with the process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from attrs import define, field

BROKER: Final = 1
PARTITIONS: Final = 4
"""How many a topic has that the mock makes by itself."""
_CONSUMER: Final = 1
_SILENCE: Final = 60_000
_SHORT: Final = 1_024


def _library() -> Path | None:
    """Return the library within the client's package, as wheels have it."""
    spec = find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    folders = (package.parent / "confluent_kafka.libs", package / ".dylibs")
    return next((found for folder in folders for found in folder.glob("librdkafka*")), None)


LIBRARY: Final = _library()
MISSING: Final = "there is no librdkafka in a wheel: pip install confluent-kafka"


@define(eq=False)
class KafkaCluster:
    """A cluster of one broker."""

    uri: str
    _library: Any = field(repr=False)
    _cluster: Any = field(repr=False)

    @contextmanager
    def silenced(self) -> Generator[None]:
        """Have the broker take requests and answer none of them for a while."""
        self._call("broker_set_rtt", BROKER, _SILENCE)
        try:
            yield
        finally:
            self._call("broker_set_rtt", BROKER, 0)

    @contextmanager
    def down(self) -> Generator[None]:
        """Have the broker gone for a while."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def kill(self) -> None:
        """Cut all connections, and refuse others. It keeps what it has, which a killed one may not.

        That is as much as this cluster can do: it is in the memory of this process.
        """
        self._call("broker_set_down", BROKER)

    def start(self) -> None:
        """Take connections again."""
        self._call("broker_set_up", BROKER)

    @property
    def can_forget(self) -> bool:
        """Whether this version of the cluster can remove records."""
        return hasattr(self._library, "rd_kafka_mock_partition_delete_records")

    def forget(self, topic: str, partition: int, before: int) -> None:
        """Have the oldest records removed, as retention does."""
        self._call("partition_delete_records", topic.encode(), partition, ctypes.c_int64(before))

    def make(self, topic: str, partitions: int) -> None:
        """Make a topic with so many partitions."""
        self._call("topic_create", topic.encode(), partitions, 1)

    def refuse(self, topic: str, error: int) -> None:
        """Have this error of the protocol told of a topic whenever somebody asks for it."""
        self.make(topic, 1)
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def fail(self, request: int, *errors: int) -> None:
        """Have the next requests of this kind answered with these errors of the protocol."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)), codes
        )

    def _call(self, name: str, *arguments: Any) -> None:
        error = getattr(self._library, f"rd_kafka_mock_{name}")(self._cluster, *arguments)
        assert error == 0, f"{name}: {error}"


@contextmanager
def running(_: Path | None = None) -> Generator[KafkaCluster]:
    """Run a cluster; it needs no folder, as it keeps nothing beyond its end."""
    library = ctypes.CDLL(str(LIBRARY))
    pointer = ctypes.c_void_p
    library.rd_kafka_conf_new.restype = pointer
    library.rd_kafka_new.restype = pointer
    library.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_mock_cluster_new.restype = pointer
    library.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_conf_set.argtypes = [pointer, *[ctypes.c_char_p] * 3, ctypes.c_size_t]
    said = ctypes.create_string_buffer(_SHORT)
    settings = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(settings, b"log_level", b"0", said, _SHORT)
    handle = pointer(library.rd_kafka_new(_CONSUMER, settings, said, _SHORT))
    assert handle.value, said.value
    cluster = pointer(library.rd_kafka_mock_cluster_new(handle, 1))
    try:
        # Groups begin at once, rather than wait three seconds for further members.
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
        place = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()
        yield KafkaCluster(f"kafka://{place}", library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(handle)
