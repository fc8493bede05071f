"""Which orders the demo places, and which of them go wrong where."""

from __future__ import annotations

import random
from decimal import Decimal
from enum import Enum

from attrs import frozen


class Refusal(Enum):
    """Who refuses an order."""

    PAYMENT = "payment"
    STOCK = "stock"
    SHIPPING = "shipping"


@frozen(kw_only=True)
class Order:
    """An order to be placed.

    :ivar refusal: the participant that will refuse the order; None if it goes through.
    """

    order_id: str
    total: Decimal
    refusal: Refusal | None


def plan(orders: int, failures: float, seed: int) -> tuple[Order, ...]:
    """Draw the orders and who refuses which, so that the outcome does not depend on timing.

    :param orders: how many.
    :param failures: the share of them that somebody refuses, from 0 to 1: each participant about
        equally many.
    :param seed: the same seed draws the same orders.
    """
    draw = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    totals = [Decimal(draw.randint(500, 50_000)).scaleb(-2) for _ in range(orders)]
    places = draw.sample(list(Refusal), len(Refusal))
    refused = draw.sample(range(orders), refusals(orders, failures))
    refusing = {index: places[turn % len(places)] for turn, index in enumerate(refused)}
    width = len(str(orders))
    return tuple(
        Order(order_id=f"order-{index + 1:0{width}}", total=total, refusal=refusing.get(index))
        for index, total in enumerate(totals)
    )


def refusals(orders: int, failures: float) -> int:
    """Return how many of *orders* the share *failures* is."""
    return round(orders * failures)
