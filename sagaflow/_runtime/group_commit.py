"""Stores many events of one saga, which come at once to one process, with one write.

The event whose turn it is does not write while others wait: it adds what it has made of the saga to
a batch, lets the next event have its turn, and waits. The last event in the line writes the batch
for all of them. If that write loses its race, every event of the batch is decided on again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from datetime import timedelta
from enum import Enum
from typing import Final, TypeAlias

import anyio
from attrs import define, field, frozen

from sagaflow._definition.saga import Saga, definition_of
from sagaflow._model.errors import LimitExceededError, RepositoryError, SerializationError
from sagaflow._model.fresh import new_list
from sagaflow._model.ids import SagaId
from sagaflow._model.record import HistoryEntry, SagaRecord, evolve
from sagaflow._runtime.following import Follower
from sagaflow._runtime.mailbox import Mailbox, Turn

MOST_EVENTS: Final = 64
"""How many events one write stores: no more than the history holds, where they are looked up."""

Commit: TypeAlias = Callable[[type[Saga], SagaRecord, SagaRecord], Awaitable[SagaRecord | None]]
"""Writes a saga, given as it was and as it is to be; returns it as stored, None after a lost race.
"""


class Fate(Enum):
    """What became of a write that was to store several events."""

    STORED = "stored"
    LOST = "lost"
    """Another write came first: each event is decided on again."""
    REFUSED = "refused"
    """Together the events are too much: each is to be stored by itself."""


@frozen
class Folded:
    """What became of one event of a batch.

    :ivar fate: of the write that was to store it.
    :ivar wrote: whether this event has made that write, for all.
    :ivar left_over: the saga as it is stored, if it falls to this event to see to what follows.
    """

    fate: Fate
    wrote: bool = False
    left_over: SagaRecord | None = None


@define(eq=False)
class _Member:
    """An event in a batch.

    :ivar follower: who sees to what follows from the event.
    :ivar result: what became of it; an error if the store failed.
    :ivar is_gone: whether nobody waits for the result any longer.
    """

    turn: Turn
    follower: Follower
    result: Folded | RepositoryError | None = None
    is_gone: bool = False


@define(eq=False)
class _Batch:
    """Events that one write is to store.

    :ivar base: the saga before them, as it is stored.
    :ivar head: the saga after them, with its whole inbox.
    :ivar inbox: the ids that the write adds to the inbox.
    :ivar history: the entries that the write adds to the history.
    """

    saga_type: type[Saga]
    base: SagaRecord
    head: SagaRecord
    members: list[_Member] = field(factory=new_list)
    inbox: list[SagaId] = field(factory=new_list)
    history: list[HistoryEntry] = field(factory=new_list)

    def add(self, member: _Member, before: SagaRecord, after: SagaRecord) -> None:
        size = definition_of(self.saga_type).options.inbox_size
        if member.follower is Follower.OTHERS and any(
            one.follower is not Follower.OTHERS for one in self.members
        ):  # what follows from one of those is not left to others, and this goes with it
            after = evolve(after, lease=self.head.lease)
        self.members.append(member)
        self.inbox.extend(after.inbox)
        self.history.extend(after.history)
        self.head = evolve(after, inbox=(*before.inbox, *after.inbox)[-size:], history=())

    def written(self) -> SagaRecord:
        """Return the saga as the write is to store it."""
        return evolve(self.head, inbox=tuple(self.inbox), history=tuple(self.history))


@define(kw_only=True)
class GroupCommit:
    """Collects events into batches and writes these.

    :ivar patience: how long a batch waits for the handler of the next event that is to join it.
    """

    commit: Commit
    patience: timedelta
    _batches: dict[Mailbox, _Batch] = field(factory=dict[Mailbox, _Batch], init=False)

    def head_of(self, mailbox: Mailbox) -> SagaRecord | None:
        """Return the saga after the events of its batch; None if there is no batch."""
        batch = self._batches.get(mailbox)
        return None if batch is None else batch.head

    def has_company(self, turn: Turn) -> bool:
        """Tell whether there is any other event to share a write with."""
        mailbox = turn.mailbox
        return mailbox.holder is turn and (
            bool(mailbox.waiting) or mailbox.has_batch or mailbox.writing is not None
        )

    async def fold(
        self,
        turn: Turn,
        epoch: int,
        saga_type: type[Saga],
        before: SagaRecord,
        after: SagaRecord,
        *,
        follower: Follower,
    ) -> Folded:
        """Add an event to the batch of its saga; return once it is known what became of it.

        :param epoch: of the mailbox, when the event was decided on.
        :param follower: who sees to what follows from the event.
        :raises RepositoryError: if the store failed.
        """
        mailbox = turn.mailbox
        if not await self._is_valid(mailbox, epoch) or mailbox.holder is not turn:
            return Folded(Fate.LOST)
        batch = self._batches.get(mailbox)
        if batch is None:
            batch = self._batches[mailbox] = _Batch(saga_type, before, after)
            mailbox.has_batch = True
        member = _Member(turn, follower)
        batch.add(member, before, after)
        if not mailbox.waiting or len(batch.members) >= MOST_EVENTS:
            await self._write(mailbox, turn)
        else:
            await self._wait(mailbox, batch, member)
        result = member.result
        if isinstance(result, RepositoryError):
            raise copy(result) from result  # each event its own, with its own traceback
        assert result is not None  # noqa: S101 - it is over
        return result

    async def flush(self, turn: Turn, epoch: int) -> bool:
        """Write the batch, if there is one; tell whether what *turn* rests on is stored now.

        :param epoch: of the mailbox, when that was read.
        """
        mailbox = turn.mailbox
        if not await self._is_valid(mailbox, epoch):
            return False
        if mailbox in self._batches:
            await self._write(mailbox, turn)
        return mailbox.epoch == epoch

    async def _is_valid(self, mailbox: Mailbox, epoch: int) -> bool:
        """Wait for the write that is under way; tell whether what rests on it may be stored."""
        while mailbox.writing is not None:
            await mailbox.writing.wait()
        return mailbox.epoch == epoch

    async def _wait(self, mailbox: Mailbox, batch: _Batch, member: _Member) -> None:
        """Let the next event have its turn, and wait until the batch is written."""
        turn = member.turn
        signal = turn.signal = anyio.Event()
        mailbox.go_on()
        try:
            if batch.members[0] is member:
                await self._keep_open(mailbox, batch, turn, signal)
            if member.result is None:
                await signal.wait()
        except BaseException:
            member.is_gone = True
            if self._batches.get(mailbox) is batch:  # no other event might write it
                await self._write(mailbox, turn)
            raise

    async def _keep_open(
        self, mailbox: Mailbox, batch: _Batch, turn: Turn, signal: anyio.Event
    ) -> None:
        """Write the batch that *turn* has begun, should the next handler take too long."""
        joined = 0
        while self._batches.get(mailbox) is batch and len(batch.members) > joined:
            joined = len(batch.members)
            with anyio.move_on_after(self.patience.total_seconds()):
                await signal.wait()
        if self._batches.get(mailbox) is batch:
            await self._write(mailbox, turn)

    async def _write(self, mailbox: Mailbox, writer: Turn) -> None:
        """Store the batch with one write, and tell each of its events what became of it."""
        batch = self._batches.pop(mailbox)
        mailbox.has_batch = False
        mailbox.writing = anyio.Event()
        result: Fate | RepositoryError = Fate.LOST
        stored: SagaRecord | None = None
        try:
            stored = await self.commit(batch.saga_type, batch.base, batch.written())
            result = Fate.LOST if stored is None else Fate.STORED
        except (LimitExceededError, SerializationError):
            result = Fate.REFUSED
        except RepositoryError as exc:
            result = exc
        finally:
            if stored is None:
                mailbox.epoch += 1
            self._tell(mailbox, batch, writer, result, stored)
            mailbox.writing.set()
            mailbox.writing = None
            if mailbox.holder is None:
                mailbox.go_on()

    def _tell(
        self,
        mailbox: Mailbox,
        batch: _Batch,
        writer: Turn,
        result: Fate | RepositoryError,
        stored: SagaRecord | None,
    ) -> None:
        there = [member for member in batch.members if not member.is_gone]
        # Rather an event that is waited for, rather one that this process sees to, and the last: it
        # has probably written.
        last = max(
            enumerate(there),
            key=lambda item: (
                item[1].follower is Follower.CALLER,
                item[1].follower is not Follower.OTHERS,
                item[0],
            ),
            default=None,
        )
        for member in batch.members:
            sees_to_it = stored is not None and last is not None and last[1] is member
            member.result = (
                Folded(result, member.turn is writer, stored if sees_to_it else None)
                if isinstance(result, Fate)
                else result
            )
            member.turn.wake()
        if result in (Fate.LOST, Fate.REFUSED):
            for member in reversed(there):
                if member.turn is not mailbox.holder:
                    member.turn.is_waiting = True
                    mailbox.waiting.appendleft(member.turn)
