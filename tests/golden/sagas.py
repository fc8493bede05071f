"""The saga of the golden documents: as it was when they were written, and as it would be now.

`Released` never changes: it is what wrote the documents. `Today` is a later version of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from attrs import field, frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially, migrates

HALF_HOUR = timedelta(minutes=30)
HOUR = timedelta(hours=1)


@frozen
class Line:
    article: str
    price: Decimal = Decimal("9.90")


@frozen
class Placed:
    order_id: str
    lines: list[Line] = field(factory=list[Line])


@frozen
class Paid:
    order_id: str
    transaction: UUID
    amount: Decimal


@frozen
class Shipped:
    order_id: str


@frozen
class Reminder:
    order_id: str
    text: str


@frozen
class Cancelled:
    order_id: str


@frozen
class Charge:
    order_id: str
    amount: Decimal


@frozen
class Refund:
    transaction: UUID
    amount: Decimal


@frozen
class Unpack:
    line: Line
    notes: dict[str, Any]


class Released(Saga, name="Golden", correlate_by="order_id", retain=timedelta(days=30)):
    waiting = State()
    packing = State()
    done = State(final=True)
    failed = State(final=True)

    failing: ClassVar[bool] = False

    total: Decimal = Decimal(0)
    lines: list[Line] = field(factory=list[Line])
    paid_at: datetime | None = None
    took: timedelta | None = None
    notes: dict[str, Any] = field(factory=dict[str, Any])
    last: Line | str | None = None

    @initially.on(Placed).goto(waiting)
    async def place(self, event: Placed, ctx: Context) -> None:
        self.lines = event.lines
        self.total = sum((line.price for line in event.lines), Decimal(0))
        self.last = event.lines[-1] if event.lines else "nothing"
        self.notes["$set"] = {"a.b": [1, 2.5, None, ("x",)]}
        ctx.send(Charge(event.order_id, self.total))

    early = initially.on(Paid).defer()

    @during(waiting).on(Paid).goto(packing)
    async def pay(self, event: Paid, ctx: Context) -> None:
        if Released.failing:
            raise LookupError("no such transaction")
        self.paid_at, self.took = ctx.now, HALF_HOUR
        ctx.add_compensation(self.unpack, Line("added"), {"$inc": 1})
        ctx.schedule(Reminder(event.order_id, "ship it"), after=HOUR, name="reminder")

    @compensates(pay)
    async def refund(self, event: Paid, ctx: Context) -> None:
        if Released.failing:
            raise LookupError("no such transaction")
        ctx.send(Refund(event.transaction, event.amount))

    async def unpack(self, line: Line, notes: dict[str, Any], ctx: Context) -> None:
        ctx.send(Unpack(line, notes))

    @during(waiting).after(HALF_HOUR).goto(failed)
    async def expire(self, ctx: Context) -> None:
        self.notes["expired"] = True

    @during(packing).on(Reminder).stay()
    async def remind(self, event: Reminder, ctx: Context) -> None:
        self.notes["reminded"] = event.text

    too_early = during(waiting).on(Shipped).defer()
    ship = during(packing).on(Shipped).goto(done)
    cancel = during_any.on(Cancelled).compensate().goto(failed)


class Today(Saga, name="Golden", correlate_by="order_id", retain=timedelta(days=30), schema=2):
    awaiting_payment = State()
    awaiting_parcel = State()
    done = State(final=True)
    expired = State(final=True)

    cents: int = 0
    lines: list[Line] = field(factory=list[Line])
    paid_at: datetime | None = None
    took: timedelta | None = None
    notes: dict[str, Any] = field(factory=dict[str, Any])
    last: Line | str | None = None
    currency: str = "EUR"

    @migrates(
        1,
        2,
        renamed={
            "waiting": "awaiting_payment",
            "packing": "awaiting_parcel",
            "failed": "expired",
            "pay": "take_payment",
            "refund": "give_back",
            "unpack": "put_back",
            "expire": "give_up",
        },
    )
    @staticmethod
    def cents_instead_of_euros(data: dict[str, Any]) -> None:
        data["cents"] = int(Decimal(data.pop("total")) * 100)

    @initially.on(Placed).goto(awaiting_payment)
    async def place(self, event: Placed, ctx: Context) -> None:
        self.lines, self.last = event.lines, event.lines[-1]
        self.cents = sum(int(line.price * 100) for line in event.lines)
        self.notes["$set"] = {"a.b": [1, 2.5, None, ("x",)]}

    early = initially.on(Paid).defer()

    @during(awaiting_payment).on(Paid).goto(awaiting_parcel)
    async def take_payment(self, event: Paid, ctx: Context) -> None:
        self.paid_at = ctx.now

    @compensates(take_payment)
    async def give_back(self, event: Paid, ctx: Context) -> None:
        ctx.send(Refund(event.transaction, event.amount))

    async def put_back(self, line: Line, notes: dict[str, Any], ctx: Context) -> None:
        ctx.send(Unpack(line, notes))

    @during(awaiting_payment).after(HALF_HOUR).goto(expired)
    async def give_up(self, ctx: Context) -> None:
        self.notes["expired"] = True

    @during(awaiting_parcel).on(Reminder).stay()
    async def remind(self, event: Reminder, ctx: Context) -> None:
        self.notes["reminded"] = event.text

    too_early = during(awaiting_payment).on(Shipped).defer()
    ship = during(awaiting_parcel).on(Shipped).goto(done)
    cancel = during_any.on(Cancelled).compensate().goto(expired)
