"""Signals: the first one asks a worker to end in good order, the second one ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

import anyio

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def stop_on_signal(stop: Callable[[], object], end: Callable[[int], object]) -> None:
    """Wait for SIGTERM or Ctrl-C, and call *stop*; at the next one call *end* with its status.

    The second one is seen even if a handler keeps the event loop from running.
    """
    with anyio.open_signal_receiver(*_SIGNALS) as signals:
        async for _ in signals:
            break

    def end_at_once(number: int, _: FrameType | None) -> None:
        end(128 + number)

    for number in _SIGNALS:
        signal.signal(number, end_at_once)
    stop()


def end_now(status: int) -> None:
    """End this process at once. What it has begun is given back when its claims run out."""
    os._exit(status)
