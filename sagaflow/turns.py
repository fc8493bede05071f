"""Has the events of one saga take turns within a process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

import anyio
from attrs import define, field

from sagaflow.ids import SagaId

Key = tuple[str, type, SagaId]

_LONGEST: Final = 1.0
"""Seconds after which the next one need not wait any longer, so that handlers which wait for one
another cannot do so for ever."""


@define(eq=False)
class Turn:
    """The time in which one event has its saga to itself, as far as this process goes."""

    _has_begun: anyio.Event = field(factory=anyio.Event, init=False)
    _is_over: anyio.Event = field(factory=anyio.Event, init=False)

    def begin(self) -> None:
        """Note that its predecessor keeps it waiting no longer."""
        self._has_begun.set()

    def end(self) -> None:
        """Let the next one have its turn."""
        self._has_begun.set()
        self._is_over.set()

    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return self._is_over.is_set()

    async def wait(self) -> None:
        """Return once it is over, or has taken too long."""
        await self._has_begun.wait()
        with anyio.move_on_after(_LONGEST):
            await self._is_over.wait()


_held: ContextVar[tuple[tuple[Key, Turn], ...]] = ContextVar("held_turns", default=())
"""The turns of the handlers that the current task runs within."""


@define
class Turns:
    """Lines up the events of each saga, in the order of their arrival.

    This spares them the races that only one of them can win. It saves work, no more: safety is
    the conditional write alone, and other processes know nothing of it.
    """

    _last: dict[Key, Turn] = field(factory=dict[Key, Turn], init=False)

    @asynccontextmanager
    async def turn(self, saga: str, correlation_id: SagaId) -> AsyncGenerator[Turn]:
        """Wait for a turn, which lasts until it is ended or the block is left.

        Within a handler that has its turn there is nothing to wait for: it would be for itself.
        """
        key = (saga, type(correlation_id), correlation_id)
        turn, held = Turn(), _held.get()
        if any(holder == key and not known.is_over() for holder, known in held):
            yield turn
            return
        before = self._last.get(key)
        self._last[key] = turn
        token = _held.set((*held, (key, turn)))
        try:
            if before is not None:
                await before.wait()
            turn.begin()
            yield turn
        finally:
            _held.reset(token)
            turn.end()
            if self._last.get(key) is turn:
                del self._last[key]
