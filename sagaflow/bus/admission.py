"""Where messages wait for their turn: before they count among those that are being handled.

A process has a few messages in hand for each subscription that has limits; their claims are kept
like those of messages that are being handled. What is beyond that, or has waited for long, goes
back to the broker for a while: it would keep others waiting that could be handled.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from math import inf
from typing import Final

import anyio
from attrs import define, field

from sagaflow.bus.subscriptions import Subscription
from sagaflow.bus.turns import Begin, Turns

_LONGEST_WAIT: Final = 30.0
"""Seconds for which a message waits in hand. Who holds it learns nothing of other processes."""
_SHORTEST_AWAY: Final = 0.05
_LONGEST_AWAY: Final = 10.0
"""Seconds for which a message goes back, at least and at most."""
_FIRST_PACE: Final = 0.05
_WEIGHT: Final = 0.2
"""How much the last gap between two calls counts for what is expected of the next one."""
_AT_ONCE: Final = timedelta(milliseconds=1)


class NoTurnError(Exception):
    """A message has had no turn, and goes back.

    :ivar after: for how long.
    """

    def __init__(self, after: timedelta) -> None:
        super().__init__(f"no turn; again in {after}")
        self.after = after


@define(eq=False)
class Room:
    """The messages of one subscription that wait in this process.

    :ivar places: how many may.
    :ivar pace: about how many seconds lie between two calls while messages wait.
    """

    places: int
    waiting: int = 0
    pace: float = _FIRST_PACE
    _begun: float | None = None
    _again: float = 0.0

    def note_begun(self, now: float) -> None:
        """Note that the handler is called with a message that has waited."""
        if self._begun is not None:
            self.pace += (now - self._begun - self.pace) * _WEIGHT
        self._begun = now if self.waiting else None

    def next_chance(self, now: float) -> timedelta:
        """Return when a message that finds no place is to come again: one after another."""
        again = max(now + self.places * self.pace, self._again + self.pace)
        self._again = min(max(again, now + _SHORTEST_AWAY), now + _LONGEST_AWAY)
        return timedelta(seconds=self._again - now)


@define(eq=False)
class Admission:
    """Where the messages of one bus wait until they may be handled.

    :ivar concurrency: how many are handled at the same time.
    """

    concurrency: int
    _slots: anyio.Semaphore | None = field(default=None, init=False)
    _rooms: dict[Turns, Room] = field(factory=dict[Turns, Room], init=False)
    _waiting: set[anyio.CancelScope] = field(factory=set[anyio.CancelScope], init=False)
    _is_closed: bool = field(default=False, init=False)

    def open(self, limited: int) -> int:
        """Make room for what waits, and return how many messages the process is to have in hand.

        :param limited: how many subscriptions have limits.
        """
        if limited:
            self._slots = anyio.Semaphore(self.concurrency)
        return self.concurrency * (1 + limited)

    def close(self) -> None:
        """Have all that waits go back at once, and all that still comes and would have to wait."""
        self._is_closed = True
        for scope in self._waiting:
            scope.cancel()

    @contextmanager
    def visit(self, takers: Sequence[Subscription]) -> Generator[Visit]:
        """Give a message its place in the room of each of its handlers that has limits.

        :raises NoTurnError: if there is none.
        """
        rooms = {one.turns: self._room(one.turns) for one in takers if one.turns is not None}
        if full := [room for room in rooms.values() if room.waiting >= room.places]:
            now = anyio.current_time()
            raise NoTurnError(max(room.next_chance(now) for room in full))
        for room in rooms.values():
            room.waiting += 1
        visit = Visit(self, rooms)
        try:
            yield visit
        finally:
            for room in visit.rooms.values():
                room.waiting -= 1

    @asynccontextmanager
    async def slot(self, turns: Turns | None, longest: float) -> AsyncGenerator[Begin | None]:
        """Wait for a turn, and for the message to count among those that are being handled.

        :param longest: how many seconds that may take.
        :raises NoTurnError: if it takes longer, or the bus is closed.
        """
        if self._slots is None:
            yield None
            return
        begin: Begin | None = None
        async with AsyncExitStack() as held:
            with anyio.CancelScope(deadline=anyio.current_time() + longest) as scope:
                self._waiting.add(scope)
                try:
                    if self._is_closed:
                        scope.cancel()
                    if turns is not None:
                        begin = await held.enter_async_context(turns.take())
                    await held.enter_async_context(self._slots)
                finally:
                    self._waiting.discard(scope)
            if scope.cancelled_caught:
                raise NoTurnError(_AT_ONCE)
            yield begin

    def _room(self, turns: Turns) -> Room:
        room = self._rooms.get(turns)
        if room is None:
            room = self._rooms[turns] = Room(self.concurrency)
        return room


@define(eq=False)
class Visit:
    """A message that asks to be admitted.

    :ivar rooms: where it still has to wait.
    """

    admission: Admission
    rooms: dict[Turns, Room]
    _longest: float = field(default=_LONGEST_WAIT, init=False)

    @asynccontextmanager
    async def turn(self, subscription: Subscription) -> AsyncGenerator[None]:
        """Wait until a handler may be called; it is called within the block.

        :raises NoTurnError: if that takes too long, or the bus is closed. Once a handler was called
            it does not take too long: that one would be called again.
        """
        async with self.admission.slot(subscription.turns, self._longest) as begin:
            self._longest = inf
            if begin is not None and subscription.turns is not None:
                room = self.rooms.pop(subscription.turns)
                room.waiting -= 1
                room.note_begun(anyio.current_time())
                begin()
            yield
