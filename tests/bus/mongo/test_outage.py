"""A server that is away, or does not answer for a while."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio
import pymongo
import pytest

from sagaflow import MemoryRepository, Orchestrator, Saga, State, initially
from sagaflow.bus import BrokerBus
from sagaflow.exceptions import BusError
from sagaflow.observing import BusCondition
from sagaflow.testing import ManualClock
from sagaflow.testing._bus_contract.kit import Noted, Seen
from tests.bus.mongo.support import opened
from tests.observing.shop import Told
from tests.reliability.proxy import Fault, Harm, Proxy

pytestmark = pytest.mark.anyio


class Watch(Saga, correlate_by="saga"):
    watched = State(final=True)

    begin = initially.on(Noted).goto(watched)


def is_down(bus: BrokerBus) -> bool:
    return bus.down_since is not None


async def conditions(bus: BrokerBus, at: datetime) -> list[BusCondition]:
    """Return what observers are told of a bus at that instant."""
    told, clock = Told(), ManualClock(at)
    async with Orchestrator(
        [Watch],
        MemoryRepository(),
        bus=bus,
        listen=False,
        background=False,
        observers=told,
        clock=clock,
    ):
        await anyio.wait_all_tasks_blocked()
    return [fact for fact in told.facts if isinstance(fact, BusCondition)]


async def test_bus_waits_for_a_server_that_is_away(
    mongodb_uri: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, and one that it is back; meanwhile whoever publishes is told."""
    seen = Seen()
    caplog.set_level(logging.WARNING, logger="sagaflow.bus")
    reachable = mongodb_uri.partition("//")[2]
    proxy = Proxy(reachable.partition(":")[0], int(reachable.partition(":")[2].partition("/")[0]))
    with proxy.running():
        for command in ("find", "createIndexes", "update", "insert"):
            proxy.plant(Fault(Harm.HOLD, command, times=1_000_000))
        uri = f"mongodb://127.0.0.1:{proxy.port}/?retryWrites=false&retryReads=false"
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            billing = opened(client[database_name], operation_timeout=timedelta(milliseconds=200))
            billing.subscribe(Noted, seen.add)
            async with billing:
                assert is_down(billing)
                told_by = Orchestrator([Watch], MemoryRepository(), bus=billing, listen=False)
                health = await told_by.health()
                assert (health.bus_down_since, health.ok) == (billing.down_since, False)
                assert health.warnings == ("the bus is down",)
                assert health.bus_down_since is not None
                later, away = health.bus_down_since + timedelta(seconds=7), timedelta(seconds=7)
                assert await conditions(billing, later) == [
                    BusCondition(bus="billing", down_for=away, silent_for=timedelta(0))
                ]
                with pytest.raises(BusError, match="no answer within"):
                    await billing.publish(Noted("s-1", 1), correlation_id="s-1")
                proxy.clear()
                while is_down(billing):
                    await anyio.sleep(0.02)
                assert (await told_by.health()).ok
                assert [one.down_for for one in await conditions(billing, later)] == [timedelta(0)]
                await billing.publish(Noted("s-1", 1), correlation_id="s-1")
                await seen.wait_for(1)
            client.drop_database(database_name)
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "the bus is down" in text]) == 1
    assert len([text for text in told if "the bus is back" in text]) == 1


@contextmanager
def behind(proxy: Proxy, database: str) -> Generator[Any]:
    uri = f"mongodb://127.0.0.1:{proxy.port}/?retryWrites=false&retryReads=false"
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        yield client[database]
        client.drop_database(database)


async def test_handler_at_work_is_not_broken_off_when_looking_for_messages_fails(
    bus_proxy: Proxy, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sagaflow.bus")
    begun, may_end, seen, broken_off = anyio.Event(), anyio.Event(), Seen(), Seen()

    async def take(message: Noted) -> None:
        begun.set()
        try:
            await may_end.wait()
        except BaseException:
            broken_off.add(message)
            raise
        seen.add(message)

    with behind(bus_proxy, database_name) as database:
        billing = opened(database, operation_timeout=timedelta(milliseconds=200))
        billing.subscribe(Noted, take)
        with anyio.fail_after(30):
            async with billing:
                await billing.publish(Noted("s-1", 1), correlation_id="s-1")
                await begun.wait()
                bus_proxy.plant(Fault(Harm.HOLD, "find", times=1_000_000))
                while "look for messages" not in caplog.text:
                    await anyio.sleep(0.02)
                bus_proxy.clear()
                may_end.set()
                await seen.wait_for(1)
        assert broken_off.items == []
