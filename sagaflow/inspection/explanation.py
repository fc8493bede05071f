"""Why a saga is where it is, what it waits for, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from datetime import datetime
from typing import Final

from attrs import frozen

from sagaflow._codec.upgrade import unknown_state
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._definition.table import Action, TransitionRow
from sagaflow._engine.work import Machine, next_offer, pending
from sagaflow._model.record import (
    TRANSITIONS,
    CompensationStatus,
    Failing,
    SagaRecord,
    Status,
    Suspension,
    SuspensionReason,
    Timer,
    TimerKind,
)
from sagaflow._model.spans import instant, relative, roughly, span
from sagaflow.inspection.shown import shown_error

_REASONS: Final = {
    SuspensionReason.HANDLER: "a handler kept failing",
    SuspensionReason.COMPENSATION: "undoing a step kept failing",
    SuspensionReason.MESSAGE: "the bus kept refusing a message",
    SuspensionReason.TIMEOUT: "it waited for longer than the class's timeout=",
}


@frozen(kw_only=True)
class Explanation:
    """The sentences that explain one saga.

    :ivar here: why it is where it is.
    :ivar waits_for: which events its table takes here, and what they do.
    :ivar next: what happens without any event, and when.
    :ivar can: what an operator can do: the command, and what it does.
    """

    here: tuple[str, ...]
    waits_for: tuple[str, ...]
    next: tuple[str, ...]
    can: tuple[tuple[str, str], ...]


def explain(
    saga_type: type[Saga],
    record: SagaRecord,
    class_of: Callable[[str], type | None],
    now: datetime,
) -> Explanation:
    """Return why a saga is where it is and what comes next.

    :param record: the saga, with its history.
    :param class_of: finds the class of a message by the name under which it is stored.
    """
    definition = definition_of(saga_type)
    machine = Machine(definition.table, definition.options, class_of)
    left_alone = unknown_state(saga_type, record) is not None
    return Explanation(
        here=tuple(_here(saga_type, record, now)),
        waits_for=() if left_alone else tuple(_waits_for(saga_type, record)),
        next=() if left_alone else tuple(_next(record, machine, now)),
        can=tuple(_can(saga_type, record)),
    )


def _here(saga_type: type[Saga], record: SagaRecord, now: datetime) -> Iterator[str]:
    if record.status is Status.EMBRYO:
        yield "it has not started: it only keeps events that came before the one that starts it"
        return
    cause = next((e for e in reversed(record.history) if e.kind in TRANSITIONS), None)
    since = next((e.at for e in reversed(record.history) if e.source != e.target), None)
    at = record.created_at if since is None else since
    yield f"in {record.state} since {instant(at)} ({relative(at, now)})"
    if cause is not None:
        took = f"{cause.event}, message {cause.message_id!r}"
        step = definition_of(saga_type).evolution.present(cause.step)
        yield f"the last transition was {step!r}: {took}"
    unknown = unknown_state(saga_type, record)
    if unknown is not None:
        yield f"the class has no state {unknown!r}: this code does not fit what is stored"
        yield "it is left alone, with its timers and messages, for code that knows the state"
    if record.suspension is not None:
        yield from _suspended(record, record.suspension, now)
    if record.goal is not None:
        done = sum(entry.status is not CompensationStatus.PENDING for entry in record.compensations)
        yield (
            f"it undoes its steps, {done} of {len(record.compensations)} so far, and then enters "
            f"{record.goal}"
        )
    if record.finished_at is not None:
        how = "an operator ended it" if record.cancelled else "it has ended"
        yield f"{how} {relative(record.finished_at, now)}"


def _suspended(record: SagaRecord, suspension: Suspension, now: datetime) -> Iterator[str]:
    yield (
        f"suspended {relative(suspension.since, now)}: {_REASONS[suspension.reason]} "
        f"({_subject(record, suspension)})"
    )
    yield f"the last failure said: {shown_error(suspension.error)}"


def _subject(record: SagaRecord, suspension: Suspension) -> str:
    """Return what a suspension is about."""
    wanted = suspension.subject
    said = [f"undoing {e.step!r} with {e.method!r}" for e in record.compensations if e.id == wanted]
    said += [f"the timer {timer.name!r}" for timer in record.timers if timer.id == wanted]
    said += [f"{e.message.type}, message {e.id!r}" for e in record.parked if e.id == wanted]
    said += [f"{m.message.type}, message {m.id!r}" for m in record.outbox if m.id == wanted]
    return said[0] if said else f"{wanted!r}"


def _waits_for(saga_type: type[Saga], record: SagaRecord) -> Iterator[str]:
    if record.finished_at is not None:
        return
    table = saga_type.table
    later = {
        Status.SUSPENDED: "; while it is suspended, they are kept for later",
        Status.COMPENSATING: "; while it undoes its steps, they are kept for later",
    }.get(record.status, "")
    for event in table.events:
        for row in table.candidates(record.state or None, event):
            yield f"{event.__name__}: {_does(row)}{later}"
            if not row.guards:  # the rows behind it are never asked
                break


def _does(row: TransitionRow) -> str:
    guards = " and ".join(getattr(guard, "__name__", "a guard") for guard in row.guards)
    when = f", if {guards}" if guards else ""
    targets = " or ".join(state.name for state in row.targets)
    match row.action:
        case Action.IGNORE:
            return f"ignored{when}"
        case Action.DEFER:
            return f"kept until the state changes{when}"
        case Action.STAY:
            return f"{row.step!r}, and it stays here{when}"
        case Action.GOTO | Action.BRANCH:
            first = "undoes its steps and then enters" if row.compensates else "enters"
            return f"{row.step!r} {first} {targets}{when}"


def _next(record: SagaRecord, machine: Machine, now: datetime) -> Iterator[str]:
    if record.outbox:
        first = record.outbox[0]
        yield (
            f"{_counted(record.outbox, 'outgoing message')}, the first {first.message.type} for "
            f"{roughly(now - first.created_at)}{_failing(record, record.sending, now)}"
        )
    entry = pending(record)
    if record.status is Status.COMPENSATING and entry is not None:
        yield f"undo {entry.step!r} with {entry.method!r}{_failing(record, entry.failing, now)}"
    offer = next_offer(record, machine) if record.status is Status.ACTIVE else None
    if offer is not None:
        failing = _failing(record, offer.failing, now)
        yield f"take the parked {offer.message.type} {offer.id!r}{failing}"
    elif record.parked:
        first_type = record.parked[0].message.type
        yield f"{_counted(record.parked, 'parked event')}, the first {first_type}"
    for timer in sorted(record.timers, key=lambda timer: timer.due):
        yield (
            f"{instant(timer.due)} ({relative(timer.due, now)}): {_fires(timer)}"
            f"{_failing(record, timer.failing, now)}"
        )
    yield from _work(record, now)


def _fires(timer: Timer) -> str:
    if timer.kind is TimerKind.DEFAULT:
        return "it is suspended, unless something happens before"
    if timer.event is not None:
        return f"the scheduled {timer.event.type} ({timer.name!r})"
    after = "" if timer.delay is None else f" after {span(timer.delay)}"
    return f"the timeout {timer.name!r}{after}"


def _work(record: SagaRecord, now: datetime) -> Iterator[str]:
    """Yield which process does the due work, or that none seems to do it."""
    if record.wake is None or record.wake > now:
        return
    if record.lease is not None and record.lease.until > now:
        yield f"a worker is at it, until {instant(record.lease.until)} at most"
    else:
        yield (
            f"there has been work to do for {roughly(now - record.wake)} and nobody does it: does "
            "a worker run for this saga and this database?"
        )


def _failing(record: SagaRecord, failing: Failing | None, now: datetime) -> str:
    if failing is None:
        return ""
    times = "once" if failing.attempts == 1 else f"{failing.attempts} times"
    again = f" and is tried again {relative(failing.due, now)}"
    return (
        f"; it has failed {times} since {roughly(now - failing.since)}"
        f"{again if record.suspension is None else ''}: {shown_error(failing.error)}"
    )


def _counted(waiting: Sized, noun: str) -> str:
    count = len(waiting)
    return f"{count} {noun} waits" if count == 1 else f"{count} {noun}s wait"


def _can(saga_type: type[Saga], record: SagaRecord) -> Iterator[tuple[str, str]]:
    left_alone = unknown_state(saga_type, record) is not None
    if record.suspension is not None and not left_alone:
        yield "resume", "have it tried again by the running workers, with new patience"
        yield "skip", "leave out what failed and go on with what came later"
    if record.finished_at is None and record.status is not Status.EMBRYO:
        undone = sum(entry.status is CompensationStatus.PENDING for entry in record.compensations)
        steps = "step" if undone == 1 else "steps, last first"
        end = f"undo {undone} completed {steps}, and end it" if undone else "end it"
        if left_alone:
            final = ", ".join(state.name for state in saga_type.table.states if state.final)
            yield "cancel --state STATE", f"{end} in a state that the class knows: {final}"
        else:
            yield "cancel", end if undone else "end it; there is nothing to undo"
