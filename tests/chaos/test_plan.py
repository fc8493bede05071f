"""A plan is a function of its seed; its seeds are read as they are written."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import fields

from tests.chaos.__main__ import seeds_of
from tests.chaos.errand import EVENTS
from tests.chaos.plan import CLIENTS, WORKERS, Fate, Kind, plan_for


def test_a_seed_has_one_plan() -> None:
    assert plan_for(7) == plan_for(7)
    assert plan_for(7) != plan_for(8)


def test_plans_have_all_faults_fates_and_clocks() -> None:
    plans = [plan_for(seed) for seed in range(20)]
    assert {fault.kind for plan in plans for fault in plan.faults} == set(Kind)
    assert {errand.fate for plan in plans for errand in plan.errands} == set(Fate)
    for plan in plans:
        assert len({(one.driver, one.runtime) for one in plan.workers}) == WORKERS
        assert {one.named for one in plan.workers} == {True, False}
        assert any(one.ahead > 0 for one in plan.workers)
        assert any(one.ahead < 0 for one in plan.workers)
        assert any(one.jump for one in plan.workers)


def test_faults_come_in_order_and_while_there_is_work() -> None:
    plan = plan_for(3, errands=20, faults=30)
    moments = [fault.at for fault in plan.faults]
    assert len(moments) == 30
    assert moments == sorted(moments)
    assert all(0 < at < sum(errand.notes + 5 for errand in plan.errands) for at in moments)


def test_clients_say_all_that_the_errands_need_and_some_of_it_twice() -> None:
    plan = plan_for(5)
    assert len(plan.clients) == CLIENTS
    said = [one for client in plan.clients for one in client]
    times = Counter(one.id for one in said)
    assert any(times[one] > 1 for one in times)
    assert any(one.twice for one in said)
    for errand in plan.errands:
        events = Counter({one.id: one.event for one in said if one.errand == errand.id}.values())
        assert events == Counter(
            {"Placed": 1, "Noted": errand.notes} | ({"Cancelled": 1} if errand.cancelled else {})
        )
    for one in said:
        assert one.fields.keys() == {field.name for field in fields(EVENTS[one.event])}


@pytest.mark.parametrize("fault", plan_for(0).faults, ids=str)
def test_a_fault_is_shown_in_a_line(fault: object) -> None:
    assert "  " not in str(fault)


def test_seeds_are_numbers_and_ranges() -> None:
    assert seeds_of("7") == (7,)
    assert seeds_of("1,4-6,9") == (1, 4, 5, 6, 9)
    for wrong in ("", "a", "1-", "1,,2"):
        with pytest.raises(ValueError, match="invalid literal"):
            seeds_of(wrong)
