"""One saga as its code was and as it is: another field type, another field, other names."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from attrs import frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially, migrates

MINUTE = timedelta(minutes=1)
NAME = "Order"


@frozen
class Placed:
    order_id: str
    total: int


@frozen
class Paid:
    order_id: str
    transaction: str = "t"


@frozen
class Shipped:
    order_id: str


@frozen
class Failed:
    order_id: str


@frozen
class Refund:
    transaction: str


class Old(Saga, name=NAME, correlate_by="order_id"):
    """Schema 1: whole numbers, and names that nobody liked."""

    awaiting_money = State()
    awaiting_parcel = State()
    done = State(final=True)
    failed = State(final=True)

    total: int = 0
    customer: str = "nobody"
    seen: list[str] | None = None

    @initially.on(Placed).goto(awaiting_money)
    async def place(self, event: Placed, ctx: Context) -> None:
        self.total = event.total
        self.customer = f"customer of {event.order_id}"

    @during(awaiting_money).on(Paid).goto(awaiting_parcel)
    async def take_money(self, event: Paid, ctx: Context) -> None: ...

    @compensates(take_money)
    async def money_back(self, event: Paid, ctx: Context) -> None:
        ctx.send(Refund(event.transaction))

    @during(awaiting_money).after(MINUTE).goto(failed)
    async def give_up(self, ctx: Context) -> None: ...

    shipped = during(awaiting_parcel).on(Shipped).goto(done)
    undo = during_any.on(Failed).compensate().goto(failed)


class New(Saga, name=NAME, correlate_by="order_id", schema=3):
    """Schema 3: a Decimal instead of an int, a field less, and better names."""

    awaiting_payment = State()
    awaiting_shipment = State()
    done = State(final=True)
    failed = State(final=True)

    fails: ClassVar[bool] = False

    total: Decimal = Decimal(0)
    currency: str = "EUR"
    seen: list[str] | None = None

    @migrates(1, 2)
    @staticmethod
    def decimals(data: dict[str, Any]) -> None:
        if New.fails:
            raise LookupError("no such currency")
        data["total"] = Decimal(data["total"])

    names = migrates(
        2,
        3,
        renamed={
            "awaiting_money": "awaiting_payment",
            "awaiting_parcel": "awaiting_shipment",
            "take_money": "reserve",
            "money_back": "refund",
            "give_up": "expire",
        },
    )

    @initially.on(Placed).goto(awaiting_payment)
    async def place(self, event: Placed, ctx: Context) -> None:
        self.total = Decimal(event.total)

    @during(awaiting_payment).on(Paid).goto(awaiting_shipment)
    async def reserve(self, event: Paid, ctx: Context) -> None: ...

    @compensates(reserve)
    async def refund(self, event: Paid, ctx: Context) -> None:
        ctx.send(Refund(f"new {event.transaction}"))

    @during(awaiting_payment).after(MINUTE).goto(failed)
    async def expire(self, ctx: Context) -> None:
        self.seen = ["expired"]

    shipped = during(awaiting_shipment).on(Shipped).goto(done)
    undo = during_any.on(Failed).compensate().goto(failed)
