"""The bus over MongoDB: what only it does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from attrs import evolve

from sagaflow import (
    Context,
    MemoryRepository,
    Orchestrator,
    Saga,
    State,
    during,
    initially,
)
from sagaflow.bus import BrokerBus
from sagaflow.exceptions import BusError, NoHandlerError
from sagaflow.testing._bus_contract.kit import (
    PATIENT,
    Charge,
    Charged,
    Noted,
    Refused,
    Seen,
)
from tests.bus.mongo.support import opened

pytestmark = pytest.mark.anyio
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


async def test_message_that_is_pushed_twice_is_handled_once(database: Any) -> None:
    """A publication whose answer was lost is tried again."""
    seen = Seen()
    billing = opened(database)
    billing.subscribe(Noted, seen.add)
    async with billing:
        for number in (1, 1, 2):
            await billing.publish(
                Noted("s-1", number), correlation_id="s-1", message_id=f"m-{number}"
            )
        await seen.wait_for(2)
        await billing.publish(Noted("s-1", 2), correlation_id="s-1", message_id="m-2")
        await billing.publish(Noted("s-1", 3), correlation_id="s-1", message_id="m-3")
        await seen.stays_at(3)
    assert [found.number for found in seen.items] == [1, 2, 3]


async def test_message_that_was_pushed_twice_before_it_was_taken_is_handled_once(
    database: Any,
) -> None:
    seen = Seen()
    before, after = opened(database), opened(database)
    for bus in (before, after):
        bus.subscribe(Noted, seen.add)
    async with before:
        pass
    async with opened(database, "shop") as shop:
        for number in (1, 1, 2):
            await shop.publish(Noted("s-1", number), correlation_id="s-1", message_id=f"m-{number}")
    async with after:
        await seen.stays_at(2)
    assert [found.number for found in seen.items] == [1, 2]


async def test_process_that_has_lost_a_queue_stops_and_changes_nothing_in_it(
    database: Any,
) -> None:
    """Its lease has run out, and another process has claimed the queue."""
    begun, broken_off, seen = anyio.Event(), anyio.Event(), Seen()
    queues = database["sagaflow_bus_queues"]

    async def take(message: Noted) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            broken_off.set()

    slow = opened(database, lease_duration=timedelta(milliseconds=300))
    slow.subscribe(Noted, take)
    async with slow:
        await slow.publish(Noted("s-1", 1), correlation_id="s-1")
        await begun.wait()
        taken = {"claim": 9, "owner": "another", "rest_until": datetime(2100, 1, 1)}  # noqa: DTZ001
        queues.update_one({}, {"$set": taken})
        await broken_off.wait()
    left = queues.find_one({})
    assert {name: left[name] for name in taken} == taken
    assert len(left["messages"]) == 1
    assert seen.items == []


async def test_queue_is_held_for_as_long_as_its_message_takes(database: Any) -> None:
    """Longer than a lease lasts: no other process takes it meanwhile."""
    seen = Seen()

    async def take(message: Noted) -> None:
        seen.add(message)
        await anyio.sleep(1.0)  # several leases

    both = [opened(database, lease_duration=timedelta(milliseconds=200)) for _ in range(2)]
    for bus in both:
        bus.subscribe(Noted, take)
    async with both[0], both[1]:
        await both[0].publish(Noted("s-1", 1), correlation_id="s-1")
        await seen.wait_for(1)
        await anyio.sleep(0.8)
        assert len(seen.items) == 1


async def test_process_that_closes_keeps_count_of_what_has_failed(database: Any) -> None:
    """So that a service which is deployed again and again gives up in the end."""
    failed = Seen()

    async def take(message: Noted) -> None:
        failed.add(message)
        raise RuntimeError("not now")

    before = opened(database)
    before.subscribe(Noted, take)
    async with before:
        await before.publish(Noted("s-1", 1), correlation_id="s-1")
        await failed.wait_for(2)
    (queue,) = database["sagaflow_bus_queues"].find({})
    attempts, since = queue["failing"]["attempts"], queue["failing"]["since"]
    assert attempts >= 2
    begun = anyio.Event()

    async def hang(message: Noted) -> None:
        begun.set()
        await anyio.sleep_forever()

    again = opened(database, shutdown_timeout=timedelta(milliseconds=50))
    again.subscribe(Noted, hang)
    async with again:
        await begun.wait()
    (queue,) = database["sagaflow_bus_queues"].find({})
    assert (queue["failing"]["attempts"], queue["failing"]["since"]) == (attempts, since)


async def test_queue_that_is_empty_is_kept_for_a_day_and_is_in_no_index(database: Any) -> None:
    seen = Seen()
    billing = opened(database)
    billing.subscribe(Noted, seen.add)
    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1", message_id="m-1")
        await seen.wait_for(1)
    (queue,) = database["sagaflow_bus_queues"].find({})
    assert queue["messages"] == []
    assert queue["handled"] == ["m-1"]
    assert not queue.keys() & {"wake", "owner", "failing"}
    indexes = database["sagaflow_bus_queues"].index_information()
    assert indexes["sagaflow_expire"]["expireAfterSeconds"] == 0
    assert timedelta(hours=23) < queue["expire_at"].replace(tzinfo=UTC) - datetime.now(UTC)


async def test_process_that_is_started_again_goes_on_at_once(database: Any) -> None:
    """Others would wait until its lease has run out."""
    seen = Seen()
    settings: dict[str, Any] = {"owner": "billing-1", "lease_duration": timedelta(hours=1)}
    before = opened(database, **settings)
    before.subscribe(Noted, seen.add)
    async with before:
        pass
    async with opened(database, "shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
    # As a process leaves it that is killed in a handler.
    database["sagaflow_bus_queues"].update_one(
        {},
        {"$set": {"claim": 1, "owner": "billing-1", "rest_until": datetime(2100, 1, 1)}},  # noqa: DTZ001
    )
    again = opened(database, **settings)
    again.subscribe(Noted, seen.add)
    async with again:
        await seen.wait_for(1)


async def test_process_of_another_name_leaves_what_is_held(database: Any) -> None:
    seen = Seen()
    before = opened(database)
    before.subscribe(Noted, seen.add)
    async with before:
        pass
    async with opened(database, "shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        database["sagaflow_bus_queues"].update_one(
            {},
            {"$set": {"claim": 1, "owner": "another", "rest_until": datetime(2100, 1, 1)}},  # noqa: DTZ001
        )
        await shop.publish(Noted("s-2", 2), correlation_id="s-2")
        await shop.publish(Noted("s-1", 3), correlation_id="s-1")
    again = opened(database, owner="billing-2")
    again.subscribe(Noted, seen.add)
    async with again:
        await seen.stays_at(1)
    assert seen.items == [Noted("s-2", 2)]


async def test_command_that_nobody_takes_is_told(database: Any) -> None:
    async with opened(database, "shop") as shop:
        with pytest.raises(NoHandlerError, match="nobody handles the command Refused"):
            await shop.publish(Refused("s-1"), headers={"kind": "command"})
        await shop.publish(Refused("s-1"))


async def test_queue_that_is_full_is_told_and_taken_later(database: Any) -> None:
    """A document holds 16 MiB; what is in it already is not lost."""
    seen, may_go = Seen(), anyio.Event()

    async def take(message: Noted) -> None:
        await may_go.wait()
        seen.add(message)

    billing = opened(database, max_bytes=4 * 1024 * 1024)
    billing.subscribe(Noted, take)
    large = "s" * (3 * 1024 * 1024)
    async with billing:
        published = 0
        with pytest.raises(BusError, match="too many messages of this saga wait already"):
            while published < 10:
                await billing.publish(Noted(large, published), correlation_id="s-1")
                published += 1
        may_go.set()
        await seen.wait_for(published)
        await billing.publish(Noted(large, published), correlation_id="s-1")
        await seen.wait_for(published + 1)
    assert [found.number for found in seen.items] == list(range(published + 1))


class Account(Saga, correlate_by="saga"):
    charging = State()
    charged = State(final=True)

    @initially.on(Noted).goto(charging)
    async def begin(self, event: Noted, ctx: Context) -> None:
        if event.number < 0:
            raise ValueError("less than nothing")
        ctx.send(Charge(event.saga, event.amount))

    done = during(charging).on(Charged).goto(charged)


@asynccontextmanager
async def account(bus: BrokerBus) -> AsyncGenerator[Orchestrator]:
    async with bus, Orchestrator([Account], MemoryRepository(), bus=bus) as orchestrator:
        yield orchestrator


async def reasons(bus: BrokerBus, count: int) -> list[tuple[str, str]]:
    with anyio.fail_after(30):
        while True:
            found = [(letter.name, letter.reason) async for letter in bus.dead_letters()]
            if len(found) == count:
                return found
            await anyio.sleep(0.02)


async def test_saga_and_participant_in_two_services(database: Any) -> None:
    payments, orders = opened(database, "payments"), opened(database, "orders")
    seen = Seen()

    @payments.subscribe(Charge)
    def charge(command: Charge) -> Charged:
        seen.add(command)
        return Charged(command.saga)

    async with payments, account(orders) as orchestrator:
        await payments.publish(Noted("s-1", 1), correlation_id="s-1")
        with anyio.fail_after(30):
            while True:
                found = await orchestrator.find(Account, "s-1")
                if found is not None and found.state == Account.charged:
                    break
                await anyio.sleep(0.02)
    assert len(seen.items) == 1


async def test_message_that_no_saga_has_any_use_for_is_a_dead_letter(database: Any) -> None:
    orders = opened(database, "orders")
    async with account(orders):
        await orders.publish(Charged("unknown"), correlation_id="unknown")
        assert await reasons(orders, 1) == [("Charged", "not_found")]


class Audit(Saga, correlate_by="saga"):
    """Takes what Account takes, and starts with it."""

    watching = State()
    watched = State(final=True)

    @initially.on(Charged).goto(watching)
    async def watch(self, event: Charged, ctx: Context) -> None: ...

    end = during(watching).on(Refused).goto(watched)


async def test_message_is_dealt_with_if_one_of_several_sagas_has_used_it(database: Any) -> None:
    """Account has never heard of the saga; Audit starts one."""
    orders, seen = opened(database, "orders"), Seen()
    orders.subscribe(Charge, seen.add)
    sagas = [Audit, Account]
    async with orders, Orchestrator(sagas, MemoryRepository(), bus=orders):
        await orders.publish(Charged("s-1"), correlation_id="s-1")
        await orders.publish(Charge("s-1", Decimal(1)), correlation_id="s-1")
        await seen.wait_for(1)
        assert await reasons(orders, 0) == []


async def test_message_that_no_saga_has_any_use_for_may_be_accepted(database: Any) -> None:
    orders = opened(database, "orders", unhandled="accept")
    seen = Seen()
    orders.subscribe(Refused, seen.add)
    async with account(orders):
        await orders.publish(Charged("unknown"), correlation_id="s-1")
        await orders.publish(Refused("s-1"), correlation_id="s-1")
        await seen.wait_for(1)
        assert await reasons(orders, 0) == []


async def test_start_that_keeps_failing_is_a_dead_letter_with_its_traceback(database: Any) -> None:
    retry = evolve(PATIENT, max_age=timedelta(milliseconds=200))
    orders = opened(database, "orders", retry=retry)
    async with account(orders):
        await orders.publish(Noted("s-1", -1), correlation_id="s-1")
        assert await reasons(orders, 1) == [("Noted", "failed")]
        (letter,) = [letter async for letter in orders.dead_letters()]
    assert "ValueError: less than nothing" in letter.detail


async def test_closed_orchestrator_gives_its_messages_back(database: Any) -> None:
    """The bus closes after it; another process takes them."""
    orders = opened(database, "orders")
    async with orders:
        async with Orchestrator([Account], MemoryRepository(), bus=orders):
            pass
        await orders.publish(Noted("s-1", 1), correlation_id="s-1")
    async with account(opened(database, "orders")) as orchestrator:
        with anyio.fail_after(30):
            while await orchestrator.find(Account, "s-1") is None:
                await anyio.sleep(0.02)
