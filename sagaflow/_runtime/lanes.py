"""The messages of one saga on their way to the bus."""

from __future__ import annotations

from collections import deque

import anyio
from attrs import define, field

from sagaflow._model.fresh import new_deque
from sagaflow._model.ids import SagaKey
from sagaflow._model.record import Failing, OutgoingMessage, SagaRecord

Life = tuple[SagaKey, str]
"""A saga and its incarnation: whoever takes the same id later is another life."""


@define(eq=False)
class Lane:
    """The messages of one saga that wait for the bus. They leave one after another.

    :ivar lanes: all lanes that are not at their end; this one is among them until then.
    :ivar life: whose messages these are.
    :ivar latest: the saga as it is known to be stored, without what others have removed.
    :ivar last: the number of the last message that is in the lane or has left it.
    :ivar accepted: the number of the last message that the bus has accepted.
    :ivar begun_at: when the lane turned out to have more than one message; 0 before that.
    :ivar noted_at: when accepted messages were last removed from the saga, where the lane sees to
        that by itself.
    :ivar unnoted: the ids of accepted messages whose removal from the saga has failed.
    :ivar refused: how the first message has failed, if that is only to be stored anew, and the
        message is not offered now.
    """

    lanes: dict[Life, Lane]
    life: Life
    latest: SagaRecord
    last: int
    accepted: int
    begun_at: float = 0.0
    noted_at: float = 0.0
    waiting: deque[OutgoingMessage] = field(factory=new_deque)
    unnoted: tuple[str, ...] = ()
    refused: Failing | None = None
    ended: bool = False
    idle: anyio.Event | None = None
    enough: anyio.Event | None = None

    def extend(self, record: SagaRecord) -> None:
        """Add the messages of a saga that are not in the lane yet."""
        if record.version > self.latest.version:
            self.latest = record
        for message in record.outbox:
            if message.sequence > self.last:
                self.waiting.append(message)
                self.last = message.sequence

    def accepted_ids(self) -> tuple[str, ...]:
        """Return the ids of the accepted messages that are in the saga as it is known, or were."""
        accepted = [m.id for m in self.latest.outbox if m.sequence <= self.accepted]
        return tuple(dict.fromkeys((*self.unnoted, *accepted))) if self.unnoted else tuple(accepted)

    async def wait_until_idle(self) -> None:
        """Return once all messages have left, or as many as could."""
        if not self.ended:
            self.idle = self.idle or anyio.Event()
            await self.idle.wait()

    async def wait_long_enough(self) -> None:
        """Return once all messages have left, or as many as could, or `release` is called."""
        if not self.ended:
            self.enough = self.enough or anyio.Event()
            await self.enough.wait()

    def release(self) -> None:
        """Have those go on who `wait_long_enough`: this takes longer than they should wait."""
        if self.enough is not None:
            self.enough.set()

    def end(self) -> None:
        """Note that all messages have left, or as many as could."""
        self.ended = True
        self.lanes.pop(self.life, None)
        if self.enough is not None:
            self.enough.set()
        if self.idle is not None:
            self.idle.set()
