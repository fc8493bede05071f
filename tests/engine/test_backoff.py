"""Delays grow up to a limit and are spread by chance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from sagaflow import RetryPolicy
from sagaflow._engine.backoff import bound, delays, failed_again, is_too_old
from sagaflow._model.record import Failing

FIRST, LONGEST = timedelta(seconds=1), timedelta(seconds=10)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(initial_delay=FIRST, max_delay=LONGEST, max_age=timedelta(minutes=1))


def test_bounds_double_up_to_the_longest() -> None:
    found = [bound(FIRST, LONGEST, attempt).total_seconds() for attempt in range(6)]
    assert found == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize("attempt", [64, 65, 1_000, 10**9])
def test_no_number_of_attempts_is_too_large(attempt: int) -> None:
    assert bound(FIRST, LONGEST, attempt) == LONGEST


def test_first_delay_is_never_longer_than_the_longest() -> None:
    assert bound(LONGEST, FIRST, 0) == FIRST


@pytest.mark.parametrize(("chance", "expected"), [(0.0, [0, 0, 0, 0, 0]), (0.5, [0.5, 1, 2, 4, 5])])
def test_delays_are_anything_up_to_the_bound(chance: float, expected: list[float]) -> None:
    found = list(islice(delays(FIRST, LONGEST, lambda: chance), 5))
    assert [delay.total_seconds() for delay in found] == expected


def test_each_delay_is_drawn_anew() -> None:
    drawn = iter([0.25, 0.75, 0.5])
    found = list(islice(delays(FIRST, LONGEST, lambda: next(drawn)), 3))
    assert [delay.total_seconds() for delay in found] == [0.25, 1.5, 2]


def test_delays_never_end() -> None:
    (last,) = islice(delays(FIRST, LONGEST, lambda: 1.0), 5_000, 5_001)
    assert last == LONGEST


def test_first_failure_begins_the_count() -> None:
    found = failed_again(None, "no", NOW, POLICY, 0.5)
    due = NOW + timedelta(milliseconds=500)
    assert found == Failing(attempts=1, since=NOW, due=due, error="no")


def test_further_failure_counts_on_and_waits_longer() -> None:
    before, now = failed_again(None, "no", NOW, POLICY, 0.5), NOW + timedelta(seconds=30)
    found = failed_again(before, "still no", now, POLICY, 1.0)
    assert found == Failing(attempts=2, since=NOW, due=now + 2 * FIRST, error="still no")
    for _ in range(9):
        found = failed_again(found, "no", now, POLICY, 1.0)
    assert (found.attempts, found.due) == (11, now + LONGEST)


def test_next_attempt_is_due_at_an_instant_that_the_database_keeps() -> None:
    found = failed_again(None, "no", NOW, POLICY, 0.0015559)
    assert found.due == NOW + timedelta(milliseconds=1)


def test_next_attempt_is_later_than_the_last_by_what_the_clock_can_tell() -> None:
    """Whoever works off what is due now would be at it for ever, or take it for dealt with."""
    found = failed_again(None, "no", NOW, POLICY, 0.0)
    assert found.due == NOW + timedelta(milliseconds=1)


def test_patience_ends_with_its_age_not_with_the_number_of_attempts() -> None:
    failing = Failing(attempts=10**6, since=NOW, due=NOW, error="no")
    assert not is_too_old(failing, NOW + timedelta(seconds=59.999), POLICY)
    assert is_too_old(failing, NOW + timedelta(minutes=1), POLICY)
