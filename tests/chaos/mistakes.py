"""Mistakes that are planted in the library, each of which the books must find.

A worker makes one at its start, by replacing what decides; the package knows nothing of that.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import pytest
import sniffio
import trio
from attrs import evolve

from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._engine import conclusion, decision, work, writing
from sagaflow._engine.conclusion import Source
from sagaflow._engine.work import Fire, Machine, Pending
from sagaflow._engine.writing import Write
from sagaflow._model.record import CompensationStatus, RecordedCompensation, SagaRecord
from sagaflow._model.record import evolve as with_changes
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.store import Store
from sagaflow.mongo import MongoRepository

Patch: TypeAlias = pytest.MonkeyPatch


def _everywhere(patch: Patch, function: Callable[..., Any], careless: Callable[..., Any]) -> None:
    """Put *careless* in the place of *function* in every module of the library that uses it."""
    name = function.__name__
    for module_name, module in tuple(sys.modules.items()):
        if module_name.startswith("sagaflow.") and vars(module).get(name) is function:
            patch.setattr(module, name, careless)


def no_version_in_the_condition(patch: Patch) -> None:
    """A write takes place whatever the saga's version is."""
    update = MongoRepository.update_document

    async def careless(self: MongoRepository, saga: str, change: DocumentChange) -> bool:
        document = await self.load_document(saga, change.correlation_id, message_id=None)
        version = change.version if document is None else document["version"]
        return await update(self, saga, evolve(change, version=version))

    patch.setattr(MongoRepository, "update_document", careless)


def no_inbox(patch: Patch) -> None:
    """What was handled is forgotten, so that nothing is recognised as a duplicate."""
    settle = decision.settle

    def careless(machine: Machine, record: SagaRecord | None, *others: Any) -> Any:
        if record is not None:
            record = with_changes(record, inbox=())
        return settle(machine, record, *others)

    _everywhere(patch, settle, careless)


def messages_in_the_wrong_order(patch: Patch) -> None:
    """What a handler sends is stored last first."""
    with_messages = writing.with_messages

    def careless(record: SagaRecord, sent: tuple[Any, ...], *others: Any) -> SagaRecord:
        return with_messages(record, sent[::-1], *others)

    _everywhere(patch, with_messages, careless)


def outbox_not_due(patch: Patch) -> None:
    """A message that waits does not make its saga due, so that nobody sends it later."""
    earliest_of = work.earliest_of

    def careless(record: SagaRecord, first: Pending | None) -> datetime | None:
        return earliest_of(with_changes(record, outbox=()), first)

    _everywhere(patch, earliest_of, careless)


def fired_timer_not_removed(patch: Patch) -> None:
    """A timer that has fired stays."""
    consumed = conclusion.consumed

    def careless(record: SagaRecord, source: Source) -> SagaRecord:
        return record if isinstance(source, Fire) else consumed(record, source)

    _everywhere(patch, consumed, careless)


def undone_step_not_noted(patch: Patch) -> None:
    """That a step has been undone is not stored."""

    def careless(record: SagaRecord, _: RecordedCompensation) -> SagaRecord:
        return record

    _everywhere(patch, conclusion.with_compensation, careless)


def steps_undone_first_to_last(patch: Patch) -> None:
    """Steps are undone in the order in which they were done."""

    def careless(record: SagaRecord) -> RecordedCompensation | None:
        steps = (step for step in record.compensations if step.status is CompensationStatus.PENDING)
        return next(steps, None)

    _everywhere(patch, work.pending, careless)


def unknown_outcome_taken_for_success(patch: Patch) -> None:
    """A write whose answer was lost is taken for done."""

    async def careless(*_: object) -> bool:
        return True

    patch.setattr(Store, "_resolve", careless)


def accepted_before_the_write(patch: Patch) -> None:
    """An event counts as accepted while its write is still on its way."""
    update = MongoRepository.update_document

    async def careless(self: MongoRepository, saga: str, change: DocumentChange) -> bool:
        if random.random() < 0.5:
            return await update(self, saga, change)

        async def write() -> None:
            with suppress(Exception):  # nobody is told
                await update(self, saga, change)

        if sniffio.current_async_library() == "trio":
            trio.lowlevel.spawn_system_task(write)
        else:
            _writes.add(asyncio.ensure_future(write()))
        return True

    patch.setattr(MongoRepository, "update_document", careless)


_writes: Final = set[Any]()
"""What is on its way: asyncio would lose it."""


def removed_before_it_is_sent(patch: Patch) -> None:
    """A message is removed from its saga before the bus has accepted it."""
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


def unsent_messages_removed(patch: Patch) -> None:
    """Where a sent message is removed, those go with it that have come meanwhile."""
    bookkeep = MongoRepository.bookkeep

    async def careless(self: MongoRepository, saga: str, note: Bookkeeping) -> bool:
        document = await self.load_document(saga, note.correlation_id, message_id=None)
        everything = () if document is None else tuple(m["id"] for m in document["outbox"])
        return await bookkeep(self, saga, evolve(note, sent=everything if note.sent else ()))

    patch.setattr(MongoRepository, "bookkeep", careless)


def lease_without_an_end(patch: Patch) -> None:
    """Who stores a saga keeps it to itself for ever."""
    scheduled = writing.scheduled_for_work

    def careless(record: SagaRecord, machine: Machine, write: Write) -> SagaRecord:
        return scheduled(record, machine, evolve(write, lease=timedelta(days=1)))

    _everywhere(patch, scheduled, careless)


Mistake: TypeAlias = Callable[[Patch], None]

MISTAKES: Final[dict[str, Mistake]] = {
    mistake.__name__.replace("_", "-"): mistake
    for mistake in (
        no_version_in_the_condition,
        no_inbox,
        messages_in_the_wrong_order,
        outbox_not_due,
        fired_timer_not_removed,
        undone_step_not_noted,
        steps_undone_first_to_last,
        unknown_outcome_taken_for_success,
        accepted_before_the_write,
        removed_before_it_is_sent,
        unsent_messages_removed,
        lease_without_an_end,
    )
}
