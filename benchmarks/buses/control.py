"""What a worker process is told on its input, and says on its output: a word and what it needs."""

from __future__ import annotations

import sys
import time
from typing import Final

import anyio
from attrs import define, field

READY: Final = "ready"
"""The worker takes messages."""
DID: Final = "did"
"""The worker has ended an order, or handled a message."""
STORED: Final = "stored"
"""An event was stored: the id of its saga, and when."""
SENT: Final = "sent"
"""The broker has accepted a command: the id of its saga, and when."""
CPU: Final = "cpu"
"""Asks for, and says, the seconds for which the processors have worked for the worker."""
GO: Final = "go"
"""Lets handlers begin."""
HOLD: Final = "hold"
"""Has handlers wait before they begin."""
PLACE: Final = "place"
"""Has the worker place so many orders itself, one after another."""
END: Final = "end"
"""Has the worker end."""


def say(word: str, *more: object) -> None:
    """Say something to the process that has started this one."""
    print(word, *more, flush=True)


def instant() -> int:
    """Return the present instant in nanoseconds, by a clock that all processes here share."""
    return time.monotonic_ns()


@define
class Control:
    """What this process was told.

    :ivar going: set while handlers may begin.
    :ivar ended: set once it is to end.
    :ivar placing: how many orders it is to place now, as it is told.
    """

    going: anyio.Event = field(factory=anyio.Event)
    ended: anyio.Event = field(factory=anyio.Event)
    placing: int = 0
    _told: anyio.Event = field(factory=anyio.Event)

    async def listen(self) -> None:
        """Do as told, until it is told to end or nobody is there to tell it anything."""
        async for line in anyio.wrap_file(sys.stdin):
            word, _, rest = line.strip().partition(" ")
            if word == CPU:
                say(CPU, time.process_time())
            elif word == GO:
                self.going.set()
            elif word == HOLD:
                self.going = anyio.Event()
            elif word == PLACE:
                self.placing = int(rest)
                self._told.set()
            elif word == END:
                break
        self.ended.set()
        self._told.set()

    async def orders_to_place(self) -> int:
        """Return how many orders to place, as soon as it is told; 0 once it is to end."""
        while not self.placing and not self.ended.is_set():
            self._told = anyio.Event()
            await self._told.wait()
        number, self.placing = self.placing, 0
        return number
