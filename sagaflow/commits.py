"""Reads and writes records: one conditional write each, whose outcome is always found out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Final
from uuid import uuid4

import anyio
from attrs import define, field

from sagaflow._codec.documents import decode_record, encode_change, encode_record
from sagaflow._codec.elements import Document
from sagaflow._codec.size import document_size, field_sizes
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._engine.backoff import delays
from sagaflow._engine.work import Machine
from sagaflow._engine.writing import Write
from sagaflow.abc import SagaRepository
from sagaflow.clock import Clock
from sagaflow.exceptions import LimitExceededError, RepositoryError, UnknownOutcomeError
from sagaflow.ids import SagaId
from sagaflow.policy import Limits
from sagaflow.record import SagaRecord

logger = logging.getLogger("sagaflow")

_FIRST_RETRY: Final = timedelta(milliseconds=2)
_LONGEST_RETRY: Final = timedelta(milliseconds=250)
_RESOLUTION_TIME: Final = timedelta(seconds=30)


def _nobody(saga_type: type[Saga], record: SagaRecord) -> None:
    """Is told of what was stored while nobody listens."""


@define(kw_only=True)
class Commits:
    """What one orchestrator reads and writes.

    :ivar owner: what its leases are known by.
    :ivar lease: how long others leave work to it.
    :ivar on_stored: called with each record that was stored.
    """

    repository: SagaRepository
    clock: Clock
    limits: Limits
    random: Callable[[], float]
    lease: timedelta
    class_of: Callable[[str], type | None]
    owner: str = field(factory=lambda: uuid4().hex)
    on_stored: Callable[[type[Saga], SagaRecord], None] = field(default=_nobody)
    _in_outage: bool = field(default=False, init=False)
    _machines: dict[type[Saga], Machine] = field(factory=dict[type[Saga], Machine], init=False)

    def machine(self, saga_type: type[Saga]) -> Machine:
        """Return a saga class as the engine needs it."""
        found = self._machines.get(saga_type)
        if found is None:
            definition = definition_of(saga_type)
            found = Machine(definition.table, definition.options, self.class_of)
            self._machines[saga_type] = found
        return found

    def report_outage(self, error: RepositoryError) -> None:
        """Log that the store fails, once for each outage."""
        if not self._in_outage:
            self._in_outage = True
            logger.error("the store fails; work is tried again until it is back: %s", error)

    def report_recovery(self) -> None:
        """Log that the store answers again, if it did not."""
        if self._in_outage:
            self._in_outage = False
            logger.warning("the store is back: work goes on")

    def write(self) -> Write:
        """Return what tells the next write from any other."""
        return Write(token=uuid4().hex, now=self.clock.now(), owner=self.owner, lease=self.lease)

    def conflict_delays(self) -> Iterator[timedelta]:
        """Return how long to wait after each lost race."""
        return delays(_FIRST_RETRY, _LONGEST_RETRY, self.random)

    async def load(
        self, saga_type: type[Saga], correlation_id: SagaId, message_id: SagaId | None
    ) -> SagaRecord | None:
        """Read a saga: for one message, or as a whole."""
        document = await self.repository.load_document(
            saga_type.table.saga, correlation_id, message_id=message_id
        )
        return None if document is None else decode_record(document)

    async def insert(self, saga_type: type[Saga], record: SagaRecord) -> bool:
        """Store a new saga, and tell whether its id was free.

        :raises LimitExceededError: if it is too large; nothing was stored.
        """
        saga = saga_type.table.saga
        document = encode_record(record)
        self._check(saga, record, document)
        return await self._committed(
            saga_type, record, lambda: self.repository.insert_document(saga, document)
        )

    async def update(self, saga_type: type[Saga], before: SagaRecord, after: SagaRecord) -> bool:
        """Store a changed saga, and tell whether no other write came first.

        :raises LimitExceededError: if it became too large; nothing was stored.
        """
        saga = saga_type.table.saga
        self._check(saga, after, None)
        inbox_size = definition_of(saga_type).options.inbox_size
        change = encode_change(before, after, inbox_size=inbox_size)
        return await self._committed(
            saga_type, after, lambda: self.repository.update_document(saga, change)
        )

    async def _committed(
        self, saga_type: type[Saga], after: SagaRecord, write: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Write, shielded: whoever gives up waiting must not leave the outcome unknown."""
        stored = False
        with anyio.CancelScope(shield=True):
            try:
                stored = await write()
            except UnknownOutcomeError as exc:
                stored = await self._resolve(saga_type.table.saga, after, exc)
        if stored:
            self.on_stored(saga_type, after)
        return stored

    async def _resolve(self, saga: str, after: SagaRecord, cause: UnknownOutcomeError) -> bool:
        """Read the saga again to find out whether a write took place, by its commit token."""
        deadline = anyio.current_time() + _RESOLUTION_TIME.total_seconds()
        pauses = self.conflict_delays()
        while True:
            try:
                document = await self.repository.load_document(
                    saga, after.correlation_id, message_id=None
                )
                break
            except RepositoryError:
                if anyio.current_time() >= deadline:
                    raise cause from None
            await anyio.sleep(next(pauses).total_seconds())
        if document is None:
            return False
        record = decode_record(document)
        if record.incarnation != after.incarnation:
            return False
        return any(entry.token == after.token for entry in record.history)

    def _check(self, saga: str, record: SagaRecord, document: Document | None) -> None:
        limits = self.limits
        counts = (
            ("outgoing messages", len(record.outbox), limits.outbox),
            ("parked events", len(record.parked), limits.parked),
            ("timers", len(record.timers), limits.timers),
            ("recorded compensations", len(record.compensations), limits.compensations),
        )
        for what, count, most in counts:
            if count > most:
                raise LimitExceededError(saga, record.correlation_id, what, count, most)
        size = document_size(encode_record(record) if document is None else document)
        if size > limits.most_bytes:
            raise LimitExceededError(
                saga, record.correlation_id, "bytes", size, limits.most_bytes, _largest(record)
            )
        if size > limits.warn_bytes:
            logger.warning(
                "%s %r has %d bytes; %d are allowed. Keep large content elsewhere",
                saga,
                record.correlation_id,
                size,
                limits.most_bytes,
            )


def _largest(record: SagaRecord) -> str:
    """Say which part of a saga takes most."""
    document = encode_record(record)
    parts = field_sizes(record.data) | field_sizes(
        {name: document[name] for name in ("outbox", "parked", "timers", "compensations")}
    )
    name, size = max(parts.items(), key=lambda part: part[1])
    return f"{name!r} alone takes {size:,}: keep large content elsewhere. "
