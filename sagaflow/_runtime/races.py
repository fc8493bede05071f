"""Lost races for a saga: how long its loser waits before the next attempt, and when it gives up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import anyio
from attrs import define, field

from sagaflow._model.errors import ConcurrencyError
from sagaflow._model.ids import SagaId
from sagaflow._runtime.process import Process


@define(kw_only=True)
class Race:
    """The attempts to change a saga that other writers have overtaken, from the first one on.

    :ivar deadline: for how long after the first lost attempt another one may begin.
    :ivar operation: what an operator attempts; empty for an event.
    """

    process: Process
    saga: str
    correlation_id: SagaId
    deadline: timedelta
    operation: str = ""
    _attempts: int = field(default=0, init=False)
    _first_lost: float = field(factory=anyio.current_time, init=False)
    _pauses: Iterator[timedelta] | None = field(default=None, init=False)

    async def lose(self, *, pauses: bool = True) -> None:
        """Count an attempt that another writer has overtaken, and wait before the next.

        :param pauses: whether to wait at all; not if the next attempt waits for its turn anyway.
        :raises ConcurrencyError: if the deadline has passed.
        """
        self._attempts += 1
        seconds = anyio.current_time() - self._first_lost
        if self._attempts > 1 and seconds >= self.deadline.total_seconds():
            raise ConcurrencyError(
                self.saga, self.correlation_id, self._attempts, seconds, operation=self.operation
            )
        if self._pauses is None:
            self._pauses = self.process.conflict_delays()
        if pauses:
            await anyio.sleep(next(self._pauses).total_seconds())
