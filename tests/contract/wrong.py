"""Repositories with one mistake each, such as somebody may make who writes another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any

from attrs import evolve

from sagaflow import MemoryRepository, MessageId, SagaId
from sagaflow._codec.documents import Bookkeeping, DocumentChange, Push
from sagaflow._codec.elements import Document
from sagaflow._model.record import Lease


class Mistaken(MemoryRepository):
    """What the mistakes have in common: a look at what is stored, without a copy."""

    def stored(self, saga: str, correlation_id: SagaId) -> Document | None:
        return self._get(saga, correlation_id)


class ChecksNoVersion(Mistaken):
    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        document = self.stored(saga, change.correlation_id)
        version = change.version if document is None else document.get("version", 0)
        return await super().update_document(saga, evolve(change, version=version))


class ChecksNoIncarnation(Mistaken):
    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        document = self.stored(saga, change.correlation_id)
        known = change.incarnation if document is None else document.get("incarnation", "")
        return await super().update_document(saga, evolve(change, incarnation=known))


class TakesOlderVersions(Mistaken):
    """The check is ``<=``."""

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        document = self.stored(saga, change.correlation_id)
        version = 0 if document is None else document.get("version", 0)
        return await super().update_document(
            saga, evolve(change, version=min(change.version, version))
        )


class InsertsOnUpdate(Mistaken):
    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        if self.stored(saga, change.correlation_id) is None:
            return await self.insert_document(saga, {"_id": change.correlation_id, **change.set})
        return await super().update_document(saga, change)


class ReplacesOnInsert(Mistaken):
    async def insert_document(self, saga: str, document: Document) -> bool:
        await self.delete_document(saga, document["_id"])
        return await super().insert_document(saga, document)


class HandsOutWhatIsStored(Mistaken):
    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        if message_id is not None:
            return await super().load_document(saga, correlation_id, message_id=message_id)
        return self.stored(saga, correlation_id)


class ScansWhatIsStored(Mistaken):
    async def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        scanned = super().scan_documents(saga, state=state, unchanged_since=unchanged_since)
        async for copy in scanned:
            document = self.stored(saga, copy["_id"])
            assert document is not None
            yield document


class KeepsWhatItIsGiven(Mistaken):
    async def insert_document(self, saga: str, document: Document) -> bool:
        inserted = await super().insert_document(saga, document)
        stored = self.stored(saga, document["_id"])
        if inserted and stored is not None:
            stored.clear()
            stored.update(document)
        return inserted


class LosesTheOutbox(Mistaken):
    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        push = {name: items for name, items in change.push.items() if name != "outbox"}
        return await super().update_document(saga, evolve(change, push=push))


class RemovesUnsentMessages(Mistaken):
    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        document = self.stored(saga, note.correlation_id)
        every = () if document is None else tuple(one["id"] for one in document.get("outbox", ()))
        return await super().bookkeep(saga, evolve(note, sent=every if note.sent else ()))


class KeepsSentMessages(Mistaken):
    """The note is refused as a whole when the version has changed."""

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        document = self.stored(saga, note.correlation_id)
        if document is None or document.get("version") != note.version:
            return False
        return await super().bookkeep(saga, note)


class NotesOverTransitions(Mistaken):
    """A note sets its fields whatever version the saga has."""

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        document = self.stored(saga, note.correlation_id)
        version = note.version if document is None else document.get("version", 0)
        return await super().bookkeep(saga, evolve(note, version=version))


class CountsNotesAsVersions(Mistaken):
    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        done = await super().bookkeep(saga, note)
        document = self.stored(saga, note.correlation_id)
        if done and document is not None:
            document["version"] += 1
        return done


class NeverForgetsIds(Mistaken):
    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        push = {
            name: Push(pushed.items, None if name == "inbox" else pushed.keep)
            for name, pushed in change.push.items()
        }
        return await super().update_document(saga, evolve(change, push=push))


class ReadsTheWholeInbox(Mistaken):
    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        whole = await super().load_document(saga, correlation_id, message_id=None)
        if whole is not None and message_id is not None:
            whole.pop("history", None)
        return whole


class ReadsTheHistory(Mistaken):
    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        found = await super().load_document(saga, correlation_id, message_id=message_id)
        whole = await super().load_document(saga, correlation_id, message_id=None)
        return whole if found is None or whole is None else {**whole, "inbox": found["inbox"]}


class TakesTextForNumbers(Mistaken):
    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        found = await super().load_document(saga, correlation_id, message_id=message_id)
        whole = await super().load_document(saga, correlation_id, message_id=None)
        if found is not None and whole is not None and message_id is not None:
            found["inbox"] = [one for one in whole["inbox"] if str(one) == str(message_id)]
        return found


class HasDueIgnoreLeases(Mistaken):
    def due(self, saga: str, now: datetime, **given: Any) -> AsyncIterator[SagaId]:
        return super().due(saga, now, **(given | {"unclaimed": False}))


class HasDueIgnoreSchemas(Mistaken):
    def due(self, saga: str, now: datetime, **given: Any) -> AsyncIterator[SagaId]:
        given["schema"] = None
        return super().due(saga, now, **given)


class HasDueIgnoreLimits(Mistaken):
    def due(self, saga: str, now: datetime, **given: Any) -> AsyncIterator[SagaId]:
        given["limit"] = None
        return super().due(saga, now, **given)


class ClaimsWhatNewerCodeHasStored(Mistaken):
    async def claim(
        self, saga: str, correlation_id: SagaId, lease: Lease, now: datetime, **given: Any
    ) -> bool:
        return await super().claim(saga, correlation_id, lease, now)


class LoadsTheHistoryAsRecent(Mistaken):
    async def load_recent(self, saga: str, correlation_id: SagaId) -> Document | None:
        return await self.load_document(saga, correlation_id, message_id=None)


class ScansOneStateOnly(Mistaken):
    def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        only = state if state is None or isinstance(state, str) else next(iter(state), "")
        return super().scan_documents(saga, state=only, unchanged_since=unchanged_since)


class HasDueIgnoreTime(Mistaken):
    async def due(self, saga: str, now: datetime, **given: Any) -> AsyncIterator[SagaId]:
        async for document in super().scan_documents(saga):
            if "wake" in document:
                yield document["_id"]


class StopsAtAThousand(Mistaken):
    async def due(self, saga: str, now: datetime, **given: Any) -> AsyncIterator[SagaId]:
        count = 0
        async for correlation_id in super().due(saga, now, **given):
            if count < 1000:
                yield correlation_id
            count += 1


class ClaimsForEveryone(Mistaken):
    async def claim(
        self, saga: str, correlation_id: SagaId, lease: Lease, now: datetime, **given: Any
    ) -> bool:
        document = self.stored(saga, correlation_id)
        if document is not None and "wake" in document and document["wake"] <= now:
            document.pop("lease", None)
        return await super().claim(saga, correlation_id, lease, now, **given)


class ClaimsTooEarly(Mistaken):
    async def claim(
        self, saga: str, correlation_id: SagaId, lease: Lease, now: datetime, **given: Any
    ) -> bool:
        document = self.stored(saga, correlation_id)
        if document is not None:
            document["wake"] = min(document.get("wake", now), now)
        return await super().claim(saga, correlation_id, lease, now, **given)


class CountsEmbryos(Mistaken):
    async def count_states(self, saga: str) -> dict[str, int]:
        counted: dict[str, int] = {}
        async for document in self.scan_documents(saga):
            state = document.get("state", "")
            counted[state] = counted.get(state, 0) + 1
        return counted


class HasFinishedSagasStale(Mistaken):
    async def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        async for document in super().scan_documents(saga, state=state):
            if unchanged_since is None or document["updated_at"] < unchanged_since:
                yield document


class DeletesWhatIsNotThere(Mistaken):
    async def delete_document(self, saga: str, correlation_id: SagaId) -> bool:
        await super().delete_document(saga, correlation_id)
        return True


class MixesClasses(Mistaken):
    """One collection for all."""

    async def insert_document(self, saga: str, document: Document) -> bool:
        return await super().insert_document("all", document)

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        return await super().load_document("all", correlation_id, message_id=message_id)
