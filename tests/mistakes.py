"""Mistakes that can be planted in the library, each by taking the place of what decides.

The simulation and the books of `chaos` must find them; the package knows nothing of that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from attrs import evolve

from sagaflow import SagaRepository
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._engine import conclusion
from sagaflow._engine.conclusion import Source
from sagaflow._engine.work import Fire
from sagaflow._model.record import RecordedCompensation, SagaRecord
from sagaflow._runtime.drain import Drain
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.unknown_outcomes import took_place

Patch: TypeAlias = pytest.MonkeyPatch
Kind: TypeAlias = type[SagaRepository]
"""The class of the repository that is used."""
Mistake: TypeAlias = Callable[[Patch, Kind], None]


def everywhere(patch: Patch, function: Callable[..., Any], careless: Callable[..., Any]) -> None:
    """Put *careless* in the place of *function* in every module of the library that uses it."""
    name = function.__name__
    for module_name, module in tuple(sys.modules.items()):
        if module_name.startswith("sagaflow.") and vars(module).get(name) is function:
            patch.setattr(module, name, careless)


def no_version_in_the_condition(patch: Patch, kind: Kind) -> None:
    """A write takes place whatever the saga's version is."""
    update = kind.update_document

    async def careless(self: SagaRepository, saga: str, change: DocumentChange) -> bool:
        document = await self.load_document(saga, change.correlation_id, message_id=None)
        version = change.version if document is None else document["version"]
        return await update(self, saga, evolve(change, version=version))

    patch.setattr(kind, "update_document", careless)


def unknown_outcome_taken_for_success(patch: Patch, _: Kind) -> None:
    """A write whose answer was lost is taken for done."""

    async def careless(*_: object) -> bool:
        return True

    everywhere(patch, took_place, careless)


def removed_before_it_is_sent(patch: Patch, _: Kind) -> None:
    """A message is removed from its saga before the bus has accepted it."""
    run = Drain.run

    async def careless(self: Drain, saga_type: Any, lane: Lane, *others: Any, **rest: Any) -> None:
        note = Bookkeeping(
            correlation_id=lane.latest.correlation_id,
            incarnation=lane.latest.incarnation,
            version=lane.latest.version,
            sent=tuple(message.id for message in lane.waiting),
        )
        await self.store.repository.bookkeep(saga_type.table.saga, note)
        await run(self, saga_type, lane, *others, **rest)

    patch.setattr(Drain, "run", careless)


def unsent_messages_removed(patch: Patch, kind: Kind) -> None:
    """Where a sent message is removed, those go with it that have come meanwhile."""
    bookkeep = kind.bookkeep

    async def careless(self: SagaRepository, saga: str, note: Bookkeeping) -> bool:
        document = await self.load_document(saga, note.correlation_id, message_id=None)
        everything = () if document is None else tuple(m["id"] for m in document["outbox"])
        return await bookkeep(self, saga, evolve(note, sent=everything if note.sent else ()))

    patch.setattr(kind, "bookkeep", careless)


def fired_timer_not_removed(patch: Patch, _: Kind) -> None:
    """A timer that has fired stays."""
    consumed = conclusion.consumed

    def careless(record: SagaRecord, source: Source) -> SagaRecord:
        return record if isinstance(source, Fire) else consumed(record, source)

    patch.setattr(conclusion, "consumed", careless)  # an operator's skip still removes it


def undone_step_not_noted(patch: Patch, _: Kind) -> None:
    """That a step has been undone is not stored."""

    def careless(record: SagaRecord, _: RecordedCompensation) -> SagaRecord:
        return record

    patch.setattr(conclusion, "with_compensation", careless)  # that it failed is still noted
