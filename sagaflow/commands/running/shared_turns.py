"""Turns of handlers with limits, kept by the parent of several worker processes for all of them.

A process asks on its output, among its reports, and is answered on its input. Whoever waits does
so in one queue, whichever process it is in; the turns of a process end with the process.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, field, frozen

from sagaflow._model.clock import Clock, SystemClock
from sagaflow.bus.rate import Rate, Terms
from sagaflow.bus.turns import Begin, OwnTurns

_ASK: Final = b"ask "
_BEGUN: Final = b"begun "
_ENDED: Final = b"ended "


@frozen
class Asked:
    """What a process asks for.

    :ivar number: by which it is answered.
    :ivar name: the name of the subscription.
    """

    number: int
    name: str
    terms: Terms

    def to_line(self) -> bytes:
        """Return it as one line."""
        rate = self.terms.rate
        given = (self.number, self.name, self.terms.concurrency, *_told(rate))
        return _ASK + json.dumps(given).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Asked:
        """Return what a line asks for."""
        number, name, concurrency, calls, microseconds = json.loads(line.removeprefix(_ASK))
        rate = None if calls is None else Rate(calls, per=_MICROSECOND * microseconds)
        return cls(number, name, Terms(rate=rate, concurrency=concurrency))


_MICROSECOND: Final = timedelta(microseconds=1)


def _told(rate: Rate | None) -> tuple[int | None, int | None]:
    return (None, None) if rate is None else (rate.count, rate.per // _MICROSECOND)


# In the parent


@define
class SharedTurns:
    """The turns of all subscriptions of a worker, by name and by what is allowed."""

    clock: Clock = field(factory=SystemClock)
    _turns: dict[tuple[str, Terms], OwnTurns] = field(
        factory=dict[tuple[str, Terms], OwnTurns], init=False
    )

    def turns(self, asked: Asked) -> OwnTurns:
        """Return the turns that somebody asks for."""
        key = (asked.name, asked.terms)
        if key not in self._turns:
            self._turns[key] = OwnTurns(asked.terms, self.clock)
        return self._turns[key]


@define(eq=False)
class _Taken:
    """A turn that a process has asked for.

    :ivar is_given: whether the process has been told that it is its turn.
    :ivar has_begun: whether its handler has been called.
    :ivar decided: set once that is known.
    :ivar ended: set when the process has no use for the turn any more.
    """

    is_given: bool = False
    has_begun: bool = False
    decided: anyio.Event = field(factory=anyio.Event)
    ended: anyio.Event = field(factory=anyio.Event)


@define(eq=False)
class TurnsOfProcess:
    """Where one process is served, for as long as it lives.

    :ivar answer: gives the process a line.
    :ivar tasks: their end is the end of what the process has taken.
    """

    shared: SharedTurns
    answer: Callable[[bytes], Awaitable[None]]
    tasks: TaskGroup
    _taken: dict[int, _Taken] = field(factory=dict[int, _Taken], init=False)
    _answering: anyio.Lock = field(factory=anyio.Lock, init=False)

    def hear(self, line: bytes) -> bool:
        """Do what a line asks for; tell whether it is about turns at all."""
        if line.startswith(_ASK):
            asked = Asked.of_line(line)
            self._taken[asked.number] = _Taken()
            self.tasks.start_soon(self._serve, asked)
            return True
        has_begun, has_ended = line.startswith(_BEGUN), line.startswith(_ENDED)
        if not has_begun and not has_ended:
            return False
        taken = self._taken[int(line.split()[1])]
        taken.has_begun = taken.has_begun or has_begun
        taken.decided.set()
        if has_ended:
            taken.ended.set()
        return True

    async def _serve(self, asked: Asked) -> None:
        taken = self._taken[asked.number]
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._give, asked, taken)
                await taken.ended.wait()
                if not taken.is_given:
                    tasks.cancel_scope.cancel()
        finally:
            del self._taken[asked.number]

    async def _give(self, asked: Asked, taken: _Taken) -> None:
        async with self.shared.turns(asked).take() as begin:
            taken.is_given = True
            try:
                async with self._answering:
                    with suppress(anyio.BrokenResourceError):  # it ends, and its turns with it
                        await self.answer(b"%d\n" % asked.number)
                await taken.decided.wait()
            finally:
                if taken.has_begun:  # also if the process has ended since: its call counts
                    begin()
            await taken.ended.wait()


# In the child


@define(eq=False)
class Caller:
    """Asks the parent for turns.

    :ivar tell: gives the parent a line.
    """

    tell: Callable[[bytes], object]
    _numbers: count[int] = field(factory=lambda: count(1), init=False)
    _waiting: dict[int, anyio.Event] = field(factory=dict[int, anyio.Event], init=False)

    def hear(self, line: bytes) -> None:
        """Note that it is somebody's turn; who asked for it may have given up."""
        waiting = self._waiting.get(int(line))
        if waiting is not None:
            waiting.set()

    def turns(self, name: str, terms: Terms) -> FarTurns:
        """Return the turns of a subscription, among all processes."""
        return FarTurns(self, name, terms)

    @asynccontextmanager
    async def take(self, name: str, terms: Terms) -> AsyncGenerator[Begin]:
        """Wait for a turn."""
        number = next(self._numbers)
        answered = self._waiting[number] = anyio.Event()

        def begin() -> None:
            self.tell(_BEGUN + b"%d\n" % number)

        self.tell(Asked(number, name, terms).to_line())
        try:
            await answered.wait()
            yield begin
        finally:
            del self._waiting[number]
            self.tell(_ENDED + b"%d\n" % number)


@frozen(eq=False)
class FarTurns:
    """The turns of a subscription among all processes of a worker."""

    caller: Caller
    name: str
    terms: Terms

    def take(self) -> AbstractAsyncContextManager[Begin]:
        """Wait until the parent says that it is the caller's turn."""
        return self.caller.take(self.name, self.terms)
