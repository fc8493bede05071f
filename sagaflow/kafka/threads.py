"""Threads for a client that blocks, and the way back from them to the event loop.

The client of Kafka has threads of its own and knows no event loop. What it does is asked for in a
thread of ours, and told in the event loop that waits for it, on asyncio and trio alike. Whoever
waits may give up at once: the thread comes to its end by itself, as each call has a limit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple, cast

import anyio
from anyio import to_thread
from attrs import define, field

from sagaflow._concurrency.event_loops import running_on_trio

T = TypeVar("T")
Args = TypeVarTuple("Args")

Tell: TypeAlias = Callable[[Callable[[], object]], None]
"""Has a function called in an event loop, soon; called in any thread."""


def teller() -> Tell:
    """Return what has functions called in the event loop that runs here; none once it has ended."""
    soon: Callable[[Callable[[], object]], object]
    if running_on_trio():
        from trio.lowlevel import current_trio_token  # noqa: PLC0415 - it is running, so it is there

        soon = current_trio_token().run_sync_soon
    else:
        soon = asyncio.get_running_loop().call_soon_threadsafe

    def tell(function: Callable[[], object]) -> None:
        try:
            soon(function)
        except RuntimeError:
            return  # the loop has ended, and everybody who waited there

    return tell


@define(eq=False)
class Answer(Generic[T]):
    """What a thread is asked for by a task.

    :ivar error: what was raised instead of a result.
    """

    tell: Tell
    result: T | None = field(default=None, init=False)
    error: BaseException | None = field(default=None, init=False)
    _is_given: anyio.Event = field(factory=anyio.Event, init=False)

    def give(self, result: T | None, error: BaseException | None = None) -> None:
        """Give the answer, from any thread."""
        self.result, self.error = result, error
        self.tell(self._is_given.set)

    async def wait(self) -> T:
        """Return the answer as soon as it is given, or raise what was raised."""
        await self._is_given.wait()
        if self.error is not None:
            raise self.error
        return cast("T", self.result)


class Worker:
    """A thread that does one thing after another; it is started by the first.

    :param name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Call a function in the thread, and return what it returns.

        If this is cancelled, the function goes on, and its result is dropped.

        :raises Exception: what the function raises.
        """
        answer: Answer[T] = Answer(teller())

        def run() -> None:
            try:
                result = function(*args)
            except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
                answer.give(None, exc)
            else:
                answer.give(result)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(run)
        return await answer.wait()

    async def aclose(self) -> None:
        """End the thread when it has done what it was asked for."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._queue.put(None)
            await joined(thread)

    def _run(self) -> None:
        while (function := self._queue.get()) is not None:
            function()


async def joined(thread: threading.Thread) -> None:
    """Wait until a thread has ended; whoever gives up leaves it to itself."""
    # Of a limit of its own: one that never ends must not take a place among all threads.
    alone = anyio.CapacityLimiter(1)
    await to_thread.run_sync(partial(_join, thread), abandon_on_cancel=True, limiter=alone)


def _join(thread: Any) -> None:
    thread.join()
