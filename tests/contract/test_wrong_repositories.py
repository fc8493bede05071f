"""The contract kit finds the mistakes that somebody may make who writes another repository."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from sagaflow import MemoryRepository, SagaRepository
from sagaflow.testing import ManualClock, RepositoryContract
from tests.contract import wrong

# The promise that tells of the mistake; others may, too.
FOUND: list[tuple[type[MemoryRepository], str]] = [
    (wrong.ChecksNoVersion, "another_version_is_not_updated"),
    (wrong.ChecksNoIncarnation, "another_incarnation_is_not_updated"),
    (wrong.TakesOlderVersions, "another_version_is_not_updated"),
    (wrong.InsertsOnUpdate, "update_never_inserts"),
    (wrong.ReplacesOnInsert, "insert_never_replaces"),
    (wrong.HandsOutWhatIsStored, "what_is_read_can_be_changed_without_harm"),
    (wrong.ScansWhatIsStored, "what_is_scanned_can_be_changed_without_harm"),
    (wrong.KeepsWhatItIsGiven, "repository_keeps_nothing_of_what_it_was_given"),
    (wrong.LosesTheOutbox, "update_appends_messages_and_steps"),
    (wrong.RemovesUnsentMessages, "sent_messages_are_removed_and_no_others"),
    (wrong.KeepsSentMessages, "note_of_another_version_only_removes_sent_messages"),
    (wrong.NotesOverTransitions, "note_of_another_version_only_removes_sent_messages"),
    (wrong.CountsNotesAsVersions, "sent_messages_are_removed_and_no_others"),
    (wrong.NeverForgetsIds, "inbox_keeps_the_last_ids"),
    (wrong.ReadsTheWholeInbox, "only_the_id_that_is_asked_for_is_read_from_the_inbox"),
    (wrong.ReadsTheHistory, "history_is_not_read_to_handle_a_message"),
    (wrong.TakesTextForNumbers, "every_kind_of_message_id_is_recognised_and_no_other"),
    (wrong.HasDueIgnoreLeases, "claimed_sagas_are_left_out_of_what_is_due_for_others"),
    (wrong.HasDueIgnoreSchemas, "sagas_of_a_later_schema_are_left_alone"),
    (wrong.HasDueIgnoreLimits, "no_more_are_read_than_are_asked_for"),
    (wrong.ClaimsWhatNewerCodeHasStored, "sagas_of_a_later_schema_are_left_alone"),
    (wrong.LoadsTheHistoryAsRecent, "what_is_recent_is_everything_but_the_history"),
    (wrong.ScansOneStateOnly, "documents_in_one_of_several_states_are_scanned"),
    (wrong.HasDueIgnoreTime, "sagas_are_due_at_their_wake_and_not_before"),
    (wrong.StopsAtAThousand, "every_one_of_very_many_sagas_is_found"),
    (wrong.ClaimsForEveryone, "saga_that_is_due_can_be_claimed_by_one"),
    (wrong.ClaimsTooEarly, "saga_that_is_not_due_cannot_be_claimed"),
    (wrong.CountsEmbryos, "document_that_only_keeps_early_events_is_not_seen"),
    (wrong.HasFinishedSagasStale, "finished_sagas_are_not_stale"),
    (wrong.DeletesWhatIsNotThere, "deleting_nothing_says_so"),
    (wrong.MixesClasses, "sagas_of_another_class_are_not_found"),
]


class Kit(RepositoryContract):
    """The kit on a repository that is made by calling a class."""

    made_by: type[SagaRepository] = MemoryRepository

    @asynccontextmanager
    async def open(self, clock: ManualClock) -> AsyncGenerator[SagaRepository]:
        yield self.made_by(clock=clock)


def broken(made_by: type[SagaRepository], *promises: str) -> list[str]:
    """Return the promises that a repository breaks, of these."""
    found: list[str] = []
    for promised in promises:
        kit = Kit()
        kit.made_by = made_by
        try:
            getattr(kit, f"test_{promised}")()
        except Exception:  # noqa: BLE001 - a test has failed, however it did
            found.append(promised)
    return found


ALL = sorted({promised for _, promised in FOUND})


def test_right_repository_breaks_none_of_these_promises() -> None:
    assert broken(MemoryRepository, *ALL) == []


@pytest.mark.parametrize(
    ("made_by", "promised"), FOUND, ids=[made_by.__name__ for made_by, _ in FOUND]
)
def test_mistake_is_found(made_by: type[MemoryRepository], promised: str) -> None:
    assert broken(made_by, promised) == [promised]


def test_every_mistake_is_looked_for() -> None:
    planted = {
        value
        for value in vars(wrong).values()
        if isinstance(value, type) and issubclass(value, wrong.Mistaken)
    }
    assert planted - {wrong.Mistaken} == {made_by for made_by, _ in FOUND}


def test_kit_runs_without_fixtures_on_either_runtime() -> None:
    for runtime in ("asyncio", "trio"):
        kit = Kit()
        kit.runtime = runtime
        kit.test_insert_never_replaces()
