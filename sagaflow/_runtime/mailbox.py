"""Lines up the events of one saga within a process: one at a time is decided on.

An event runs its handler in its own task, once it is its turn, on what the event before has made of
the saga. This saves work, no more: safety is the conditional write alone, and other processes know
nothing of these lines.
"""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from datetime import timedelta
from typing import Final

import anyio
from attrs import define, field

from sagaflow._definition.saga import Saga
from sagaflow._model.fresh import new_deque
from sagaflow._model.ids import SagaId, SagaKey


@define(eq=False)
class Turn:
    """The place of one event in the line of its saga.

    :ivar passes_by: whether the event goes past the line. It comes out of a handler of the same
        saga, which has the turn: it would wait for itself.
    :ivar is_running: whether the handler of the event runs at the moment.
    :ivar signal: set when what the event waits for has happened.
    """

    mailbox: Mailbox
    passes_by: bool = False
    is_waiting: bool = False
    is_running: bool = False
    signal: anyio.Event | None = None

    async def wait(self) -> None:
        """Return once it is this event's turn, or the event before it has taken too long.

        An event that is not in the line, or no longer, goes on past it.
        """
        mailbox = self.mailbox
        while self.is_waiting:
            holder, self.signal = mailbox.holder, anyio.Event()
            with anyio.move_on_after(mailbox.longest_turn.total_seconds()):
                await self.signal.wait()
            if mailbox.holder is holder and mailbox.waiting and mailbox.waiting[0] is self:
                mailbox.go_on()
        while mailbox.writing is not None and mailbox.holder is self:
            await mailbox.writing.wait()

    def leave(self) -> None:
        """End this event's turn, or its waiting for one."""
        mailbox = self.mailbox
        if mailbox.holder is self:
            if mailbox.waiting:
                mailbox.go_on()
            else:
                mailbox.holder = None
                mailbox.close_if_idle()
        elif self.is_waiting:
            self.is_waiting = False
            mailbox.waiting.remove(self)
            mailbox.close_if_idle()

    def wake(self) -> None:
        """Signal that what the event waits for has happened."""
        if self.signal is not None:
            self.signal.set()


running: Final[ContextVar[tuple[Turn, ...]]] = ContextVar("running_turns", default=())
"""The events whose handlers the current task runs within."""


@define(eq=False)
class Mailbox:
    """The line of one saga's events, while this process handles any.

    :ivar holder: whose turn it is.
    :ivar waiting: the turns that come next.
    :ivar has_batch: whether events were handled of which nothing is written yet.
    :ivar writing: set once the write that is under way is over; None if there is none.
    :ivar longest_turn: after which the next event goes on all the same.
    :ivar epoch: how many writes of several events were in vain: what was decided on top of one of
        them is void.
    """

    key: SagaKey
    mailboxes: dict[SagaKey, Mailbox]
    longest_turn: timedelta
    holder: Turn | None = None
    waiting: deque[Turn] = field(factory=new_deque)
    has_batch: bool = False
    writing: anyio.Event | None = None
    epoch: int = 0

    def is_settled(self, epoch: int) -> bool:
        """Tell whether all is written that was decided on since *epoch* began, and nothing lost."""
        return not self.has_batch and self.writing is None and self.epoch == epoch

    def go_on(self) -> None:
        """Have the next event take its turn."""
        if self.waiting:
            self.holder = self.waiting.popleft()
            self.holder.is_waiting = False
            self.holder.wake()
        else:
            self.holder = None
            self.close_if_idle()

    def close_if_idle(self) -> None:
        """Forget this line, if no event is in it and nothing of it remains to be written."""
        is_idle = self.holder is None and not self.waiting and not self.has_batch
        if is_idle and self.writing is None and self.mailboxes.get(self.key) is self:
            del self.mailboxes[self.key]


@define
class Mailboxes:
    """The lines of all sagas for which this process handles events at the moment.

    :ivar longest_turn: how long an event waits for the handler of the event before it.
    """

    longest_turn: timedelta
    _mailboxes: dict[SagaKey, Mailbox] = field(factory=dict[SagaKey, Mailbox], init=False)

    def enter(self, saga_type: type[Saga], correlation_id: SagaId) -> Turn:
        """Line up an event.

        One that comes out of a handler of the same saga goes past the line. It is stored by itself,
        and the event of that handler loses its race.
        """
        key = (saga_type.table.saga, type(correlation_id), correlation_id)
        mailbox = self._mailboxes.get(key)
        if mailbox is None:
            mailbox = self._mailboxes[key] = Mailbox(key, self._mailboxes, self.longest_turn)
            turn = mailbox.holder = Turn(mailbox)
            return turn
        turn = Turn(mailbox)
        if any(outer.mailbox is mailbox and outer.is_running for outer in running.get()):
            turn.passes_by = True
        elif mailbox.holder is None:
            mailbox.holder = turn
        else:
            turn.is_waiting = True
            mailbox.waiting.append(turn)
        return turn
