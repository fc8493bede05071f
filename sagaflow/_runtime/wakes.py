"""When sagas have work to do: one instant for each, and the earliest of them at once."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Final

from attrs import define, field

from sagaflow._model.ids import SagaKey

_SPARE: Final = 64


@define
class Wakes:
    """Remembers when each saga has work to do.

    The heap also holds entries of sagas that have another instant by now. Such an entry is passed
    by when its turn comes; all of them are thrown out before the heap has twice as many entries as
    there are sagas.
    """

    _instants: dict[SagaKey, datetime] = field(factory=dict[SagaKey, datetime], init=False)
    _heap: list[tuple[datetime, int, SagaKey]] = field(
        factory=list[tuple[datetime, int, SagaKey]], init=False
    )
    _numbers: Iterator[int] = field(factory=count, init=False)
    """Order entries with the same instant: ids of several types cannot be compared."""

    def set(self, key: SagaKey, instant: datetime) -> None:
        """Remember when a saga has work to do, instead of what was known of it before."""
        self._instants[key] = instant
        if len(self._heap) >= 2 * len(self._instants) + _SPARE:
            self._heap = [(due, next(self._numbers), one) for one, due in self._instants.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (instant, next(self._numbers), key))

    def forget(self, key: SagaKey) -> None:
        """Note that a saga has nothing to do, or that somebody else looks after it."""
        self._instants.pop(key, None)

    def earliest(self) -> tuple[datetime, SagaKey] | None:
        """Return the earliest instant and its saga; None if no saga has work to do."""
        while self._heap:
            instant, _, key = self._heap[0]
            if self._instants.get(key) == instant:
                return instant, key
            heapq.heappop(self._heap)
        return None
