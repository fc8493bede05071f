"""The clock that tests own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sagaflow import SagaflowError
from sagaflow.testing import ManualClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_it_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(NOON)
    assert clock.now() == clock.now() == NOON
    clock.advance(timedelta(days=30))
    assert clock.now() == NOON + timedelta(days=30)


def test_it_tells_what_the_database_keeps_and_loses_nothing() -> None:
    clock = ManualClock(NOON)
    clock.advance(timedelta(microseconds=999))
    assert clock.now() == NOON
    clock.advance(timedelta(microseconds=1))
    assert clock.now() == NOON + timedelta(milliseconds=1)


def test_it_tells_utc_wherever_it_starts() -> None:
    east = timezone(timedelta(hours=2))
    clock = ManualClock(NOON.astimezone(east))
    assert (clock.now(), clock.now().tzinfo) == (NOON, UTC)


def test_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(SagaflowError, match="has no time zone: pass an aware datetime"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001


def test_it_does_not_go_back() -> None:
    clock = ManualClock(NOON)
    with pytest.raises(SagaflowError, match="a clock does not go back"):
        clock.advance(timedelta(microseconds=-1))
    assert clock.now() == NOON
