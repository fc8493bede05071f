"""Takes messages: owns lanes, hands their messages to the handler, and shares with others."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from datetime import datetime
from typing import Final, Protocol
from urllib.parse import unquote
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.asyncio_portal import AsyncioPortal
from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger
from sagaflow._model.verdict import RetryLater, Undeliverable
from sagaflow.bus.transport import Delivery, Handle
from sagaflow.nats.lanes import PULLED, Failures, Lane, Place, Waiting, place_of
from sagaflow.nats.letters import KEY, own_headers
from sagaflow.nats.link import Inbox, Received
from sagaflow.nats.members import Members
from sagaflow.nats.names import consumer_name
from sagaflow.nats.owning import Owning

logger = get_logger("sagaflow.bus")

_GONE: Final = ("Consumer Deleted", "No Responders")
_PAUSE: Final = 0.25
"""Seconds before messages are asked for again after the server would not give any."""


class PutAside(Protocol):
    """Stores a dead letter."""

    def __call__(
        self, message: Waiting, verdict: Undeliverable, failures: Failures, now: datetime
    ) -> Awaitable[None]:
        """Store it. One that is there already is the same.

        :raises BusError: if the server cannot be reached, or refuses.
        """
        ...


@define(eq=False, kw_only=True)
class Consuming:
    """Takes messages on one connection, until it is told to stop or the connection is lost."""

    portal: AsyncioPortal
    owning: Owning
    members: Members
    handle: Handle
    put_aside: PutAside
    concurrency: int
    stopping: anyio.Event
    clock: Clock
    inbox: str
    """The subject under which the server answers."""
    _lanes: dict[int, Lane] = field(factory=dict[int, Lane], init=False)
    _wake: anyio.Event = field(factory=anyio.Event, init=False)
    _limiter: anyio.CapacityLimiter = field(init=False)
    _tasks: TaskGroup = field(init=False)
    _changed: anyio.Event = field(factory=anyio.Event, init=False)

    async def run(self) -> None:
        """Take messages.

        :raises BusError: if the connection is lost.
        """
        self._limiter = anyio.CapacityLimiter(self.concurrency)
        subjects = (f"{self.inbox}.*", self.owning.names.members)
        incoming = await self.portal.call(self.owning.link.listen, *subjects)
        async with anyio.create_task_group() as self._tasks, anyio.create_task_group() as taking:
            taking.start_soon(self._take, incoming)
            taking.start_soon(self._watch)
            async with anyio.create_task_group() as sharing:
                sharing.start_soon(self._share)
                await self.stopping.wait()
                sharing.cancel_scope.cancel()
            for lane in self._lanes.values():
                lane.ending.set()
            while self._lanes:
                self._changed = anyio.Event()
                await self._changed.wait()
            await self._tell("bye")
            taking.cancel_scope.cancel()

    # Sharing

    async def _share(self) -> None:
        """Own the share of this process, as processes come and go."""
        await self._tell("hello")
        beat = self.members.patience / 5
        while True:
            self._wake = anyio.Event()
            if not self.stopping.is_set():
                await self._own_share()
                await self._tell("here")
            with anyio.move_on_after(beat):
                await self._wake.wait()

    async def _own_share(self) -> None:
        taken = await self.portal.call(self.owning.taken)
        mine = {lane.number: lane.consumer for lane in self._lanes.values()}
        plan = self.members.plan(taken, mine, anyio.current_time())
        for one in plan.remove:
            await self.portal.call(self.owning.remove, one.consumer)
        surplus = [lane for lane in self._lanes.values() if not lane.ending.is_set()]
        surplus.sort(key=lambda lane: len(lane.in_hand))  # what is at work is not kept waiting
        ending = len(self._lanes) - len(surplus)
        for lane in surplus[: max(0, plan.give - ending)]:
            lane.ending.set()
        if plan.take:
            async with anyio.create_task_group() as tasks:
                for number in plan.take:
                    tasks.start_soon(self._own, number)

    async def _own(self, number: int) -> None:
        """Own a lane, unless another process was faster."""
        consumer, lease = consumer_name(number, uuid4().hex), self.members.patience
        lane = Lane(number=number, consumer=consumer, until=anyio.current_time() + lease)
        with anyio.CancelScope(shield=True):  # what is made has to be known, to be let go of
            if await self.portal.call(self.owning.make, number, consumer):
                self._lanes[number] = lane
                self._tasks.start_soon(self._work, lane, name=f"lane {number}")

    async def _watch(self) -> None:
        """Give up lanes when the server was not heard of for too long; this waits for no answer."""
        while True:
            await anyio.sleep(self.members.patience / 10)
            for lane in list(self._lanes.values()):
                if anyio.current_time() > lane.until:
                    self._lose(lane, "the server was not heard of")

    def _lose(self, lane: Lane, why: str) -> None:
        if not lane.is_lost and not lane.ending.is_set():
            message = "%s: lane %d is given up: %s"
            service = self.owning.names.service
            logger.warning(message, service, lane.number, why, extra=about())
        lane.lose()
        self._wake.set()

    async def _tell(self, word: str) -> None:
        await self.portal.call(self.owning.tell, word)

    def _listen(self, said: bytes) -> None:
        """Take note of what another process says."""
        word, _, owner = said.decode("utf-8", "replace").partition(" ")
        if word == "bye":
            self.members.forget(owner)
        is_new = word != "bye" and self.members.hear(owner, anyio.current_time())
        if owner != self.members.owner and (is_new or word != "here"):
            self._wake.set()

    # Taking

    async def _take(self, incoming: Inbox) -> None:
        """Put what comes where it belongs."""
        while True:
            for one in await self.portal.call(incoming.take):
                place = place_of(one.reply)
                if place is not None:
                    lane = self._lane(place.consumer)
                    if lane is not None:
                        self._accept(lane, place, one)
                        if lane.expected <= 0:
                            await self._pull(lane)
                elif one.subject == self.owning.names.members:
                    self._listen(one.body)
                else:
                    lane = self._lane(one.subject.rpartition(".")[2])
                    if lane is not None:
                        self._heed(lane, one)

    def _lane(self, consumer: str) -> Lane | None:
        for lane in self._lanes.values():
            if lane.consumer == consumer:
                return lane
        return None

    def _accept(self, lane: Lane, place: Place, one: Received) -> None:
        """Take a message into the hand, behind those of its key."""
        lane.until = lane.asked + self.members.patience
        lane.expected -= 1
        lane.delivered += 1
        if place.delivery != lane.delivered:
            self._lose(lane, "a message has not arrived")
        if lane.ending.is_set() or place.number in lane.in_hand:
            return
        lane.in_hand.add(place.number)
        key = one.headers.get(KEY)
        message = Waiting(place.number, one.reply, one.subject, one.headers, one.body)
        # A message of no saga has a queue of its own: it has no order to keep.
        name = f"key {unquote(key)}" if key is not None else f"number {place.number}"
        waiting = lane.keys.get(name)
        if waiting is not None:
            waiting.append(message)
            return
        lane.keys[name] = deque([message])
        assert lane.tasks is not None  # noqa: S101 - it pulls in them
        lane.tasks.start_soon(self._deal_with_key, lane, name)

    def _heed(self, lane: Lane, notice: Received) -> None:
        """Do what a notice of the server asks for."""
        said = notice.headers.get("Description", "")
        if notice.status == "503" or said in _GONE:
            self._lose(lane, "another process has taken it")
            return
        lane.until = lane.asked + self.members.patience
        lane.expected = 0
        if lane.tasks is not None and not lane.ending.is_set():
            lane.tasks.start_soon(self._pull_later, lane, 0 if notice.status == "408" else _PAUSE)

    async def _pull_later(self, lane: Lane, pause: float) -> None:
        await anyio.sleep(pause)
        await self._pull(lane)

    async def _pull(self, lane: Lane) -> None:
        if lane.ending.is_set():
            return
        lane.asked, lane.expected = anyio.current_time(), PULLED
        await self.portal.call(self.owning.pull, lane, self.inbox)

    # Working

    async def _work(self, lane: Lane) -> None:
        """Handle the messages of a lane until it ends, and let go of it."""
        try:
            lane.failing = await self.portal.call(self.owning.failing, lane.number)
            async with anyio.create_task_group() as lane.tasks:
                if not lane.ending.is_set():
                    await self._pull(lane)
                await lane.ending.wait()
                if lane.is_lost:
                    lane.tasks.cancel_scope.cancel()
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await self._let_go(lane)
            finally:
                del self._lanes[lane.number]
                self._changed.set()
                self._wake.set()

    async def _let_go(self, lane: Lane) -> None:
        if lane.is_lost or not self.owning.link.is_open:
            return
        try:
            await self.portal.call(self.owning.release, lane)
            await self._tell("free")
        except BusError as exc:
            service = self.owning.names.service
            logger.info("%s: lane %d: %s", service, lane.number, exc, extra=about())

    async def _deal_with_key(self, lane: Lane, name: str) -> None:
        """Handle the messages of one key, one after another."""
        waiting = lane.keys[name]
        while waiting:
            if not await self._deal_with(lane, waiting[0]):
                return
            lane.in_hand.discard(waiting.popleft().number)
        del lane.keys[name]

    async def _deal_with(self, lane: Lane, message: Waiting) -> bool:
        """Have a message handled until it is settled; tell whether it is: the lane may end."""
        headers = own_headers(message.headers)
        while True:
            async with self._limiter:
                if lane.ending.is_set():
                    return False
                failures = lane.failing.get(message.number) or Failures(0, self.clock.now())
                verdict = await self.handle(
                    Delivery(
                        headers=headers,
                        body=message.body,
                        attempts=failures.attempts,
                        since=failures.since,
                    )
                )
            failures = Failures(failures.attempts + 1, failures.since)
            if not isinstance(verdict, RetryLater):
                break
            if verdict.failed:
                lane.failing[message.number] = failures
                await self._note_failing(lane)
            with anyio.move_on_after(verdict.after.total_seconds()):
                await lane.ending.wait()
        if isinstance(verdict, Undeliverable) and not await self._store(
            lane, message, verdict, failures
        ):
            return False
        lane.last_reply = message.reply
        await self.portal.call(self.owning.acknowledge, message.reply)
        if lane.failing.pop(message.number, None) is not None:
            await self._note_failing(lane)
        return True

    async def _store(
        self, lane: Lane, message: Waiting, verdict: Undeliverable, failures: Failures
    ) -> bool:
        """Store a dead letter, however often the server refuses; tell whether it did not end so."""
        while not lane.ending.is_set():
            try:
                await self.put_aside(message, verdict, failures, self.clock.now())
            except BusError as exc:
                if not self.owning.link.is_open:
                    raise
                service = self.owning.names.service
                logger.warning("%s: %s", service, exc, extra=about())
                with anyio.move_on_after(self.members.patience):
                    await lane.ending.wait()
            else:
                return True
        return False

    async def _note_failing(self, lane: Lane) -> None:
        try:
            await self.portal.call(self.owning.note_failing, lane)
        except BusError as exc:
            if not self.owning.link.is_open:
                raise
            logger.info("%s: %s", self.owning.names.service, exc, extra=about())
