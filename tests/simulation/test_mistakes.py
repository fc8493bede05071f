"""The simulation notices when a mechanism is missing: each is taken out here in turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from attrs import evolve

from sagaflow import MemoryRepository, SagaRepository
from sagaflow._codec import documents
from sagaflow._codec.documents import Bookkeeping
from sagaflow._codec.elements import Document
from sagaflow._engine import decision, work, writing
from sagaflow._engine.work import Machine
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import SagaRecord
from sagaflow._runtime import delivery, store
from sagaflow._runtime.delivery import Delivery, _Seen  # pyright: ignore[reportPrivateUsage]
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.unknown_outcomes import took_place
from tests.mistakes import (
    Kind,
    Mistake,
    Patch,
    everywhere,
    fired_timer_not_removed,
    no_version_in_the_condition,
    removed_before_it_is_sent,
    undone_step_not_noted,
    unknown_outcome_taken_for_success,
    unsent_messages_removed,
)
from tests.simulation.test_simulation import simulate

SEEDS: Final = 150
"""By when a mistake must have been noticed."""


def unknown_outcome_raised_unresolved(patch: Patch, kind: Kind) -> None:
    async def careless(_: object, saga: str, after: SagaRecord, cause: Exception, *__: Any) -> bool:
        raise RuntimeError(f"{saga} {after.correlation_id!r} failed") from cause

    everywhere(patch, took_place, careless)


def wake_noted_whatever_the_version(patch: Patch, kind: Kind) -> None:
    bookkeep = kind.bookkeep

    async def careless(self: SagaRepository, saga: str, note: Bookkeeping) -> bool:
        document = await self.load_document(saga, note.correlation_id, message_id=None)
        version = note.version if document is None else document["version"]
        return await bookkeep(self, saga, evolve(note, version=version))

    patch.setattr(kind, "bookkeep", careless)


def wake_not_recorded(patch: Patch, kind: Kind) -> None:
    def careless(*_: object) -> None:
        """Nothing is ever due."""

    patch.setattr(writing, "earliest_of", careless)


def wake_not_rewritten(patch: Patch, kind: Kind) -> None:
    patch.setattr(documents, "_BOOKKEPT", frozenset[str]())


def kept_from_the_end_on(patch: Patch, kind: Kind) -> None:
    def careless(record: SagaRecord, *_: object) -> datetime | None:
        end = record.finished_at
        return record.expire_at if end is None else end + timedelta(days=36_500)

    patch.setattr(writing, "kept_until", careless)


def time_of_a_tombstone_not_begun_when_all_was_sent(patch: Patch, kind: Kind) -> None:
    def careless(record: SagaRecord, *_: object) -> datetime | None:
        return record.expire_at

    patch.setattr(store, "kept_until", careless)


def duplicates_not_recognised(patch: Patch, kind: Kind) -> None:
    load = kind.load_document

    async def careless(
        self: SagaRepository, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        document = await load(self, saga, correlation_id, message_id=message_id)
        if document is not None and message_id is not None:
            document["inbox"] = []
        return document

    patch.setattr(kind, "load_document", careless)


def refused_by_what_is_out_of_date(patch: Patch, kind: Kind) -> None:
    load: Callable[..., Any] = Delivery._load  # pyright: ignore[reportPrivateUsage]

    async def careless(self: Delivery, taking: Any) -> Any:
        known = self._known(taking)  # pyright: ignore[reportPrivateUsage]
        return await load(self, taking) if known is None else _Seen(known, is_certain=True)

    patch.setattr(Delivery, "_load", careless)


def unsent_messages_removed_by_the_next_write(patch: Patch, kind: Kind) -> None:
    def careless(_: Removals, __: object, before: SagaRecord) -> frozenset[str]:
        return frozenset(message.id for message in before.outbox)

    patch.setattr(Removals, "of", careless)


def what_is_due_first_is_done_first(patch: Patch, kind: Kind) -> None:
    def careless(record: SagaRecord, machine: Machine) -> Any:
        pending: Any = work._pending_work(record, machine)  # pyright: ignore[reportPrivateUsage]
        return min(pending, key=lambda one: one.due, default=None)

    patch.setattr(work, "first_work", careless)
    patch.setattr(writing, "first_work", careless)


def due_timers_overtaken_by_events(patch: Patch, kind: Kind) -> None:
    def careless(*_: object) -> bool:
        return False

    patch.setattr(decision, "has_timer_before", careless)
    patch.setattr(delivery, "has_timer_before", careless)


def waiting_events_forgotten_at_the_end(patch: Patch, kind: Kind) -> None:
    def careless(record: SagaRecord, _: object) -> SagaRecord:
        return evolve(record, parked=())

    patch.setattr(writing, "without_parked", careless)


MISTAKES = (
    no_version_in_the_condition,
    unknown_outcome_taken_for_success,
    unknown_outcome_raised_unresolved,
    removed_before_it_is_sent,
    unsent_messages_removed,
    wake_noted_whatever_the_version,
    wake_not_recorded,
    wake_not_rewritten,
    kept_from_the_end_on,
    time_of_a_tombstone_not_begun_when_all_was_sent,
    duplicates_not_recognised,
    fired_timer_not_removed,
    undone_step_not_noted,
    refused_by_what_is_out_of_date,
    unsent_messages_removed_by_the_next_write,
    what_is_due_first_is_done_first,
    due_timers_overtaken_by_events,
    waiting_events_forgotten_at_the_end,
)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_mistake_is_noticed(mistake: Mistake, monkeypatch: Patch) -> None:
    mistake(monkeypatch, MemoryRepository)
    for seed in range(SEEDS):
        try:
            simulate(seed)
        except (AssertionError, ExceptionGroup):
            return
    pytest.fail(f"{SEEDS} seeds have not noticed it")
