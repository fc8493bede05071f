"""Worker processes are killed at any instant, and nothing is lost and nothing is half done."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pymongo
import pytest
from attrs import evolve
from pymongo.database import Database

from tests.reliability.books import audit
from tests.reliability.fleet import Fleet
from tests.reliability.points import POINTS, POINTS_OF_RECOVERY
from tests.reliability.shop import FATES, order_ids
from tests.reliability.worker import Plan

Document = dict[str, Any]


@pytest.fixture
def plan(mongodb_uri: str, database_name: str, tmp_path: Path) -> Plan:
    """A worker that is not to die, and one order of each fate."""
    return Plan(
        uri=mongodb_uri,
        database=database_name,
        orders=tuple(order_ids(len(FATES))),
        log=str(tmp_path / "workers.log"),
    )


def test_orders_end_as_they_should_when_nobody_dies(
    fleet: Fleet[Plan], plan: Plan, database: Database[Document]
) -> None:
    fleet.start(plan).finish()
    audit(database, plan.orders)


@pytest.mark.parametrize("point", POINTS)
def test_worker_killed_at_a_point_is_succeeded_by_another(
    point: str, fleet: Fleet[Plan], plan: Plan, database: Database[Document]
) -> None:
    assert fleet.start(evolve(plan, point=point)).wait() == -signal.SIGKILL, "never got there"
    fleet.start(plan).finish()
    audit(database, plan.orders)


@pytest.mark.parametrize("point", POINTS_OF_RECOVERY)
def test_worker_killed_while_it_takes_over_is_succeeded_by_another(
    point: str, fleet: Fleet[Plan], plan: Plan, database: Database[Document]
) -> None:
    first = fleet.start(evolve(plan, point="before publish", passage=len(FATES)))
    assert first.wait() == -signal.SIGKILL
    assert fleet.start(evolve(plan, point=point)).wait() == -signal.SIGKILL, "never got there"
    fleet.start(plan).finish()
    audit(database, plan.orders)


def test_worker_on_trio_killed_while_it_undoes_is_succeeded_by_another(
    fleet: Fleet[Plan], plan: Plan, database: Database[Document]
) -> None:
    on_trio = evolve(plan, runtime="trio", point="after the write of compensation of ship")
    assert fleet.start(on_trio).wait() == -signal.SIGKILL, "never got there"
    fleet.start(evolve(plan, runtime="trio")).finish()
    audit(database, plan.orders)


@pytest.mark.parametrize("runtimes", [("asyncio", "asyncio"), ("trio", "asyncio")])
def test_workers_killed_at_random_lose_nothing(
    runtimes: tuple[str, ...], fleet: Fleet[Plan], plan: Plan, database: Database[Document]
) -> None:
    chance = _seeded(random.randrange(1 << 32))
    orders = tuple(order_ids(4 * len(FATES)))
    kills = _kill_at_random(fleet, evolve(plan, orders=orders), runtimes, 4, chance)
    assert kills > 0
    audit(database, orders)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("runtimes", [("asyncio", "asyncio"), ("trio", "asyncio")])
def test_workers_killed_at_random_many_times_lose_nothing(
    seed: int,
    runtimes: tuple[str, ...],
    fleet: Fleet[Plan],
    plan: Plan,
    mongodb_client: pymongo.MongoClient[Document],
) -> None:
    chance = _seeded(seed)
    orders = tuple(order_ids(12 * len(FATES)))
    kills = 0
    for number in range(100):
        if kills >= 30:
            break
        name = f"{plan.database}_{number}"
        kills += _kill_at_random(
            fleet, evolve(plan, orders=orders, database=name), runtimes, 15, chance
        )
        audit(mongodb_client[name], orders)
        mongodb_client.drop_database(name)
    print(f"{kills} kills")
    assert kills >= 30


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize("passage", [2, 5, 9])
@pytest.mark.parametrize("point", POINTS)
def test_worker_killed_at_a_later_passage_is_succeeded_by_another(
    point: str,
    passage: int,
    runtime: str,
    fleet: Fleet[Plan],
    plan: Plan,
    database: Database[Document],
) -> None:
    orders = tuple(order_ids(10 * len(FATES)))
    plan = evolve(plan, orders=orders, runtime=runtime)
    killed = fleet.start(evolve(plan, point=point, passage=passage))
    assert killed.wait() == -signal.SIGKILL, "never got there"
    fleet.start(plan).finish()
    audit(database, orders)


def _seeded(seed: int) -> random.Random:
    print(f"seed {seed}")
    return random.Random(seed)


def _kill_at_random(
    fleet: Fleet[Plan], plan: Plan, runtimes: tuple[str, ...], most: int, chance: random.Random
) -> int:
    """Have several workers do the plan, kill them now and then, and return how often."""

    def plans(runtime: str) -> Plan:
        point = chance.choice((None, *POINTS, *POINTS_OF_RECOVERY))
        passage = chance.randint(1, 20)
        return evolve(plan, runtime=runtime, point=point, passage=passage)

    crew = [fleet.start(plans(runtime)) for runtime in runtimes]
    kills = 0
    while kills < most:
        place = chance.randrange(len(crew))
        worker = crew[place]
        if worker.has_ended_within(chance.uniform(0.02, 0.5)) and worker.code == 0:
            break  # there is nothing left to do
        worker.kill()
        if worker.wait() == -signal.SIGKILL:
            kills += 1
            crew[place] = fleet.start(plans(worker.plan.runtime))
    for worker in crew:
        if worker.wait() != 0:
            kills += worker.code == -signal.SIGKILL
            fleet.start(evolve(plan, runtime=worker.plan.runtime)).finish()
    return kills
