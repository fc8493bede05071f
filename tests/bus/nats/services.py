"""Two services for the proof by killing, each a program: ``python -m tests.bus.nats.services``.

They are those of the proof on MongoDB, on a bus over NATS: sagas and books stay in MongoDB.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import anyio
import pymongo
import pymongo.errors
from anyio import to_thread

from sagaflow import Envelope, Orchestrator
from sagaflow.mongo import MongoRepository
from sagaflow.nats import NatsBus
from tests.bus.mongo.services import AT_WORK, MESSAGES, RETRY, Charge, Charged, Order

PREFIX = "shop"


def bus_of(uri: str, service: str, owner: str) -> NatsBus:
    return NatsBus(
        uri,
        service=service,
        messages=MESSAGES,
        owner=owner,
        prefix=PREFIX,
        retry=RETRY,
        operation_timeout=timedelta(seconds=5),
    )


async def orders(bus: NatsBus, database: Any, owner: str) -> None:
    """Run the sagas."""
    repository = MongoRepository(database)
    await repository.create_indexes(Order)
    async with bus, Orchestrator([Order], repository, bus=bus, owner=owner, retry=RETRY):
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


async def payments(bus: NatsBus, database: Any) -> None:
    """Answer the commands, and keep the books."""
    books = database.get_collection("books", write_concern=pymongo.WriteConcern("majority", j=True))

    def enter(envelope: Envelope[Charge]) -> None:
        command = envelope.body
        before = books.count_documents({"order": command.order_id})
        line = {"order": command.order_id, "number": command.number, "before": before}
        try:
            books.insert_one({"_id": envelope.id, **line})
        except pymongo.errors.DuplicateKeyError:
            return  # this command has come before

    @bus.subscribe(Charge, envelope=True)
    async def charge(envelope: Envelope[Charge]) -> Charged:
        await to_thread.run_sync(enter, envelope)
        return Charged(envelope.body.order_id, envelope.body.number)

    async with bus:
        print(AT_WORK, flush=True)
        await anyio.sleep_forever()


def main(role: str, database: str, broker: str, owner: str, runtime: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](database, serverSelectionTimeoutMS=2_000) as client:

        async def run() -> None:
            bus = bus_of(broker, role, owner)
            if role == "orders":
                await orders(bus, client["shop"], owner)
            else:
                await payments(bus, client["shop"])

        anyio.run(run, backend=runtime)


if __name__ == "__main__":
    main(*sys.argv[1:])
