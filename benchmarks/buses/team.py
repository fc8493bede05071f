"""The worker processes of a run, as the process sees them that has started them."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from subprocess import PIPE
from typing import Final

import anyio
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import asdict, define, field

from benchmarks.buses.control import CPU, DID, END, READY, SENT, STORED
from benchmarks.buses.places import Place

PATIENCE: Final = 60.0
"""Seconds that anything may take; then the run has failed."""
_LONGEST_LINE: Final = 1_000


@define(eq=False)
class Worker:
    """A worker process.

    :ivar did: how many orders it has ended, or messages it has handled.
    :ivar cpu: the seconds for which the processors have worked for it, each time it was asked.
    """

    process: Process
    is_ready: bool = False
    did: int = 0
    cpu: list[float] = field(factory=list[float])

    async def tell(self, word: str, *more: object) -> None:
        """Tell it something."""
        assert self.process.stdin is not None  # noqa: S101 - it was started with a pipe
        await self.process.stdin.send(f"{' '.join(map(str, (word, *more)))}\n".encode())


@define(eq=False)
class Team:
    """The worker processes of a run. Whatever it waits for has to happen within a minute.

    :ivar stored: when events were stored, in nanoseconds, by the id of their saga.
    :ivar sent: when commands were accepted by the broker, likewise.
    """

    place: Place
    tasks: TaskGroup
    workers: list[Worker] = field(factory=list[Worker])
    stored: dict[str, int] = field(factory=dict[str, int])
    sent: dict[str, int] = field(factory=dict[str, int])
    _told: anyio.Event = field(factory=anyio.Event)

    @property
    def did(self) -> int:
        """How many orders all of them have ended, or messages they have handled."""
        return sum(worker.did for worker in self.workers)

    async def start(self, role: str) -> Worker:
        """Start another worker, and return once it takes messages."""
        command = [sys.executable, "-m", "benchmarks.buses.worker", role]
        place = json.dumps(asdict(self.place))
        process = await anyio.open_process([*command, place], stdin=PIPE, stdout=PIPE, stderr=None)
        worker = Worker(process)
        self.workers.append(worker)
        self.tasks.start_soon(self._hear, worker)
        await self.until(lambda: worker.is_ready)
        return worker

    async def tell(self, word: str) -> None:
        """Tell all of them something."""
        for worker in self.workers:
            await worker.tell(word)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so.

        :raises TimeoutError: if it is not within a minute.
        """
        with anyio.fail_after(PATIENCE):
            while not condition():
                self._told = anyio.Event()
                await self._told.wait()

    async def cpu(self) -> float:
        """Return the seconds for which the processors have worked for all of them."""
        asked = [len(worker.cpu) for worker in self.workers]
        await self.tell(CPU)
        await self.until(
            lambda: all(
                len(worker.cpu) > before for worker, before in zip(self.workers, asked, strict=True)
            )
        )
        return sum(worker.cpu[-1] for worker in self.workers)

    async def end(self) -> None:
        """Have all of them end, and wait for that."""
        with anyio.fail_after(PATIENCE):
            await self.tell(END)
            for worker in self.workers:
                await worker.process.wait()

    async def _hear(self, worker: Worker) -> None:
        """Note what a worker says, until it ends.

        :raises RuntimeError: if it has failed.
        """
        assert worker.process.stdout is not None  # noqa: S101 - it was started with a pipe
        said = BufferedByteReceiveStream(worker.process.stdout)
        while True:
            try:
                line = await said.receive_until(b"\n", _LONGEST_LINE)
            except (anyio.IncompleteRead, anyio.EndOfStream):
                break
            self._note(worker, *line.decode().split())
            self._told.set()
        if await worker.process.wait():
            raise RuntimeError(f"a worker has ended with status {worker.process.returncode}")

    def _note(self, worker: Worker, word: str, about: str = "", at: str = "0") -> None:
        if word == READY:
            worker.is_ready = True
        elif word == DID:
            worker.did += 1
        elif word == CPU:
            worker.cpu.append(float(about))
        elif word == STORED:
            self.stored.setdefault(about, int(at))
        elif word == SENT:
            self.sent.setdefault(about, int(at))


@asynccontextmanager
async def team_at(place: Place) -> AsyncGenerator[Team, None]:
    """Yield a team without workers, and end those that it has then."""
    async with anyio.create_task_group() as tasks:
        team = Team(place, tasks)
        try:
            yield team
            await team.end()
        finally:
            for worker in team.workers:
                if worker.process.returncode is None:
                    worker.process.kill()
                with anyio.CancelScope(shield=True):
                    await worker.process.aclose()
