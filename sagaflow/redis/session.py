"""Takes messages for a service, has them handled, and tells the server what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow.bus.transport import Handle
from sagaflow.redis.client import Client, Word
from sagaflow.redis.entries import Entry, Outcome, outcome_of, read_entry
from sagaflow.redis.scripts import OPEN, TURN

logger = get_logger("sagaflow.bus")

_LONGEST_WAIT: Final = 1.0
"""Seconds after which a process looks for what others have given back, though nothing is new."""
_PAUSE: Final = 0.1
"""Seconds between tries to reach a server that is away."""


@define(kw_only=True)
class Session:
    """One process that takes messages, from when it begins until it ends.

    It has a lease, which each of its turns renews. When the lease has run out, others may take what
    this one handles: it then stops handling.

    :ivar base: what the keys of the service begin with.
    :ivar owner: the name of the process.
    :ivar lease: for how long the server keeps what was taken for a process that says nothing.
    :ivar concurrency: how many messages are handled at the same time, at most.
    :ivar timeout: how long one operation may take.
    """

    client: Client
    service: str
    base: str
    owner: str
    clock: Clock
    lease: timedelta
    timeout: timedelta
    handle: Handle
    concurrency: int
    stopping: anyio.Event
    id: str = field(init=False)
    _running: dict[bytes, Entry] = field(factory=dict[bytes, Entry], init=False)
    _outcomes: list[Outcome] = field(factory=list[Outcome], init=False)
    _woken: anyio.Event = field(factory=anyio.Event, init=False)
    _idle: anyio.Event = field(factory=anyio.Event, init=False)
    _last: str = field(default="0-0", init=False)
    _expires: float = field(default=0.0, init=False)
    _is_unsure: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.id = f"{self.owner}/{uuid4().hex}"

    async def run(self) -> None:
        """Take messages until `stopping` is set and what was taken is settled.

        :raises BusError: if the server cannot be reached, or has ended the session.
        """
        asked = anyio.current_time()
        await self.client.run(
            "begin to take messages", OPEN, self.base, self.id, self.owner, self._lease
        )
        self._expires = asked + self.lease.total_seconds()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._wake_when_stopping)
                tasks.start_soon(self._watch)
                await self._take_turns(tasks)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    @property
    def _lease(self) -> int:
        return max(int(self.lease.total_seconds() * 1000), 1)

    async def _take_turns(self, tasks: TaskGroup) -> None:
        while not (self.stopping.is_set() and not self._running and not self._outcomes):
            self._woken = anyio.Event()
            room = 0 if self.stopping.is_set() else self.concurrency - len(self._running)
            try:
                with anyio.fail_after(self._expires - anyio.current_time()):
                    due = await self._take_turn(tasks, room)
            except TimeoutError as exc:
                raise BusError(f"{self.service}: Redis has not renewed the lease in time") from exc
            except SessionLostError:
                raise
            except BusError as exc:
                # What is being handled goes on, and what was handled is told later, for as long as
                # nobody else can get it.
                if not self._running and not self._outcomes:
                    raise
                logger.info("%s: %s", self.service, exc, extra=about())
                await anyio.sleep(_PAUSE)
                continue
            if due > 0:
                with anyio.move_on_after(due):
                    await self._woken.wait()

    async def _take_turn(self, tasks: TaskGroup, room: int) -> float:
        """Tell what became of messages, take others, and return after how many seconds to go on.

        :raises BusError: if the server cannot be reached, or has ended the session.
        """
        outcomes, self._outcomes = self._outcomes, []
        asked = anyio.current_time()
        try:
            answer = await self._turn(outcomes, room, ends=False)
        except BaseException:
            self._outcomes = outcomes + self._outcomes
            self._is_unsure = True
            raise
        self._is_unsure = False
        self._expires = asked + self.lease.total_seconds()
        _, last, due, has_more, taken, gone = answer
        self._last = last.decode()
        for one in gone:
            message = "%s: the message %s is no longer in the stream, and is passed over"
            logger.warning(message, self.service, one.decode(), extra=about())
        for lane, entry_id, fields, failures in taken:
            entry = read_entry(lane, entry_id, fields, failures)
            self._running[lane] = entry
            tasks.start_soon(self._work, entry, name=f"message {entry.id}")
        if has_more:
            return 0
        longest = min(_LONGEST_WAIT, self.lease.total_seconds() / 3)
        if len(self._running) >= self.concurrency or self.stopping.is_set():
            return longest
        self._idle.set()
        return longest if due < 0 else min(longest, due / 1000)

    async def _turn(self, outcomes: Sequence[Outcome], room: int, *, ends: bool) -> Any:
        kept: list[Word] = [-1]
        if self._is_unsure:  # what the server has handed out meanwhile did not arrive here
            kept = [len(self._running), *self._running]
        words = [word for outcome in outcomes for word in outcome.words]
        answer = await self.client.run(
            "take messages",
            TURN,
            *(self.base, self.service, self.id, self._lease, room, int(ends)),
            *kept,
            *words,
        )
        if answer[0] == b"lost":
            raise SessionLostError(
                f"{self.service}: Redis has given what {self.owner!r} held to others: its lease "
                "has run out, or another process has the same owner="
            )
        return answer

    async def _work(self, entry: Entry) -> None:
        """Have a message handled. If that is cancelled, the end of the session gives it back."""
        begun = self.clock.now()
        verdict = await self.handle(entry.delivery(begun))
        self._outcomes.append(outcome_of(entry, verdict, begun, self.clock.now()))
        del self._running[entry.lane]
        self._woken.set()

    async def _watch(self) -> None:
        """Wake this process when there is a message that nobody has read."""
        block = int(min(_LONGEST_WAIT, self.timeout.total_seconds() / 2) * 1000)
        words = ("XREAD", "COUNT", 1, "BLOCK", max(block, 1), "STREAMS", f"{self.base}stream")
        while True:
            await self._idle.wait()
            self._idle = anyio.Event()
            try:
                is_new = await self.client.command("wait for messages", *words, self._last)
            except BusError:
                await anyio.sleep(_PAUSE)  # the next turn tells of it
                is_new = True
            if is_new:
                self._woken.set()

    async def _wake_when_stopping(self) -> None:
        await self.stopping.wait()
        self._woken.set()

    async def _end(self) -> None:
        """Give back what is not settled; if the server is away, it does so when the lease ends."""
        try:
            with suppress(SessionLostError):
                await self._turn(self._outcomes, 0, ends=True)
        except BusError as exc:
            logger.info("%s: %s", self.service, exc, extra=about())


class SessionLostError(BusError):
    """The server has ended the session."""
