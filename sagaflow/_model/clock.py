"""Where the time comes from: one port, so that tests own the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Every instant in sagaflow comes from one of these."""

    def now(self) -> datetime:
        """Return the current instant: aware, UTC, cut to milliseconds as MongoDB stores it."""
        ...


class SystemClock:
    """The machine's clock. Works under ``freezegun``."""

    def now(self) -> datetime:
        """Return the current instant: aware, UTC, cut to milliseconds."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)  # called for each event


def to_milliseconds(instant: datetime) -> datetime:
    """Cut *instant* to milliseconds, the precision that the database keeps."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
