"""The same protocol in straight lines: what an event has to cost when no layer is in the way.

One document for each order, one conditional change for each event, and all that `MemoryRepository`
and an orchestrator do for it in the usual case: duplicates are recognised, the handler works on a
copy with a context, data is encoded, history and outbox are appended and bounded, the store copies
in and checks the version, each message is handed to the bus and removed by the next change. What is
left out is everything that is not usual: failures, timers, parked events, compensations, observers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, Final

import anyio
from attrs import define, field, frozen

from benchmarks.measuring import Measurement
from benchmarks.orders import (
    CreateShipment,
    InventoryReserved,
    Order,
    OrderData,
    OrderPlaced,
    OrderShipped,
    PaymentProcessed,
    ProcessPayment,
    ReserveInventory,
    check_completed,
    command_bus,
    measure_orders,
)
from sagaflow import MemoryBus

_Document = dict[str, Any]
_INBOX: Final = 128
_HISTORY: Final = 64


@define
class _Context:
    correlation_id: str
    message_id: str
    version: int
    state: str | None
    now: datetime
    sent: list[object] = field(factory=list[object])

    def send(self, command: object) -> None:
        self.sent.append(command)


async def _place(data: OrderData, event: OrderPlaced, ctx: _Context) -> None:
    data.order_id, data.total = event.order_id, event.total
    ctx.send(ProcessPayment(event.order_id, event.total))


async def _reserve(data: OrderData, event: PaymentProcessed, ctx: _Context) -> None:
    data.transaction_id = event.transaction_id
    ctx.send(ReserveInventory(event.order_id))


async def _ship(data: OrderData, event: InventoryReserved, ctx: _Context) -> None:
    data.reservation_id = event.reservation_id
    ctx.send(CreateShipment(event.order_id))


async def _finish(data: OrderData, event: OrderShipped, ctx: _Context) -> None:
    del ctx
    data.tracking_code = event.tracking_code


_Handler = Callable[[OrderData, Any, _Context], Awaitable[None]]
_TABLE: Mapping[tuple[str | None, type], tuple[_Handler, str, str]] = {
    (None, OrderPlaced): (_place, "awaiting_payment", "active"),
    ("awaiting_payment", PaymentProcessed): (_reserve, "awaiting_inventory", "active"),
    ("awaiting_inventory", InventoryReserved): (_ship, "awaiting_shipment", "active"),
    ("awaiting_shipment", OrderShipped): (_finish, "completed", "finished"),
}
_BODIES: Final[Mapping[type, Callable[[Any], _Document]]] = {
    ProcessPayment: lambda command: {
        "order_id": command.order_id,
        "amount": str(command.amount),
    },
    ReserveInventory: lambda command: {"order_id": command.order_id},
    CreateShipment: lambda command: {"order_id": command.order_id},
}


def _encoded(data: OrderData) -> _Document:
    return {
        "order_id": data.order_id,
        "total": str(data.total),
        "transaction_id": data.transaction_id,
        "reservation_id": data.reservation_id,
        "tracking_code": data.tracking_code,
        "notes": list(data.notes),
    }


def _decoded(stored: _Document) -> OrderData:
    return OrderData(
        stored["order_id"],
        Decimal(stored["total"]),
        stored["transaction_id"],
        stored["reservation_id"],
        stored["tracking_code"],
        list(stored["notes"]),
    )


def _copied_fields(fields: _Document) -> _Document:
    return {
        name: _COPIES[type(part)](part) if type(part) in _COPIES else part
        for name, part in fields.items()
    }


def _copied_items(items: list[Any]) -> list[Any]:
    return [_COPIES[type(part)](part) if type(part) in _COPIES else part for part in items]


_COPIES: Final[Mapping[type, Callable[[Any], Any]]] = {dict: _copied_fields, list: _copied_items}


@frozen
class _Push:
    items: list[Any]
    keep: int


@define
class _Store:
    """Keeps copies, and changes a document only if it has the version that was read."""

    documents: dict[str, _Document] = field(factory=dict[str, _Document])

    def insert(self, document: _Document) -> bool:
        if document["_id"] in self.documents:
            return False
        self.documents[document["_id"]] = _copied_fields(document)
        return True

    def update(
        self, key: str, version: int, fields: _Document, pushed: Mapping[str, _Push]
    ) -> bool:
        document = self.documents.get(key)
        if document is None or document["version"] != version:
            return False
        document.update(_copied_fields(fields))
        for name, push in pushed.items():
            items = document[name]
            items.extend(_copied_items(push.items))
            if len(items) > push.keep:
                del items[: -push.keep]
        return True


@define
class _Straight:
    """Handles events. What it has stored last it knows by heart; the write proves it right."""

    bus: MemoryBus
    store: _Store = field(factory=_Store)
    _known: dict[str, _Document] = field(factory=dict[str, _Document])
    _numbers: count[int] = field(factory=count)

    async def handle(self, key: str, event: object, message_id: str) -> str | None:
        """Handle an event of an order; return its new state, or None if it was handled before."""
        document = self._known.get(key)
        if document is not None and message_id in document["inbox"]:
            return None
        state = None if document is None else document["state"]
        version = 0 if document is None else document["version"]
        sequence = 0 if document is None else document["sequence"]
        handler, target, status = _TABLE[state, type(event)]
        now, token = datetime.now(UTC), f"token-{next(self._numbers)}"
        data = OrderData() if document is None else _decoded(document["data"])
        ctx = _Context(key, message_id, version, state, now)
        await handler(data, event, ctx)
        encoded = _encoded(data)
        if document is not None and encoded == document["data"]:
            encoded = document["data"]
        outgoing: list[_Document] = []
        for command in ctx.sent:
            sequence += 1
            outgoing.append(
                {
                    "id": f"{token}-{sequence}",
                    "sequence": sequence,
                    "kind": "command",
                    "type": type(command).__name__,
                    "body": _BODIES[type(command)](command),
                    "headers": {"causation_id": message_id},
                    "created_at": now,
                }
            )
        entry = {
            "at": now,
            "event": type(event).__name__,
            "step": getattr(handler, "__name__", ""),
            "source": state,
            "target": target,
            "message_id": message_id,
            "version": version + 1,
            "token": token,
        }
        fields: _Document = {
            "version": version + 1,
            "token": token,
            "state": target,
            "status": status,
            "data": encoded,
            "sequence": sequence,
            "outbox": outgoing,  # what was there has been sent
            "wake": now,
            "updated_at": now,
        }
        if document is None:
            document = {
                "_id": key,
                "incarnation": token,
                **fields,
                "inbox": [message_id],
                "timers": [],
                "parked": [],
                "compensations": [],
                "history": [entry],
                "created_at": now,
            }
            stored = self.store.insert(document)
            self._known[key] = document
        else:
            pushed = {"inbox": _Push([message_id], _INBOX), "history": _Push([entry], _HISTORY)}
            stored = self.store.update(key, version, fields, pushed)
            document.update(fields)
            document["inbox"].append(message_id)
        if not stored:
            raise RuntimeError(f"{key} was changed meanwhile")
        for command, message in zip(ctx.sent, outgoing, strict=True):
            await self.bus.publish(
                command, correlation_id=key, message_id=message["id"], headers=message["headers"]
            )
        return target


def run(*, number: int) -> Measurement:
    """Handle events of orders."""
    straight = _Straight(command_bus())

    async def run_order(order: Order) -> None:
        state = None
        for event, message_id in zip(order.events, order.message_ids, strict=True):
            state = await straight.handle(order.order_id, event, message_id)
        check_completed(order.order_id, state)

    return anyio.run(measure_orders, run_order, number)
