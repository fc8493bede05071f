"""What a worker does in which order, within this process."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pymongo
import pytest

from sagaflow import OutcomeKind
from sagaflow.commands.running.serving import Application, Serving
from sagaflow.commands.running.settings import Settings
from sagaflow.commands.running.supervising import Member
from sagaflow.worker import Worker
from tests.commands.working import MESSAGES, Order, Placed

pytestmark = pytest.mark.anyio


def settings_of(uri: str, database: str, **given: Any) -> Settings:
    settings: dict[str, Any] = {
        "target": "tests.commands.working:everything",
        "mongodb": uri,
        "database": database,
        "bus": "mongodb",
        "service": "orders",
        "owner": "w",
        "runtime": "asyncio",
        "messages": None,
        "concurrency": 20,
        "handler_timeout": timedelta(seconds=5),
        "shutdown_timeout": timedelta(milliseconds=1500),
        "retry_for": timedelta(hours=1),
        "unhandled": "dead_letter",
        "log_json": False,
        "log_level": "info",
    }
    return Settings(**settings | given)


@pytest.fixture
def settings(
    mongodb_uri: str, database_name: str, mongodb_client: pymongo.MongoClient[dict[str, Any]]
) -> Any:
    yield settings_of(mongodb_uri, database_name)
    mongodb_client.drop_database(database_name)


def test_settings_survive_the_way_to_another_process(settings: Settings) -> None:
    assert Settings.of_json(settings.to_json().encode()) == settings


async def test_the_bus_is_drained_while_the_orchestrator_is_open(settings: Settings) -> None:
    """And what a factory has opened is closed when both have ended."""
    seen: list[str] = []

    @asynccontextmanager
    async def factory(worker: Worker) -> AsyncGenerator[None]:
        worker.sagas, worker.messages = [Order], MESSAGES
        drain = worker.bus.drain

        async def drained() -> None:
            await drain()
            assert serving.progress.orchestrator is not None
            outcome = await serving.progress.orchestrator.handle(Placed("o-1"), wait=False)
            seen.append(outcome.kind.value)

        worker.bus.drain = drained  # type: ignore[method-assign]
        yield
        seen.append("closed")

    serving = Serving(settings, "w", Application((), factory, ()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serving.run)
        with anyio.fail_after(20):
            while serving.progress.waits_for is not None:
                await serving.progress.wait_for_change()
        assert (await serving.progress.report()).ready
        serving.stop()
        assert not (await serving.progress.report()).ready
    assert seen == [OutcomeKind.STARTED.value, "closed"]


async def test_who_is_told_while_a_process_starts_is_told(settings: Settings) -> None:
    stopping = anyio.Event()
    stopping.set()
    with anyio.fail_after(30):
        assert await Member(settings, "w-1").live(stopping) in (-signal.SIGTERM, 0)
