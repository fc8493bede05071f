"""The shop: each of its programs is killed, and the books balance."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anyio
import pymongo
import pytest
from bson import Decimal128

from examples.shop import books
from examples.shop.messages import OrderPlaced, PaymentDeclined, PaymentProcessed, ProcessPayment
from examples.shop.payments import payments
from examples.shop.saga import OrderSaga
from examples.shop.web import app, lifespan
from sagaflow import MemoryBus, Orchestrator
from sagaflow.mongo import MongoRepository
from sagaflow.worker import Worker
from tests.commands.workers import free_port
from tests.examples.asking import by_asgi, over_http
from tests.examples.shop_processes import Shop, address_of, at_work, kill_a_child

OVER_THE_LIMIT = "1000.01"


@pytest.fixture
def environment(
    mongodb_uri: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, str]]:
    """An empty database, for this process and those that it starts."""
    found = {"SAGAFLOW_MONGODB_URI": mongodb_uri, "SAGAFLOW_DATABASE": database_name}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    yield found
    mongodb_client.drop_database(database_name)


@pytest.fixture
def shop(environment: dict[str, str]) -> Iterator[Shop]:
    """The programs, none of which runs yet."""
    found = Shop(environment)
    yield found
    found.close()


@pytest.mark.timeout(180)
def test_workers_and_payments_are_killed_and_the_books_balance(
    shop: Shop,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    web, workers, paying = shop.begin_web(), shop.begin_workers(), shop.begin_payments()
    place_of_web = address_of(web)
    at_work(workers, 2)
    at_work(paying)
    placed: dict[str, str] = {}

    def place(*totals: str) -> None:
        for total in totals:
            key = f"o-{len(placed)}"
            answer = over_http(place_of_web, "/orders", {"total": total}, Idempotency_Key=key)
            assert (answer.status, answer.body) == (202, {"order_id": key})
            placed[key] = total

    def state_of(order_id: str) -> str:
        answer = over_http(place_of_web, f"/orders/{order_id}?wait=30")
        assert answer.status == 200, answer.body
        state: str = answer.body["state"]
        return state

    place("9.90", OVER_THE_LIMIT)
    assert [state_of(order_id) for order_id in placed] == ["paid", "declined"]
    place(*["1.10"] * 8)
    paying.process.kill()
    place(*["2.20"] * 8)
    kill_a_child(workers)
    place(*["3.30"] * 4)
    paying = shop.begin_payments()
    again = over_http(place_of_web, "/orders", {"total": "9.90"}, Idempotency_Key="o-0")
    assert again.body == {"order_id": "o-0"}
    states = Counter(state_of(order_id) for order_id in placed)
    assert states == {"paid": 21, "declined": 1}
    workers.until("has ended by itself (SIGKILL), and is started again")
    assert anyio.run(books.main) == 0
    assert capsys.readouterr().out.splitlines() == [
        "21 paid",
        "1 declined",
        "49.50 charged, 49.50 in paid orders",
        "Everything adds up.",
    ]
    charges = list(mongodb_client[database_name]["payment_books"].find())
    assert len(charges) == 21
    assert {charge["order_id"]: str(charge["amount"]) for charge in charges} == {
        order_id: total for order_id, total in placed.items() if total != OVER_THE_LIMIT
    }
    assert (paying.stop(), workers.stop()) == (0, 0)
    web.tell(signal.SIGINT)
    web.end()
    assert "Application shutdown complete" in " ".join(web.lines)


def test_a_command_that_comes_twice_is_charged_once(
    environment: dict[str, str], mongodb_client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    answers: list[object] = []
    bus: Any = MemoryBus()
    worker = Worker(service="payments", owner="p", repository=None, make_bus=lambda _: bus)
    bus.subscribe(PaymentProcessed, answers.append)
    bus.subscribe(PaymentDeclined, answers.append)

    async def deliver() -> None:
        async with payments(worker):
            for order_id, amount in [("o-1", "9.90"), ("o-1", "9.90"), ("o-2", OVER_THE_LIMIT)]:
                command = ProcessPayment(order_id, Decimal(amount))
                await bus.publish(command, message_id=f"m-{order_id}")

    anyio.run(deliver)
    assert answers == [
        PaymentProcessed("o-1", "t-m-o-1"),
        PaymentProcessed("o-1", "t-m-o-1"),
        PaymentDeclined("o-2", "more than 1000"),
    ]
    charges = mongodb_client[environment["SAGAFLOW_DATABASE"]]["payment_books"].find()
    assert [charge["_id"] for charge in charges] == ["m-o-1"]


def enter(environment: dict[str, str], client: Any, order_id: str, amount: str) -> None:
    charge = {"order_id": order_id, "amount": Decimal128(amount)}
    client[environment["SAGAFLOW_DATABASE"]]["payment_books"].insert_one(charge)


def test_books_say_what_is_missing_and_what_is_wrong(
    environment: dict[str, str],
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def check() -> tuple[int, list[str]]:
        return anyio.run(books.main), capsys.readouterr().out.splitlines()

    async def handle(*events: object) -> None:
        uri, database = environment["SAGAFLOW_MONGODB_URI"], environment["SAGAFLOW_DATABASE"]
        async with MongoRepository.connect(uri, database=database) as repository:
            orchestrator = Orchestrator([OrderSaga], repository)
            for event in events:
                await orchestrator.handle(event)

    assert check() == (0, ["0 charged, 0 in paid orders", "Everything adds up."])
    anyio.run(handle, OrderPlaced("o-1", Decimal(5)), OrderPlaced("o-2", Decimal(5)))
    enter(environment, mongodb_client, "o-1", "5")
    waits = "Some orders wait for their payment: look again later."
    sums = "5 charged, 0 in paid orders"
    assert check() == (1, ["2 awaiting_payment", sums, waits])
    anyio.run(handle, PaymentProcessed("o-1", "t-1"), PaymentDeclined("o-2", "no"))
    sums = "5 charged, 5 in paid orders"
    assert check() == (0, ["1 paid", "1 declined", sums, "Everything adds up."])
    for order_id in ("o-1", "o-2", "o-3"):
        enter(environment, mongodb_client, order_id, "5")
    assert check() == (
        1,
        [
            "1 paid",
            "1 declined",
            "20 charged, 5 in paid orders",
            "o-1: 10 charged, 5 owed",
            "o-2: 5 charged, 0 owed",
            "o-3: 5 charged, no order owed",
            "It does not add up.",
        ],
    )


@pytest.mark.usefixtures("environment")
def test_the_web_process_refuses_what_is_wrong() -> None:
    async def ask() -> None:
        async with lifespan(app):
            for body in (
                {},
                {"total": "0"},
                {"total": "NaN"},
                {"total": "0.001"},
                {"total": "1e9"},
            ):
                assert (await by_asgi(app, "/orders", body)).status == 422, body
            answer = await by_asgi(app, "/orders", {"total": "1"}, Idempotency_Key="o" * 65)
            assert answer.status == 422
            assert (await by_asgi(app, "/orders/o-1")).status == 404

    anyio.run(ask)


@pytest.mark.usefixtures("environment")
def test_an_order_that_takes_long_is_shown_as_it_is() -> None:
    async def ask() -> None:
        async with lifespan(app):
            placed = await by_asgi(app, "/orders", {"total": "1"})
            answer = await by_asgi(app, f"{placed.headers['location']}?wait=0.05")
            order = {"total": "1", "state": "awaiting_payment", "reason": None}
            assert answer.body == placed.body | order

    anyio.run(ask)


@pytest.mark.usefixtures("environment")
def test_the_web_process_says_that_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=100"

    async def ask() -> None:
        async with lifespan(app), pymongo.AsyncMongoClient[dict[str, Any]](uri) as away:
            orchestrator = Orchestrator([OrderSaga], MongoRepository(away["shop"]))
            monkeypatch.setattr(app.state, "orchestrator", orchestrator)
            answer = await by_asgi(app, "/orders", {"total": "1"})
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")

    anyio.run(ask)
