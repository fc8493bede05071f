"""What the bus over MongoDB refuses when it is made, and how it is used once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagaflow import MemoryRepository, Orchestrator, Saga, SagaflowError, State, initially
from sagaflow.exceptions import BusError, WireError
from sagaflow.testing._bus_contract.kit import Charged, Noted
from tests.bus.mongo.support import opened

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("service", ["", "a b", "a.b", "$a", "a\n", "ü", "x" * 65, 7, None])
def test_name_of_a_service_is_checked(service: Any, database: Any) -> None:
    with pytest.raises(BusError, match="service= is the name of the program"):
        opened(database, service)


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0},
        {"handler_timeout": timedelta(0)},
        {"shutdown_timeout": timedelta(seconds=-1)},
        {"lease_duration": timedelta(0)},
        {"poll_interval": timedelta(0)},
        {"operation_timeout": timedelta(0)},
        {"unhandled": "drop"},
        {"max_bytes": 4 * 1024 * 1024 + 1},
    ],
    ids=str,
)
def test_settings_are_checked(settings: dict[str, Any], database: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        opened(database, **settings)


@pytest.mark.parametrize(
    "settings",
    [{"owner": ""}, {"owner": "a\n"}, {"prefix": ""}, {"prefix": "$bus"}, {"prefix": "a b"}],
    ids=str,
)
def test_names_are_checked(settings: dict[str, Any], database: Any) -> None:
    with pytest.raises(BusError, match=next(iter(settings))):
        opened(database, **settings)


async def test_bus_is_entered_once(database: Any) -> None:
    bus = opened(database)
    async with bus:
        with pytest.raises(SagaflowError, match="entered once"):
            await bus.__aenter__()
    with pytest.raises(SagaflowError, match="entered once"):
        await bus.__aenter__()


async def test_class_that_is_not_registered_is_refused_at_once(database: Any) -> None:
    async with opened(database, messages=[Noted]) as bus:
        with pytest.raises(WireError, match="messages="):
            await bus.publish(Charged("s-1"))


async def test_class_that_is_not_registered_cannot_be_subscribed_to(database: Any) -> None:
    """Its handler would never be called."""
    bus = opened(database, messages=[Noted])
    with pytest.raises(WireError, match=r"Charged is not registered: pass it with messages=\["):
        bus.subscribe(Charged, print)
    bus.subscribe(Noted, print)


class Watch(Saga, correlate_by="saga"):
    watched = State(final=True)

    begin = initially.on(Charged).goto(watched)
    note = initially.on(Noted).goto(watched)


async def test_orchestrator_takes_events_that_no_bus_carries(database: Any) -> None:
    bus = opened(database, messages=[Noted])
    async with bus, Orchestrator([Watch], MemoryRepository(), bus=bus) as orchestrator:
        await orchestrator.handle(Charged("s-1"))
        assert await orchestrator.find(Watch, "s-1") is not None
