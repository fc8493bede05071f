"""Which event loop runs, and values for one loop each: several may share a repository."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final, Generic, TypeVar

import anyio
from anyio.lowlevel import RunVar

T = TypeVar("T")

_numbers: Final = count(1)


class PerLoop(Generic[T]):
    """One value for each event loop, such as an event: it wakes tasks of its own loop only.

    :param make: makes the value when an event loop asks for it first.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: RunVar[T] = RunVar(f"sagaflow {next(_numbers)}")

    def get(self) -> T:
        """Return the value of the running loop."""
        try:
            return self._made.get()
        except LookupError:
            made = self._make()
            self._made.set(made)
            return made


def running_on_trio() -> bool:
    """Tell whether this task runs on trio."""
    return anyio.get_cancelled_exc_class().__module__.partition(".")[0] == "trio"
