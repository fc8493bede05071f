"""Decides what becomes of a delivery, from what its handlers have done. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sagaflow._engine.backoff import bound
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.texts import line_of, traceback_of
from sagaflow._model.verdict import ACCEPTED, Accepted, RetryLater, Undeliverable, Verdict

_AT_LEAST: Final = timedelta(milliseconds=1)


def verdict_on_results(verdicts: Sequence[Verdict]) -> Verdict:
    """Return what becomes of a message that all handlers have taken without an error.

    It is dealt with if any of them says so, also if others had no use for it; it is retried only
    if nobody has dealt with it and somebody asks for that.
    """
    if not verdicts or any(isinstance(one, Accepted) for one in verdicts):
        return ACCEPTED
    return next((one for one in verdicts if isinstance(one, RetryLater)), verdicts[0])


def verdict_on_failure(
    error: Exception,
    attempts: int,
    since: datetime,
    now: datetime,
    policy: RetryPolicy,
    random: float,
) -> Verdict:
    """Return what becomes of a message on which a handler has failed.

    :param attempts: how often handling it has failed before.
    :param since: when it was handed out for the first time.
    :param random: a number from 0 up to 1.
    """
    if now - since >= policy.max_age:
        return Undeliverable("failed", traceback_of(error))
    delay = bound(policy.initial_delay, policy.max_delay, attempts) * random
    return RetryLater(max(delay, _AT_LEAST), line_of(error))
