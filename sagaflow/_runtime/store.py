"""Reads and writes records: one conditional write each, whose outcome is always found out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Final

import anyio
from attrs import define, field

from sagaflow._codec.documents import (
    HISTORY_SIZE,
    Bookkeeping,
    encode_change,
    encode_record,
)
from sagaflow._codec.elements import FAILING, encode_lease
from sagaflow._codec.upgrade import read_record
from sagaflow._definition.saga import Saga
from sagaflow._engine.writing import WITHOUT_EFFECT, kept_until
from sagaflow._forms.size import document_size, field_sizes
from sagaflow._model.errors import (
    LimitExceededError,
    SerializationError,
    UnknownOutcomeError,
)
from sagaflow._model.ids import SagaId, saga_key
from sagaflow._model.log import about, get_logger
from sagaflow._model.policy import Limits
from sagaflow._model.record import Failing, HistoryEntry, HistoryKind, Lease, SagaRecord, evolve
from sagaflow._runtime.headroom import FEW_ENTRIES, NEARLY_FULL, Room, room_of, slimmed
from sagaflow._runtime.hot_sagas import HotSagas, removed
from sagaflow._runtime.process import Process
from sagaflow._runtime.trace import SILENT, Trace
from sagaflow._runtime.unknown_outcomes import took_place
from sagaflow._runtime.watches import Watches
from sagaflow.abc import SagaRepository

logger = get_logger(__name__)

_NOTHING: Final = nullcontext()


def _nobody(saga_type: type[Saga], record: SagaRecord) -> None:
    """Is told of what was stored while nobody listens."""


@define(kw_only=True)
class Store:
    """What one orchestrator reads and writes.

    :ivar hot: the sagas that it has used last, perhaps no longer as they are stored.
    :ivar watches: who waits for what is stored of which saga.
    :ivar resolution: for how long an unknown outcome of a write is looked into.
    :ivar on_stored: called with each record that was stored.
    """

    process: Process
    repository: SagaRepository
    limits: Limits = field(factory=Limits)
    hot: HotSagas = field(factory=lambda: HotSagas(0))
    on_stored: Callable[[type[Saga], SagaRecord], None] = field(default=_nobody)
    resolution: timedelta = timedelta(seconds=30)
    trace: Trace = SILENT
    watches: Watches = field(factory=Watches, init=False)

    async def load(
        self,
        saga_type: type[Saga],
        correlation_id: SagaId,
        message_id: SagaId | None,
        *,
        any_state: bool = False,
    ) -> SagaRecord | None:
        """Read a saga: for one message, or as a whole.

        :param any_state: also one in a state that the class does not know.
        :raises LeftAloneError: if it is damaged, or for other code.
        """
        document = await self.repository.load_document(
            saga_type.table.saga, correlation_id, message_id=message_id
        )
        return None if document is None else read_record(saga_type, document, any_state=any_state)

    async def load_hot(self, saga_type: type[Saga], correlation_id: SagaId) -> SagaRecord | None:
        """Read a saga with its whole inbox and without its history, and remember it.

        :raises LeftAloneError: if it is damaged, or for other code.
        """
        saga = saga_type.table.saga
        document = await self.repository.load_recent(saga, correlation_id)
        self.hot.drop(saga, correlation_id)
        if document is None:
            return None
        record = read_record(saga_type, document)
        if self.hot.most:
            self.hot.keep(saga, record, document_size(document))
        return record

    async def insert(self, saga_type: type[Saga], record: SagaRecord) -> bool:
        """Store a new saga, and tell whether its id was free.

        :raises LimitExceededError: if it is too large; nothing was stored.
        :raises RepositoryError: if the store failed.
        """
        if self.trace.observers is None:
            return await self._insert(saga_type, record)
        with self.trace.commit(saga_type, None, record) as telling:
            stored = await self._insert(saga_type, record)
            telling.ended(stored)
            return stored

    async def _insert(self, saga_type: type[Saga], record: SagaRecord) -> bool:
        saga = saga_type.table.saga
        document = encode_record(record)
        size = self._checked_size(saga, record, Room.HANDLER, document_size(document))
        stored = await self._committed(
            saga_type, record, self.repository.insert_document(saga, document)
        )
        if stored:
            self.hot.keep(saga, evolve(record, history=()), size)
        return stored

    async def update(self, saga_type: type[Saga], before: SagaRecord, after: SagaRecord) -> bool:
        """Store a changed saga, and tell whether no other write came first.

        :raises LimitExceededError: if it became too large; nothing was stored.
        :raises RepositoryError: if the store failed.
        """
        if self.trace.observers is None:
            return await self._update(saga_type, before, after)
        with self.trace.commit(saga_type, before, after) as telling:
            stored = await self._update(saga_type, before, after)
            telling.ended(stored)
            return stored

    async def _update(self, saga_type: type[Saga], before: SagaRecord, after: SagaRecord) -> bool:
        room = room_of(after)
        if room is not Room.SUSPENSION:
            return await self._apply(saga_type, before, after, room)
        if document_size(encode_record(after)) <= NEARLY_FULL:
            try:
                return await self._apply(saga_type, before, after, room)
            except SerializationError:  # too large nevertheless, with what was not read of it
                pass
        return await self._apply(saga_type, before, slimmed(after), room, history_size=FEW_ENTRIES)

    async def _apply(
        self,
        saga_type: type[Saga],
        before: SagaRecord,
        after: SagaRecord,
        room: Room,
        *,
        history_size: int = HISTORY_SIZE,
    ) -> bool:
        machine = self.process.machine(saga_type)
        saga, inbox_size = machine.table.saga, machine.options.inbox_size
        change = encode_change(
            before.stored or before, after, inbox_size=inbox_size, history_size=history_size
        )
        known = self.hot.version_of(saga, before)
        bound: int | None = None
        if known is not None and known.size is not None and change.growth is not None:
            bound = known.size + change.growth
        size = self._checked_size(saga, after, room, bound)
        stored = False
        try:
            stored = await self._committed(
                saga_type, after, self.repository.update_document(saga, change)
            )
        finally:
            # What was noted meanwhile is noted of the version before.
            noted = self.hot.take(saga, before)
        is_known = known is not None and before.incarnation == after.incarnation
        if stored and is_known and noted is not None:
            inbox, left = (*noted.record.inbox, *after.inbox)[-inbox_size:], after.outbox
            gone = removed(before, noted.record)
            # A write of the whole outbox may have put back what was removed just before it.
            if gone and "outbox" not in change.set:
                left = tuple(message for message in left if message.id not in gone)
            self.hot.keep(saga, evolve(after, outbox=left, inbox=inbox, history=()), size)
        return stored

    async def bookkeep(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        *,
        sent: tuple[str, ...] = (),
        sending: Failing | None = None,
        wake: datetime | None,
        lease: Lease | None = None,
    ) -> bool:
        """Note about a saga what was sent, whatever its version is, and when it is due.

        Gives up its lease, unless there is to be one. Tells whether it still has the version of
        *record*; otherwise, only the messages were removed.

        Once a saga that has ended has nothing left to send, its time as a tombstone begins. No
        version has more messages than what was read of it: only transitions add some. So if those
        of *record* have left, and it still has that version, all have.
        """
        saga = saga_type.table.saga
        values: dict[str, object] = {
            "sending": FAILING.encode_any(sending),
            "wake": wake,
            "lease": encode_lease(lease),
        }
        expire_at = record.expire_at
        if record.finished_at is not None:
            left = tuple(message for message in record.outbox if message.id not in sent)
            ended = evolve(record, outbox=left, expire_at=None if sent else expire_at)
            expire_at = kept_until(ended, self.process.machine(saga_type), self.process.clock.now())
            values["expire_at"] = expire_at
        note = Bookkeeping(
            correlation_id=record.correlation_id,
            incarnation=record.incarnation,
            version=record.version,
            sent=sent,
            set={name: value for name, value in values.items() if value is not None},
            unset=tuple(name for name, value in values.items() if value is None),
        )
        noted = await self.repository.bookkeep(saga, note)
        is_latest = self.hot.version_of(saga, record) is not None
        if not is_latest:
            self.hot.note_sent(saga, record, sent)
        elif noted:
            self.hot.note_work(
                saga, record, sent, sending=sending, wake=wake, lease=lease, expire_at=expire_at
            )
        else:
            self.hot.drop(saga, record.correlation_id)  # somebody else has written it
        return noted

    async def renew(self, saga_type: type[Saga], record: SagaRecord, until: datetime) -> bool:
        """Store that this process is at work on a saga, and tell whether it was still as known."""
        note = Bookkeeping(
            correlation_id=record.correlation_id,
            incarnation=record.incarnation,
            version=record.version,
            set={"lease": encode_lease(Lease(owner=self.process.owner, until=until))},
        )
        return await self.repository.bookkeep(saga_type.table.saga, note)

    def shield(self) -> AbstractContextManager[object]:
        """Return what keeps a cancellation away from writes, if they could be interrupted."""
        return anyio.CancelScope(shield=True) if self.repository.may_wait else _NOTHING

    async def _committed(
        self, saga_type: type[Saga], after: SagaRecord, write: Awaitable[bool]
    ) -> bool:
        """Write, shielded: that a caller gives up waiting must not leave the outcome unknown."""
        stored = False
        if self.repository.may_wait:
            with anyio.CancelScope(shield=True):
                stored = await self._outcome_of(saga_type, after, write)
        else:
            stored = await self._outcome_of(saga_type, after, write)
        if stored:
            for entry in after.history:
                if entry.kind is HistoryKind.DROPPED and entry.step in WITHOUT_EFFECT:
                    _report_dropped(saga_type.table.saga, after, entry)
            self.on_stored(saga_type, after)
            if self.watches.waiting:
                self.watches.tell(saga_key(saga_type.table.saga, after.correlation_id), after)
        return stored

    async def _outcome_of(
        self, saga_type: type[Saga], after: SagaRecord, write: Awaitable[bool]
    ) -> bool:
        try:
            return await write
        except UnknownOutcomeError as exc:
            return await took_place(
                self.repository,
                saga_type.table.saga,
                after,
                exc,
                self.process.conflict_delays(),
                self.resolution,
            )

    def _checked_size(self, saga: str, record: SagaRecord, room: Room, bound: int | None) -> int:
        """Refuse what is too large; return how many bytes *record* takes, or a bound of that.

        :param bound: no fewer bytes than it takes. As long as that is little enough, its size is
            not counted: a large saga need not be encoded as a whole for each small change.
        """
        limits = self.limits
        if (
            len(record.outbox) > limits.max_outbox
            or len(record.parked) > limits.max_parked
            or len(record.timers) > limits.max_timers
            or len(record.compensations) > limits.max_compensations
        ) and room is not Room.SUSPENSION:
            raise self._too_many(saga, record)
        max_bytes = limits.max_bytes + room
        if bound is not None and bound <= limits.warn_bytes and bound <= max_bytes:
            return bound
        size = document_size(encode_record(record))
        if size > max_bytes and room is not Room.SUSPENSION:
            raise LimitExceededError(
                saga, record.correlation_id, "bytes", size, max_bytes, _largest(record)
            )
        if size > limits.warn_bytes:
            logger.warning(
                "%s %r has %d bytes; %d are allowed. Keep large content elsewhere",
                saga,
                record.correlation_id,
                size,
                limits.max_bytes,
                extra=about(saga, record.correlation_id, version=record.version),
            )
        return size

    def _too_many(self, saga: str, record: SagaRecord) -> LimitExceededError:
        """Return the error that says of what there is too much."""
        limits = self.limits
        counts = (
            ("outgoing messages", len(record.outbox), limits.max_outbox),
            ("parked events", len(record.parked), limits.max_parked),
            ("timers", len(record.timers), limits.max_timers),
            ("recorded compensations", len(record.compensations), limits.max_compensations),
        )
        what, count, most = next(one for one in counts if one[1] > one[2])
        return LimitExceededError(saga, record.correlation_id, what, count, most)


def _report_dropped(saga: str, after: SagaRecord, entry: HistoryEntry) -> None:
    """Log that an event, which was accepted and waited, comes to nothing with this write."""
    logger.warning(
        "%s %r: %s %r was accepted and waited; it has no effect: %s",
        saga,
        after.correlation_id,
        entry.event,
        entry.message_id,
        entry.step,
        extra=about(
            saga,
            after.correlation_id,
            event=entry.event,
            message_id=entry.message_id,
            version=entry.version,
        ),
    )


def _largest(record: SagaRecord) -> str:
    """Say which part of a saga takes most."""
    document = encode_record(record)
    parts = field_sizes(record.data) | field_sizes(
        {name: document[name] for name in ("outbox", "parked", "timers", "compensations")}
    )
    name, size = max(parts.items(), key=lambda part: part[1])
    return f"{name!r} alone takes {size:,}: keep large content elsewhere. "
