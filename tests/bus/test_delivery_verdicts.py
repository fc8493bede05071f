"""What becomes of a message is bounded, whatever its handlers say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sagaflow import RetryPolicy
from sagaflow._model.verdict import ACCEPTED, RetryLater, Undeliverable
from sagaflow.bus.delivery_verdicts import verdict_on_results

NOW = datetime(2026, 8, 1, tzinfo=UTC)
POLICY = RetryPolicy(max_age=timedelta(hours=1))
LATER = RetryLater(timedelta(seconds=1), "the account is locked")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], ACCEPTED),
        ([ACCEPTED, Undeliverable("no")], ACCEPTED),
        ([LATER, ACCEPTED], ACCEPTED),
        ([Undeliverable("no"), LATER], LATER),
        ([Undeliverable("no"), Undeliverable("never")], Undeliverable("no")),
    ],
)
def test_handlers_decide_together(said: list[Any], expected: object) -> None:
    assert verdict_on_results(said, NOW, NOW, POLICY) == expected


@pytest.mark.parametrize("asked", [timedelta(0), timedelta(-1), timedelta(microseconds=1)])
def test_retry_at_once_leaves_others_their_turn(asked: timedelta) -> None:
    verdict = verdict_on_results([RetryLater(asked, "now")], NOW, NOW, POLICY)
    assert verdict == RetryLater(timedelta(milliseconds=10), "now")


def test_retry_in_a_thousand_years_comes_earlier() -> None:
    verdict = verdict_on_results([RetryLater(timedelta.max, "then")], NOW, NOW, POLICY)
    assert verdict == RetryLater(timedelta(hours=1), "then")


def test_what_is_retried_for_too_long_is_a_dead_letter() -> None:
    since = NOW - timedelta(hours=1)
    verdict = verdict_on_results([LATER], since, NOW, POLICY)
    said = "it was to be retried for 1:00:00: the account is locked"
    assert verdict == Undeliverable("failed", said)


def test_texts_of_handlers_can_be_stored() -> None:
    odd: Any = Undeliverable("half \ud800 of\x00", "x" * 100_000)
    verdict: Any = verdict_on_results([odd], NOW, NOW, POLICY)
    assert verdict.reason == "half \\ud800 of\\x00"
    assert len(verdict.detail) < 9_000
    numbers: Any = Undeliverable(7, None)  # type: ignore[arg-type]
    assert verdict_on_results([numbers], NOW, NOW, POLICY) == Undeliverable("7", "None")


def test_delay_that_is_none_is_refused_where_it_is_said() -> None:
    soon: Any = "soon"
    with pytest.raises(TypeError, match="after"):
        RetryLater(soon, "")
