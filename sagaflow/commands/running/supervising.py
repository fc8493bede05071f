"""Several worker processes: each is started again when it ends by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import define, field

from sagaflow._concurrency.groups import cause_of
from sagaflow._engine.backoff import bound
from sagaflow._model.errors import SagaflowError
from sagaflow._model.log import about, get_logger
from sagaflow.commands.running.child import WRONG
from sagaflow.commands.running.health import Address, answering
from sagaflow.commands.running.settings import Settings
from sagaflow.commands.running.shared_turns import SharedTurns, TurnsOfProcess
from sagaflow.commands.running.status import Report
from sagaflow.commands.running.stopping import end_now, stop_on_signal

logger = get_logger("sagaflow.worker")

_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_LIVES: Final = 60.0
"""A process that has lived for so many seconds is started again as if it were the first time."""
_SILENT: Final = 30.0
"""A process that was at work and says nothing for so many seconds does no rounds."""
_LONGEST_REPORT: Final = 65_536
_COMMAND: Final = (sys.executable, "-P", "-m", "sagaflow.commands.running.child")


def supervise(settings: Settings, processes: int, health: Address | None) -> None:
    """Run worker processes until a signal ends them.

    :param health: where questions about them are answered.
    :raises SagaflowError: if none of them can be set up, or nobody can answer there.
    """

    async def main() -> None:
        shared = SharedTurns()
        names = [f"{settings.owner}-{n + 1}" for n in range(processes)]
        crew = _Crew([Member(settings, name, shared) for name in names])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_on_signal, crew.stop, crew.end)
            async with answering(health, crew.report):
                await crew.run()
            tasks.cancel_scope.cancel()

    try:
        anyio.run(main)
    except BaseExceptionGroup as group:
        cause = cause_of(group)
        if cause is group:
            raise
        raise cause from None


@define
class Member:
    """A worker process, which is another one each time it is started.

    :ivar owner: its name, the same each time.
    :ivar shared: where it takes its turns.
    :ivar has_been_ready: whether it was ready at any time.
    """

    settings: Settings
    owner: str
    shared: SharedTurns
    process: Process | None = field(default=None, init=False)
    has_been_ready: bool = field(default=False, init=False)
    _said: Report | None = field(default=None, init=False)
    _said_at: float = field(default=0.0, init=False)

    async def live(self, stopping: anyio.Event) -> int:
        """Start the process, listen to it until it ends, and return its status."""
        real = os.dup(1)
        try:
            process = self.process = await anyio.open_process(
                [*_COMMAND, str(real)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None,
                # Ctrl-C is for the parent, which hands it on once.
                start_new_session=True,
                pass_fds=(real,),
            )
        finally:
            os.close(real)
        async with process:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            assert process.stdout is not None  # noqa: S101 - likewise
            if stopping.is_set():  # who told the others to end could not tell this one
                self.signal(signal.SIGTERM)
            with suppress(anyio.BrokenResourceError):  # it has ended, and its status says how
                lines = f"{self.owner}\n{self.settings.to_json()}\n"
                await process.stdin.send(lines.encode())
            async with anyio.create_task_group() as tasks:
                turns = TurnsOfProcess(self.shared, process.stdin.send, tasks)
                await self._listen(BufferedByteReceiveStream(process.stdout), turns)
                tasks.cancel_scope.cancel()  # it has ended, and with it what it had taken
            status = await process.wait()
        self.process = self._said = None
        return status

    async def _listen(self, reports: BufferedByteReceiveStream, turns: TurnsOfProcess) -> None:
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            while True:
                line = await reports.receive_until(b"\n", _LONGEST_REPORT)
                if turns.hear(line):
                    continue
                self._said = Report.of_json(line)
                self._said_at = anyio.current_time()
                self.has_been_ready = self.has_been_ready or self._said.ready

    def report(self) -> Report:
        """Say how the process is, by what it has said last."""
        said = self._said
        if said is None:
            return Report(live=True, ready=False, problems=(f"{self.owner}: it is starting",))
        if anyio.current_time() - self._said_at > _SILENT:
            problem = f"{self.owner}: it has said nothing for {_SILENT:g} s"
            return Report(live=False, ready=False, problems=(problem,))
        problems = tuple(f"{self.owner}: {problem}" for problem in said.problems)
        return Report(said.live, said.ready, problems)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


@define
class _Crew:
    """The processes of one worker."""

    members: list[Member]
    _stopping: anyio.Event = field(factory=anyio.Event, init=False)

    async def run(self) -> None:
        """Keep all processes running until `stop` is called and all have ended.

        :raises SagaflowError: if one cannot be set up, and none has been ready yet.
        """
        async with anyio.create_task_group() as tasks:
            for member in self.members:
                tasks.start_soon(self._keep, member)

    async def report(self) -> Report:
        """Say how all of them are: well if each is."""
        found = [member.report() for member in self.members]
        problems = tuple(problem for one in found for problem in one.problems)
        live, ready = all(one.live for one in found), all(one.ready for one in found)
        return Report(live, ready and not self._stopping.is_set(), problems)

    def stop(self) -> None:
        """Have each process end in good order."""
        self._stopping.set()
        for member in self.members:
            member.signal(signal.SIGTERM)

    def end(self, status: int) -> None:
        """End each process, and then this one, at once."""
        for member in self.members:
            member.signal(signal.SIGKILL)
        end_now(status)

    async def _keep(self, member: Member) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began = anyio.current_time()
            status = await member.live(self._stopping)
            if self._stopping.is_set():
                return
            if status == WRONG and not any(one.has_been_ready for one in self.members):
                raise SagaflowError(f"{member.owner} cannot be set up: its log says why")
            if anyio.current_time() - began >= _LIVES:
                attempt = 0
            pause = bound(_FIRST_PAUSE, _LONGEST_PAUSE, attempt)
            attempt += 1
            logger.warning(
                "%s has ended by itself (%s), and is started again in %g s",
                member.owner,
                _told(status),
                pause.total_seconds(),
                extra=about(),
            )
            with anyio.move_on_after(pause.total_seconds()):
                await self._stopping.wait()


def _told(status: int) -> str:
    """Return what an exit status says."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
