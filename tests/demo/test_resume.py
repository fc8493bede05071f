"""A demo that was killed by hand is continued: nothing is lost, nothing is half done."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pymongo
import pytest
from click.testing import CliRunner

from sagaflow._model.envelope import Envelope
from sagaflow.bus.memory import MemoryBus
from sagaflow.cli import main
from sagaflow.demo.books import Entry, Ledger
from sagaflow.demo.example import orders
from sagaflow.demo.record import begin
from sagaflow.demo.run import work_here
from sagaflow.demo.settings import Settings, Watcher
from sagaflow.memory import MemoryRepository
from sagaflow.orchestrator import Orchestrator
from sagaflow.testing import ManualClock
from tests.demo.support import SERVER, Counting

if sys.platform == "win32":
    pytest.skip("terminals of POSIX", allow_module_level=True)

from tests.demo.terminal import OnTerminal, interrupt, kill


@pytest.fixture
def place(
    mongodb_uri: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
) -> Iterator[tuple[str, ...]]:
    """The options that name a database of this test."""
    yield "--mongodb", mongodb_uri, "--database", database_name
    mongodb_client.drop_database(database_name)


@pytest.mark.parametrize(
    ("killed", "then", "resumed"),
    [
        ((), kill, ("--runtime", "trio")),
        (("--runtime", "trio"), interrupt, ()),
        (("--crash",), kill, ("--crash",)),
    ],
    ids=["killed on asyncio", "interrupted on trio", "killed while it crashes"],
)
def test_a_demo_that_was_killed_is_continued_and_adds_up(
    killed: tuple[str, ...],
    then: Any,
    resumed: tuple[str, ...],
    place: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sagaflow.demo.crash.KILLS", 1)
    ordered = ("--orders", "80", "--failures", "0.3", "--seed", "7")
    demo = OnTerminal(tmp_path, *place, *ordered, *killed)
    # When this returns, nobody holds its errors any more: no process was left behind.
    ended = demo.watch("[1-9]/80", then)
    assert "Reconciliation" not in ended[1]
    assert (ended[0], ended[2]) == (
        (-signal.SIGKILL, "") if then is kill else (130, "interrupted\n")
    )
    result = CliRunner().invoke(main, ["demo", "--json", *place, "--resume", *resumed])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["reconciles"] is True
    assert {name: found[name] for name in ("orders", "failures", "seed", "resumed")} == {
        "orders": 80,
        "failures": 0.3,
        "seed": 7,
        "resumed": True,
    }
    assert (found["sagas"]["completed"], found["sagas"]["failed"]) == (56, 24)
    assert found["placed"] < 80
    assert found["kills"] == (1 if "--crash" in resumed else 0)


@pytest.mark.anyio
async def test_missing_orders_are_placed_and_leftovers_are_finished(anyio_backend: str) -> None:
    repository, watcher = MemoryRepository(), Counting()
    settings = Settings(orders=10, failures=0.5, seed=1)
    await begin(settings, repository, "shop")
    async with Orchestrator([orders.OrderSaga], repository) as without_a_bus:
        for order in settings.planned[:4]:
            event = orders.OrderPlaced(order.order_id, order.total)
            await without_a_bus.handle(event, message_id=f"{order.order_id}:placed")
    resumed = attrs.evolve(settings, resume=True)
    result = await work_here(resumed, SERVER, repository, watcher)
    assert result.reconciles, result.equations
    assert (watcher.placed_before, watcher.done) == (4, 6)
    assert (result.placed, result.crashes.leftovers) == (6, 4)
    again = await work_here(resumed, SERVER, repository, Counting())
    assert (again.placed, again.crashes.leftovers) == (0, 0)
    assert (again.books, again.states) == (result.books, result.states)


@pytest.mark.anyio
async def test_orders_that_have_expired_before_they_were_continued_add_up(
    anyio_backend: str,
) -> None:
    """Nobody knows what became of their payments: they are withdrawn."""
    repository, bus = MemoryRepository(), MemoryBus()
    settings = Settings(orders=10, failures=0.5, seed=1)
    await begin(settings, repository, "shop")
    ledger = Ledger(repository)

    @bus.subscribe(orders.ProcessPayment, envelope=True)
    async def charge_and_die(envelope: Envelope[orders.ProcessPayment]) -> None:
        order_id = envelope.body.order_id
        if order_id in {"order-01", "order-02"}:
            await ledger.enter(Entry.CHARGED, envelope.id, order_id, envelope.body.amount)

    long_ago = ManualClock(datetime.now(UTC) - timedelta(hours=1))
    async with Orchestrator(
        [orders.OrderSaga], repository, bus=bus, clock=long_ago, background=False
    ) as orchestrator:
        for order in settings.planned[:4]:
            event = orders.OrderPlaced(order.order_id, order.total)
            await orchestrator.handle(event, message_id=f"{order.order_id}:placed")
    resumed = attrs.evolve(settings, resume=True)
    result = await work_here(resumed, SERVER, repository, Watcher())
    assert result.reconciles, result.equations
    assert result.states["expired"] == len(result.books.payment.cancelled) == 4
    assert result.books.payment.refunded.keys() >= {"order-01", "order-02"}
    assert sum(result.states.values()) == 10
