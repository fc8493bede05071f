"""``sagaflow demo --crash``: whatever is killed when, the books balance."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO, TextIO

import anyio
import attrs
import pymongo
import pytest
from rich.console import Console

from sagaflow.bus.memory import MemoryBus
from sagaflow.demo import crash
from sagaflow.demo.crash import Crashes, WorkerProcess, work_and_crash
from sagaflow.demo.example import orders
from sagaflow.demo.report import Terminal, show
from sagaflow.demo.run import run
from sagaflow.demo.server import Server, serving
from sagaflow.demo.settings import Settings, Watcher
from sagaflow.demo.worker import Job, main, work
from sagaflow.exceptions import SagaflowError
from sagaflow.mongo import MongoRepository
from sagaflow.orchestrator import Orchestrator

NOBODY = "mongodb://127.0.0.1:1/"
PLAN = Settings(orders=12, failures=0.5, seed=4)


@pytest.fixture
def server(
    mongodb_uri: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
) -> Iterator[Server]:
    """A database of the demo on the server of the tests."""
    with serving(mongodb_uri, database_name) as found:
        yield found
    mongodb_client.drop_database(database_name)


def job(server: Server, *waiting: str, last: bool = False) -> Job:
    return Job(
        uri=server.uri,
        options=server.options,
        database=server.database,
        runtime="asyncio",
        orders=PLAN.orders,
        failures=PLAN.failures,
        seed=PLAN.seed,
        concurrency=5,
        waiting=waiting,
        last=last,
    )


def test_the_books_balance_although_the_work_is_killed(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On trio; how the command does it on asyncio is among the tests of the terminal."""
    monkeypatch.setattr(crash, "KILLS", 2)
    settings = attrs.evolve(
        PLAN,
        orders=30,
        mongodb=server.uri,
        database=server.database,
        runtime="trio",
        crash=True,
    )
    console = Console(file=io.StringIO(), width=100)
    result = run(settings, Terminal(console, settings))
    assert result.reconciles, result.equations
    assert (result.states["completed"], result.states["failed"]) == (15, 15)
    assert (result.placed, result.crashes.kills) == (30, 2)
    payment = result.books.payment
    assert len(payment.charged) == 25
    assert len(payment.refunded) == 10
    assert caplog.messages == []  # an order that is placed again is a duplicate, no surprise
    show(console, attrs.evolve(result, crashes=Crashes(kills=2, leftovers=3)))
    said = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    assert "The process that does the work was killed 2 times and started again." in said
    assert "Sagas that were left half done, and then finished: 3" in said


def test_a_process_is_killed_while_others_of_its_orders_are_under_way(server: Server) -> None:
    """What it has left is finished by the next: nobody places these orders again."""
    waiting = tuple(order.order_id for order in attrs.evolve(PLAN, orders=40).planned)
    begun = attrs.evolve(job(server), orders=40, concurrency=40, waiting=waiting)
    with WorkerProcess(begun) as process:
        for kind, _ in process.told():
            if kind == "placed":
                break
        assert process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not process.kill()
    with WorkerProcess(attrs.evolve(begun, waiting=(), last=True)) as process:
        told = dict(process.told())
        assert process.wait() == 0
    assert isinstance(told["leftovers"], int)
    assert told["leftovers"] > 0
    assert "done" in told
    with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        sagas = client[server.database]["OrderSaga"]
        assert sagas.count_documents({}) > 1
        assert sagas.count_documents({"status": {"$ne": "finished"}}) == 0
        assert sagas.count_documents({"wake": {"$exists": True}}) == 0


def test_an_error_of_the_process_is_raised(server: Server) -> None:
    nowhere = attrs.evolve(server, uri=NOBODY, options={"serverSelectionTimeoutMS": 200})
    with pytest.raises(SagaflowError, match="no MongoDB server was reached in time"):
        work_and_crash(PLAN, nowhere, ["order-01"], Watcher())


def test_a_process_that_ends_by_itself_is_told(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its traceback was on the standard error."""
    broken = attrs.evolve(server, options={"noSuchOption": {}})
    settings = attrs.evolve(PLAN, runtime="no such runtime")
    with pytest.raises(SagaflowError, match="has ended by itself, with status 1"):
        work_and_crash(settings, broken, ["order-01"], Watcher())
    assert "no such runtime" in capfd.readouterr().err


def test_a_process_that_ends_before_it_has_its_job_tells_nothing(server: Server) -> None:
    with WorkerProcess(job(server, *(f"order-{number}" for number in range(20_000)))) as process:
        process.kill()
        assert list(process.told()) == []


# The process itself


class Parent:
    """Its parent's end of the pipes, in this process."""

    def __init__(self) -> None:
        reading, self._to_child = os.pipe()
        self._from_child, writing = os.pipe()
        self.source: BinaryIO = os.fdopen(reading, "rb", buffering=0)
        self.sink: TextIO = os.fdopen(writing, "w", encoding="utf-8")
        self.ended = threading.Event()
        self.codes: list[int] = []

    def say(self, text: bytes) -> None:
        os.write(self._to_child, text)

    def go(self) -> None:
        """End, as far as the child can see."""
        os.close(self._to_child)

    def heard(self) -> list[list[Any]]:
        """Return what was told; once."""
        self.sink.close()
        with os.fdopen(self._from_child, encoding="utf-8") as told:
            return [json.loads(line) for line in told]

    def end(self, code: int) -> None:
        """Take the place of the end of the process."""
        self.codes.append(code)
        self.ended.set()

    def close(self) -> None:
        """Wait until the child has noticed that its parent has gone."""
        self.go()
        assert self.ended.wait(30)
        assert self.codes == [1]
        self.source.close()


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_it_does_its_job_tells_and_ends(runtime: str, server: Server) -> None:
    parent = Parent()
    task = attrs.evolve(job(server, "order-01", "order-03", last=True), runtime=runtime)
    parent.say(task.to_json().encode() + b"\n")
    assert main(parent.source, parent.sink, parent.end) == 0
    assert not parent.ended.is_set()
    told = parent.heard()
    assert told[:2] == [["ready", None], ["leftovers", 0]]
    assert sorted(told[2:4]) == [["placed", "order-01"], ["placed", "order-03"]]
    assert told[4:] == [["done", None]]
    parent.close()


def test_what_is_logged_there_is_logged_here(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that waits since it was placed, but not by this demo."""
    monkeypatch.setattr(crash, "KILLS", 0)

    async def place_elsewhere() -> None:
        bus = MemoryBus()
        bus.subscribe(orders.ProcessPayment, lambda _: None)  # it is never answered
        async with (
            MongoRepository.connect(server.uri, database=server.database) as repository,
            Orchestrator([orders.OrderSaga], repository, bus=bus) as orchestrator,
        ):
            await orchestrator.handle(orders.OrderPlaced("order-01", Decimal(5)))

    anyio.run(place_elsewhere)
    before = list(logging.getLogger("sagaflow").handlers)
    work_and_crash(PLAN, server, ["order-01"], Watcher())
    (logged,) = caplog.messages
    assert "OrderPlaced 'order-01:placed' is unhandled in state awaiting_payment" in logged

    parent = Parent()
    parent.say(job(server, "order-01", last=True).to_json().encode() + b"\n")
    assert main(parent.source, parent.sink, parent.end) == 0
    assert ["log", [logging.WARNING, logged]] in parent.heard()
    assert logging.getLogger("sagaflow").handlers == before
    parent.close()


@pytest.mark.anyio
async def test_it_waits_for_its_end_if_it_is_not_the_last(
    anyio_backend: str, server: Server
) -> None:
    told: list[str] = []
    placed = anyio.Event()

    def tell(kind: str, _: object) -> None:
        told.append(kind)
        if kind == "placed":
            placed.set()

    task = attrs.evolve(job(server, "order-01"), runtime=anyio_backend)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, task, tell)
        await placed.wait()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert told == ["ready", "leftovers", "placed"]


def test_an_error_that_several_orders_meet_is_told_once(
    server: Server, mongodb_client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    sagas = mongodb_client[server.database]["OrderSaga"]
    sagas.insert_many([{"_id": order, "state": "failed"} for order in ("order-01", "order-02")])
    parent = Parent()
    task = job(server, "order-01", "order-02", last=True)
    parent.say(task.to_json().encode() + b"\n")
    assert main(parent.source, parent.sink, parent.end) == 1
    *_, (kind, what) = parent.heard()
    assert kind == "error"
    assert "is not one that sagaflow wrote" in what
    parent.close()


def test_an_error_is_told_in_one_line() -> None:
    parent = Parent()
    nowhere = Server(
        name="x",
        uri=NOBODY,
        database="x",
        kept=True,
        options={"serverSelectionTimeoutMS": 200},
    )
    parent.say(job(nowhere).to_json().encode() + b"\n")
    assert main(parent.source, parent.sink, parent.end) == 1
    ((kind, what),) = parent.heard()
    assert kind == "error"
    assert "no MongoDB server was reached" in what
    parent.close()


def test_a_job_that_was_not_written_to_its_end_is_not_done() -> None:
    for line in (b"", b'{"uri": "mongodb'):
        assert main(io.BytesIO(line), io.StringIO()) == 1


def test_it_ends_when_nobody_listens(server: Server) -> None:
    parent = Parent()
    parent.say(job(server, last=True).to_json().encode() + b"\n")
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), os.fdopen(writing, "w") as deaf:
        main(parent.source, deaf, parent.end)
    assert set(parent.codes) == {1}
    parent.source.close()
    parent.heard()
    parent.go()
