"""Two services for the proof by killing, each a program: ``python -m tests.bus.killing.services``.

Sagas and books are in MongoDB, whatever carries the messages.

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
from sagaflow.bus import BrokerBus
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


def mongo_bus(_: str, database: Any, **settings: Any) -> BrokerBus:
    return MongoBus(database, poll_interval=timedelta(milliseconds=20), **settings)


def nats_bus(uri: str, _: Any, **settings: Any) -> BrokerBus:
    from sagaflow.nats import NatsBus  # noqa: PLC0415 - an extra

    return NatsBus(uri, **settings)


def kafka_bus(uri: str, _: Any, **settings: Any) -> BrokerBus:
    from sagaflow.kafka import KafkaBus  # noqa: PLC0415 - an extra

    return KafkaBus(uri, lease_duration=timedelta(seconds=2.5), **settings)


def rabbit_bus(uri: str, _: Any, **settings: Any) -> BrokerBus:
    from sagaflow.rabbitmq import RabbitBus  # noqa: PLC0415 - an extra

    return RabbitBus(uri, balance_interval=timedelta(milliseconds=200), **settings)


def redis_bus(uri: str, _: Any, **settings: Any) -> BrokerBus:
    from sagaflow.redis import RedisBus  # noqa: PLC0415 - an extra

    return RedisBus(uri, **settings)


BUSES: Final[dict[str, Callable[..., BrokerBus]]] = {
    "kafka": kafka_bus,
    "mongodb": mongo_bus,
    "nats": nats_bus,
    "rabbitmq": rabbit_bus,
    "redis": redis_bus,
}


def bus_of(kind: str, uri: str, database: Any, service: str, owner: str) -> BrokerBus:
    return BUSES[kind](
        uri,
        database,
        service=service,
        messages=MESSAGES,
        owner=owner,
        retry=RETRY,
        operation_timeout=timedelta(seconds=5),
    )


async def orders(bus: BrokerBus, database: Any, owner: str) -> None:
    """Run the sagas."""
    repository = MongoRepository(database)
    await repository.create_indexes(Order)
    async with bus, Orchestrator([Order], repository, bus=bus, owner=owner, retry=RETRY):
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


async def payments(bus: BrokerBus, database: Any, _: str) -> None:
    """Answer the commands, and keep the books."""
    books = database.get_collection("books", write_concern=pymongo.WriteConcern("majority", j=True))

    def enter(envelope: Envelope[Charge]) -> None:
        command = envelope.body
        before = books.count_documents({"order": command.order_id})
        line = {"order": command.order_id, "number": command.number, "before": before}
        try:
            books.insert_one({"_id": envelope.id, **line})
        except DuplicateKeyError:
            return  # this command has come before

    @bus.subscribe(Charge, envelope=True)
    async def charge(envelope: Envelope[Charge]) -> Charged:
        await to_thread.run_sync(enter, envelope)
        return Charged(envelope.body.order_id, envelope.body.number)

    async with bus:
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


ROLES: Final[dict[str, Callable[[BrokerBus, Any, str], Awaitable[None]]]] = {
    "orders": orders,
    "payments": payments,
}


def main(kind: str, database: str, broker: str, role: str, owner: str, runtime: str) -> None:
    """Run one of the two services.

    :param kind: the bus, by a name in `BUSES`.
    """
    with pymongo.MongoClient[dict[str, Any]](database, serverSelectionTimeoutMS=2_000) as client:

        async def run() -> None:
            await ROLES[role](
                bus_of(kind, broker, client["shop"], role, owner), client["shop"], owner
            )

        anyio.run(run, backend=runtime)


if __name__ == "__main__":
    main(*sys.argv[1:])
