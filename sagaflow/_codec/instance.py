"""Stored sagas, as people look at them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from attrs import frozen

from sagaflow._codec.data import decode_saga
from sagaflow._codec.elements import Document
from sagaflow._codec.selection import Unreadable, id_of
from sagaflow._codec.upgrade import read_record
from sagaflow._concurrency.generators import closing
from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import SagaId
from sagaflow._model.record import (
    HistoryEntry,
    OutgoingMessage,
    ParkedEvent,
    RecordedCompensation,
    Status,
    Suspension,
    Timer,
    has_expired,
)
from sagaflow._model.shown import shown

SagaT = TypeVar("SagaT", bound=Saga)
SagaT_co = TypeVar("SagaT_co", bound=Saga, covariant=True)


@frozen(kw_only=True)
class Instance(Generic[SagaT_co]):
    """One stored saga: a copy, so that changing it changes nothing that is stored.

    :ivar saga: its data, as an instance of its class.
    :ivar correlation_id: the id of the saga.
    :ivar state: the state it is in.
    :ivar status: what it is doing.
    :ivar version: counts its writes, from 1.
    :ivar created_at: when it started; aware, UTC.
    :ivar updated_at: when it last changed; aware, UTC.
    :ivar finished_at: when it entered a final state; None before.
    :ivar history: its last writes, oldest first.
    :ivar outbox: the messages that the bus has not accepted yet, in their order.
    :ivar compensations: the steps that would be undone, or were, in the order of completion.
    :ivar timers: the timeouts and scheduled events to come.
    :ivar parked: accepted events that wait, in the order of their arrival.
    :ivar suspension: why the saga stands still; None unless it is suspended.
    """

    saga: SagaT_co
    correlation_id: SagaId
    state: State
    status: Status
    suspension: Suspension | None
    version: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    history: tuple[HistoryEntry, ...]
    outbox: tuple[OutgoingMessage, ...]
    compensations: tuple[RecordedCompensation, ...]
    timers: tuple[Timer, ...]
    parked: tuple[ParkedEvent, ...]


def read_instance(saga_type: type[SagaT], document: Mapping[str, Any]) -> Instance[SagaT]:
    """Return what people see of *document*, whatever state it is in.

    :raises NewerSchemaError: if the document has a later schema than the class.
    :raises DamagedDocumentError: if the document cannot be read.
    :raises SerializationError: if its data does not fit the class, or a migration fails.
    """
    record = read_record(saga_type, document, any_state=True)
    if record.fault is not None:
        raise record.fault
    return Instance(
        saga=decode_saga(saga_type, record.data),
        correlation_id=record.correlation_id,
        state=saga_type.table.state(record.state) or State(record.state),
        status=record.status,
        suspension=record.suspension,
        version=record.version,
        created_at=record.created_at,
        updated_at=record.updated_at,
        finished_at=record.finished_at,
        history=record.history,
        outbox=record.outbox,
        compensations=record.compensations,
        timers=record.timers,
        parked=record.parked,
    )


async def instances_of(
    saga_type: type[SagaT], scanned: AsyncIterator[Document], now: datetime
) -> AsyncGenerator[Instance[SagaT], None]:
    """Yield what people see of these documents, apart from expired ones.

    :raises SagaflowError: at the end, if a document could not be read: the error of the first.
    """
    first: SagaflowError | None = None
    number = 0
    async with closing(scanned) as documents:
        async for document in documents:
            if has_expired(document.get("expire_at"), now):
                continue
            try:
                instance = read_instance(saga_type, document)
            except SagaflowError as exc:
                first, number = first or exc, number + 1
            else:
                yield instance
    if first is not None:
        if number > 1:
            first.add_note(f"{number - 1} more could not be read either")
        raise first


def unreadable_of(saga_type: type[Saga], document: Mapping[str, Any]) -> Unreadable | None:
    """Return what keeps a class from working on *document*, if anything does."""
    try:
        record = read_record(saga_type, document)
        if record.fault is not None:
            raise record.fault
        if record.status is not Status.EMBRYO:
            decode_saga(saga_type, record.data)
    except SagaflowError as exc:
        stored = document.get("_id")
        return Unreadable(shown_id=shown(stored), correlation_id=id_of(document), error=exc)
    return None
