"""A process dies with messages that it has stored and not sent, and another sends them.

Run as a program, this is the process that dies.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from attrs import define, field, frozen

from benchmarks.measuring import Measurement
from benchmarks.server import fresh_database, open_repository
from sagaflow import Context, MessageId, Orchestrator, Saga, SagaId, State, initially

_TASKS = 200
_PATIENCE = 1_800.0


@frozen
class Asked:
    """Somebody is to be told."""


@frozen
class Tell:
    """Tell them."""


class NoticeSaga(Saga, name="BenchmarkNotice"):
    """Sends one message."""

    told = State(final=True)

    @initially.on(Asked).goto(told)
    async def tell(self, event: Asked, ctx: Context) -> None:
        """Send it."""
        ctx.send(Tell())


@define
class _Bus:
    """Counts the messages that it is given.

    :ivar wanted: how many different ones there will be.
    :ivar accepts: whether it ever takes responsibility for one.
    :ivar complete: is set once it has been given all of them.
    :ivar storing: is released for each one.
    """

    wanted: int
    accepts: bool
    ids: set[SagaId] = field(factory=set[SagaId])
    given: int = 0
    complete: anyio.Event = field(factory=anyio.Event)
    storing: anyio.Semaphore = field(factory=lambda: anyio.Semaphore(_TASKS))

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool
    ) -> None:
        """Deliver nothing."""

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Count a message."""
        self.given += 1
        if message_id is not None:
            self.ids.add(message_id)
        if len(self.ids) >= self.wanted:
            self.complete.set()
        if not self.accepts:
            self.storing.release()
            await anyio.sleep_forever()


def killed(*, number: int, uri: str) -> Measurement:
    """Kill a process with so many unsent messages, and time how long this one takes to send them.

    This process has started already, with nothing stored; its start is not part of the time.
    """
    with fresh_database(uri) as database:
        command = [sys.executable, "-m", "benchmarks.recovery", uri, database, str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:  # noqa: S603
            try:
                if victim.stdout is None or victim.stdout.readline().strip() != "stored":
                    raise RuntimeError("the process that is to die did not store its messages")
            finally:
                victim.kill()
            died = time.perf_counter()
        return anyio.run(_send_all, uri, database, number, died)


async def _send_all(uri: str, database: str, number: int, died: float) -> Measurement:
    bus = _Bus(number, accepts=True)
    async with (
        open_repository("pymongo-async", uri, database, NoticeSaga) as repository,
        Orchestrator([NoticeSaga], repository, bus=bus),
    ):
        with anyio.fail_after(_PATIENCE):
            await bus.complete.wait()
        taken = time.perf_counter() - died
    return Measurement({"recovery": taken, "redelivered": bus.given - number})


async def _die(uri: str, database: str, number: int) -> None:
    bus = _Bus(number, accepts=False)
    async with (
        open_repository("pymongo-async", uri, database, NoticeSaga) as repository,
        Orchestrator([NoticeSaga], repository, bus=bus) as orchestrator,
        anyio.create_task_group() as tasks,
    ):
        # `handle` returns when its messages are sent, so here it never does: as many tasks as there
        # are messages end up waiting for the bus, and the semaphore bounds how many still store.
        for index in range(number):
            await bus.storing.acquire()
            tasks.start_soon(_ask, orchestrator, index)
        await bus.complete.wait()
        print("stored", flush=True)
        await anyio.sleep_forever()


async def _ask(orchestrator: Orchestrator, index: int) -> None:
    await orchestrator.handle(Asked(), correlation_id=f"notice-{index}", message_id=f"m-{index}")


if __name__ == "__main__":
    anyio.run(_die, sys.argv[1], sys.argv[2], int(sys.argv[3]))
