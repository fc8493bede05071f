"""Named points at which a worker can be told to die, all of them reached from outside sagaflow."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sagaflow import MemoryBus
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._model.envelope import COMMAND, MESSAGE_KIND
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import Lease
from sagaflow.mongo import MongoRepository

Document = dict[str, Any]

POINTS: Final = (
    "after load",
    "after a handler",
    "before insert",
    "after insert",
    "before update",
    "after update",
    "before publish",
    "after publish",
    "before removal",
    "after removal",
    "before the write of timeout",
    "after the write of timeout",
    "before the write of ShipmentOverdue",
    "after the write of ShipmentOverdue",
    "before the write of ShipmentFailed",
    "after the write of ShipmentFailed",
    "before the write of compensation of ship",
    "after the write of compensation of ship",
    "before the write of compensation of reserve",
    "after the write of compensation of reserve",
    "before an effect",
    "after an effect",
    "after an answer",
)
POINTS_OF_RECOVERY: Final = ("before claim", "after claim")
"""Only reached by a worker that finds what another one has left."""


class Points:
    """Counts passages of points, and ends this process, without any warning, at one of them.

    :param point: at which; None for nowhere.
    :param passage: at which of its passages, counted from 1.
    """

    def __init__(self, point: str | None, passage: int) -> None:
        self._point = point
        self._passage = passage
        self._passed: Counter[str] = Counter()

    def passed(self, point: str) -> None:
        """Note that *point* is passed."""
        self._passed[point] += 1
        if point == self._point and self._passed[point] == self._passage:
            os.kill(os.getpid(), signal.SIGKILL)


_here = Points(None, 0)


def die_at(points: Points) -> None:
    """Let *points* decide from now on."""
    global _here  # noqa: PLW0603 - one process, one fate
    _here = points


def passed(point: str) -> None:
    """Note that *point* is passed: this may be the last that the process does."""
    _here.passed(point)


class MortalRepository(MongoRepository):
    """A repository whose process may die before or after anything that it does."""

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        found = await super().load_document(saga, correlation_id, message_id=message_id)
        passed("after load")
        return found

    async def insert_document(self, saga: str, document: Document) -> bool:
        passed("before insert")
        stored = await super().insert_document(saga, document)
        passed("after insert")
        return stored

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        written = change.push["history"].items[-1]
        what = written["event"]
        if what == "compensation":
            what = f"compensation of {written['step']}"
        passed("before update")
        passed(f"before the write of {what}")
        stored = await super().update_document(saga, change)
        passed("after update")
        passed(f"after the write of {what}")
        return stored

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        passed("before removal")
        current = await super().bookkeep(saga, note)
        passed("after removal")
        return current

    async def claim(
        self,
        saga: str,
        correlation_id: SagaId,
        lease: Lease,
        now: datetime,
        *,
        schema: int | None = None,
    ) -> bool:
        passed("before claim")
        claimed = await super().claim(saga, correlation_id, lease, now, schema=schema)
        passed("after claim")
        return claimed


class MortalBus(MemoryBus):
    """A bus whose process may die before or after it has accepted a command."""

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        command = headers is not None and headers.get(MESSAGE_KIND) == COMMAND
        if command:
            passed("before publish")
        await super().publish(
            message, correlation_id=correlation_id, message_id=message_id, headers=headers
        )
        passed("after publish" if command else "after an answer")
