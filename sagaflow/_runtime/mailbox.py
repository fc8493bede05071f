"""Lines up the events of one saga within a process, and stores many of them with one write.

The event whose turn it is runs its handler in its own task, on what the one before has made of the
saga. If others wait then, it does not write: it folds what it has made of the saga into the batch,
lets the next one have its turn, and waits. The last one in the line writes the batch, for all.

This saves work, no more: safety is the conditional write alone, and other processes know nothing of
it. If that write loses its race, every event of the batch is decided on again.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar, Token
from enum import Enum
from typing import Final

import anyio
from attrs import define, field

from sagaflow._definition.saga import Saga, definition_of
from sagaflow._engine.writing import without_sent
from sagaflow._model.errors import LimitExceededError, RepositoryError, SerializationError
from sagaflow._model.fresh import new_deque, new_list
from sagaflow._model.ids import SagaId
from sagaflow._model.record import HistoryEntry, SagaRecord, evolve
from sagaflow._runtime.cache import removed
from sagaflow._runtime.process import Process
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.store import Store

MOST_EVENTS: Final = 64
"""How many events one write stores: no more than the history holds, where it is looked up."""

_PATIENCE: Final = 0.05
"""Seconds for which a batch waits for the handler of the next one that is to join it."""
_LONGEST_TURN: Final = 1.0
"""Seconds after which the next one need not wait for a handler any longer, so that handlers which
wait for one another cannot do so for ever."""

_Key = tuple[str, type, SagaId]


class Fate(Enum):
    """What became of a write that stores several events."""

    STORED = "stored"
    LOST = "lost"
    """Another write came first: decide again."""
    REFUSED = "refused"
    """Together they are too much: each is to try by itself."""


@define(eq=False)
class Letter:
    """An event in the mailbox of its saga.

    :ivar waits: whether whoever brings it waits until its messages are sent.
    :ivar by_itself: whether it is stored by a write of its own.
    :ivar epoch: of the mailbox, when this event was decided on.
    :ivar after: what it has made of the saga, once it is folded into a batch.
    :ivar fate: what became of the batch; an error if the store failed.
    :ivar unsent: the saga after what had to be done before this event; its messages are to be sent.
    :ivar left_over: the saga, if it falls to this event to see to what follows from the batch.
    """

    box: Mailbox
    waits: bool
    by_itself: bool = False
    epoch: int = 0
    after: SagaRecord | None = None
    fate: Fate | RepositoryError | None = None
    left_over: SagaRecord | None = None
    unsent: SagaRecord | None = None
    has_written: bool = False
    is_waiting: bool = False
    is_running: bool = False
    is_gone: bool = False
    signal: anyio.Event | None = None

    def has_turn(self) -> bool:
        """Tell whether it is this one's turn; it has none if it went past the line."""
        return self.box.holder is self

    async def turn(self) -> None:
        """Wait until it is this one's turn."""
        await self.box.wait_for_turn(self)

    def leave(self) -> None:
        """End its turn, or its waiting for one."""
        self.box.leave(self)

    def begin(self) -> Token[tuple[Letter, ...]]:
        """Note that its handler runs now: what that hands to its own saga does not wait for it."""
        self.is_running = True
        return _running.set((*_running.get(), self))

    def end(self, token: Token[tuple[Letter, ...]]) -> None:
        """Note that its handler has come to its end."""
        self.is_running = False
        _running.reset(token)


_running: ContextVar[tuple[Letter, ...]] = ContextVar("running_letters", default=())
"""The events whose handlers the current task runs within."""


@define(eq=False)
class Mailbox:
    """The events of one saga that this process is handling.

    :ivar holder: whose turn it is.
    :ivar waiting: who comes next.
    :ivar batch: the events that are folded into one write, which has not begun yet.
    :ivar base: the saga before the batch, as it is stored.
    :ivar head: the saga after the batch, with its whole inbox.
    :ivar epoch: counts the batches that were not stored: what was decided on top of one is void.
    """

    key: _Key
    boxes: dict[_Key, Mailbox]
    saga_type: type[Saga]
    process: Process
    store: Store
    removals: Removals
    holder: Letter | None = None
    waiting: deque[Letter] = field(factory=new_deque)
    batch: list[Letter] = field(factory=new_list)
    base: SagaRecord | None = None
    head: SagaRecord | None = None
    inbox: list[SagaId] = field(factory=new_list)
    history: list[HistoryEntry] = field(factory=new_list)
    epoch: int = 0
    writing: anyio.Event | None = None

    # Taking turns

    async def wait_for_turn(self, letter: Letter) -> None:
        """Wait until it is this letter's turn, or the one before it has taken too long.

        Who is not in the line, or no longer, goes on past it.
        """
        while letter.is_waiting:
            holder, letter.signal = self.holder, anyio.Event()
            with anyio.move_on_after(_LONGEST_TURN):
                await letter.signal.wait()
            if self.holder is holder and self.waiting and self.waiting[0] is letter:
                self._go_on()
        while self.writing is not None and self.holder is letter:
            await self.writing.wait()

    def leave(self, letter: Letter) -> None:
        """End a letter's turn, or its waiting for one."""
        if self.holder is letter:
            self._go_on()
        elif letter.is_waiting:
            letter.is_waiting = False
            self.waiting.remove(letter)
            self._tidy()

    def _go_on(self) -> None:
        self.holder = self.waiting.popleft() if self.waiting else None
        if self.holder is None:
            self._tidy()
        else:
            self.holder.is_waiting = False
            _signal(self.holder)

    def _tidy(self) -> None:
        idle = self.holder is None and not self.waiting and not self.batch
        if idle and self.writing is None and self.boxes.get(self.key) is self:
            del self.boxes[self.key]

    # Writing

    def folds(self, letter: Letter) -> bool:
        """Tell whether there is anybody to share a write with."""
        return (
            not letter.by_itself
            and self.holder is letter
            and bool(self.batch or self.waiting or self.writing is not None)
        )

    async def fold(self, letter: Letter, before: SagaRecord, after: SagaRecord) -> None:
        """Add what a letter makes of the saga to the batch; return once its fate is known."""
        letter.fate, letter.left_over, letter.has_written = None, None, False
        if not await self._is_valid(letter) or self.holder is not letter:
            letter.fate = Fate.LOST
            return
        size = definition_of(self.saga_type).options.inbox_size
        if not self.batch:
            self.base = before
        self.batch.append(letter)
        self.inbox.extend(after.inbox)
        self.history.extend(after.history)
        self.head = evolve(after, inbox=(*before.inbox, *after.inbox)[-size:], history=())
        letter.after = after
        if not self.waiting or len(self.batch) >= MOST_EVENTS:
            await self._write(letter)
            return
        letter.signal = anyio.Event()
        self._go_on()
        try:
            if self.batch[0] is letter:
                await self._keep_open(letter, letter.signal)
            if letter.fate is None:
                await letter.signal.wait()
        except BaseException:
            letter.is_gone = True
            if letter in self.batch:  # nobody else might write it
                await self._write(letter)
            raise

    async def _keep_open(self, letter: Letter, signal: anyio.Event) -> None:
        """Write the batch that a letter has begun, should the next handler take too long."""
        joined = 0
        while letter in self.batch and len(self.batch) > joined:
            joined = len(self.batch)
            with anyio.move_on_after(_PATIENCE):
                await signal.wait()
        if letter in self.batch:
            await self._write(letter)

    async def flush(self, letter: Letter) -> bool:
        """Write what is folded so far; tell whether what *letter* rests on is stored now."""
        if not await self._is_valid(letter):
            return False
        if self.batch:
            await self._write(letter)
        return letter.epoch == self.epoch

    async def commit(self, before: SagaRecord, after: SagaRecord) -> SagaRecord | None:
        """Write what one event makes of the saga; return how it is stored, None if it is not.

        Messages that were sent meanwhile are removed by the same write.

        :raises LimitExceededError: if the saga became too large; nothing was stored.
        """
        known = self.store.hot.version_of(self.saga_type.table.saga, before)
        # Without a look at what was noted meanwhile, more might be put back than is removed.
        waiting = self.removals.of(self.saga_type, before)
        gone = frozenset[str]() if known is None else removed(before, known.record).union(waiting)
        if gone:
            machine = self.process.machine(self.saga_type)
            after = without_sent(after, gone, machine, self.process.write_of(after))
        if not await self.store.update(self.saga_type, before, after):
            return None
        if gone:
            self.removals.forget(self.saga_type, before, gone)
        return after

    async def _is_valid(self, letter: Letter) -> bool:
        """Wait for the write that is under way; tell whether what *letter* rests on is stored."""
        while self.writing is not None:
            await self.writing.wait()
        return letter.epoch == self.epoch

    async def _write(self, letter: Letter) -> None:
        """Store the batch with one write, and tell each of its events what became of it."""
        batch, base, head = self.batch, self.base, self.head
        assert base is not None  # noqa: S101 - a batch has both
        assert head is not None  # noqa: S101
        after = evolve(head, inbox=tuple(self.inbox), history=tuple(self.history))
        self.batch, self.base, self.head, self.inbox, self.history = [], None, None, [], []
        self.writing = anyio.Event()
        fate: Fate | RepositoryError = Fate.LOST
        stored: SagaRecord | None = None
        try:
            stored = await self.commit(base, after)
            fate = Fate.LOST if stored is None else Fate.STORED
        except (LimitExceededError, SerializationError):
            fate = Fate.REFUSED
        except RepositoryError as exc:
            fate = exc
        finally:
            letter.has_written = True
            if stored is None:
                self.epoch += 1
            self._tell(batch, fate, stored)
            self.writing.set()
            self.writing = None
            if self.holder is None:
                self._go_on()

    def _tell(
        self, batch: list[Letter], fate: Fate | RepositoryError, stored: SagaRecord | None
    ) -> None:
        there = [letter for letter in batch if not letter.is_gone]
        if stored is not None and there:
            # Rather one who waits for it, and the last: it has probably written.
            last = max(enumerate(there), key=lambda item: (item[1].waits, item[0]))[1]
            last.left_over = stored
        for letter in batch:
            letter.fate = fate
            letter.by_itself = letter.by_itself or fate is Fate.REFUSED
            _signal(letter)
        if fate in (Fate.LOST, Fate.REFUSED):
            for letter in reversed(there):
                if letter is not self.holder:
                    letter.is_waiting = True
                    self.waiting.appendleft(letter)


@define
class Mailboxes:
    """The mailboxes of all sagas for which there are events at the moment."""

    _process: Process
    _store: Store
    _removals: Removals
    _boxes: dict[_Key, Mailbox] = field(factory=dict[_Key, Mailbox], init=False)

    def enter(self, saga_type: type[Saga], correlation_id: SagaId, *, waits: bool) -> Letter:
        """Line up an event.

        One that comes out of a handler of the same saga goes past the line: it would wait for
        itself. It is stored by itself, and that handler's event loses its race.
        """
        key = (saga_type.table.saga, type(correlation_id), correlation_id)
        box = self._boxes.get(key)
        if box is None:
            box = self._boxes[key] = Mailbox(
                key, self._boxes, saga_type, self._process, self._store, self._removals
            )
            letter = box.holder = Letter(box, waits)
            return letter
        letter = Letter(box, waits)
        if any(outer.box is box and outer.is_running for outer in _running.get()):
            letter.by_itself = True
        elif box.holder is None:
            box.holder = letter
        else:
            letter.is_waiting = True
            box.waiting.append(letter)
        return letter


def _signal(letter: Letter) -> None:
    if letter.signal is not None:
        letter.signal.set()
