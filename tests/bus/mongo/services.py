"""Two services for the proof by killing, each a program: ``python -m tests.bus.mongo.services``.

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
from anyio import to_thread
from attrs import frozen
from pymongo.errors import DuplicateKeyError

from sagaflow import (
    Context,
    Envelope,
    Orchestrator,
    RetryPolicy,
    Saga,
    State,
    during,
    initially,
)
from sagaflow.mongo import MongoBus, MongoRepository

EACH: Final = 3
AT_WORK: Final = "at work"
RETRY: Final = RetryPolicy(initial_delay=timedelta(milliseconds=50), max_delay=timedelta(seconds=1))


@frozen
class Placed:
    order_id: str


@frozen
class Charge:
    order_id: str
    number: int


@frozen
class Charged:
    order_id: str
    number: int


MESSAGES: Final = (Placed, Charge, Charged)


class Order(Saga, correlate_by="order_id"):
    charging = State()
    charged = State(final=True)

    answers: int = 0

    @initially.on(Placed).goto(charging)
    async def place(self, event: Placed, ctx: Context) -> None:
        for number in range(EACH):
            ctx.send(Charge(event.order_id, number))

    @during(charging).on(Charged).branch(charging, charged)
    async def count(self, event: Charged, ctx: Context) -> State:
        self.answers += 1
        return self.charged if self.answers == EACH else self.charging


def bus_of(database: Any, service: str, owner: str) -> MongoBus:
    return MongoBus(
        database,
        service=service,
        messages=MESSAGES,
        owner=owner,
        retry=RETRY,
        poll_interval=timedelta(milliseconds=20),
        operation_timeout=timedelta(seconds=5),
    )


async def orders(database: Any, owner: str) -> None:
    """Run the sagas."""
    repository = MongoRepository(database)
    await repository.create_indexes(Order)
    async with (
        bus_of(database, "orders", owner) as bus,
        Orchestrator([Order], repository, bus=bus, owner=owner, retry=RETRY),
    ):
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


async def enter_line(database: Any, envelope: Envelope[Charge]) -> None:
    """Write a command into the books, once."""
    books = database.get_collection("books", write_concern=pymongo.WriteConcern("majority", j=True))

    def enter() -> None:
        command = envelope.body
        before = books.count_documents({"order": command.order_id})
        line = {"order": command.order_id, "number": command.number, "before": before}
        try:
            books.insert_one({"_id": envelope.id, **line})
        except DuplicateKeyError:
            return  # this command has come before

    await to_thread.run_sync(enter)


async def payments(database: Any, owner: str) -> None:
    """Answer the commands, and keep the books."""
    bus = bus_of(database, "payments", owner)

    @bus.subscribe(Charge, envelope=True)
    async def charge(envelope: Envelope[Charge]) -> Charged:
        await enter_line(database, envelope)
        return Charged(envelope.body.order_id, envelope.body.number)

    async with bus:
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


ROLES: Final[dict[str, Callable[[Any, str], Awaitable[None]]]] = {
    "orders": orders,
    "payments": payments,
}


def main(role: str, uri: str, owner: str, runtime: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=2_000) as client:
        anyio.run(ROLES[role], client["shop"], owner, backend=runtime)


if __name__ == "__main__":
    main(*sys.argv[1:])
