"""Messages for the tests of the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from attrs import frozen

from sagaflow import Envelope, Secret
from sagaflow.bus.wire import Binding, Wire

A_UUID: Final = UUID("12345678-1234-5678-1234-567812345678")


@frozen
class Item:
    product: str
    price: Decimal


@frozen
class Pay:
    order: UUID
    amount: Decimal
    at: datetime
    items: tuple[Item, ...] = ()
    card: Secret[str] = ""


@frozen
class Paid:
    order: UUID
    amount: Decimal
    receipt: int | str


@frozen
class PaidTwice(Paid):
    again: bool = True


@frozen
class Node:
    child: Node | None = None
    notes: dict[str, Any] | None = None


MESSAGES: Final[dict[str, type]] = {"Pay": Pay, "Paid": Paid, "Settled": Paid, "Node": Node}


def wire(binding: Binding = Binding.NATS, **options: Any) -> Wire:
    return Wire(MESSAGES, binding=binding, source="orders", **options)


def pay() -> Envelope[Pay]:
    """A command with ids of two types, a trace, and a header of each kind."""
    return Envelope(
        body=Pay(
            A_UUID,
            Decimal("19.90"),
            datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
            (Item("t\u00e9 \U0001f4e6", Decimal("9.95")),),
        ),
        id="m 1 %\u00e9",
        correlation_id=A_UUID,
        causation_id=7,
        headers={
            "kind": "command",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tracestate": "vendor=a b",
            "causation_id": 7,
            "tenant": "caf\u00e9",
            "limit": Decimal("1.50"),
        },
    )
