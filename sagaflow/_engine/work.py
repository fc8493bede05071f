"""What a saga has to do, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from attrs import frozen

from sagaflow._definition.saga import Options
from sagaflow._definition.table import Action, TransitionTable
from sagaflow._model.record import (
    CompensationStatus,
    Failing,
    ParkedEvent,
    RecordedCompensation,
    SagaRecord,
    Status,
    SuspensionReason,
    Timer,
    evolve,
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
class Pending:
    """Work that is to come.

    :ivar arisen: since when, or from when on, it is to be done: what comes earlier is done first.
    :ivar due: when it is done, or tried again.
    :ivar failing: how it has failed so far.
    """

    arisen: datetime
    due: datetime
    failing: Failing | None
    work: Work


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
    """Return what is to be done now, sending apart.

    That is what arose first. Where it has failed and is tried again later, what arose after it
    waits until then.
    """
    first = first_work(record, machine)
    return first.work if first is not None and first.due <= now else None


def has_timer_before(record: SagaRecord, accepted: datetime) -> bool:
    """Tell whether a timer that has not fired yet arose before an event that is accepted now."""
    if not record.timers or record.status is not Status.ACTIVE:
        return False
    return any(timer.due < accepted or timer.failing is not None for timer in record.timers)


def has_work(record: SagaRecord) -> bool:
    """Tell whether anything may be to do, now or later, sending apart."""
    if record.status is Status.ACTIVE:
        return bool(record.timers or record.parked)
    return record.status is Status.COMPENSATING


def earliest(record: SagaRecord, machine: Machine) -> datetime | None:
    """Return when there is something to do, sending included; None if nothing is to come.

    This is what ``wake`` must not exceed, or the work of a dead process would be lost.
    """
    return earliest_of(record, first_work(record, machine))


def earliest_of(record: SagaRecord, first: Pending | None) -> datetime | None:
    """Return when there is something to do, sending included.

    :param first: what is to be done first, sending apart.
    """
    work = None if first is None else first.due
    if not record.outbox or (record.suspension is not None and is_suspended_by_message(record)):
        return work
    sending = record.updated_at if record.sending is None else record.sending.due
    return sending if work is None else min(work, sending)


def earliest_work(record: SagaRecord, machine: Machine) -> datetime | None:
    """Return when there is something to do, sending apart; None if nothing is to come."""
    first = first_work(record, machine)
    return None if first is None else first.due


def pending(record: SagaRecord) -> RecordedCompensation | None:
    """Return the step to undo next: the last that is not undone."""
    for entry in reversed(record.compensations):
        if entry.status is CompensationStatus.PENDING:
            return entry
    return None


def next_offer(record: SagaRecord, machine: Machine) -> ParkedEvent | None:
    """Return the parked event to handle next; one that failed holds up those behind it."""
    for event in record.parked:
        if event.failing is not None or not _must_wait(record, machine, event):
            return event
    return None


def first_work(record: SagaRecord, machine: Machine) -> Pending | None:
    """Return what arises first of all that is to come, sending apart.

    Of what arises at one instant, that is what has failed, and else an event.
    """
    if not (record.timers or record.parked or record.status is Status.COMPENSATING):
        return None  # the usual case, at once
    return min(
        _pending_work(record, machine),
        key=lambda one: (one.arisen, one.failing is None),
        default=None,
    )


def _pending_work(record: SagaRecord, machine: Machine) -> Iterator[Pending]:
    if record.status is Status.COMPENSATING:
        entry = pending(record)
        if entry is not None:
            yield _since(record.updated_at, record.updated_at, entry.failing, Undo(entry))
    elif record.status is Status.ACTIVE:
        offer = next_offer(record, machine)
        if offer is not None:
            # No later than the last write, however fast the clock of another process was.
            accepted = min(offer.parked_at, record.updated_at)
            yield _since(accepted, record.updated_at, offer.failing, Offer(offer))
        for timer in record.timers:
            yield _since(timer.due, timer.due, timer.failing, Fire(timer))


def _since(arisen: datetime, due: datetime, failing: Failing | None, work: Work) -> Pending:
    return Pending(arisen, due if failing is None else failing.due, failing, work)


def still_waiting(record: SagaRecord, machine: Machine, version: int) -> tuple[ParkedEvent, ...]:
    """Return what is parked, for a write that changes nothing which guards are asked about.

    Those that guards have deferred are not offered again for that, or two of them would be asked
    in turn for ever.

    :param version: that the write makes.
    """
    if not any(_is_held_by_guards(record, machine, event) for event in record.parked):
        return record.parked
    return tuple(
        evolve(event, offered=version) if _is_held_by_guards(record, machine, event) else event
        for event in record.parked
    )


def _is_held_by_guards(record: SagaRecord, machine: Machine, event: ParkedEvent) -> bool:
    return event.offered >= record.version and not _is_held(record, machine, event)


def _must_wait(record: SagaRecord, machine: Machine, event: ParkedEvent) -> bool:
    """Tell whether the saga would only defer the event again."""
    if machine.class_of(event.message.type) is None:
        return False  # an attempt tells what is wrong, where an operator sees it
    # Guards may have deferred it, and nothing was written since they were asked.
    return event.offered >= record.version or _is_held(record, machine, event)


def _is_held(record: SagaRecord, machine: Machine, event: ParkedEvent) -> bool:
    """Tell whether the state of the saga defers the event, whatever its data says."""
    event_type = machine.class_of(event.message.type)
    rows = () if event_type is None else machine.table.candidates(record.state, event_type)
    return bool(rows) and rows[0].action is Action.DEFER and not rows[0].guards


def is_suspended_by_message(record: SagaRecord) -> bool:
    """Tell whether a message that the bus kept refusing is what an operator decides on."""
    suspension = record.suspension
    return suspension is not None and suspension.reason is SuspensionReason.MESSAGE
