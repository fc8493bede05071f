"""The commit protocol holds in every interleaving, and each part of it is needed."""

from __future__ import annotations

import pytest

from tests.proofs.protocol_model import Budget, Exploration, Mistake, Protocol, explore

ADVERSITIES = {
    "a crash": Budget(crashes=1),
    "a refused message": Budget(refusals=1),
    "an event that comes again": Budget(duplicates=1),
    "a deleted saga": Budget(deletions=1),
}

CAUGHT = {
    Mistake.NO_VERSION_IN_FILTER: (Budget(), "event 2 was applied twice"),
    Mistake.NO_INCARNATION_IN_FILTER: (Budget(deletions=1), "event 2 was applied twice"),
    Mistake.WHOLE_DOCUMENT_REPLACED: (Budget(), "version did not rise"),
    Mistake.OUTBOX_EMPTIED: (Budget(), "removed before it was published"),
    Mistake.WAKE_WITHOUT_VERSION: (Budget(crashes=1), "wake is not due"),
    Mistake.WAKE_NOT_REWRITTEN: (Budget(crashes=1), "wake is not due"),
    Mistake.WAKE_TOO_LATE: (Budget(crashes=1), "wake is not due"),
    Mistake.UNKNOWN_IS_FAILURE: (Budget(unknown=1), "reported failed and is stored"),
    Mistake.UNKNOWN_IS_SUCCESS: (Budget(unknown=1), "never stored"),
    Mistake.PUBLISHED_BEFORE_WRITE: (Budget(), "never stored"),
    Mistake.NOTED_BEFORE_PUBLISHING: (Budget(), "removed before it was published"),
    Mistake.INBOX_NOT_ASKED: (Budget(), "applied twice"),
    Mistake.TIMER_NOT_REMOVED: (Budget(), "the timer was applied twice"),
    Mistake.UNSENT_REMOVED_BY_WRITE: (Budget(refusals=1), "removed before it was published"),
    Mistake.WAKE_NEVER_CLEARED: (Budget(), "never comes to rest"),
}


@pytest.mark.parametrize("budget", ADVERSITIES.values(), ids=ADVERSITIES.keys())
def test_every_interleaving_of_two_events_keeps_the_promise(budget: Budget) -> None:
    _assert_kept(explore(Protocol(budget=budget)), at_least=25_000)


def test_one_event_survives_everything_at_once() -> None:
    budget = Budget(crashes=1, unknown=1, refusals=1, duplicates=2)
    _assert_kept(explore(Protocol(events=1, budget=budget)), at_least=50_000)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("crashes", "at_least"), [(0, 180_000), (1, 400_000)], ids=["alone", "and a crash"]
)
def test_two_events_survive_a_lost_answer(crashes: int, at_least: int) -> None:
    budget = Budget(crashes=crashes, unknown=1)
    _assert_kept(explore(Protocol(budget=budget)), at_least=at_least)


@pytest.mark.parametrize("mistake", Mistake, ids=lambda mistake: mistake.name.lower())
def test_each_mistake_is_caught(mistake: Mistake) -> None:
    """Without one of its parts the protocol breaks a promise; the trace is the shortest."""
    budget, promise = CAUGHT[mistake]
    violation = explore(Protocol(budget=budget, mistake=mistake)).violation
    assert violation is not None, f"nobody notices that {mistake.value}"
    print(f"{mistake.value}: {violation}")
    assert promise in violation.promise
    assert violation.trace


def _assert_kept(found: Exploration, *, at_least: int) -> None:
    print(f"{found.states} states, {found.quiet} of them quiet")
    assert found.violation is None, str(found.violation)
    assert found.quiet
    assert found.states >= at_least, "the search does not reach what it is meant to"
