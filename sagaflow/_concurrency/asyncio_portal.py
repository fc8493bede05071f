"""Runs coroutine functions on asyncio, for clients of brokers that know no other runtime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TypeVar, TypeVarTuple

import anyio
from anyio import to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from sagaflow._concurrency.event_loops import running_on_trio
from sagaflow._concurrency.single_cancellation import cancelled_once

T = TypeVar("T")
Args = TypeVarTuple("Args")


class AsyncioPortal:
    """A way to asyncio: none is needed from asyncio itself; from trio it leads to a thread.

    The thread is started by the first call. What a client leaves running in its event loop, such as
    a task that reads from a connection, goes on there between the calls.
    """

    def __init__(self) -> None:
        self._opened: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None

    async def call(self, function: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run a coroutine function on asyncio, and return what it returns.

        A call that is cancelled cancels the function, and ends when the function has ended. The
        function is cancelled once, as what was written for asyncio expects: a client that waits
        while it closes a connection, or gives one back, is not broken off there.

        :raises RuntimeError: on trio, if the portal was closed meanwhile.
        """
        if running_on_trio():
            return await self._call_from_trio(function, *args)
        return await cancelled_once(function(*args))

    async def _call_from_trio(self, function: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        from trio.lowlevel import current_trio_token  # noqa: PLC0415 - it is running, so it is there

        token, ended = current_trio_token(), anyio.Event()

        async def run() -> T:
            try:
                return await cancelled_once(function(*args))
            finally:
                token.run_sync_soon(ended.set)

        future = self._started().start_task_soon(run)
        try:
            await ended.wait()
        except BaseException:
            future.cancel()
            with anyio.CancelScope(shield=True):
                await ended.wait()
            raise
        return future.result()

    def _started(self) -> BlockingPortal:
        if self._portal is None:
            self._opened = start_blocking_portal("asyncio")
            self._portal = self._opened.__enter__()
        return self._portal

    async def aclose(self) -> None:
        """End the thread, if there is one; what runs in it is cancelled."""
        opened, self._opened, self._portal = self._opened, None, None
        if opened is not None:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(opened.__exit__, RuntimeError, RuntimeError(), None)
