"""Coroutine functions of asyncio, called from either runtime."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

import anyio
import pytest

from sagaflow._concurrency.asyncio_portal import AsyncioPortal

Runtime = Literal["asyncio", "trio"]
pytestmark = pytest.mark.parametrize("runtime", ["asyncio", "trio"])


def test_what_is_called_runs_on_asyncio_and_returns(runtime: Runtime) -> None:
    async def add(one: int, other: int) -> tuple[int, asyncio.AbstractEventLoop]:
        await asyncio.sleep(0)
        return one + other, asyncio.get_running_loop()

    async def main() -> None:
        portal = AsyncioPortal()
        first, loop = await portal.call(add, 1, 2)
        assert first == 3
        assert await portal.call(add, 3, 4) == (7, loop)
        await portal.aclose()

    anyio.run(main, backend=runtime)


def test_calls_of_several_tasks_go_on_beside_each_other(runtime: Runtime) -> None:
    async def main() -> None:
        portal = AsyncioPortal()
        came: list[asyncio.Event] = []

        async def meet() -> None:
            if not came:
                came.append(asyncio.Event())
                await came[0].wait()
            else:
                came[0].set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(portal.call, meet)
                tasks.start_soon(portal.call, meet)
        await portal.aclose()

    anyio.run(main, backend=runtime)


def test_error_reaches_the_caller(runtime: Runtime) -> None:
    async def fail() -> None:
        raise ValueError("no such stream")

    async def main() -> None:
        portal = AsyncioPortal()
        with pytest.raises(ValueError, match="no such stream"):
            await portal.call(fail)
        await portal.aclose()

    anyio.run(main, backend=runtime)


def test_cancelled_call_ends_when_the_function_has_ended(runtime: Runtime) -> None:
    async def main() -> None:
        portal, said = AsyncioPortal(), list[str]()

        async def wait() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.01)
                said.append("ended")

        with anyio.move_on_after(0.05) as scope:
            await portal.call(wait)
        assert scope.cancelled_caught
        assert said == ["ended"]
        await portal.aclose()

    anyio.run(main, backend=runtime)


def test_function_is_cancelled_once(runtime: Runtime) -> None:
    """A client of asyncio waits while it cleans up, and knows of no cancel scopes."""

    async def main() -> None:
        portal, said = AsyncioPortal(), list[str]()

        async def wait() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                said.append("cleaned up")

        with anyio.move_on_after(0.05):
            await portal.call(wait)
        assert said == ["cleaned up"]
        await portal.aclose()

    anyio.run(main, backend=runtime)


def test_closing_ends_the_thread_and_what_runs_in_it(runtime: Runtime) -> None:
    async def main() -> None:
        before, portal = set(threading.enumerate()), AsyncioPortal()
        left: list[asyncio.Task[None]] = []

        async def leave_one_running() -> None:
            left.append(asyncio.create_task(asyncio.sleep(3600)))

        await portal.call(leave_one_running)
        await portal.aclose()
        started = set(threading.enumerate()) - before
        assert not [thread for thread in started if "portal" in thread.name]
        if runtime == "trio":
            assert left[0].cancelled()
        left[0].cancel()
        await portal.aclose()

    anyio.run(main, backend=runtime)
