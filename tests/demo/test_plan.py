"""The plan: drawn before the run, by the seed alone."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagaflow.demo.plan import Refusal, plan, refusals


def test_the_same_seed_draws_the_same_orders() -> None:
    assert plan(50, 0.3, 7) == plan(50, 0.3, 7)


def test_another_seed_draws_other_orders() -> None:
    assert plan(50, 0.3, 7) != plan(50, 0.3, 8)


def test_every_order_has_an_id_and_a_price_in_cents() -> None:
    planned = plan(120, 0.2, 1)
    assert len({order.order_id for order in planned}) == 120
    assert all(order.total > 0 for order in planned)
    assert all(order.total.as_tuple().exponent == -2 for order in planned)
    assert {type(order.total) for order in planned} == {Decimal}


@pytest.mark.parametrize(
    ("orders", "failures", "refused"), [(10, 0, 0), (10, 1, 10), (200, 0.2, 40), (1, 0.4, 0)]
)
def test_the_share_of_failures_is_met(orders: int, failures: float, refused: int) -> None:
    planned = plan(orders, failures, 3)
    assert sum(order.refusal is not None for order in planned) == refused
    assert refusals(orders, failures) == refused


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32))
def test_each_participant_refuses_about_equally_many(
    orders: int, failures: float, seed: int
) -> None:
    counted = Counter(order.refusal for order in plan(orders, failures, seed))
    numbers = [counted[place] for place in Refusal]
    assert sum(numbers) == refusals(orders, failures)
    assert max(numbers) - min(numbers) <= 1


def test_the_odd_refusal_is_not_always_of_the_same_participant() -> None:
    refusing = {order.refusal for seed in range(20) for order in plan(1, 1, seed)}
    assert refusing == set(Refusal)
