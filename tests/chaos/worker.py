"""A worker: an orchestrator that takes events from sockets and sends commands to one."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import pymongo
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import asdict, frozen
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from sagaflow import Clock, Orchestrator, RetryPolicy, SagaflowError, SystemClock
from sagaflow._model.ids import MessageId, SagaId
from sagaflow.mongo import MongoRepository
from tests.chaos.errand import EVENTS, Errand, NewErrand, StumbleError
from tests.chaos.plan import Setting
from tests.chaos.wire import participant_socket, worker_socket

LEASE: Final = timedelta(milliseconds=500)
_JUMPS: Final = 150
"""After how many looks at it a clock jumps."""
_PATIENCE: Final = 1.0
_LONGEST_LINE: Final = 1 << 16
_BROKEN: Final = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    OSError,
)


class WrongClock:
    """The machine's clock, ahead or behind, or jumping forth and back."""

    def __init__(self, setting: Setting) -> None:
        self._system: Clock = SystemClock()
        self._ahead = timedelta(seconds=setting.ahead)
        self._jump = timedelta(seconds=setting.jump)
        self._looks = 0

    def now(self) -> datetime:
        """Return what it takes for now."""
        self._looks += 1
        jumped = self._looks // _JUMPS % 2
        return self._system.now() + self._ahead + jumped * self._jump


class ParticipantBus:
    """Hands commands to the participant; has accepted one once that has it on paper."""

    def __init__(self, path: Path) -> None:
        self._path = participant_socket(path)
        self._idle: list[tuple[ByteStream, BufferedByteReceiveStream]] = []

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool
    ) -> None:
        """Do nothing: events come in through the worker's own socket."""

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Hand a command over.

        :raises OSError: if the participant does not confirm it.
        """
        said = {
            "id": message_id,
            "command": type(message).__name__,
            "fields": asdict(message),  # type: ignore[arg-type]
        }
        done = False
        with anyio.fail_after(_PATIENCE):
            stream, answers = await self._connection()
            try:
                await stream.send(json.dumps(said).encode() + b"\n")
                await answers.receive_until(b"\n", _LONGEST_LINE)
                done = True
            finally:
                if done:
                    self._idle.append((stream, answers))
                else:
                    await anyio.aclose_forcefully(stream)

    async def _connection(self) -> tuple[ByteStream, BufferedByteReceiveStream]:
        if self._idle:
            return self._idle.pop()
        stream = await anyio.connect_unix(str(self._path))
        return stream, BufferedByteReceiveStream(stream)

    async def aclose(self) -> None:
        """Close all connections."""
        for stream, _ in self._idle:
            await anyio.aclose_forcefully(stream)


@asynccontextmanager
async def _connected(uri: str, driver: str, clock: Clock) -> AsyncGenerator[MongoRepository]:
    options: dict[str, Any] = {
        "directConnection": True,
        "retryReads": False,  # so that faults reach the repository
        "retryWrites": False,
        "serverSelectionTimeoutMS": 500,
    }
    if driver == "motor":
        motor: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri, **options)
        yield MongoRepository(motor["chaos"], clock=clock)
        motor.close()
    elif driver == "pymongo-async":
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri, **options)
        yield MongoRepository(client["chaos"], clock=clock)
        await client.close()
    else:
        threads: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri, **options)
        yield MongoRepository(threads["chaos"], clock=clock)
        threads.close()


@frozen(kw_only=True)
class Worker:
    """A worker.

    :ivar path: the directory of the run.
    :ivar name: of this life of it.
    :ivar owner: what its leases are known by, also those of its lives before.
    :ivar is_new: whether it runs the new code.
    """

    path: Path
    uri: str
    number: int
    name: str
    owner: str | None
    setting: Setting
    is_new: bool

    async def run(self) -> None:
        """Work until asked to end."""
        clock = WrongClock(self.setting)
        bus = ParticipantBus(self.path)
        async with (
            _connected(self.uri, self.setting.driver, clock) as repository,
            Orchestrator(
                [NewErrand if self.is_new else Errand],
                repository,
                bus=bus,
                clock=clock,
                poll_interval=timedelta(milliseconds=100),
                lease_duration=LEASE,
                owner=self.owner,
                retry=RetryPolicy(
                    initial_delay=timedelta(milliseconds=20), max_delay=timedelta(milliseconds=300)
                ),
            ) as orchestrator,
        ):

            async def converse(stream: ByteStream) -> None:
                async with stream:
                    lines = BufferedByteReceiveStream(stream)
                    try:
                        while True:
                            line = await lines.receive_until(b"\n", _LONGEST_LINE)
                            answer = await self._take(orchestrator, json.loads(line))
                            await stream.send(json.dumps(answer).encode() + b"\n")
                    except _BROKEN:
                        return

            listener = await anyio.create_unix_listener(worker_socket(self.path, self.number))
            async with listener, anyio.create_task_group() as tasks:
                with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                    tasks.start_soon(listener.serve, converse)
                    async for _ in signals:
                        break
                logging.getLogger("worker").warning("is asked to end")
                tasks.cancel_scope.cancel()
        await bus.aclose()

    async def _take(self, orchestrator: Orchestrator, said: dict[str, Any]) -> dict[str, Any]:
        """Have a saga take an event, and say what became of it."""
        event = EVENTS[said["event"]](**said["fields"])
        try:
            outcome = await orchestrator.handle(event, message_id=said["id"])
        except (SagaflowError, StumbleError) as exc:
            return {"error": repr(exc)}
        except Exception as exc:  # noqa: BLE001 - nothing else may come out of it
            return {"surprise": f"{self.name}: {said}: {exc!r}"}
        return {"kind": outcome.kind.value, "version": outcome.version, "worker": self.name}
