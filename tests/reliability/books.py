"""What the participants have done, on durable paper, and the audit of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import pymongo
from anyio import to_thread
from pymongo import WriteConcern
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from examples.orders import (
    CreateShipment,
    InventoryFailed,
    InventoryReserved,
    OrderShipped,
    PaymentDeclined,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipmentFailed,
)
from sagaflow import Envelope, MemoryBus
from tests.reliability.points import passed
from tests.reliability.shop import COMPLETED_FATES, fate_of, total_of

Document = dict[str, Any]

_DURABLE: Final[dict[str, Any]] = {
    "write_concern": WriteConcern(w="majority", j=True),
    "read_concern": ReadConcern("majority"),
}


class Books:
    """Every delivery of a command, and its effect, which it has once for each message id."""

    def __init__(self, database: Database[Document]) -> None:
        self._deliveries = database.get_collection("deliveries", **_DURABLE)
        self._effects = database.get_collection("effects", **_DURABLE)

    async def note(self, envelope: Envelope[Any], **what: object) -> None:
        """Note a delivery, and that its command has taken effect."""
        entry: Document = {
            "command": type(envelope.body).__name__,
            "order": envelope.body.order_id,
            **what,
        }
        await to_thread.run_sync(self._note, str(envelope.id), entry)

    def _note(self, message_id: str, entry: Document) -> None:
        self._deliveries.insert_one({"message": message_id, "at": time.time_ns(), **entry})
        passed("before an effect")
        try:
            self._effects.insert_one({"_id": message_id, **entry})
        except DuplicateKeyError:
            return
        passed("after an effect")


def employ_participants(bus: MemoryBus, books: Books) -> None:
    """Have payment, inventory and shipping listen to *bus*.

    The id of an answer follows from the id of its command, so that a saga recognises the answer
    to a command that was delivered twice.
    """

    async def answer(envelope: Envelope[Any], event: object) -> None:
        await bus.publish(event, message_id=f"answer to {envelope.id}")

    async def pay(envelope: Envelope[ProcessPayment]) -> None:
        order, amount = envelope.body.order_id, envelope.body.amount
        if fate_of(order) == "declined":
            await books.note(envelope, amount="0")
            await answer(envelope, PaymentDeclined(order, "no money"))
        else:
            await books.note(envelope, amount=str(amount))
            await answer(envelope, PaymentProcessed(order, f"charge {envelope.id}"))

    async def refund(envelope: Envelope[RefundPayment]) -> None:
        charge = envelope.body.transaction_id.removeprefix("charge ")
        await books.note(envelope, undoes=charge)

    async def reserve(envelope: Envelope[ReserveInventory]) -> None:
        order = envelope.body.order_id
        if fate_of(order) == "out-of-stock":
            await books.note(envelope, reserved=False)
            await answer(envelope, InventoryFailed(order, "out of stock"))
        else:
            await books.note(envelope, reserved=True)
            await answer(envelope, InventoryReserved(order, f"reservation {envelope.id}"))

    async def release(envelope: Envelope[ReleaseInventory]) -> None:
        reservation = envelope.body.reservation_id.removeprefix("reservation ")
        await books.note(envelope, undoes=reservation)

    async def ship(envelope: Envelope[CreateShipment]) -> None:
        order = envelope.body.order_id
        await books.note(envelope)
        if fate_of(order) == "unshippable":
            await answer(envelope, ShipmentFailed(order, "no such address"))
        elif fate_of(order) != "overdue":
            await answer(envelope, OrderShipped(order, f"parcel {envelope.id}"))

    bus.subscribe(ProcessPayment, pay, envelope=True)
    bus.subscribe(RefundPayment, refund, envelope=True)
    bus.subscribe(ReserveInventory, reserve, envelope=True)
    bus.subscribe(ReleaseInventory, release, envelope=True)
    bus.subscribe(CreateShipment, ship, envelope=True)


def unfinished(database: Database[Document], orders: Iterable[str]) -> list[str]:
    """Return the orders that have not started, not ended, or whose sagas have work left."""
    sagas = database.get_collection("OrderSaga", **_DURABLE)
    ended = sagas.find({"status": "finished", "wake": {"$exists": False}}, {"_id": 1})
    return sorted(set(orders) - {document["_id"] for document in ended})


def audit(database: Database[Document], orders: Iterable[str]) -> None:
    """Check stored sagas and books against each other; knows nothing of sagaflow.

    :raises AssertionError: if anything was lost, done twice, or left half done.
    """
    sagas = {document["_id"]: document for document in database["OrderSaga"].find()}
    deliveries: dict[str, list[Document]] = defaultdict(list)
    effects: dict[str, list[Document]] = defaultdict(list)
    for entry in database["deliveries"].find(sort=[("at", pymongo.ASCENDING)]):
        deliveries[entry["order"]].append(entry)
    for entry in database["effects"].find():
        effects[entry["order"]].append(entry)
    assert sagas.keys() == set(orders)
    assert deliveries.keys() == effects.keys() == set(orders)
    money = Decimal(0)
    for order, saga in sagas.items():
        try:
            _audit_saga(saga)
            money += _audit_order(saga, deliveries[order], effects[order])
        except AssertionError as exc:
            exc.add_note(f"order {order}: {saga}\n{deliveries[order]}\n{effects[order]}")
            raise
    earned = sum(
        (total_of(order) for order, saga in sagas.items() if saga["state"] == "completed"),
        Decimal(0),
    )
    assert money == earned, f"{money} were kept, but completed orders are worth {earned}"


def _audit_saga(saga: Document) -> None:
    assert saga["status"] == "finished"
    assert "suspension" not in saga
    assert "wake" not in saga
    assert (saga["outbox"], saga["timers"], saga["parked"]) == ([], [], [])
    history = saga["history"]
    assert [entry["version"] for entry in history] == list(range(1, saga["version"] + 1))
    taken = [entry["message_id"] for entry in history if entry["event"] != "compensation"]
    assert len(taken) == len(set(taken)), "an event was applied twice"
    assert len(saga["inbox"]) == len(set(saga["inbox"]))


def _audit_order(saga: Document, delivered: list[Document], effects: list[Document]) -> Decimal:
    """Return the money that was kept."""
    fate, completed = fate_of(saga["_id"]), saga["state"] == "completed"
    assert completed == (fate in COMPLETED_FATES)
    first = list(dict.fromkeys(entry["command"] for entry in delivered))
    assert first == _commands(fate), "commands are missing, out of order, or not called for"
    ids = {(entry["command"], entry["message"]) for entry in delivered}
    assert len(ids) == len(first), "a command was delivered under several ids"
    assert ids == {(effect["command"], effect["_id"]) for effect in effects}
    by_command = {effect["command"]: effect for effect in effects}
    charged = Decimal(by_command["ProcessPayment"]["amount"])
    _check_undone("RefundPayment", "ProcessPayment", by_command, charged > 0 and not completed)
    reserved = by_command.get("ReserveInventory", {}).get("reserved", False)
    _check_undone("ReleaseInventory", "ReserveInventory", by_command, reserved and not completed)
    undone = {entry["step"] for entry in saga["compensations"] if entry["status"] == "done"}
    recorded = {entry["step"] for entry in saga["compensations"]}
    assert undone == (set() if completed else recorded)
    return Decimal(0) if "RefundPayment" in by_command else charged


def _check_undone(
    undoing: str,
    doing: str,
    effects: dict[str, Document],
    called_for: bool,
) -> None:
    assert (undoing in effects) == called_for, f"{undoing}: expected {called_for}"
    if called_for:
        assert effects[undoing]["undoes"] == effects[doing]["_id"]


def _commands(fate: str) -> list[str]:
    """Return the commands of an order, in their order."""
    forward = ["ProcessPayment", "ReserveInventory", "CreateShipment"]
    match fate:
        case "declined":
            return forward[:1]
        case "out-of-stock":
            return [*forward[:2], "RefundPayment"]
        case "unshippable" | "overdue":
            return [*forward, "ReleaseInventory", "RefundPayment"]
        case _:
            return forward
