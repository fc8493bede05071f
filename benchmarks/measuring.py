"""How one run is timed."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import anyio
from attrs import define, field, frozen

WorkT = TypeVar("WorkT")

_MICROSECONDS = 1e6
_MEBIBYTE = 1024 * 1024


@frozen
class Measurement:
    """What one run of one contestant came to.

    :ivar metrics: figures by the name of their metric; `benchmarks.metrics` has their units.
    :ivar versions: of what only the child process can see, such as the SQLite that it loaded.
    """

    metrics: Mapping[str, float]
    versions: Mapping[str, str] = field(factory=dict[str, str])


@define
class Timing:
    """Seconds that passed, and seconds that the processors worked for this process."""

    wall: float = 0.0
    cpu: float = 0.0

    def per(self, number: int) -> dict[str, float]:
        """Return the microseconds for each of *number* things."""
        return {
            "wall": self.wall / number * _MICROSECONDS,
            "cpu": self.cpu / number * _MICROSECONDS,
        }


@contextmanager
def timed() -> Iterator[Timing]:
    """Time the block; what came before it leaves no garbage for it to collect."""
    gc.collect()
    timing = Timing()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        yield timing
    finally:
        timing.wall, timing.cpu = time.perf_counter() - wall, time.process_time() - cpu


async def one_at_a_time(
    work: Callable[[WorkT], Awaitable[None]], items: Sequence[WorkT], *, warm_up: int
) -> Timing:
    """Time *work* on all but the first *warm_up* items, one after another."""
    for item in items[:warm_up]:
        await work(item)
    with timed() as timing:
        for item in items[warm_up:]:
            await work(item)
    return timing


async def in_flight(
    number: int,
    work: Callable[[WorkT], Awaitable[None]],
    items: Sequence[WorkT],
    *,
    warm_up: int,
) -> Timing:
    """Time *work* on all but the first *warm_up* items, by *number* tasks."""
    await share(number, work, items[:warm_up])
    with timed() as timing:
        await share(number, work, items[warm_up:])
    return timing


async def share(
    number: int, work: Callable[[WorkT], Awaitable[None]], items: Iterable[WorkT]
) -> None:
    """Do *work* on all items, by *number* tasks."""
    waiting = iter(items)

    async def take() -> None:
        for item in waiting:
            await work(item)

    async with anyio.create_task_group() as tasks:
        for _ in range(number):
            tasks.start_soon(take)


def resident() -> float:
    """Return the memory that this process occupies now, in MiB; 0 where nothing tells it."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - not a file
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024 / _MEBIBYTE
    except OSError:
        pass
    return 0.0
