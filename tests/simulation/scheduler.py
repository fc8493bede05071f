"""Runs a program of trio so that a seed decides everything: order of tasks, ids, chance, time.

Trio shuffles the tasks that are ready with a generator of its own. Seeding that generator and
sorting the tasks first is what its own tests and Hypothesis' integration do; there is no public
way. It is kept in this one place, together with the other sources of chance.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

ResultT = TypeVar("ResultT")


def run_seeded(program: Callable[[], Awaitable[ResultT]], seed: int) -> ResultT:
    """Run *program* on trio in virtual time, the same way each time for the same seed."""
    with _no_other_chance(seed):
        return trio.run(program, clock=MockClock(autojump_threshold=0))


@contextmanager
def _no_other_chance(seed: int) -> Generator[None]:
    """Have trio's scheduler, uuid4 and new generators of the library depend on *seed* alone."""
    scheduler: Any = import_module("trio._core._run")
    deterministic, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    original, urandom = random.Random, os.urandom
    source = original(f"{seed} bytes")
    numbers = original(f"{seed} numbers")

    def seeded() -> random.Random:
        return original(numbers.random())

    replaced: Any = random
    try:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
        scheduler._r.seed(seed)
        replaced.Random = seeded
        os.urandom = source.randbytes
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = deterministic
        scheduler._r.setstate(state)
        replaced.Random = original
        os.urandom = urandom
