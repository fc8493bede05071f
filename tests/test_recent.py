"""A dictionary of bounded size, and what is remembered of sending in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sagaflow._model.record import Failing
from sagaflow._runtime.lanes import Life
from sagaflow._runtime.progress import Progress
from sagaflow._runtime.recent import Recent
from sagaflow.testing import ManualClock
from tests.test_relay import outgoing, record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = Failing(attempts=1, since=NOW, due=NOW + timedelta(seconds=4), error="OSError: full")


def life(number: int) -> Life:
    return (("Notes", str, f"n-{number}"), "life")


def test_what_was_kept_longest_ago_makes_room() -> None:
    recent = Recent[str, int](2)
    for number, key in enumerate(("a", "b", "c")):
        recent.keep(key, number)
    assert recent == {"b": 1, "c": 2}


def test_what_is_kept_anew_stays() -> None:
    recent = Recent[str, int](2)
    for number, key in enumerate(("a", "b", "a", "c")):
        recent.keep(key, number)
    assert recent == {"a": 2, "c": 3}


def test_what_is_used_stays_also_if_it_is_as_good_as_nothing() -> None:
    recent = Recent[str, int](2)
    recent.keep("a", 0)
    recent.keep("b", 1)
    assert recent.used("a") == 0
    recent.keep("c", 2)
    assert recent == {"a": 0, "c": 2}
    assert recent.used("b") is None


def test_saga_that_sends_again_and_again_is_remembered() -> None:
    progress = Progress(ManualClock(NOW), most=2)
    progress.accept(life(1), 1)
    progress.accept(life(2), 1)
    progress.accept(life(1), 2)
    progress.accept(life(3), 1)
    assert progress.accepted == {life(1): 2, life(3): 1}


def test_refusal_that_is_asked_for_is_remembered() -> None:
    progress, saga = Progress(ManualClock(NOW), most=2), record(1)
    for number in (1, 2):
        progress.refuse(life(number), outgoing(1), LATER)
    assert progress.not_before(life(1), saga, outgoing(1), NOW) is LATER
    progress.refuse(life(3), outgoing(1), LATER)
    assert progress.failed_before(life(1), saga, outgoing(1)) is LATER
    progress.refuse(life(4), outgoing(1), LATER)
    assert set(progress.refused) == {life(1), life(4)}
