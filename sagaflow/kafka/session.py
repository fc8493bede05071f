"""Handles the messages of the partitions that this process has, each key's in their order."""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import timedelta
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus
from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow._model.verdict import RetryLater, Undeliverable
from sagaflow.bus.transport import Delivery, Handle
from sagaflow.kafka.member import Assigned, Batch, Event, Failed, Handover, Member, Overdue
from sagaflow.kafka.progress import MOST_AHEAD, Failure, Progress, Reached
from sagaflow.kafka.records import Record

logger = get_logger("sagaflow.bus")

IN_HAND: Final = 1000
"""How many messages of one partition a process has in its memory before it leaves it alone."""
_REMEMBERED: Final = 10_000
_COMMITTING: Final = 0.2
"""Seconds between two commits. What is not committed is only handled again after a crash."""
_PAUSE: Final = timedelta(seconds=1)
"""How long a message waits that could not be put aside."""


class PutsAside(Protocol):
    """What makes dead letters."""

    async def put_aside(self, record: Record, verdict: Undeliverable, attempts: int) -> None:
        """Make a dead letter of a message; it is durable then. Raises a `BusError`."""
        ...


@define(eq=False)
class Memory:
    """Which messages this process has handled last: some are published twice."""

    _handled: OrderedDict[tuple[str, str], None] = field(
        factory=OrderedDict[tuple[str, str], None], init=False
    )

    def note(self, record: Record) -> None:
        """Remember that a message was handled."""
        if record.identity is not None:
            self._handled[record.identity] = None
            if len(self._handled) > _REMEMBERED:
                self._handled.popitem(last=False)

    def knows(self, record: Record) -> bool:
        """Tell whether a message of this class and id was handled."""
        return record.identity in self._handled


@define(eq=False)
class Held:
    """A partition that this process has.

    :ivar lanes: the messages in hand, by their key, in order.
    :ivar ending: set when nothing more is to be begun.
    """

    progress: Progress
    lanes: dict[str, deque[Record]] = field(factory=dict[str, deque[Record]])
    ending: anyio.Event = field(factory=anyio.Event)
    tasks: TaskGroup | None = None
    handover: Handover | None = None
    is_paused: bool = False
    is_dirty: bool = False

    def cancel(self) -> None:
        """Break off what is being handled."""
        self.ending.set()
        if self.tasks is not None:
            self.tasks.cancel_scope.cancel()


@define(eq=False, kw_only=True)
class Session:
    """The time for which this process takes part in the group.

    :ivar limiter: lets so many messages be handled at the same time.
    """

    service: str
    letters: PutsAside
    handle: Handle
    limiter: anyio.Semaphore
    memory: Memory
    clock: Clock
    stopping: anyio.Event
    _held: dict[int, Held] = field(factory=dict[int, Held], init=False)
    _events: deque[Event] = field(factory=deque[Event], init=False)
    _woken: anyio.Event = field(factory=anyio.Event, init=False)

    def receive(self, event: Event) -> None:
        """Note what the member's thread tells."""
        self._events.append(event)
        self._woken.set()

    async def run(self, member: Member) -> None:
        """Handle messages until the bus is stopping.

        :raises BusError: if the member cannot go on.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commit_regularly, member)
            tasks.start_soon(self._wake_when_stopping)
            async with anyio.create_task_group() as serving:
                while not self.stopping.is_set():
                    await self._deal_with_events(member, serving)
                    await self._woken.wait()
                    self._woken = anyio.Event()
                for held in self._held.values():
                    held.ending.set()
                while self._held:
                    await self._deal_with_events(member, serving)
                    await self._woken.wait()
                    self._woken = anyio.Event()
            tasks.cancel_scope.cancel()

    def settle(self, member: Member) -> None:
        """Tell a member that is to end what it may still commit."""
        for held in self._held.values():
            self._tell_progress(held, member)

    async def _deal_with_events(self, member: Member, serving: TaskGroup) -> None:
        while self._events:
            match self._events.popleft():
                case Assigned(starts):
                    for start in starts:
                        held = Held(Progress(start))
                        self._held[start.partition] = held
                        await serving.start(self._serve, start.partition, held, member)
                case Batch(records):
                    for record in records:
                        self._add(record, member)
                case Handover() as handover:
                    self._begin_handover(handover)
                case Overdue(handover):
                    for partition in handover.partitions & self._held.keys():
                        self._held[partition].cancel()
                case Failed(error):
                    raise error

    def _begin_handover(self, handover: Handover) -> None:
        for partition in handover.partitions & self._held.keys():
            held = self._held[partition]
            held.handover = handover
            held.ending.set()
            if handover.is_lost:
                held.cancel()
        self._end_handover(handover)

    def _end_handover(self, handover: Handover) -> None:
        if not handover.partitions & self._held.keys():
            handover.is_ready.set()

    async def _serve(
        self, partition: int, held: Held, member: Member, *, task_status: TaskStatus[None]
    ) -> None:
        """Have a partition for as long as it is this process's."""
        async with anyio.create_task_group() as tasks:
            held.tasks = tasks
            task_status.started()
            if self.stopping.is_set():
                held.ending.set()
            await held.ending.wait()
        reached = held.progress.reached()
        if self._held.get(partition) is held:
            del self._held[partition]
        if held.handover is None:
            self._tell_progress(held, member)
        else:
            if reached is not None:
                held.handover.reached.append(reached)
            self._end_handover(held.handover)
        self._woken.set()

    def _add(self, record: Record, member: Member) -> None:
        """Have a message handled after those of its key that came before."""
        held = self._held.get(record.partition)
        if held is None or held.ending.is_set():
            return
        held.is_dirty = True
        if not held.progress.take(record.offset):
            return
        if not held.is_paused and _is_full(held, 1):
            held.is_paused = True
            member.pause(record.partition, is_paused=True)
        # A message without a key has no order to keep.
        key = f"\n{record.offset}" if record.key is None else record.key
        lane = held.lanes.get(key)
        if lane is not None:
            lane.append(record)
            return
        held.lanes[key] = deque([record])
        assert held.tasks is not None  # noqa: S101 - they were there before the partition was held
        held.tasks.start_soon(self._work, held, key, member, name=f"messages of {key}")

    async def _work(self, held: Held, key: str, member: Member) -> None:
        lane = held.lanes[key]
        while lane:
            if not await self._deal_with(held, lane[0]):
                return
            held.progress.finish(lane.popleft().offset)
            held.is_dirty = True
            if held.is_paused and not _is_full(held, 2):
                held.is_paused = False
                member.pause(held.progress.start.partition, is_paused=False)
        del held.lanes[key]

    async def _deal_with(self, held: Held, record: Record) -> bool:
        """Handle a message until nothing more is to be done with it; tell whether it is so."""
        if self.memory.knows(record):
            return True
        while not held.ending.is_set():
            failure = held.progress.failing.get(record.offset)
            attempts = 0 if failure is None else failure.attempts
            since = self.clock.now() if failure is None else failure.since
            async with self.limiter:
                if held.ending.is_set():
                    return False
                verdict = await self.handle(
                    Delivery(
                        headers=record.headers, body=record.body, attempts=attempts, since=since
                    )
                )
            if isinstance(verdict, RetryLater):
                if verdict.failed:
                    held.progress.failing[record.offset] = Failure(attempts + 1, since)
                    held.is_dirty = True
                await _rest(held, verdict.after)
            elif isinstance(verdict, Undeliverable):
                return await self._put_aside(held, record, verdict, attempts + 1)
            else:
                self.memory.note(record)
                return True
        return False

    async def _put_aside(
        self, held: Held, record: Record, verdict: Undeliverable, attempts: int
    ) -> bool:
        while True:
            try:
                await self.letters.put_aside(record, verdict, attempts)
            except BusError as exc:
                message = "%s: a message could not be put aside: %s"
                logger.warning(message, self.service, exc, extra=about())
            else:
                return True
            await _rest(held, _PAUSE)
            if held.ending.is_set():
                return False

    def _tell_progress(self, held: Held, member: Member) -> None:
        reached: Reached | None = held.progress.reached()
        held.is_dirty = False
        if reached is not None:
            member.commit(reached)

    async def _commit_regularly(self, member: Member) -> None:
        while True:
            await anyio.sleep(_COMMITTING)
            for held in self._held.values():
                if held.is_dirty:
                    self._tell_progress(held, member)

    async def _wake_when_stopping(self) -> None:
        await self.stopping.wait()
        self._woken.set()


def _is_full(held: Held, part: int) -> bool:
    """Tell whether a partition has as much in hand as it may, or a part of that."""
    progress = held.progress
    return progress.in_hand >= IN_HAND // part or progress.ahead >= MOST_AHEAD // part


async def _rest(held: Held, after: timedelta) -> None:
    with anyio.move_on_after(after.total_seconds()):
        await held.ending.wait()
