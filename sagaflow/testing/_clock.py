"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sagaflow._model.clock import to_milliseconds
from sagaflow._model.errors import SagaflowError


class ManualClock:
    """A clock that stands still until it is moved.

    :param start: an aware instant; the first of January 2026 by default.
    :raises SagaflowError: if *start* has no time zone.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise SagaflowError(f"{start!r} has no time zone: pass an aware datetime")
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return where the clock stands: aware, UTC, cut to milliseconds."""
        return to_milliseconds(self._now)

    def advance(self, by: timedelta) -> None:
        """Move the clock forward.

        :raises SagaflowError: if *by* is negative.
        """
        if by < timedelta(0):
            raise SagaflowError(f"a clock does not go back: advance({by!r})")
        self._now += by
