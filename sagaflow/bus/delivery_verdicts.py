"""Decides what becomes of a delivery, from what its handlers have done. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sagaflow._engine.backoff import bound
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.texts import line_of, text_of, traceback_of
from sagaflow._model.verdict import ACCEPTED, Accepted, RetryLater, Undeliverable, Verdict

_AT_LEAST: Final = timedelta(milliseconds=1)
_ASKED_AT_LEAST: Final = timedelta(milliseconds=10)
"""A handler that asks to be called again at once, again and again, leaves others their turn."""
_REASON: Final = 200
_DETAIL: Final = 8_000
"""How many characters are kept of what a handler says."""


def verdict_on_results(
    verdicts: Sequence[Verdict], since: datetime, now: datetime, policy: RetryPolicy
) -> Verdict:
    """Return what becomes of a message that all handlers have taken without an error.

    It is dealt with if any of them says so, also if others had no use for it; it is retried only
    if nobody has dealt with it and somebody asks for that. What handlers say has its bounds: it
    is stored and logged.

    :param since: when the message was handed out for the first time.
    """
    asked: Verdict = ACCEPTED
    if verdicts and not any(isinstance(one, Accepted) for one in verdicts):
        asked = next((one for one in verdicts if isinstance(one, RetryLater)), verdicts[0])
    if isinstance(asked, Undeliverable):
        return Undeliverable(text_of(asked.reason, _REASON), text_of(asked.detail, _DETAIL))
    if isinstance(asked, RetryLater):
        error = text_of(asked.error)
        if now - since >= policy.max_age:
            return Undeliverable("failed", f"it was to be retried for {policy.max_age}: {error}")
        return RetryLater(min(max(asked.after, _ASKED_AT_LEAST), policy.max_age), error)
    return asked


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
