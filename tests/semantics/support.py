"""Repositories and buses that go wrong on purpose, and a look at what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import anyio
from attrs import define, field, frozen
from bson import encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from sagaflow import MessageId, Orchestrator, Saga, SagaId, SagaRepository, UnknownOutcomeError
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._model.record import Lease
from sagaflow._runtime.removals import Removals


async def stored(
    repository: SagaRepository, saga: type[Saga], correlation_id: SagaId
) -> Document | None:
    """Return the whole document of a saga."""
    return await repository.load_document(saga.table.saga, correlation_id, message_id=None)


async def stored_bytes(
    repository: SagaRepository, saga: type[Saga], correlation_id: SagaId
) -> bytes:
    """Return the document of a saga as the database keeps it."""
    document = await stored(repository, saga, correlation_id)
    assert document is not None
    options: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    return encode(document, codec_options=options)


def lingering(orchestrator: Orchestrator, linger: timedelta = timedelta(hours=1)) -> Orchestrator:
    """Have what was sent wait that long for the next write of its saga to remove it."""
    removals: Removals = orchestrator._parts.removals  # pyright: ignore[reportPrivateUsage]
    removals.linger = linger
    return orchestrator


class Crash(BaseException):
    """The process dies here. Nothing may catch it."""


class Passing(SagaRepository):
    """Passes everything on to the repository that it is made of."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__()
        self.inner = inner

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        return await self.inner.load_document(saga, correlation_id, message_id=message_id)

    async def insert_document(self, saga: str, document: Document) -> bool:
        return await self.inner.insert_document(saga, document)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        return await self.inner.update_document(saga, change)

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        return await self.inner.bookkeep(saga, note)

    async def claim(
        self,
        saga: str,
        correlation_id: SagaId,
        lease: Lease,
        now: datetime,
        *,
        schema: int | None = None,
    ) -> bool:
        return await self.inner.claim(saga, correlation_id, lease, now, schema=schema)

    def due(
        self,
        saga: str,
        now: datetime,
        *,
        unclaimed: bool,
        schema: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SagaId]:
        return self.inner.due(saga, now, unclaimed=unclaimed, schema=schema, limit=limit)

    def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        return self.inner.scan_documents(saga, state=state, unchanged_since=unchanged_since)

    async def count_states(self, saga: str) -> dict[str, int]:
        return await self.inner.count_states(saga)

    async def delete_document(self, saga: str, correlation_id: SagaId) -> bool:
        return await self.inner.delete_document(saga, correlation_id)

    async def create_indexes(self, saga_type: type[Saga]) -> None:
        await self.inner.create_indexes(saga_type)


Meanwhile: TypeAlias = Callable[[Any], Awaitable[object]]


async def _nothing(_: object) -> None:
    """Nothing happens."""


class Interrupted(Passing):
    """Lets something happen before a call is passed on: a wait, a failure, what others do.

    :param insert: what happens before an insert, and is given the document; likewise before an
        update its change, before bookkeeping its note, before a claim the saga's id, and before a
        search for due sagas the class's name.
    :param noted: what happens after bookkeeping.
    """

    def __init__(
        self,
        inner: SagaRepository,
        *,
        insert: Meanwhile = _nothing,
        update: Meanwhile = _nothing,
        note: Meanwhile = _nothing,
        noted: Meanwhile = _nothing,
        claim: Meanwhile = _nothing,
        due: Meanwhile = _nothing,
    ) -> None:
        super().__init__(inner)
        self._before_insert, self._before_update, self._before_note = insert, update, note
        self._after_note, self._before_claim, self._before_due = noted, claim, due

    async def insert_document(self, saga: str, document: Document) -> bool:
        await self._before_insert(document)
        return await super().insert_document(saga, document)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        await self._before_update(change)
        return await super().update_document(saga, change)

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        await self._before_note(note)
        noted = await super().bookkeep(saga, note)
        await self._after_note(note)
        return noted

    async def claim(
        self,
        saga: str,
        correlation_id: SagaId,
        lease: Lease,
        now: datetime,
        *,
        schema: int | None = None,
    ) -> bool:
        await self._before_claim(correlation_id)
        return await super().claim(saga, correlation_id, lease, now, schema=schema)

    async def due(
        self,
        saga: str,
        now: datetime,
        *,
        unclaimed: bool,
        schema: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SagaId]:
        await self._before_due(saga)
        async for found in super().due(saga, now, unclaimed=unclaimed, schema=schema, limit=limit):
            yield found


class Gate:
    """Holds back whoever comes until it is told to let go."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.go_on = anyio.Event()

    async def hold(self, _: object) -> None:
        """Wait here."""
        self.begun.set()
        await self.go_on.wait()


class Away:
    """Fails instead of what was asked, as long as it has an error; or does not answer at all.

    :ivar allowed: how many are let through before it fails.
    """

    def __init__(self, error: Exception | None = None, *, allowed: int = 0) -> None:
        self.error = error
        self.allowed = allowed
        self.silent = False
        self.asked = 0

    async def fail(self, _: object) -> None:
        """Fail, unless this one is let through."""
        self.asked += 1
        if self.silent:
            await anyio.sleep_forever()
        if self.allowed:
            self.allowed -= 1
        elif self.error is not None:
            raise self.error


class PausesAfterRead(Passing):
    """Stops between its first read and the write that follows, until it is told to go on."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.has_read = anyio.Event()
        self.go_on = anyio.Event()

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        found = await super().load_document(saga, correlation_id, message_id=message_id)
        self.has_read.set()
        await self.go_on.wait()
        return found


class ReadsTogether(Passing):
    """Holds reads back until so many have been made: all of them see the same version."""

    def __init__(self, inner: SagaRepository, readers: int) -> None:
        super().__init__(inner)
        self._missing = readers
        self._complete = anyio.Event()

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        found = await super().load_document(saga, correlation_id, message_id=message_id)
        self._missing -= 1
        if self._missing == 0:
            self._complete.set()
        await self._complete.wait()
        return found


class InsertsTogether(Passing):
    """Holds inserts back until so many were asked for: all of them have seen that there is none."""

    def __init__(self, inner: SagaRepository, writers: int) -> None:
        super().__init__(inner)
        self._missing = writers
        self._complete = anyio.Event()

    async def insert_document(self, saga: str, document: Document) -> bool:
        self._missing -= 1
        if self._missing == 0:
            self._complete.set()
        await self._complete.wait()
        return await super().insert_document(saga, document)


class LosesAnswers(Passing):
    """Loses the answer to a number of writes.

    :param applies: whether those writes take place.
    :param times: how many answers are lost.
    :param skip: how many writes are answered before.
    :param failing_read: what reads raise from then on, *failing_reads* times.
    """

    def __init__(
        self,
        inner: SagaRepository,
        *,
        applies: bool,
        times: int = 1,
        skip: int = 0,
        failing_read: Callable[[], Exception] | None = None,
        failing_reads: int = 0,
    ) -> None:
        super().__init__(inner)
        self._applies = applies
        self._times = times
        self._skip = skip
        self._failing_read = failing_read
        self._failing_reads = failing_reads
        self.lost = 0

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        if self.lost and self._failing_read is not None and self._failing_reads:
            self._failing_reads -= 1
            raise self._failing_read()
        return await super().load_document(saga, correlation_id, message_id=message_id)

    async def insert_document(self, saga: str, document: Document) -> bool:
        if self._loses():
            if self._applies:
                await super().insert_document(saga, document)
            raise UnknownOutcomeError("the connection was lost")
        return await super().insert_document(saga, document)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        if self._loses():
            if self._applies:
                await super().update_document(saga, change)
            raise UnknownOutcomeError("the connection was lost")
        return await super().update_document(saga, change)

    def _loses(self) -> bool:
        if self._skip or self.lost == self._times:
            self._skip = max(self._skip - 1, 0)
            return False
        self.lost += 1
        return True


class DiesAfterUpdate(Passing):
    """The process dies after so many updates have been stored."""

    def __init__(self, inner: SagaRepository, updates: int) -> None:
        super().__init__(inner)
        self._left = updates

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        done = await super().update_document(saga, change)
        self._left -= 1
        if self._left == 0:
            raise Crash
        return done


@frozen
class Published:
    """A message that reached the bus."""

    body: object
    correlation_id: SagaId | None
    message_id: MessageId | None
    headers: Mapping[str, object]


@define
class RecordingBus:
    """Takes every message and keeps it; refuses as long as `refusal` is set.

    :ivar on_publish: what happens before a message is taken or refused.
    """

    published: list[Published] = field(factory=list[Published])
    attempts: list[Published] = field(factory=list[Published])
    refusal: Exception | None = None
    on_publish: Callable[[Published], Any] | None = None

    @property
    def bodies(self) -> list[object]:
        """The messages themselves."""
        return [message.body for message in self.published]

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool = False
    ) -> None:
        """Forget it: nothing comes from this bus."""

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Take the message, or refuse it."""
        offered = Published(message, correlation_id, message_id, headers or {})
        self.attempts.append(offered)
        if self.on_publish is not None:
            await self.on_publish(offered)
        if self.refusal is not None:
            raise self.refusal
        self.published.append(offered)
