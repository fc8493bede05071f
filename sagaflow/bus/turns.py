"""Who is next where a handler is called so often, or so many times at once, at most."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final, Protocol, TypeAlias

import anyio
from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow.bus.rate import StartLog, Terms

Begin: TypeAlias = Callable[[], None]
"""Says that the handler begins now."""

_LONGEST_SLEEP: Final = 60.0
"""Seconds after which the clock is looked at again: it may have been moved."""


class Turns(Protocol):
    """The turns of one subscription, in the order in which they were asked for."""

    def take(self) -> AbstractAsyncContextManager[Begin]:
        """Return a context manager that is entered once it is the caller's turn.

        The caller calls what it is given at the moment when the handler begins; until then nobody
        else gets a turn, so that calls do not bunch while they wait for something else. The turn
        ends with the block, also if nothing has begun. Whoever waits may be cancelled.
        """
        ...


MakeTurns: TypeAlias = Callable[[str, Terms], Turns]
"""Makes the turns of a subscription, of which it is given the name and what it allows."""


@define(eq=False)
class OwnTurns:
    """The turns of a subscription among all who hold this object."""

    terms: Terms
    clock: Clock
    _places: anyio.Semaphore | None = field(init=False)
    _next: anyio.Lock | None = field(init=False)
    _log: StartLog | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        rate, concurrency = self.terms.rate, self.terms.concurrency
        self._places = None if concurrency is None else anyio.Semaphore(concurrency)
        self._log = None if rate is None else StartLog(rate)
        self._next = None if rate is None else anyio.Lock()

    @asynccontextmanager
    async def take(self) -> AsyncGenerator[Begin]:
        """Wait for a place among those that are called at once, and then for the rate."""
        async with self._places or nullcontext():
            if self._next is None or self._log is None:
                yield _nothing
                return
            lock, log, has_begun = self._next, self._log, False

            def begin() -> None:
                nonlocal has_begun
                log.note(self.clock.now())
                has_begun = True
                lock.release()

            await lock.acquire()
            try:
                await self._rest(log)
                yield begin
            finally:
                if not has_begun:
                    lock.release()

    async def _rest(self, log: StartLog) -> None:
        while True:
            wait = log.wait(self.clock.now()).total_seconds()
            if not wait:
                return
            await anyio.sleep(min(wait, _LONGEST_SLEEP))


def _nothing() -> None:
    """Note nothing: there is no rate."""
