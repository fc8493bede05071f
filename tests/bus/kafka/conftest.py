"""What tests of the bus over Kafka share."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.bus.kafka.servers import LIBRARY, MISSING, KafkaCluster, running


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[KafkaCluster]:
    """A cluster of this test run."""
    if LIBRARY is None:
        pytest.skip(MISSING)
    with running() as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """What the topics of no other test begin with."""
    return f"test_{uuid4().hex}"
