"""The books: each entry once, in any store."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sagaflow.abc import SagaRepository
from sagaflow.demo.books import Books, Entry, Ledger

pytestmark = pytest.mark.anyio


async def test_each_entry_is_counted_where_it_belongs(repository: SagaRepository) -> None:
    ledger = Ledger(repository)
    for entry in Entry:
        amount = Decimal("1.10") if entry in {Entry.CHARGED, Entry.REFUNDED} else None
        await ledger.enter(entry, f"m-{entry.kind}", f"order {entry.kind}", amount)
    books = Books()
    books.payment.charged["order charged"] = Decimal("1.10")
    books.payment.refunded["order refunded"] = Decimal("1.10")
    books.payment.declined.add("order declined")
    books.payment.cancelled.add("order cancelled")
    books.inventory.reserved["order reserved"] = 1
    books.inventory.released["order released"] = 1
    books.inventory.shipped["order shipped"] = 1
    books.inventory.out_of_stock.add("order out of stock")
    books.shipping.parcels["order parcel"] = 1
    books.shipping.refused.add("order refused")
    assert await ledger.read() == books


async def test_an_entry_is_made_once_for_each_command(repository: SagaRepository) -> None:
    for _ in range(2):
        ledger = Ledger(repository)
        for command_id in ("m-1", "m-2"):
            await ledger.enter(Entry.CHARGED, command_id, "o", Decimal("0.10"))
            await ledger.enter(Entry.RESERVED, command_id, "o")
    books = await Ledger(repository).read()
    assert books.payment.charged == {"o": Decimal("0.20")}
    assert books.inventory.reserved == {"o": 2}


async def test_the_money_of_a_transaction_is_found(repository: SagaRepository) -> None:
    ledger = Ledger(repository)
    await ledger.enter(Entry.CHARGED, "m-1", "o", Decimal("0.10"))
    await ledger.enter(Entry.DECLINED, "m-2", "p")
    assert await Ledger(repository).amount("m-1") == Decimal("0.10")
    for nothing in ("m-2", "m-3"):
        with pytest.raises(KeyError):
            await ledger.amount(nothing)


async def test_a_refund_that_was_made_and_a_cancellation_do_not_add_up(
    repository: SagaRepository,
) -> None:
    """Only what is still charged is withdrawn, and what was given back too much stays visible."""
    ledger = Ledger(repository)
    for order_id, refunds in (("once", 1), ("twice", 2)):
        await ledger.enter(Entry.CHARGED, f"{order_id} c", order_id, Decimal(5))
        await ledger.enter(Entry.CANCELLED, f"{order_id} x", order_id)
        for number in range(refunds):
            await ledger.enter(Entry.REFUNDED, f"{order_id} {number}", order_id, Decimal(5))
    assert (await ledger.read()).payment.refunded == {"once": Decimal(5), "twice": Decimal(10)}
