"""What another program has written into the collections of the bus stops nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from sagaflow.exceptions import BusError
from sagaflow.testing._bus_contract.kit import Noted, Seen
from tests.bus.mongo.support import opened

pytestmark = pytest.mark.anyio
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


DAMAGED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no list": {"messages": 7},
    "no message": {"messages": [7]},
    "no body": {"messages": [{"id": "m", "name": "Noted", "headers": []}]},
    "no headers": {"messages": [{"id": "m", "name": "Noted", "headers": [1], "body": ""}]},
    "no number": {"claim": "one"},
    "no ids": {"handled": [7]},
    "no key": {"key": None},
    "no instant": {"failing": {"id": "m-0", "attempts": 1, "since": "yesterday"}},
    "no attempts": {"failing": {"id": "m-0", "attempts": True, "since": LONG_AGO}},
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=list(DAMAGED))
async def test_damaged_queue_stops_no_other(
    damage: dict[str, Any], database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    billing = opened(database, concurrency=1)
    billing.subscribe(Noted, seen.add)
    message: dict[str, Any] = {"id": "m-0", "name": "Noted", "headers": [], "body": "{}"}
    whole: dict[str, Any] = {
        "_id": "billing\nx",
        "key": "x",
        "messages": [message],
        "handled": [],
        "pushed": 1,
        "claim": 0,
    }
    found = {"service": "billing", "wake": LONG_AGO, "rest_until": LONG_AGO}
    document: dict[str, Any] = {**(whole if damage else {"_id": "other"}), **damage, **found}
    database["sagaflow_bus_queues"].insert_one(document)
    async with billing:
        for number in range(3):
            await billing.publish(Noted(f"s-{number}", number), correlation_id=f"s-{number}")
        await seen.wait_for(3)
    told = [record for record in caplog.records if "is damaged" in record.getMessage()]
    assert len(told) == 1
    left = database["sagaflow_bus_queues"].find_one({"_id": document["_id"]})
    assert left.keys() == document.keys(), "it was written to"


async def test_damaged_dead_letter_is_shown_and_dropped(database: Any) -> None:
    database["sagaflow_bus_dead_letters"].insert_many(
        [
            {"_id": "billing\none", "service": "billing", "since": LONG_AGO},
            {"_id": "billing\ntwo", "service": "billing", "since": 7, "message": {"headers": [1]}},
        ]
    )
    async with opened(database) as billing:
        letters = [letter async for letter in billing.dead_letters()]
        assert {letter.id for letter in letters} == {"one", "two"}
        for letter in letters:
            assert await billing.drop_dead_letter(letter.id)


@pytest.mark.parametrize(
    "name", [7, {"a": 1}, None, b"x"], ids=["number", "document", "null", "bytes"]
)
async def test_queue_with_an_id_that_is_no_text_stops_no_other(name: Any, database: Any) -> None:
    found = {"service": "billing", "wake": LONG_AGO, "rest_until": LONG_AGO}
    database["sagaflow_bus_queues"].insert_one(
        {"_id": name, "owner": "billing-1", "claim": 1, **found}
    )
    seen = Seen()
    billing = opened(database, owner="billing-1")
    billing.subscribe(Noted, seen.add)
    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1")
        with anyio.fail_after(30):
            await seen.wait_for(1)


@pytest.mark.parametrize(
    "services", [7, None, ["billing"], "billing"], ids=["number", "null", "list", "text"]
)
async def test_damaged_document_of_readers_is_told_and_nothing_is_lost(
    services: Any, database: Any
) -> None:
    """It does not say that nobody takes the message."""
    database["sagaflow_bus_readers"].insert_one({"_id": "Noted", "services": services})
    async with opened(database, "shop") as shop:
        with pytest.raises(BusError, match="the readers of Noted: the document is damaged"):
            await shop.publish(Noted("s-1", 1), correlation_id="s-1")


@pytest.mark.parametrize(
    "message",
    [None, 7, {}, {"id": "m", "name": "Noted", "headers": [1], "body": "{}"}],
    ids=["none", "number", "empty", "headers"],
)
async def test_damaged_dead_letter_is_not_sent_again(message: Any, database: Any) -> None:
    letters = database["sagaflow_bus_dead_letters"]
    letters.insert_one(
        {"_id": "billing\none", "service": "billing", "key": "s-1", "message": message}
    )
    async with opened(database) as billing:
        with pytest.raises(BusError, match="dead letter 'one': the document is damaged"):
            await billing.retry_dead_letter("one")
    assert letters.count_documents({}) == 1
    assert database["sagaflow_bus_queues"].count_documents({}) == 0


async def test_dead_letter_without_a_key_is_sent_again(database: Any) -> None:
    seen = Seen()
    billing = opened(database)
    billing.subscribe(Noted, seen.add)

    async with billing:
        database["sagaflow_bus_queues"].delete_many({})
        headers = [["ce-id", "m"], ["ce-type", "Noted"]]
        message = {"id": "m", "name": "Noted", "headers": headers, "body": "{}"}
        database["sagaflow_bus_dead_letters"].insert_one(
            {"_id": "billing\nm", "service": "billing", "key": None, "message": message}
        )
        assert await billing.retry_dead_letter("m")
        with anyio.fail_after(30):  # it cannot be read, and is a dead letter again
            while not [letter async for letter in billing.dead_letters()]:
                await anyio.sleep(0.02)
