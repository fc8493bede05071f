"""The order example: its handlers by themselves, and the whole way with its participants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import define, field

from examples.orders import (
    CancelPayment,
    CreateShipment,
    InventoryFailed,
    InventoryReserved,
    OrderCancelled,
    OrderPlaced,
    OrderSaga,
    OrderShipped,
    PaymentDeclined,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipmentFailed,
)
from sagaflow import (
    CompensationStatus,
    Context,
    Envelope,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    SagaRepository,
    State,
    Status,
)
from sagaflow._definition.context import Effects
from sagaflow.testing import ManualClock

pytestmark = pytest.mark.anyio

PLACED = OrderPlaced("o-1", Decimal("99.90"))
PAID = PaymentProcessed("o-1", "p-1")
RESERVED = InventoryReserved("o-1", "r-1")


# The handlers by themselves


@pytest.fixture
def effects() -> Effects:
    """What the handlers of a test ask for."""
    return Effects()


@pytest.fixture
def ctx(clock: ManualClock, effects: Effects) -> Context:
    """A context as a handler would get it."""
    return Context(
        correlation_id="o-1",
        message_id="m-1",
        version=1,
        state=OrderSaga.awaiting_payment,
        now=clock.now(),
        saga="OrderSaga",
        effects=effects,
    )


def sent(effects: Effects) -> list[object]:
    """Return the commands that were asked for."""
    assert {outgoing.kind for outgoing in effects.outgoing} <= {"command"}
    assert not effects.compensate
    assert not effects.compensations
    return [outgoing.body for outgoing in effects.outgoing]


async def test_place_keeps_the_order_and_asks_for_its_payment(
    ctx: Context, effects: Effects
) -> None:
    saga = OrderSaga()
    await saga.place(PLACED, ctx)
    assert saga == OrderSaga(order_id="o-1", total=Decimal("99.90"))
    assert sent(effects) == [ProcessPayment("o-1", Decimal("99.90"))]


async def test_reserve_keeps_the_payment_and_asks_for_the_stock(
    ctx: Context, effects: Effects
) -> None:
    saga = OrderSaga(order_id="o-1")
    await saga.reserve(PAID, ctx)
    assert saga == OrderSaga(order_id="o-1", transaction_id="p-1")
    assert sent(effects) == [ReserveInventory("o-1")]


async def test_refund_gives_back_the_payment_that_was_acknowledged(
    ctx: Context, effects: Effects
) -> None:
    saga = OrderSaga(order_id="o-1", transaction_id="another")
    await saga.refund(PAID, ctx)
    assert sent(effects) == [RefundPayment("o-1", "p-1")]


async def test_ship_asks_for_the_shipment(ctx: Context, effects: Effects) -> None:
    saga = OrderSaga(order_id="o-1")
    await saga.ship(RESERVED, ctx)
    assert saga == OrderSaga(order_id="o-1")
    assert sent(effects) == [CreateShipment("o-1")]


async def test_release_gives_back_the_stock_that_was_reserved(
    ctx: Context, effects: Effects
) -> None:
    await OrderSaga(order_id="o-1").release(RESERVED, ctx)
    assert sent(effects) == [ReleaseInventory("o-1", "r-1")]


async def test_finish_keeps_the_tracking_code(ctx: Context, effects: Effects) -> None:
    saga = OrderSaga(order_id="o-1")
    saga.finish(OrderShipped("o-1", "t-1"), ctx)
    assert saga == OrderSaga(order_id="o-1", tracking_code="t-1")
    assert sent(effects) == []


@pytest.mark.parametrize("event_type", [PaymentDeclined, InventoryFailed, ShipmentFailed])
async def test_fail_notes_the_reason(
    anyio_backend: str,
    event_type: Callable[[str, str], PaymentDeclined | InventoryFailed | ShipmentFailed],
    ctx: Context,
    effects: Effects,
) -> None:
    saga = OrderSaga(order_id="o-1", notes=["fragile"])
    await saga.fail(event_type("o-1", "no luck"), ctx)
    assert saga == OrderSaga(order_id="o-1", notes=["fragile", "no luck"])
    assert sent(effects) == []


async def test_withdraw_notes_the_reason_and_cancels_the_payment(
    ctx: Context, effects: Effects
) -> None:
    saga = OrderSaga(order_id="o-1")
    await saga.withdraw(OrderCancelled("o-1", "regret"), ctx)
    assert saga == OrderSaga(order_id="o-1", notes=["regret"])
    assert sent(effects) == [CancelPayment("o-1")]


async def test_give_up_cancels_the_payment(ctx: Context, effects: Effects) -> None:
    saga = OrderSaga(order_id="o-1")
    await saga.give_up(ctx)
    assert saga == OrderSaga(order_id="o-1")
    assert sent(effects) == [CancelPayment("o-1")]


# The whole way


Script = dict[type, object]
"""The event with which the participants answer a command; what is missing gets no answer."""

PAYS: Script = {ProcessPayment: PAID}
RESERVES: Script = {**PAYS, ReserveInventory: RESERVED}
SHIPS: Script = {**RESERVES, CreateShipment: OrderShipped("o-1", "t-1")}


@define
class Shop:
    """Runs orders with participants that follow a script and keep what they are told."""

    repository: SagaRepository
    script: Script
    clock: ManualClock
    commands: list[object] = field(factory=list[object])
    causes: list[object] = field(factory=list[object])

    async def take(self, *events: object) -> OutcomeKind:
        """Hand over events, wait for all that follows, and return what became of the last.

        What has become due meanwhile is done first.
        """
        bus = MemoryBus()

        async def answer(envelope: Envelope[object]) -> None:
            assert envelope.correlation_id == "o-1"
            command = envelope.body
            self.commands.append(command)
            self.causes.append(envelope.causation_id)
            if type(command) in self.script:
                await bus.publish(self.script[type(command)], message_id=f"re {envelope.id}")

        for command in (
            ProcessPayment,
            CancelPayment,
            RefundPayment,
            ReserveInventory,
            ReleaseInventory,
            CreateShipment,
        ):
            bus.subscribe(command, answer, envelope=True)
        kind = OutcomeKind.NOT_FOUND
        async with Orchestrator(
            [OrderSaga], self.repository, bus=bus, clock=self.clock
        ) as orchestrator:
            await orchestrator.run_due()
            for event in events:
                kind = (await orchestrator.handle(event)).kind
        return kind

    async def ended(self, state: State, saga: OrderSaga, *undone: str) -> None:
        """Assert how the order ended: its state, its data, and the steps undone, in order."""
        instance = await self.repository.find(OrderSaga, "o-1")
        assert instance is not None
        assert (instance.state, instance.status) == (state, Status.FINISHED)
        assert instance.saga == saga
        assert instance.outbox == ()
        assert [entry.step for entry in instance.history if entry.event == "compensation"] == [
            *undone
        ]
        done = {c.step for c in instance.compensations if c.status is CompensationStatus.DONE}
        assert done == {*undone}


def order(**fields: Any) -> OrderSaga:
    """Return the data of the order with these fields."""
    return OrderSaga(order_id="o-1", total=Decimal("99.90"), **fields)


async def test_order_is_charged_reserved_and_shipped(
    repository: SagaRepository, clock: ManualClock
) -> None:
    shop = Shop(repository, SHIPS, clock)
    assert await shop.take(PLACED) is OutcomeKind.STARTED
    assert shop.commands == [
        ProcessPayment("o-1", Decimal("99.90")),
        ReserveInventory("o-1"),
        CreateShipment("o-1"),
    ]
    expected = order(transaction_id="p-1", tracking_code="t-1")
    await shop.ended(OrderSaga.completed, expected)


async def test_declined_payment_ends_the_order_with_nothing_to_undo(
    repository: SagaRepository, clock: ManualClock
) -> None:
    declines: Script = {ProcessPayment: PaymentDeclined("o-1", "broke")}
    shop = Shop(repository, declines, clock)
    await shop.take(PLACED)
    assert shop.commands == [ProcessPayment("o-1", Decimal("99.90"))]
    await shop.ended(OrderSaga.failed, order(notes=["broke"]))


async def test_no_stock_refunds_the_payment(repository: SagaRepository, clock: ManualClock) -> None:
    empty: Script = {**PAYS, ReserveInventory: InventoryFailed("o-1", "none")}
    shop = Shop(repository, empty, clock)
    await shop.take(PLACED)
    assert shop.commands[2:] == [RefundPayment("o-1", "p-1")]
    await shop.ended(OrderSaga.failed, order(transaction_id="p-1", notes=["none"]), "reserve")


async def test_failed_shipment_releases_the_stock_and_then_refunds_the_payment(
    repository: SagaRepository, clock: ManualClock
) -> None:
    loses: Script = {**RESERVES, CreateShipment: ShipmentFailed("o-1", "lost")}
    shop = Shop(repository, loses, clock)
    await shop.take(PLACED)
    assert shop.commands[3:] == [ReleaseInventory("o-1", "r-1"), RefundPayment("o-1", "p-1")]
    expected = order(transaction_id="p-1", notes=["lost"])
    await shop.ended(OrderSaga.failed, expected, "ship", "reserve")


@pytest.mark.parametrize(
    ("script", "data", "undone", "commands"),
    [
        ({}, {}, [], [CancelPayment("o-1")]),
        (PAYS, {"transaction_id": "p-1"}, ["reserve"], [RefundPayment("o-1", "p-1")]),
        (
            RESERVES,
            {"transaction_id": "p-1"},
            ["ship", "reserve"],
            [ReleaseInventory("o-1", "r-1"), RefundPayment("o-1", "p-1")],
        ),
    ],
    ids=["awaiting_payment", "awaiting_inventory", "awaiting_shipment"],
)
async def test_cancelled_order_undoes_what_was_done(
    repository: SagaRepository,
    clock: ManualClock,
    script: Script,
    data: dict[str, str],
    undone: list[str],
    commands: list[object],
) -> None:
    shop = Shop(repository, script, clock)
    await shop.take(PLACED)
    told = len(shop.commands)
    assert told == len(script) + 1
    # By another orchestrator, as after a restart.
    assert await shop.take(OrderCancelled("o-1", "regret")) is OutcomeKind.TRANSITIONED
    assert shop.commands[told:] == commands
    await shop.ended(OrderSaga.failed, order(notes=["regret"], **data), *undone)


async def test_refund_names_the_payment_as_its_cause(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """A compensation sends in the name of the message that its step handled."""
    shop = Shop(repository, PAYS, clock)
    await shop.take(PLACED, OrderCancelled("o-1", "regret"))
    assert shop.commands[-1] == RefundPayment("o-1", "p-1")
    assert shop.causes[-1] == shop.causes[-2]
    assert str(shop.causes[-1]).startswith("re ")


async def test_completed_order_cannot_be_cancelled(
    repository: SagaRepository, clock: ManualClock
) -> None:
    shop = Shop(repository, SHIPS, clock)
    await shop.take(PLACED)
    assert await shop.take(OrderCancelled("o-1", "too late")) is OutcomeKind.FINISHED
    assert len(shop.commands) == 3
    expected = order(transaction_id="p-1", tracking_code="t-1")
    await shop.ended(OrderSaga.completed, expected)


async def test_payment_that_arrives_after_the_order_was_cancelled_is_ignored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It was withdrawn with the order."""
    shop = Shop(repository, {}, clock)
    await shop.take(PLACED, OrderCancelled("o-1", "regret"))
    assert await shop.take(PAID) is OutcomeKind.IGNORED
    assert shop.commands == [ProcessPayment("o-1", Decimal("99.90")), CancelPayment("o-1")]
    await shop.ended(OrderSaga.failed, order(notes=["regret"]))


async def test_order_that_is_not_paid_within_half_an_hour_expires(
    repository: SagaRepository, clock: ManualClock
) -> None:
    shop = Shop(repository, {}, clock)
    await shop.take(PLACED)
    clock.advance(timedelta(minutes=29, seconds=59))
    await shop.take()
    assert shop.commands == [ProcessPayment("o-1", Decimal("99.90"))]
    clock.advance(timedelta(seconds=1))
    await shop.take()
    assert shop.commands[1:] == [CancelPayment("o-1")]
    assert await shop.take(PAID) is OutcomeKind.IGNORED
    await shop.ended(OrderSaga.expired, order())


async def test_order_that_is_paid_does_not_expire(
    repository: SagaRepository, clock: ManualClock
) -> None:
    shop = Shop(repository, PAYS, clock)
    await shop.take(PLACED)
    clock.advance(timedelta(days=1))
    assert await shop.take(RESERVED) is OutcomeKind.TRANSITIONED
    assert CancelPayment("o-1") not in shop.commands
