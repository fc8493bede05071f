"""A worker process: runs orders on a server until all of them have ended, unless it dies first.

Run as a program it is a template of such processes.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import timedelta
from typing import Any, Final

import anyio
import pymongo
from anyio import CapacityLimiter, to_thread
from attrs import asdict, frozen
from pymongo.database import Database
from pymongo.errors import PyMongoError

from examples.orders import OrderPlaced
from sagaflow import Orchestrator, OutcomeKind, RepositoryError, RetryPolicy
from sagaflow.mongo import MongoRepository
from tests.reliability.books import Books, employ_participants, unfinished
from tests.reliability.points import MortalBus, MortalRepository, Points, die_at
from tests.reliability.shop import Seen, ShopOrder, Tally, total_of
from tests.reliability.template import Template

LEASE: Final = timedelta(milliseconds=500)
ACCEPTED: Final = {OutcomeKind.STARTED, OutcomeKind.DUPLICATE}
AT_WORK: Final = "this worker is at work"
OPTIONS: Final[dict[str, Any]] = {"serverSelectionTimeoutMS": 500}


@frozen(kw_only=True)
class Plan:
    """What a worker does.

    :ivar job: one of the functions of this module.
    :ivar orders: the orders that it places, each again and again until it is accepted.
    :ivar events: the message ids of the events that it hands to one saga.
    :ivar log: the file that it logs to.
    :ivar point: where it dies; None for nowhere.
    :ivar passage: at which passage of that point.
    """

    uri: str
    database: str
    job: str = "work"
    orders: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    log: str
    runtime: str = "asyncio"
    point: str | None = None
    passage: int = 1

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, line: bytes) -> Plan:
        """Return the plan that *line* holds."""
        given: dict[str, Any] = json.loads(line)
        for name in ("orders", "events"):
            given[name] = tuple(given[name])
        return cls(**given)


async def work(plan: Plan, database: Database[dict[str, Any]]) -> None:
    """Place the orders and work until nothing is left to do."""
    die_at(Points(plan.point, plan.passage))
    bus = MortalBus()
    employ_participants(bus, Books(database))
    async with (
        MortalRepository.connect(plan.uri, database=plan.database, **OPTIONS) as repository,
        Orchestrator(
            [ShopOrder],
            repository,
            bus=bus,
            poll_interval=timedelta(milliseconds=100),
            lease_duration=LEASE,
            retry=RetryPolicy(
                initial_delay=timedelta(milliseconds=20), max_delay=timedelta(milliseconds=500)
            ),
        ) as orchestrator,
    ):
        await repository.create_indexes(ShopOrder)
        logging.getLogger("worker").warning(AT_WORK)
        limiter = CapacityLimiter(8)
        async with anyio.create_task_group() as tasks:
            for order in plan.orders:
                tasks.start_soon(_place, orchestrator, order, limiter)
        while await _is_busy(database, plan.orders):
            await anyio.sleep(0.05)


async def storm(plan: Plan, database: Database[dict[str, Any]]) -> None:
    """Hand events to one saga in 50 tasks at once; log the longest time that one of them took."""
    waiting = list(plan.events)
    longest = 0.0

    async def hand_over() -> None:
        nonlocal longest
        while waiting:
            message_id = waiting.pop()
            begun = anyio.current_time()
            outcome = await orchestrator.handle(Seen("storm"), message_id=message_id)
            if outcome.kind is not OutcomeKind.STAYED:
                raise AssertionError(outcome)
            longest = max(longest, anyio.current_time() - begun)

    async with (
        MongoRepository.connect(plan.uri, database=plan.database) as repository,
        Orchestrator([Tally], repository) as orchestrator,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(50):
            tasks.start_soon(hand_over)
    logging.getLogger("storm").warning("%.2f", longest)


async def _place(orchestrator: Orchestrator, order: str, limiter: CapacityLimiter) -> None:
    event = OrderPlaced(order, total_of(order))
    async with limiter:
        while True:
            try:
                outcome = await orchestrator.handle(event, message_id=f"placing {order}")
            except RepositoryError:
                await anyio.sleep(0.1)
                continue
            if outcome.kind not in ACCEPTED:
                raise AssertionError(outcome)
            return


async def _is_busy(database: Database[dict[str, Any]], orders: tuple[str, ...]) -> bool:
    try:
        return bool(await to_thread.run_sync(unfinished, database, orders))
    except PyMongoError:
        return True


JOBS: Final = {"work": work, "storm": storm}


def run(plan: Plan) -> None:
    """Run a worker in this process."""
    logging.basicConfig(
        filename=plan.log, level=logging.WARNING, format="%(process)d %(levelname)s %(message)s"
    )
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(plan.uri, **OPTIONS)
    anyio.run(JOBS[plan.job], plan, client[plan.database], backend=plan.runtime)
    client.close()


if __name__ == "__main__":
    sys.modules.setdefault("tests.reliability.worker", sys.modules["__main__"])
    Template(Plan.of_json, run).serve()
