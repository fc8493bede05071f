"""What a worker does in which order, within this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pymongo
import pytest

from sagaflow import OutcomeKind, SagaflowError
from sagaflow.commands.running.owners import owning
from sagaflow.commands.running.serving import Application, Serving
from sagaflow.commands.running.settings import Settings
from sagaflow.commands.running.shared_turns import SharedTurns
from sagaflow.commands.running.status import Report
from sagaflow.commands.running.supervising import Member
from sagaflow.worker import Worker
from tests.bus.redis import servers as redis_servers
from tests.commands.working import MESSAGES, Charge, Charged, Order, Placed

pytestmark = pytest.mark.anyio


def settings_of(uri: str | None, database: str | None, **given: Any) -> Settings:
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


@pytest.mark.skipif(redis_servers.PROGRAM is None, reason=redis_servers.MISSING)
async def test_participants_need_no_database(tmp_path: Path) -> None:
    def factory(worker: Worker) -> None:
        worker.messages = MESSAGES
        worker.bus.subscribe(Charge, lambda command: Charged(command.order_id, worker.owner))

    with redis_servers.running(tmp_path / "redis") as redis:
        settings = settings_of(None, None, bus=redis.uri)
        serving = Serving(settings, "w", Application((), factory, ()))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serving.run)
            with anyio.fail_after(20):
                while serving.progress.waits_for is not None:
                    await serving.progress.wait_for_change()
            assert await serving.progress.report() == Report(live=True, ready=True)
            serving.stop()


async def test_name_is_kept_for_one_process_where_the_system_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with owning("w", "shop"), owning("v", "shop"), owning("w", "another"):
        with pytest.raises(SagaflowError, match="a worker of the name 'w' runs on this machine"):
            async with owning("w", "shop", within=0.1):
                raise AssertionError
        monkeypatch.setattr(sys, "platform", "darwin")
        async with owning("w", "shop"):
            pass


async def test_who_is_told_while_a_process_starts_is_told(settings: Settings) -> None:
    stopping = anyio.Event()
    stopping.set()
    with anyio.fail_after(30):
        assert await Member(settings, "w-1", SharedTurns()).live(stopping) in (-signal.SIGTERM, 0)
