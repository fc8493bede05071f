"""Handles the messages of one partition, those of each key one after another."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus
from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow._model.verdict import RetryLater, Undeliverable
from sagaflow.bus.transport import Delivery, Handle
from sagaflow.rabbitmq.client import Received, Taken

logger = get_logger("sagaflow.bus")

_REMEMBERED: Final = 10_000
_PAUSE: Final = timedelta(seconds=1)
"""How long a message waits that could not be put aside."""


class Settles(Protocol):
    """What is done with messages that were handled. Each raises a `BusError`."""

    async def accept(self, received: Received) -> None:
        """Acknowledge a message."""
        ...

    async def put_aside(self, received: Received, verdict: Undeliverable, attempts: int) -> None:
        """Make a dead letter of a message, and then acknowledge it."""
        ...


@define
class Failure:
    """What is known of a message on which a handler has failed.

    :ivar until: by the clock of the event loop, when it may be tried again.
    """

    attempts: int
    since: datetime
    until: float


@define(eq=False)
class Memory:
    """What this process knows of messages, as long as it lives.

    RabbitMQ takes messages back that wait for long, and hands them out again: what is known of
    their failures has to outlast that.
    """

    failures: OrderedDict[str, Failure] = field(factory=OrderedDict[str, Failure])
    handled: OrderedDict[tuple[str, str], None] = field(factory=OrderedDict[tuple[str, str], None])

    def note_failure(self, message_id: str, failure: Failure) -> None:
        """Remember that a message has failed."""
        self.failures[message_id] = failure
        if len(self.failures) > _REMEMBERED:
            self.failures.popitem(last=False)

    def note_handled(self, lane: str, message_id: str) -> None:
        """Remember that a message was handled, to recognise it if it was published twice."""
        self.handled[lane, message_id] = None
        if len(self.handled) > _REMEMBERED:
            self.handled.popitem(last=False)


@define(eq=False, kw_only=True)
class Session:
    """The time for which this process has a partition.

    :ivar limiter: lets so many messages of all partitions be handled at the same time.
    """

    taken: Taken
    settles: Settles
    handle: Handle
    limiter: anyio.Semaphore
    memory: Memory
    clock: Clock
    _lanes: dict[str, deque[Received]] = field(factory=dict[str, deque[Received]], init=False)
    _ending: anyio.Event = field(factory=anyio.Event, init=False)
    _tasks: TaskGroup | None = field(default=None, init=False)

    async def run(
        self, take: Callable[[Taken], Awaitable[bool]], task_status: TaskStatus[bool]
    ) -> None:
        """Take the partition, if it is free, and handle messages until the session is to end.

        :param take: takes it, and tells whether it was free.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            is_taken = await take(self.taken)
            task_status.started(is_taken)
            if is_taken:
                await self._ending.wait()
            self._ending.set()

    def add(self, received: Received) -> None:
        """Have a message handled after those of its key that came before."""
        if self._ending.is_set():
            return
        # A message without a key has no order to keep.
        key = received.content.key or f"\n{received.tag}"
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append(received)
            return
        self._lanes[key] = deque([received])
        assert self._tasks is not None  # noqa: S101 - it was made before the partition was taken
        self._tasks.start_soon(self._work, key, name=f"messages of {key}")

    def drain(self) -> None:
        """Handle no further message; those at which handlers are may end.

        Another process may have the messages next: what is known here of their failures may be
        out of date when they come back.
        """
        self._ending.set()
        for lane in self._lanes.values():
            self.memory.failures.pop(lane[0].content.id, None)

    def cancel(self) -> None:
        """Break off: the messages belong to somebody else by now."""
        self._ending.set()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    async def _work(self, key: str) -> None:
        lane = self._lanes[key]
        while lane:
            if not await self._deal_with(lane[0], key):
                # What comes behind it must not be handled before it: all goes back.
                self._ending.set()
                return
            lane.popleft()
        del self._lanes[key]

    async def _deal_with(self, received: Received, key: str) -> bool:
        """Handle a message until it is settled; tell whether it is."""
        content, memory = received.content, self.memory
        failure = memory.failures.get(content.id)
        until = None if failure is None else failure.until
        while True:
            if until is not None:
                with anyio.CancelScope(deadline=until):
                    await self._ending.wait()
            if self._ending.is_set():
                return False
            attempts = received.returned if failure is None else failure.attempts
            since = self.clock.now() if failure is None else failure.since
            try:
                if (key, content.id) in memory.handled:
                    await self.settles.accept(received)  # it was published twice
                    return True
                async with self.limiter:
                    if self._ending.is_set():
                        return False
                    verdict = await self.handle(
                        Delivery(
                            headers=content.wire_headers,
                            body=content.body,
                            attempts=attempts,
                            since=since,
                        )
                    )
                if not isinstance(verdict, RetryLater):
                    if isinstance(verdict, Undeliverable):
                        await self.settles.put_aside(received, verdict, attempts + 1)
                    else:
                        memory.note_handled(key, content.id)
                        await self.settles.accept(received)
                    memory.failures.pop(content.id, None)
                    return True
                after = verdict.after
                if not verdict.failed:
                    until = anyio.current_time() + after.total_seconds()
                    continue
                attempts += 1
            except BusError as exc:
                after = _PAUSE
                message = "%s: a message could not be settled: %s"
                logger.warning(message, self.taken.partition, exc, extra=about())
            until = anyio.current_time() + after.total_seconds()
            failure = Failure(attempts, since, until)
            memory.note_failure(content.id, failure)
