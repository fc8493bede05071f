"""Runs a program in a time of its own, which jumps ahead whenever all of its tasks wait.

For programs that wait for nothing but time: no threads, no sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from selectors import DefaultSelector, SelectorKey
from typing import TypeVar

import trio
from trio.testing import MockClock

ResultT = TypeVar("ResultT")


def run_in_virtual_time(runtime: str, program: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """Run *program* on asyncio or trio, and return what it returns. No time passes meanwhile."""
    if runtime == "trio":
        return trio.run(program, clock=MockClock(autojump_threshold=0))

    async def main() -> ResultT:
        return await program()

    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(main())


class _JumpingSelector(DefaultSelector):
    """Does not wait for time to pass, but notes how much the loop wanted to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        found = super().select(None if timeout is None else 0)
        if not found and timeout is not None:
            self.passed += timeout
        return found


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed
