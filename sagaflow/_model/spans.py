"""Spans and instants as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)


def span(delay: timedelta) -> str:
    """Return a delay exactly, such as ``1 d 30 min``."""
    parts, rest = _parts(delay)
    if rest or not parts:
        return f"{delay.total_seconds():g} s"
    return " ".join(parts)


def roughly(delay: timedelta) -> str:
    """Return how long something is or was, roughly, such as ``2 d 3 h``."""
    parts, rest = _parts(max(delay, timedelta(0)))
    return " ".join(parts[:2]) if parts else f"{rest // timedelta(milliseconds=1)} ms"


def instant(at: datetime) -> str:
    """Return an instant in UTC, to the second, such as ``2026-01-31 12:00:00Z``."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def relative(at: datetime, now: datetime) -> str:
    """Return how far away an instant is: ``in 5 min`` or ``5 min ago``."""
    return f"in {roughly(at - now)}" if at > now else f"{roughly(now - at)} ago"


def _parts(delay: timedelta) -> tuple[list[str], timedelta]:
    found: list[str] = []
    rest = delay
    for unit, name in _UNITS:
        count, rest = divmod(rest, unit)
        if count:
            found.append(f"{count} {name}")
    return found, rest
