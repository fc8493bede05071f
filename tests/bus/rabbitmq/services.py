"""Two services for the proof by killing, each a program: ``python -m tests.bus.rabbitmq.services``.

Orders send three commands each; payments keep books: a line for each command, by its id, that says
how many lines of its order were there before.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import anyio
import pymongo

from sagaflow import Envelope, Orchestrator
from sagaflow.mongo import MongoRepository
from sagaflow.rabbitmq import RabbitBus
from tests.bus.mongo.services import AT_WORK, MESSAGES, RETRY, Charge, Charged, Order, enter_line


def bus_of(uri: str, service: str, owner: str) -> RabbitBus:
    return RabbitBus(
        uri,
        service=service,
        messages=MESSAGES,
        owner=owner,
        retry=RETRY,
        balance_interval=timedelta(milliseconds=200),
        operation_timeout=timedelta(seconds=5),
    )


async def orders(uri: str, database: Any, owner: str) -> None:
    """Run the sagas."""
    repository = MongoRepository(database)
    await repository.create_indexes(Order)
    async with (
        bus_of(uri, "orders", owner) as bus,
        Orchestrator([Order], repository, bus=bus, owner=owner, retry=RETRY),
    ):
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


async def payments(uri: str, database: Any, owner: str) -> None:
    """Answer the commands, and keep the books."""
    bus = bus_of(uri, "payments", owner)

    @bus.subscribe(Charge, envelope=True)
    async def charge(envelope: Envelope[Charge]) -> Charged:
        await enter_line(database, envelope)
        return Charged(envelope.body.order_id, envelope.body.number)

    async with bus:
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


ROLES: Final[dict[str, Callable[[str, Any, str], Awaitable[None]]]] = {
    "orders": orders,
    "payments": payments,
}


def main(role: str, uri: str, database_uri: str, owner: str, runtime: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](
        database_uri, serverSelectionTimeoutMS=2_000
    ) as client:
        anyio.run(ROLES[role], uri, client["shop"], owner, backend=runtime)


if __name__ == "__main__":
    main(*sys.argv[1:])
