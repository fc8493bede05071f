"""How long to wait before the next attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from sagaflow._model.clock import to_milliseconds
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import Failing

_MILLISECOND: Final = timedelta(milliseconds=1)


def delays(
    first: timedelta, longest: timedelta, random: Callable[[], float]
) -> Iterator[timedelta]:
    """Yield delays with full jitter: each is anything from nothing to a bound that grows.

    Full jitter spreads rivals best; see Marc Brooker, "Exponential Backoff And Jitter" (2015).

    :param first: the bound of the first delay; the bound of each further delay is twice as large.
    :param longest: the largest bound.
    :param random: gives numbers from 0 up to 1.
    """
    attempt = 0
    while True:
        yield bound(first, longest, attempt) * random()
        attempt += 1


def bound(first: timedelta, longest: timedelta, attempt: int) -> timedelta:
    """Return the bound of one delay: the delay may be shorter, but not longer.

    :param first: the bound of the first delay.
    :param longest: the largest bound.
    :param attempt: which delay it is, counted from 0.
    """
    growth = 2 ** min(attempt, 64)
    return longest if first >= longest / growth else first * growth


def failed_again(
    before: Failing | None, error: str, now: datetime, policy: RetryPolicy, random: float
) -> Failing:
    """Return how work has failed so far, now that it has failed once more.

    The next attempt is due at least a millisecond, the smallest step of the clock, after *now*: a
    loop that does all the work due at one instant comes to an end.

    :param before: how the work had failed until now; None if this is its first failure.
    :param error: what went wrong this time, in words.
    :param random: a number from 0 up to 1.
    """
    attempts = 0 if before is None else before.attempts
    delay = max(bound(policy.initial_delay, policy.max_delay, attempts) * random, _MILLISECOND)
    return Failing(
        attempts=attempts + 1,
        since=now if before is None else before.since,
        due=to_milliseconds(now + delay),
        error=error,
    )


def is_too_old(failing: Failing, now: datetime, policy: RetryPolicy) -> bool:
    """Tell whether work has failed for longer than the policy allows."""
    return now - failing.since >= policy.max_age
