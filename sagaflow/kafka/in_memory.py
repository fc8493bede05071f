"""A cluster of Kafka in the memory of this process, for demonstrations and measurements."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from sagaflow.kafka.client import load_client

_PATIENCE: Final = 30.0


@contextmanager
def cluster_in_memory() -> Generator[str]:
    """Run the cluster that the client has in it for tests, and yield its URI.

    It speaks the protocol to other processes as well, makes topics of four partitions by itself,
    and ends with this process: what is in it cannot be killed and started again.

    :raises BusError: if the client is not installed.
    """
    package = load_client()
    holder: Any = package.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = holder.list_topics(timeout=_PATIENCE).brokers.values()
    try:
        yield f"kafka://{broker.host}:{broker.port}"
    finally:
        del holder  # and with it the cluster
