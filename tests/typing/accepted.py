"""Right usage, which mypy and pyright must accept. Only type checked, never run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar, assert_type
from uuid import UUID

import attrs
from attrs import Factory, field, frozen
from bson import ObjectId

from sagaflow import (
    Cancellation,
    Context,
    Envelope,
    HistoryEntry,
    Instance,
    MemoryBus,
    MemoryRepository,
    MessageId,
    Observer,
    Orchestrator,
    Outcome,
    OutcomeKind,
    Saga,
    SagaId,
    Secret,
    State,
    compensates,
    during,
    during_any,
    initially,
    migrates,
    redact,
)
from sagaflow._definition.table import TransitionTable
from sagaflow.bus import Rate
from sagaflow.testing import AsyncSagaTest, Participant, SagaTest, containing, in_any_order


@frozen
class Placed:
    order_id: str
    total: Decimal


@frozen
class Paid:
    order_id: str
    transaction_id: str


@frozen
class PaidByCard(Paid):
    card: str


@frozen
class PaidInCash(Paid):
    place: str


@frozen
class Declined:
    order_id: str
    reason: str


@frozen
class Shipped:
    number: UUID


@frozen
class Cancelled:
    order_id: str
    reason: str


@frozen
class Charge:
    order_id: str
    amount: Decimal


def number_of(event: Shipped) -> UUID:
    return event.number


def order_of(event: Paid | Declined) -> str:
    return event.order_id


def is_large(saga: Order, event: Placed) -> bool:
    return event.total > saga.limit


class Order(Saga, name="order", correlate_by="order_id", retain=timedelta(days=30), inbox_size=16):
    """Every kind of chain, of handler and of data."""

    unpaid = State()
    paid = State()
    shipped = State(final=True)
    cancelled = State(final=True)

    limit: ClassVar[Decimal] = Decimal(1000)

    order_id: str | None = None
    total: Decimal = Decimal(0)
    notes: list[str] = field(factory=list[str])
    lines: dict[str, int] = Factory(dict[str, int])

    @initially.on(Placed).when(is_large).branch(unpaid, cancelled)
    async def place_large(self, event: Placed, ctx: Context) -> State:
        return self.unpaid if event.order_id else self.cancelled

    @initially.on(Placed).goto(unpaid)
    async def place(self, event: Placed, ctx: Context) -> None:
        self.order_id, self.total = event.order_id, event.total
        ctx.send(Charge(event.order_id, event.total))
        ctx.publish(event)

    # The parameter of a handler may be a base class of its events.
    @during(unpaid).on(PaidByCard, by="order_id").goto(paid)
    @during(unpaid).on(PaidInCash).goto(paid)
    async def pay(self, event: Paid, ctx: Context) -> None:
        ctx.add_compensation(self.release, event.transaction_id)

    @compensates(pay)
    async def refund(self, event: Paid, ctx: Context) -> None:
        self.notes.append(event.transaction_id)

    def release(self, transaction_id: str, ctx: Context) -> None: ...

    # One handler under chains for different events, synchronous and asynchronous.
    @during(unpaid).on(Declined).goto(cancelled)
    @during_any.on(Cancelled).compensate().goto(cancelled)
    async def give_up(self, event: Declined | Cancelled, ctx: Context) -> None:
        self.notes.append(event.reason)

    @during(paid).on(Shipped, by=number_of).stay()
    @during(paid).on(Paid, Declined, by=order_of).stay()
    def note(self, event: Shipped | Paid | Declined, ctx: Context) -> None:
        self.notes.append(repr(event))

    @during(paid).on(Shipped).goto(shipped)
    @during(paid).on(Paid).stay()
    def note_anything(self, event: object, ctx: Context) -> None: ...

    # One method that undoes several steps.
    @compensates(place)
    @compensates(note)
    async def undo(self, event: Placed | Shipped | Paid | Declined, ctx: Context) -> None: ...

    # A branch after a compensation, and a synchronous one.
    @during(paid).on(Cancelled).compensate().branch(cancelled, shipped)
    def cancel_late(self, event: Cancelled, ctx: Context) -> State:
        return self.cancelled

    # Transitions without code.
    late = during(shipped, cancelled).on(Paid, Declined, Shipped).ignore()
    sent = during(paid).on(Shipped).when(lambda _, event: event.number.int > 0).goto(shipped)
    anything = during_any.on(Placed, Paid, Declined, Shipped).stay()
    more = during_any.on(Placed, Paid, Declined, Shipped, Cancelled).stay()

    @compensates(sent)
    def take_back(self, event: Shipped, ctx: Context) -> None: ...


class WebOrder(Order):
    """What a subclass may do."""

    packed = State()
    browser: str = ""

    async def place(self, event: Placed, ctx: Context) -> None:
        await super().place(event, ctx)
        self.notes.append("on the web")

    async def pay(self, event: Paid, ctx: Context) -> None:
        await super().pay(event, ctx)

    async def give_up(self, event: Declined | Cancelled, ctx: Context) -> None:
        await super().give_up(event, ctx)

    def note(self, event: Shipped | Paid | Declined, ctx: Context) -> None:
        super().note(event, ctx)

    @during(Order.paid).on(Shipped).goto(packed)
    def pack(self, event: Shipped, ctx: Context) -> None: ...

    @compensates(Order.place)
    def forget(self, event: Placed, ctx: Context) -> None: ...


async def call_handlers_in_a_unit_test(ctx: Context) -> None:
    order = Order(order_id="o-1", total=Decimal(3), notes=["first"])
    assert_type(await order.place(Placed("o-1", Decimal(3)), ctx), None)
    assert_type(await order.place_large(Placed("o-1", Decimal(3)), ctx), State)
    assert_type(await order.pay(PaidByCard("o-1", "t-1", "card"), ctx), None)
    assert_type(await order.pay(Paid("o-1", "t-1"), ctx), None)
    assert_type(await order.give_up(Cancelled("o-1", "why"), ctx), None)
    assert_type(await order.give_up(Declined("o-1", "why"), ctx), None)
    assert_type(order.note(Shipped(UUID(int=1)), ctx), None)
    assert_type(order.note_anything(3, ctx), None)
    assert_type(order.cancel_late(Cancelled("o-1", "why"), ctx), State)
    assert_type(await order.undo(Placed("o-1", Decimal(3)), ctx), None)
    assert_type(order.take_back(Shipped(UUID(int=1)), ctx), None)
    assert_type(await WebOrder(browser="x").place(Placed("o-1", Decimal(3)), ctx), None)


def read_what_a_class_says() -> None:
    assert_type(Order.table, TransitionTable)
    assert_type(Order.unpaid, State)
    assert_type(Order().unpaid, State)
    assert_type(Order.unpaid.name, str)
    attrs.asdict(Order())
    attrs.fields(Order)


def read_a_context(ctx: Context) -> None:
    assert_type(ctx.state, State | None)
    assert_type(ctx.version, int)
    assert_type(ctx.idempotency_key("charge"), str)
    assert_type(ctx.correlation_id, SagaId)
    assert_type(ctx.message_id, MessageId)
    ctx.compensate()


async def ask_an_orchestrator(orchestrator: Orchestrator) -> None:
    assert_type(await orchestrator.find(Order, "o-1"), Instance[Order] | None)
    async for found in orchestrator.find_by_state(Order, Order.unpaid):
        assert_type(found, Instance[Order])
    async for stale in orchestrator.find_stale(Order, timedelta(days=1)):
        assert_type(stale.saga, Order)
    assert_type(await orchestrator.cancel(Order, "o-1", wait=False), Cancellation)
    Orchestrator([Order], MemoryRepository(), observers=Observer())
    Orchestrator([Order], MemoryRepository(), observers=[Observer(), Observer()])


def read_ids(envelope: Envelope[Paid], entry: HistoryEntry) -> MessageId:
    assert_type(envelope.id, MessageId)
    assert_type(envelope.causation_id, MessageId | None)
    assert_type(envelope.correlation_id, SagaId | None)
    assert_type(entry.message_id, MessageId)
    made: list[MessageId] = ["m-1", 7, UUID(int=7), ObjectId()]
    return made[0]


SHARED = State("shared")


class Shared(Saga):
    """A saga over states that are made outside."""

    start = initially.on(Placed).goto(SHARED)
    end = during(SHARED).on(Paid).goto(State("done", final=True))


def start_shared(saga: Shared, event: Placed, ctx: Context) -> None: ...


def is_given(handler: Callable[[Shared, Placed, Context], None]) -> None:
    """Take what a synchronous handler is after its decorator."""


is_given(initially.on(Placed).goto(SHARED)(start_shared))


class Evolved(Saga, schema=3):
    """A saga whose data has changed twice, with a secret."""

    start = initially.on(Placed).goto(State("gone", final=True))

    card: Secret[str] = ""
    pins: Secret[list[int] | None] = None

    @migrates(1, 2)
    @staticmethod
    def in_place(data: dict[str, Any]) -> None: ...

    @migrates(from_=2, to=3, renamed={"left": "gone"})
    @staticmethod
    def anew(data: dict[str, Any]) -> dict[str, Any]:
        return {**data}


@frozen
class Charged:
    """An event with a secret."""

    card: Secret[str]


def read_secrets(saga: Evolved) -> None:
    assert_type(saga.card, str)
    assert_type(saga.pins, list[int] | None)
    assert_type(Charged("4111").card, str)
    assert_type(redact(saga), dict[str, object])
    assert_type(Evolved.anew({}), dict[str, Any])
    Evolved(card="4111", pins=[1])


async def hand_in_and_wait(orchestrator: Orchestrator) -> None:
    assert_type(await orchestrator.handle(Placed("o-1", Decimal(3)), wait=False), Outcome)
    ended = await orchestrator.wait_for(Order, "o-1", finished=True, timeout=timedelta(1))
    assert_type(ended, Instance[Order])
    assert_type(await orchestrator.wait_for(Order, "o-1", state=Order.paid), Instance[Order])
    assert_type(await orchestrator.wait_for(Order, UUID(int=1), state="paid"), Instance[Order])
    Orchestrator([Order], MemoryRepository(), bus=MemoryBus(), listen=False)


def answer(command: Charge) -> Paid:
    return Paid(command.order_id, "t-1")


def test_a_saga() -> None:
    test = SagaTest(Order, "o-1", runtime="trio")
    assert_type(test, SagaTest[Order])
    assert_type(test.on(Charge), Participant[Charge])
    test.on(Charge).reply(answer).reply(lambda command: Paid(command.order_id, "t-1")).never()
    test.on(Charge).reply(Paid("o-1", "t-1"), after=timedelta(1)).reply_twice(answer)
    test.on(Charge).raises(ConnectionError()).reply(lambda _: None)
    test.given_state(Order.paid, Order(total=Decimal(3)), completed=[(Order.pay, object())])
    assert_type(test.given(Placed("o-1", Decimal(3))).advance(timedelta(1)), SagaTest[Order])
    test.when(Paid("o-1", "t-1"), message_id="m-1").then(
        lambda saga: saga.total > 3,
        lambda saga: "x" in saga.notes,
        state=Order.paid,
        outcome=OutcomeKind.TRANSITIONED,
        data=Order(order_id="o-1"),
        sent=[Charge, Charge("o-1", Decimal(3))],
        published=in_any_order(Placed),
        messages=containing(Charge),
        timers={"give_up": timedelta(1)},
        compensated=[Order.pay, Order.refund, Order.sent, "place"],
    )
    test.then(data={"notes": []}, sent=())
    test.when(Shipped(UUID(int=1)), raises=ValueError, match="no")
    assert_type(test.saga, Order)
    assert_type(test.state, State)
    assert_type(test.sent, list[object])


async def test_a_saga_in_a_coroutine() -> None:
    test = AsyncSagaTest(Order)
    assert_type(await test.when(Paid("o-1", "t-1")), AsyncSagaTest[Order])
    test.then(lambda saga: saga.total > 3)


def limits(bus: MemoryBus) -> None:
    rate = Rate(50, per=timedelta(seconds=1))

    @bus.subscribe(Placed, rate=rate, concurrency=8)
    async def reply(message: Placed) -> Paid:
        return Paid(message.order_id, "t-1")

    @bus.subscribe(Placed, envelope=True, rate=rate)
    def note(message: Envelope[Placed]) -> None: ...

    taken = bus.subscribe(Placed, print, concurrency=1)
    assert_type(taken(Placed("1", Decimal(1))), None)
