"""What a saga has to do, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import frozen

from sagaflow._definition.saga import Options
from sagaflow._definition.table import Action, TransitionTable
from sagaflow.record import (
    ParkedEvent,
    RecordedCompensation,
    SagaRecord,
    Status,
    StepStatus,
    SuspensionReason,
    Timer,
)


@frozen
class Undo:
    """A step that is to be undone."""

    entry: RecordedCompensation


@frozen
class Fire:
    """A timer that is due."""

    timer: Timer


@frozen
class Offer:
    """A parked event that may be handled now."""

    event: ParkedEvent


Work = Undo | Fire | Offer


@frozen
class Machine:
    """A saga class as the engine needs it.

    :ivar table: its transitions.
    :ivar options: what its class keywords say.
    :ivar class_of: finds the class of a message by the name under which it is stored.
    """

    table: TransitionTable
    options: Options
    class_of: Callable[[str], type | None]


def next_work(record: SagaRecord, machine: Machine, now: datetime) -> Work | None:
    """Return what is due first, sending apart."""
    if not has_work(record):
        return None
    due = [(when, work) for when, work in _pending_work(record, machine) if when <= now]
    return min(due, key=lambda item: item[0])[1] if due else None


def has_work(record: SagaRecord) -> bool:
    """Tell whether anything may be to do, now or later, sending apart."""
    if record.status is Status.ACTIVE:
        return bool(record.timers or record.parked)
    return record.status is Status.COMPENSATING


def earliest(record: SagaRecord, machine: Machine) -> datetime | None:
    """Return when there is something to do, sending included; None if nothing is to come.

    This is what ``wake`` must not exceed, or the work of a dead process would be lost.
    """
    times = [when for when, _ in _pending_work(record, machine)] if has_work(record) else []
    if record.outbox and not is_suspended_by_message(record):
        times.append(record.updated_at if record.sending is None else record.sending.due)
    return min(times, default=None)


def pending(record: SagaRecord) -> RecordedCompensation | None:
    """Return the step to undo next: the last that is not undone."""
    for entry in reversed(record.compensations):
        if entry.status is StepStatus.PENDING:
            return entry
    return None


def next_offer(record: SagaRecord, machine: Machine) -> ParkedEvent | None:
    """Return the parked event to handle next; one that failed holds up those behind it."""
    for event in record.parked:
        if event.failing is not None or not _must_wait(record, machine, event):
            return event
    return None


def _pending_work(record: SagaRecord, machine: Machine) -> list[tuple[datetime, Work]]:
    if record.status is Status.COMPENSATING:
        entry = pending(record)
        if entry is None:
            return []
        when = record.updated_at if entry.failing is None else entry.failing.due
        return [(when, Undo(entry))]
    if record.status is not Status.ACTIVE:
        return []
    work: list[tuple[datetime, Work]] = [(timer.due, Fire(timer)) for timer in record.timers]
    offer = next_offer(record, machine)
    if offer is not None:
        when = record.updated_at if offer.failing is None else offer.failing.due
        work.append((when, Offer(offer)))
    return work


def _must_wait(record: SagaRecord, machine: Machine, event: ParkedEvent) -> bool:
    """Tell whether the saga would only defer the event again."""
    event_type = machine.class_of(event.message.type)
    if event_type is None:  # an attempt tells what is wrong, where an operator sees it
        return False
    rows = machine.table.candidates(record.state, event_type)
    if rows and rows[0].action is Action.DEFER and not rows[0].guards:
        return True
    # Guards may have deferred it, and nothing was written since they were asked.
    return event.offered >= record.version


def is_suspended_by_message(record: SagaRecord) -> bool:
    """Tell whether a message that the bus kept refusing is what an operator decides on."""
    suspension = record.suspension
    return suspension is not None and suspension.reason is SuspensionReason.MESSAGE
