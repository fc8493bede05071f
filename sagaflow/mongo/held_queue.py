"""Handles the messages of one queue that this process has claimed, and lets go of the queue."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

import anyio
from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.verdict import RetryLater, Undeliverable
from sagaflow.bus.transport import Delivery, Handle
from sagaflow.mongo.dead_letters import dead_letter_of
from sagaflow.mongo.queues import Document, Queue, Waiting, emptied, failing_of, given_back, held

_MOST: Final = 16
"""How many messages of a queue are handled before other queues get their turn."""


class HoldWrites(Protocol):
    """What is written while a queue is held. Each is bounded in time, and raises a `BusError`."""

    async def update_queue(self, condition: Document, change: Document) -> bool:
        """Change a queue if the condition holds, and tell whether it did."""
        ...

    async def insert_dead_letter(self, letter: Document) -> None:
        """Store a dead letter; one that is there already is the same."""
        ...


@define(kw_only=True)
class Hold:
    """A queue that this process holds, and what it has done with the messages.

    :ivar done: the messages that are to be removed.
    :ivar handled: those of them that were accepted.
    """

    queue: Queue
    service: str
    writes: HoldWrites
    handle: Handle
    clock: Clock
    stopping: anyio.Event
    done: list[str] = field(factory=list[str], init=False)
    handled: list[str] = field(factory=list[str], init=False)
    _failing: Document | None = field(default=None, init=False)
    _until: datetime | None = field(default=None, init=False)

    async def run(self) -> None:
        """Handle messages until all are, one has to be retried, or it is the turn of others.

        :raises BusError: if the queue cannot be let go of: its claim then runs out.
        """
        try:
            for message in self.queue.messages[:_MOST]:
                if self.stopping.is_set() or not await self._deal_with(message):
                    break
        finally:
            with anyio.CancelScope(shield=True):
                await self._let_go()

    async def _deal_with(self, message: Waiting) -> bool:
        """Have a message handled, and tell whether the one behind it may be."""
        if message.id in self.queue.handled or message.id in self.done:
            self.done.append(message.id)  # it was pushed twice: the first answer was lost
            return True
        attempts, since = self._failures(message)
        verdict = await self.handle(
            Delivery(headers=message.headers, body=message.body, attempts=attempts, since=since)
        )
        now = self.clock.now()
        if isinstance(verdict, RetryLater):
            if verdict.failed:
                self._failing = failing_of(message, attempts + 1, since)
            self._until = now + verdict.after
            return False
        if isinstance(verdict, Undeliverable):
            await self.writes.insert_dead_letter(
                dead_letter_of(self.service, self.queue, message, verdict, attempts + 1, now)
            )
        else:
            self.handled.append(message.id)
        self.done.append(message.id)
        return True

    def _failures(self, message: Waiting) -> tuple[int, datetime]:
        """Return how often handling a message has failed, and since when."""
        queue = self.queue
        if message is queue.messages[0] and queue.failing_since is not None:
            return queue.attempts, queue.failing_since
        return 0, self.clock.now()

    async def _let_go(self) -> None:
        queue, now = self.queue, self.clock.now()
        if len(self.done) == len(queue.messages):
            condition, change = emptied(queue, self.handled, now)
            if await self.writes.update_queue(condition, change):
                return
        failing = self._failing
        if failing is None and not self.done and queue.failing_since is not None:
            failing = failing_of(queue.messages[0], queue.attempts, queue.failing_since)
        change = given_back(self.done, self.handled, now, failing=failing, until=self._until or now)
        await self.writes.update_queue(held(queue), change)
