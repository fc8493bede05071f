"""Mistakes that are planted in the library, each of which the books must find.

A worker makes one at its start, by replacing what decides; the package knows nothing of that.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import sniffio
import trio
from attrs import evolve

from sagaflow import SagaRepository
from sagaflow._codec.documents import DocumentChange
from sagaflow._engine import decision, work, writing
from sagaflow._engine.work import Machine, Pending
from sagaflow._engine.writing import Write
from sagaflow._model.record import CompensationStatus, RecordedCompensation, SagaRecord
from sagaflow._model.record import evolve as with_changes
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


def no_inbox(patch: Patch, _: Kind) -> None:
    """What was handled is forgotten, so that nothing is recognised as a duplicate."""
    settle = decision.settle

    def careless(machine: Machine, record: SagaRecord | None, *others: Any) -> Any:
        if record is not None:
            record = with_changes(record, inbox=())
        return settle(machine, record, *others)

    everywhere(patch, settle, careless)


def messages_in_the_wrong_order(patch: Patch, _: Kind) -> None:
    """What a handler sends is stored last first."""
    with_messages = writing.with_messages

    def careless(record: SagaRecord, sent: tuple[Any, ...], *others: Any) -> SagaRecord:
        return with_messages(record, sent[::-1], *others)

    everywhere(patch, with_messages, careless)


def outbox_not_due(patch: Patch, _: Kind) -> None:
    """A message that waits does not make its saga due, so that nobody sends it later."""
    earliest_of = work.earliest_of

    def careless(record: SagaRecord, first: Pending | None) -> datetime | None:
        return earliest_of(with_changes(record, outbox=()), first)

    everywhere(patch, earliest_of, careless)


def steps_undone_first_to_last(patch: Patch, _: Kind) -> None:
    """Steps are undone in the order in which they were done."""

    def careless(record: SagaRecord) -> RecordedCompensation | None:
        steps = (step for step in record.compensations if step.status is CompensationStatus.PENDING)
        return next(steps, None)

    everywhere(patch, work.pending, careless)


def accepted_before_the_write(patch: Patch, kind: Kind) -> None:
    """An event counts as accepted while its write is still on its way."""
    update = kind.update_document

    async def careless(self: SagaRepository, saga: str, change: DocumentChange) -> bool:
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

    patch.setattr(kind, "update_document", careless)


_writes: Final = set[Any]()
"""What is on its way: asyncio would lose it."""


def lease_without_an_end(patch: Patch, _: Kind) -> None:
    """Who stores a saga keeps it to itself for ever."""
    scheduled = writing.scheduled_for_work

    def careless(record: SagaRecord, machine: Machine, write: Write) -> SagaRecord:
        return scheduled(record, machine, evolve(write, lease=timedelta(days=1)))

    everywhere(patch, scheduled, careless)


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
