"""Where the time comes from: one port, so that tests own the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from sagaflow._model.errors import SagaflowError


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


def stale_since(older_than: object, now: datetime) -> datetime:
    """Return the instant before which a stale saga has last changed.

    :param older_than: how long before *now*, or an aware instant.
    :raises SagaflowError: if it is neither.
    """
    if isinstance(older_than, timedelta):
        try:
            return now - older_than
        except OverflowError:
            first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
            return first if older_than > timedelta(0) else last
    if not isinstance(older_than, datetime):
        raise SagaflowError(
            f"older_than={older_than!r} is neither a timedelta nor an aware datetime"
        )
    if older_than.tzinfo is None:
        raise SagaflowError(f"older_than={older_than!r} has no time zone: use an aware datetime")
    return older_than
