"""Does it add up? The books of the payment service against the orders.

python -m examples.shop.books
"""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from decimal import Decimal

import anyio

from examples.shop.payments import opened_books
from examples.shop.saga import OrderSaga
from sagaflow.mongo import MongoRepository


async def main() -> int:
    """Print what was ordered and what was charged; return 0 if they agree, and 1 if not yet."""
    uri, database = os.environ["SAGAFLOW_MONGODB_URI"], os.environ["SAGAFLOW_DATABASE"]
    async with MongoRepository.connect(uri, database=database) as repository:
        orders = [
            order
            for state in OrderSaga.table.states
            async for order in repository.find_by_state(OrderSaga, state)
        ]
    charged: defaultdict[str, Decimal] = defaultdict(Decimal)
    async with opened_books() as books:  # after the orders: who is paid was charged before
        async for charge in books.find():
            charged[charge["order_id"]] += charge["amount"].to_decimal()

    owed = {
        str(order.correlation_id): order.saga.total if order.state == OrderSaga.paid else Decimal(0)
        for order in orders
    }
    waiting = {str(order.correlation_id) for order in orders if not order.state.final}
    wrong = [
        f"{order_id}: {charged[order_id]} charged, {owed.get(order_id, 'no order')} owed"
        for order_id in sorted(owed.keys() | charged.keys())
        if order_id not in waiting and charged[order_id] != owed.get(order_id)
    ]
    for state, number in Counter(order.state.name for order in orders).items():
        print(f"{number} {state}")
    print(f"{sum(charged.values())} charged, {sum(owed.values())} in paid orders")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if wrong:
        print("It does not add up.")
    elif waiting:
        print("Some orders wait for their payment: look again later.")
    else:
        print("Everything adds up.")
    return 1 if wrong or waiting else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
