"""Cancels what breaks if it is cancelled again while it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import anyio

T = TypeVar("T")


async def cancelled_once(operation: Awaitable[T]) -> T:
    """Await an operation of asyncio, in a task of its own that is cancelled once at most.

    A cancel scope of anyio cancels a task again and again until it has ended. A client that waits
    while it ends, such as to give back a connection, is broken off there. And before Python 3.12,
    what waits for a condition of asyncio through `asyncio.wait_for` ends at the second one while
    its inner task still holds the condition's lock, which then stays locked for good.
    """
    task = asyncio.ensure_future(operation)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not report it as never asked for
        raise
