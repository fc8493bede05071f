"""What an event means for a saga: which transition it takes, or why none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime

from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._definition.table import Action, TransitionRow, TransitionTable
from sagaflow._engine.duplicates import is_duplicate
from sagaflow._engine.outcome import OutcomeKind
from sagaflow._engine.work import Machine, has_timer_before, next_offer
from sagaflow._model.errors import SagaDefinitionError
from sagaflow._model.record import SagaRecord, Status


@frozen
class Settled:
    """The answer for an event that runs no handler and writes nothing."""

    kind: OutcomeKind


@frozen
class Park:
    """The answer for an event that the saga keeps for later."""

    kind: OutcomeKind


def settle(  # noqa: PLR0911 - one answer for each condition of a saga
    machine: Machine,
    record: SagaRecord | None,
    event_type: type,
    message_id: object,
    accepted: datetime,
) -> Settled | Park | None:
    """Return what becomes of an arriving event, if that does not depend on the saga's data.

    :param record: the saga as it was read for this message; None if there is none.
    :param accepted: when the event's turn came.
    :return: None if a transition may take the event.
    """
    if record is None:
        return None if machine.table.candidates(None, event_type) else _NOT_FOUND
    if is_duplicate(record, message_id):
        return Settled(OutcomeKind.DUPLICATE)
    rows = machine.table.candidates(record.state or None, event_type)
    if record.finished_at is not None:
        ignored = any(row.action is Action.IGNORE for row in rows)
        return Settled(OutcomeKind.IGNORED if ignored else OutcomeKind.FINISHED)
    match record.status:
        case Status.EMBRYO:
            return None if rows else _NOT_FOUND
        case Status.SUSPENDED:
            return Park(OutcomeKind.SUSPENDED)
        case Status.COMPENSATING:
            return Park(OutcomeKind.DEFERRED)
        case Status.ACTIVE | Status.FINISHED:
            # Timers and parked events that arose before this event are handled before it.
            if record.timers and has_timer_before(record, accepted):
                return Park(OutcomeKind.DEFERRED)
            if record.parked and next_offer(record, machine) is not None:
                return Park(OutcomeKind.DEFERRED)
            return None if rows else Settled(OutcomeKind.UNHANDLED)


_NOT_FOUND = Settled(OutcomeKind.NOT_FOUND)


def choose(
    table: TransitionTable, state: str | None, copy: Callable[[], Saga], event: object
) -> TransitionRow | None:
    """Return the first transition whose guards all hold; each guard is asked once at most.

    :param copy: makes a copy of the saga. Each guard is given a copy of its own, so that neither
        the next guard nor the handler sees what a guard changes.
    :raises SagaDefinitionError: if a guard returns something to await, which is no answer.
    :raises Exception: what a guard raises.
    """
    for row in table.candidates(state, type(event)):
        if not row.guards or all(_holds(table, row, guard(copy(), event)) for guard in row.guards):
            return row
    return None


def _holds(table: TransitionTable, row: TransitionRow, answer: object) -> bool:
    if answer is True or answer is False:
        return answer
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise SagaDefinitionError(
            "a predicate of when() returned something to await, which says neither yes nor no: "
            "return a bool, and await in the handler",
            saga=table.saga,
            method=row.step,
            filename=row.filename,
            line=row.line,
        )
    return bool(answer)


def timeout_row(
    table: TransitionTable, record: SagaRecord, step: str, delay: object
) -> TransitionRow | None:
    """Return the timeout that a timer was armed for, if the class still declares it.

    The class may have another delay by now. A saga that waits already keeps the delay with which
    its timer was armed.

    :param step: the method of the timeout.
    :param delay: the delay with which the timer was armed.
    """
    rows = [row for row in table.timeouts(record.state) if row.step == step]
    return next((row for row in rows if row.after == delay), rows[0] if len(rows) == 1 else None)
