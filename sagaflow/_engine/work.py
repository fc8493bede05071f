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

    :ivar arisen: when the work arose or will arise: work that arises earlier is done first.
    :ivar due: when the work is to be done, or tried again.
    :ivar failing: how the work has failed so far; None if it has not.
    :ivar work: the work itself.
    """

    arisen: datetime
    due: datetime
    failing: Failing | None
    work: Work


@frozen
class Machine:
    """A saga class as the engine needs it.

    :ivar table: the transitions of the class.
    :ivar options: what the keywords of the class say.
    :ivar class_of: finds the class of a message by the name under which it is stored.
    """

    table: TransitionTable
    options: Options
    class_of: Callable[[str], type | None]


def next_work(record: SagaRecord, machine: Machine, now: datetime) -> Work | None:
    """Return the work that is to be done now, apart from the sending of messages.

    The work that arose first is done first. If it has failed and is tried again later, all work
    that arose after it waits until then.
    """
    first = first_work(record, machine)
    return first.work if first is not None and first.due <= now else None


def has_timer_before(record: SagaRecord, accepted: datetime) -> bool:
    """Tell whether a timer that has not fired yet arose before an event that is accepted now."""
    if not record.timers or record.status is not Status.ACTIVE:
        return False
    return any(timer.due < accepted or timer.failing is not None for timer in record.timers)


def has_work(record: SagaRecord) -> bool:
    """Tell whether a saga may have work, now or later, apart from the sending of messages."""
    if record.status is Status.ACTIVE:
        return bool(record.timers or record.parked)
    return record.status is Status.COMPENSATING


def earliest(record: SagaRecord, machine: Machine) -> datetime | None:
    """Return when a saga has something to do, sending included; None if nothing is to come.

    The stored ``wake`` must not be later: others find by it the work that a dead process has left.
    """
    return earliest_of(record, first_work(record, machine))


def earliest_of(record: SagaRecord, first: Pending | None) -> datetime | None:
    """Return when a saga has something to do, sending included; None if nothing is to come.

    :param first: the work that is to be done first, apart from the sending of messages.
    """
    work = None if first is None else first.due
    if not record.outbox or (record.suspension is not None and is_suspended_by_message(record)):
        return work
    sending = record.updated_at if record.sending is None else record.sending.due
    return sending if work is None else min(work, sending)


def earliest_work(record: SagaRecord, machine: Machine) -> datetime | None:
    """Return when a saga has work, apart from the sending of messages; None if it has none."""
    first = first_work(record, machine)
    return None if first is None else first.due


def pending(record: SagaRecord) -> RecordedCompensation | None:
    """Return the step to undo next: the last completed step that is not undone."""
    for entry in reversed(record.compensations):
        if entry.status is CompensationStatus.PENDING:
            return entry
    return None


def next_offer(record: SagaRecord, machine: Machine) -> ParkedEvent | None:
    """Return the parked event to handle next; None if every one has to wait.

    An event that has failed holds up the events behind it.
    """
    for event in record.parked:
        if event.failing is not None or not _must_wait(record, machine, event):
            return event
    return None


def first_work(record: SagaRecord, machine: Machine) -> Pending | None:
    """Return the work that arises first, apart from the sending of messages.

    Of work that arises at one instant, work that has failed comes first, and then a parked event.
    """
    if not (record.timers or record.parked or record.status is Status.COMPENSATING):
        return None  # the usual case: nothing is to come
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
            # The event was accepted no later than the last write, even if the clock of the process
            # that parked it was fast.
            accepted = min(offer.parked_at, record.updated_at)
            yield _since(accepted, record.updated_at, offer.failing, Offer(offer))
        for timer in record.timers:
            yield _since(timer.due, timer.due, timer.failing, Fire(timer))


def _since(arisen: datetime, due: datetime, failing: Failing | None, work: Work) -> Pending:
    return Pending(arisen, due if failing is None else failing.due, failing, work)


def still_waiting(record: SagaRecord, machine: Machine, version: int) -> tuple[ParkedEvent, ...]:
    """Return the parked events, for a write that changes nothing which guards are asked about.

    The events that guards have deferred are not offered again because of such a write. Otherwise,
    two of these events would be offered in turn for ever.

    :param version: the version that the write makes.
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
        return False  # the attempt fails and tells an operator what is wrong
    # Guards may have deferred the event, and nothing was written since they were asked.
    return event.offered >= record.version or _is_held(record, machine, event)


def _is_held(record: SagaRecord, machine: Machine, event: ParkedEvent) -> bool:
    """Tell whether the state of the saga defers the event, whatever its data says."""
    event_type = machine.class_of(event.message.type)
    rows = () if event_type is None else machine.table.candidates(record.state, event_type)
    return bool(rows) and rows[0].action is Action.DEFER and not rows[0].guards


def is_suspended_by_message(record: SagaRecord) -> bool:
    """Tell whether a saga is suspended because the bus kept refusing one of its messages."""
    suspension = record.suspension
    return suspension is not None and suspension.reason is SuspensionReason.MESSAGE
