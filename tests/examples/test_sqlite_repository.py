"""The repository on SQLite keeps all that sagaflow asks of a store, and several processes share it.

On trio, and for what sagas do on it, it is one of the stores of `tests/contract` and
`tests/semantics`.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from attrs import frozen

from examples.sqlite_repository import SqliteRepository
from sagaflow import (
    Context,
    Orchestrator,
    Saga,
    SagaRepository,
    ServerUnavailableError,
    State,
    during,
    initially,
)
from sagaflow.testing import ManualClock, RepositoryContract

EVENTS = 20


@frozen
class Counted:
    counter: str


class Counter(Saga, correlate_by="counter"):
    counting = State()
    full = State(final=True)

    count: int = 1

    start = initially.on(Counted).goto(counting)

    @during(counting).on(Counted).branch(counting, full)
    def add(self, event: Counted, ctx: Context) -> State:
        self.count += 1
        return self.full if self.count == 2 * EVENTS else self.counting


WRITER = """
import sys
import anyio
from examples.sqlite_repository import SqliteRepository
from sagaflow import Orchestrator
from tests.examples.test_sqlite_repository import Counted, Counter

async def main(path):
    async with SqliteRepository.open(path) as repository:
        orchestrator = Orchestrator([Counter], repository)
        number = 0
        while True:
            number += 1
            await orchestrator.handle(Counted(f"c-{number}"))
            print(number, flush=True)

anyio.run(main, sys.argv[1])
"""


class TestSqliteRepository(RepositoryContract):
    path: Path

    @pytest.fixture(autouse=True)
    def _choose(self, tmp_path: Path) -> None:
        self.path = tmp_path / "sagas.db"

    @asynccontextmanager
    async def open(self, clock: ManualClock) -> AsyncGenerator[SagaRepository, None]:
        async with SqliteRepository.open(self.path, clock=clock) as repository:
            yield repository


@pytest.mark.anyio
async def test_two_that_share_a_file_lose_no_event(tmp_path: Path, anyio_backend: str) -> None:
    path = tmp_path / "sagas.db"
    async with SqliteRepository.open(path) as one, SqliteRepository.open(path) as two:
        async with anyio.create_task_group() as tasks:
            for orchestrator in (Orchestrator([Counter], one), Orchestrator([Counter], two)):
                for _ in range(EVENTS):
                    tasks.start_soon(orchestrator.handle, Counted("c-1"))
        found = await two.find(Counter, "c-1")
    assert found is not None
    assert (found.saga.count, found.state, found.version) == (40, Counter.full, 40)


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "sagas.db"
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as writer:
        assert writer.stdout is not None
        acknowledged = 0
        while acknowledged < 30:
            acknowledged = int(writer.stdout.readline())
        writer.kill()

    async def missing() -> list[int]:
        async with SqliteRepository.open(path) as repository:
            return [
                number
                for number in range(1, acknowledged + 1)
                if await repository.find(Counter, f"c-{number}") is None
            ]

    assert anyio.run(missing) == []


@pytest.mark.anyio
async def test_file_that_stays_locked_is_an_error_that_says_so(
    tmp_path: Path, anyio_backend: str
) -> None:
    path = tmp_path / "sagas.db"
    async with SqliteRepository.open(path, patience=0.01) as repository:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ServerUnavailableError, match="locked; nothing was done"):
            await Orchestrator([Counter], repository).handle(Counted("c-1"))
        other.close()
        await Orchestrator([Counter], repository).handle(Counted("c-1"))
