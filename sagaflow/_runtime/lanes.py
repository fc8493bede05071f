"""The messages of a saga on their way to the bus, and what is remembered of them."""

from __future__ import annotations

from collections import deque
from datetime import datetime

import anyio
from attrs import define, field, frozen

from sagaflow._model.fresh import new_deque
from sagaflow._model.ids import SagaId
from sagaflow._model.record import Failing, OutgoingMessage, SagaRecord

Key = tuple[str, type, SagaId, str]


@frozen
class Refused:
    """That the bus has refused a message, for those who do not know it from what is stored.

    :ivar noted_at: when that was noted; what is decided on later knows of it.
    """

    message_id: str
    failing: Failing
    noted_at: datetime


@define
class Lane:
    """The messages of one saga. They leave one after another.

    :ivar latest: the saga as it is known to be stored, without what others have removed.
    :ivar last: the number of the last message that is in the lane or has left it.
    :ivar accepted: the number of the last message that the bus has accepted.
    :ivar begun_at: when it has begun to be more than one message.
    :ivar noted_at: when it was last noted what the bus has accepted, where no time is kept of that.
    :ivar unnoted: what could not be removed from the saga, as far as is known.
    :ivar refused: how the first message has failed, if it is not offered now, but that is to be
        noted anew.
    """

    key: Key
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

    def accept(self) -> None:
        """Note that the bus has accepted the first message."""
        self.accepted = self.waiting.popleft().sequence

    async def wait_until_idle(self) -> None:
        """Return once all have left, or as many as could."""
        if not self.ended:
            self.idle = self.idle or anyio.Event()
            await self.idle.wait()

    async def wait_long_enough(self) -> None:
        """Return once all have left, or as many as could, or that takes too long to wait for."""
        if not self.ended:
            self.enough = self.enough or anyio.Event()
            await self.enough.wait()

    def release(self) -> None:
        """Have nobody wait any longer but for whom all must have left."""
        if self.enough is not None:
            self.enough.set()

    def end(self) -> None:
        """Note that all have left, or as many as could."""
        self.ended = True
        self.release()
        if self.idle is not None:
            self.idle.set()
