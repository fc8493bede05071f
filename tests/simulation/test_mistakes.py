"""The simulation notices when a mechanism is missing: each is taken out here in turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from attrs import evolve

from sagaflow import MemoryRepository
from sagaflow._codec import documents
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._engine import conclusion, decision, work, writing
from sagaflow._engine.conclusion import Source
from sagaflow._engine.work import Fire, Machine
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import SagaRecord
from sagaflow._runtime import delivery, store
from sagaflow._runtime.delivery import Delivery, Taking
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.store import Store
from tests.simulation.test_simulation import simulate

SEEDS: Final = 150
"""By when a mistake must have been noticed."""

Patch = pytest.MonkeyPatch


def no_version_in_the_filter(patch: Patch) -> None:
    update = MemoryRepository.update_document

    async def careless(self: MemoryRepository, saga: str, change: DocumentChange) -> bool:
        document = await self.load_document(saga, change.correlation_id, message_id=None)
        version = change.version if document is None else document["version"]
        return await update(self, saga, evolve(change, version=version))

    patch.setattr(MemoryRepository, "update_document", careless)


def unknown_outcome_taken_for_success(patch: Patch) -> None:
    async def resolve(*_: object) -> bool:
        return True

    patch.setattr(Store, "_resolve", resolve)


def unknown_outcome_raised_unresolved(patch: Patch) -> None:
    async def resolve(_: object, saga: str, after: SagaRecord, cause: Exception) -> bool:
        raise RuntimeError(f"{saga} {after.correlation_id!r} failed") from cause

    patch.setattr(Store, "_resolve", resolve)


def removed_before_it_is_published(patch: Patch) -> None:
    publish: Callable[..., Any] = Outbox._publish  # pyright: ignore[reportPrivateUsage]

    async def careless(self: Outbox, saga_type: Any, record: SagaRecord, message: Any) -> Any:
        note = Bookkeeping(
            correlation_id=record.correlation_id,
            incarnation=record.incarnation,
            version=record.version,
            sent=(message.id,),
        )
        await self._store.repository.bookkeep(saga_type.table.saga, note)  # pyright: ignore[reportPrivateUsage]
        return await publish(self, saga_type, record, message)

    patch.setattr(Outbox, "_publish", careless)


def outbox_emptied(patch: Patch) -> None:
    bookkeep = MemoryRepository.bookkeep

    async def careless(self: MemoryRepository, saga: str, note: Bookkeeping) -> bool:
        document = await self.load_document(saga, note.correlation_id, message_id=None)
        everything = () if document is None else tuple(m["id"] for m in document["outbox"])
        return await bookkeep(self, saga, evolve(note, sent=everything if note.sent else ()))

    patch.setattr(MemoryRepository, "bookkeep", careless)


def wake_noted_whatever_the_version(patch: Patch) -> None:
    bookkeep = MemoryRepository.bookkeep

    async def careless(self: MemoryRepository, saga: str, note: Bookkeeping) -> bool:
        document = await self.load_document(saga, note.correlation_id, message_id=None)
        version = note.version if document is None else document["version"]
        return await bookkeep(self, saga, evolve(note, version=version))

    patch.setattr(MemoryRepository, "bookkeep", careless)


def wake_not_recorded(patch: Patch) -> None:
    def careless(*_: object) -> None:
        """Nothing is ever due."""

    patch.setattr(writing, "earliest_of", careless)


def wake_not_rewritten(patch: Patch) -> None:
    patch.setattr(documents, "_BOOKKEPT", frozenset[str]())


def kept_from_the_end_on(patch: Patch) -> None:
    def careless(record: SagaRecord, *_: object) -> datetime | None:
        end = record.finished_at
        return record.expire_at if end is None else end + timedelta(days=36_500)

    patch.setattr(writing, "kept_until", careless)


def time_of_a_tombstone_not_begun_when_all_was_sent(patch: Patch) -> None:
    def careless(record: SagaRecord, *_: object) -> datetime | None:
        return record.expire_at

    patch.setattr(store, "kept_until", careless)


def duplicates_not_recognised(patch: Patch) -> None:
    load = MemoryRepository.load_document

    async def careless(
        self: MemoryRepository, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        document = await load(self, saga, correlation_id, message_id=message_id)
        if document is not None and message_id is not None:
            document["inbox"] = []
        return document

    patch.setattr(MemoryRepository, "load_document", careless)


def fired_timer_not_removed(patch: Patch) -> None:
    consumed = conclusion.consumed

    def careless(record: SagaRecord, source: Source) -> SagaRecord:
        return record if isinstance(source, Fire) else consumed(record, source)

    patch.setattr(conclusion, "consumed", careless)


def undone_step_not_noted(patch: Patch) -> None:
    def careless(record: SagaRecord, _: object) -> SagaRecord:
        return record

    patch.setattr(conclusion, "with_compensation", careless)


def refused_by_what_is_out_of_date(patch: Patch) -> None:
    load: Callable[..., Any] = Delivery._load  # pyright: ignore[reportPrivateUsage]

    async def careless(self: Delivery, delivery: Taking) -> Any:
        known = self._known(delivery)  # pyright: ignore[reportPrivateUsage]
        return await load(self, delivery) if known is None else (known, None)

    patch.setattr(Delivery, "_load", careless)


def unsent_messages_removed_by_the_next_write(patch: Patch) -> None:
    def careless(_: Removals, __: object, before: SagaRecord) -> frozenset[str]:
        return frozenset(message.id for message in before.outbox)

    patch.setattr(Removals, "of", careless)


def what_is_due_first_is_done_first(patch: Patch) -> None:
    def careless(record: SagaRecord, machine: Machine) -> Any:
        pending: Any = work._pending_work(record, machine)  # pyright: ignore[reportPrivateUsage]
        return min(pending, key=lambda one: one.due, default=None)

    patch.setattr(work, "first_work", careless)
    patch.setattr(writing, "first_work", careless)


def due_timers_overtaken_by_events(patch: Patch) -> None:
    def careless(*_: object) -> bool:
        return False

    patch.setattr(decision, "has_timer_before", careless)
    patch.setattr(delivery, "has_timer_before", careless)


def waiting_events_forgotten_at_the_end(patch: Patch) -> None:
    def careless(record: SagaRecord, _: object) -> SagaRecord:
        return evolve(record, parked=())

    patch.setattr(writing, "without_parked", careless)


MISTAKES = (
    no_version_in_the_filter,
    unknown_outcome_taken_for_success,
    unknown_outcome_raised_unresolved,
    removed_before_it_is_published,
    outbox_emptied,
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
def test_mistake_is_noticed(mistake: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mistake(monkeypatch)
    for seed in range(SEEDS):
        try:
            simulate(seed)
        except (AssertionError, ExceptionGroup):
            return
    pytest.fail(f"{SEEDS} seeds have not noticed it")
