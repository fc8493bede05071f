"""One stored saga, as people look at it."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._model.ids import SagaId
from sagaflow._model.record import (
    HistoryEntry,
    OutgoingMessage,
    ParkedEvent,
    RecordedCompensation,
    Status,
    Suspension,
    Timer,
)

SagaT_co = TypeVar("SagaT_co", bound=Saga, covariant=True)


@frozen(kw_only=True)
class Instance(Generic[SagaT_co]):
    """One stored saga: a copy, so that changing it changes nothing that is stored.

    :ivar saga: its data, as an instance of its class.
    :ivar correlation_id: which saga it is.
    :ivar state: the state it is in.
    :ivar status: what it is doing.
    :ivar version: counts its writes, from 1.
    :ivar created_at: when it started; aware, UTC.
    :ivar updated_at: when it last changed; aware, UTC.
    :ivar finished_at: when it entered a final state; None before.
    :ivar history: its last writes, oldest first.
    :ivar outbox: the messages that the bus has not accepted yet, in their order.
    :ivar compensations: the steps that would be undone, or were, in the order of completion.
    :ivar timers: what happens later.
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
