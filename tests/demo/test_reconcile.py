"""The reconciliation: what is right passes, and each fault is found where it is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import attrs
import pytest

from sagaflow._codec.instance import Instance
from sagaflow.bus.memory import MemoryBus
from sagaflow.demo.books import Books, Ledger
from sagaflow.demo.example import orders
from sagaflow.demo.participants import take_part
from sagaflow.demo.plan import Order, Refusal
from sagaflow.demo.reconcile import Equation, StoredOrder, reconcile
from sagaflow.memory import MemoryRepository
from sagaflow.orchestrator import Orchestrator
from tests.demo.support import (
    COMPLETED,
    DECLINED,
    FAILED,
    PLACED,
    good_books,
    good_sagas,
    stored,
)

Tamper = Callable[[Books, list[StoredOrder]], object]

MONEY = "money charged - refunded = money of completed orders"
STOCK = "stock reserved - released = shipped"
STOCK_PARCELS = "stock shipped = parcels sent"
PARCELS = "parcels sent = completed orders"
SAGAS = "sagas stored = orders placed"
UNFINISHED = "sagas left unfinished = 0"
REFUSED = "failed orders = refused orders"
UNDONE = "orders undone = orders given up"


def wrong(equations: tuple[Equation, ...]) -> set[str]:
    return {equation.name for equation in equations if not equation.holds}


def test_books_and_sagas_that_agree_add_up() -> None:
    equations = reconcile(good_books(), good_sagas(), PLACED)
    assert wrong(equations) == set()
    numbers = {e.name: (e.terms, e.expected) for e in equations}
    assert numbers == {
        MONEY: ((Decimal("17.75"), Decimal("7.25")), Decimal("10.50")),
        STOCK: ((2, 1), 1),
        STOCK_PARCELS: ((1,), 1),
        PARCELS: ((1,), 1),
        SAGAS: ((3,), 3),
        UNFINISHED: ((0,), 0),
        REFUSED: ((2,), 2),
        UNDONE: ((2,), 2),
    }


def lost_refund(books: Books, _: list[StoredOrder]) -> None:
    del books.payment.refunded[FAILED]


def double_charge(books: Books, _: list[StoredOrder]) -> None:
    books.payment.charged[COMPLETED] *= 2


def double_refund(books: Books, _: list[StoredOrder]) -> None:
    books.payment.refunded[FAILED] *= 2


def free_of_charge(books: Books, _: list[StoredOrder]) -> None:
    del books.payment.charged[COMPLETED]


def charged_the_wrong_customer(books: Books, _: list[StoredOrder]) -> None:
    amount = books.payment.charged.pop(COMPLETED)
    books.payment.charged["order-9"] = amount


def lost_release(books: Books, _: list[StoredOrder]) -> None:
    del books.inventory.released[FAILED]


def double_reservation(books: Books, _: list[StoredOrder]) -> None:
    books.inventory.reserved[COMPLETED] += 1


def lost_parcel(books: Books, _: list[StoredOrder]) -> None:
    del books.shipping.parcels[COMPLETED]


def parcel_of_a_failed_order(books: Books, _: list[StoredOrder]) -> None:
    books.shipping.parcels[FAILED] += 1


def left_without_being_booked_out(books: Books, _: list[StoredOrder]) -> None:
    del books.inventory.shipped[COMPLETED]


def lost_saga(_: Books, sagas: list[StoredOrder]) -> None:
    sagas[2:] = []


def ghost_saga(_: Books, sagas: list[StoredOrder]) -> None:
    sagas.append(stored("order-9", "1.00", "failed"))


def saga_that_waits(_: Books, sagas: list[StoredOrder]) -> None:
    sagas[0] = stored(COMPLETED, "10.50", "awaiting_shipment", finished=False)


def saga_with_unsent_messages(_: Books, sagas: list[StoredOrder]) -> None:
    sagas[1] = attrs.evolve(sagas[1], finished=False)


def compensation_that_is_not_done(_: Books, sagas: list[StoredOrder]) -> None:
    sagas[1] = attrs.evolve(sagas[1], undone=False)


def failed_for_no_reason(books: Books, _: list[StoredOrder]) -> None:
    books.payment.declined.clear()


def refused_but_completed(books: Books, _: list[StoredOrder]) -> None:
    books.inventory.out_of_stock.add(COMPLETED)


@pytest.mark.parametrize(
    ("tamper", "found", "fault"),
    [
        (lost_refund, {MONEY, UNDONE}, "order-2 (failed): 7.25 charged, 0 refunded"),
        (double_charge, {MONEY}, "order-1 (completed): 21.00 charged, 0 refunded"),
        (double_refund, {MONEY, UNDONE}, "order-2 (failed): left behind money -7.25"),
        (free_of_charge, {MONEY}, "order-1 (completed): 0 charged, 0 refunded"),
        (charged_the_wrong_customer, {MONEY}, "order-9 (no saga): 10.50 charged, 0 refunded"),
        (lost_release, {STOCK, UNDONE}, "order-2 (failed): 1 reserved, 0 released, 0 shipped"),
        (double_reservation, {STOCK}, "order-1 (completed): 2 reserved, 0 released, 1 shipped"),
        (lost_parcel, {STOCK_PARCELS, PARCELS}, "order-1 (completed): 0 parcels"),
        (
            parcel_of_a_failed_order,
            {STOCK_PARCELS, PARCELS, UNDONE},
            "order-2 (failed): left behind parcels 1",
        ),
        (
            left_without_being_booked_out,
            {STOCK, STOCK_PARCELS},
            "order-1 (completed): 0 shipped, 1 parcels",
        ),
        (lost_saga, {SAGAS, REFUSED}, "order-3 (no saga): placed"),
        (ghost_saga, {SAGAS, REFUSED}, "order-9 (failed): never placed"),
        (saga_that_waits, {MONEY, PARCELS, UNFINISHED}, "order-1 (awaiting_shipment)"),
        (saga_with_unsent_messages, {UNFINISHED, REFUSED}, "order-2 (failed)"),
        (
            compensation_that_is_not_done,
            {UNDONE},
            "order-2 (failed): left behind a compensation that is not done",
        ),
        (failed_for_no_reason, {REFUSED}, "order-3 (failed): refused by nobody"),
        (refused_but_completed, {REFUSED}, "order-1 (completed): refused by somebody"),
    ],
)
def test_a_fault_is_found(tamper: Tamper, found: set[str], fault: str) -> None:
    books, sagas = good_books(), good_sagas()
    tamper(books, sagas)
    equations = reconcile(books, sagas, PLACED)
    assert wrong(equations) == found
    assert fault in [fault for equation in equations for fault in equation.faults]


def test_two_faults_that_cancel_out_in_the_sum_are_found() -> None:
    books = good_books()
    books.payment.charged[COMPLETED] -= 1
    books.payment.charged[DECLINED] = Decimal(1)
    money = reconcile(books, good_sagas(), PLACED)[0]
    assert money.result == money.expected
    assert not money.holds
    assert len(money.faults) == 2


@pytest.mark.parametrize("refused", [False, True])
def test_an_order_that_expired_and_was_withdrawn_adds_up(refused: bool) -> None:
    """Whether somebody has refused it or not: the answer came too late."""
    books, sagas = good_books(), [*good_sagas(), stored("order-4", "9.00", "expired")]
    books.payment.cancelled.add("order-4")
    if refused:
        books.payment.declined.add("order-4")
    equations = reconcile(books, sagas, [*PLACED, "order-4"])
    assert wrong(equations) == set()
    undone = next(equation for equation in equations if equation.name == UNDONE)
    assert (undone.terms, undone.expected) == ((3,), 3)


def test_an_expired_order_that_was_charged_is_found() -> None:
    books, sagas = good_books(), [*good_sagas(), stored("order-4", "9.00", "expired")]
    books.payment.charged["order-4"] = Decimal("9.00")
    equations = reconcile(books, sagas, [*PLACED, "order-4"])
    assert wrong(equations) == {MONEY, UNDONE}


@pytest.mark.anyio
async def test_what_is_stored_is_read() -> None:
    failed = StoredOrder.of(await an_order(bus=True, refusal=Refusal.SHIPPING))
    assert failed == stored("order-1", "10.50", "failed")
    assert failed.failed
    assert not failed.completed
    completed = StoredOrder.of(await an_order(bus=True))
    assert completed.completed
    assert not completed.failed
    assert not completed.undone


@pytest.mark.anyio
async def test_a_saga_that_waits_is_not_finished() -> None:
    waiting = StoredOrder.of(await an_order(bus=False))
    assert not waiting.finished
    assert waiting.state == "awaiting_payment"


@pytest.mark.anyio
async def test_an_ended_saga_with_something_left_to_send_is_not_finished() -> None:
    ended, waiting = await an_order(bus=True), await an_order(bus=False)
    assert waiting.outbox
    order = StoredOrder.of(attrs.evolve(ended, outbox=waiting.outbox))
    assert not order.finished
    assert not order.completed


async def an_order(*, bus: bool, refusal: Refusal | None = None) -> Instance[orders.OrderSaga]:
    """Return a stored order: all done if there is a *bus*, just placed otherwise."""
    market = MemoryBus()
    order = Order(order_id="order-1", total=Decimal("10.50"), refusal=refusal)
    take_part(market, Ledger(MemoryRepository()), [order])
    repository = MemoryRepository()
    async with Orchestrator(
        [orders.OrderSaga], repository, bus=market if bus else None
    ) as orchestrator:
        await orchestrator.handle(orders.OrderPlaced(order.order_id, order.total))
    found = await repository.find(orders.OrderSaga, order.order_id)
    assert found is not None
    return found
