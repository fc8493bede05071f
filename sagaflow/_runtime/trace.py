"""What the parts of an orchestrator do, told in place to whoever observes it.

As in httpcore's ``_trace.py``, the code that does something says so where it does it, and pays next
to nothing for that if nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Self, TypeVar

from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._engine.conclusion import described
from sagaflow._engine.failure import attempts_of
from sagaflow._engine.outcome import Outcome, OutcomeKind
from sagaflow._engine.work import Fire, Offer, Undo, Work
from sagaflow._engine.writing import WITHOUT_EFFECT
from sagaflow._model.clock import Clock
from sagaflow._model.errors import RepositoryError
from sagaflow._model.ids import SagaId
from sagaflow._model.record import (
    Failing,
    HistoryKind,
    OutgoingMessage,
    ParkedEvent,
    RecordedCompensation,
    SagaRecord,
    Status,
    Timer,
)
from sagaflow.observing import (
    Activity,
    ActivityKind,
    Ended,
    Observers,
    Retrying,
    StoreFails,
    StoreIsBack,
    Suspended,
    current_activity,
    decoded,
)

ResultT = TypeVar("ResultT")

_DROPPED: Final = {
    "unhandled": OutcomeKind.UNHANDLED.value,
    "ignored": OutcomeKind.IGNORED.value,
}


class Telling(Generic[ResultT]):
    """Something that is being done, and of which nobody is told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ended(self, result: ResultT) -> None:
        """Say what came of it; what is left without a word has failed."""


_NOBODY: Final[Telling[Any]] = Telling()


@frozen
class _Told(Telling[ResultT]):
    """Something that is being done, and of whose result somebody is told."""

    tell: Callable[[ResultT], None]

    def ended(self, result: ResultT) -> None:
        self.tell(result)


@frozen
class Trace:
    """Tells observers of what is done; nobody, if there are none."""

    observers: Observers | None = None

    def carried(self, headers: object) -> object:
        """Return *headers*, in stored form, with what the present activity adds to them."""
        return headers if self.observers is None else self.observers.carried(headers)

    def event(
        self,
        saga_type: type[Saga],
        correlation_id: SagaId | None,
        body: object,
        message_id: SagaId | None = None,
        headers: object = None,
    ) -> AbstractContextManager[Telling[Outcome]]:
        """Tell of an event that a saga takes.

        :param headers: what came along with it, in stored form.
        """
        if self.observers is None:
            return _NOBODY
        activity = Activity(
            kind=ActivityKind.EVENT,
            saga=saga_type.table.saga,
            correlation_id=correlation_id,
            name=type(body).__name__,
            message_id=message_id,
            headers=decoded(headers or {}),
            body=body,
            outcome="failed",
        )

        def tell(outcome: Outcome) -> None:
            activity.outcome, activity.version = outcome.kind.value, outcome.version

        return _told(self.observers, activity, tell)

    def handler(
        self,
        saga_type: type[Saga],
        step: str,
        correlation_id: SagaId,
        body: object,
        message_id: SagaId,
        headers: object,
        record: SagaRecord | None,
    ) -> AbstractContextManager[Telling[None]]:
        """Tell of a handler that runs.

        :param record: the saga that it sees; None at its start.
        """
        if self.observers is None:
            return _NOBODY
        activity = Activity(
            kind=ActivityKind.HANDLER,
            saga=saga_type.table.saga,
            correlation_id=correlation_id,
            name=step,
            message_id=message_id,
            headers=decoded(headers),
            body=body,
            version=0 if record is None else record.version,
            outcome="failed",
        )

        def tell(_: None) -> None:
            activity.outcome = "done"

        return _told(self.observers, activity, tell)

    def work(
        self, saga_type: type[Saga], record: SagaRecord, work: Work, now: datetime
    ) -> AbstractContextManager[Telling[SagaRecord | None]]:
        """Tell of a timer that fires, a parked event that is offered, or a step that is undone.

        It ends with the saga as it is stored then; None if another write came first.
        """
        if self.observers is None:
            return _NOBODY
        activity = _activity_of(saga_type, record, work, now)

        def tell(after: SagaRecord | None) -> None:
            activity.outcome = _outcome_of(activity, record, work, after)
            activity.version = 0 if after is None else after.version

        return _told(self.observers, activity, tell)

    def commit(
        self, saga_type: type[Saga], before: SagaRecord | None, after: SagaRecord
    ) -> AbstractContextManager[Telling[bool]]:
        """Tell of a write, and of what it means; it ends with whether it was stored.

        :param before: the saga that it changes; None if it starts one.
        """
        observers = self.observers
        if observers is None:
            return _NOBODY
        entry = after.history[-1]
        activity = Activity(
            kind=ActivityKind.COMMIT,
            saga=saga_type.table.saga,
            correlation_id=after.correlation_id,
            name=entry.step,
            message_id=entry.message_id,
            version=after.version,
            attempt=entry.attempt,
            outcome="failed",
        )
        known = None if before is None or before.incarnation != after.incarnation else before

        def tell(stored: bool) -> None:  # noqa: FBT001
            activity.outcome = "won" if stored else "lost"
            if not stored:
                return
            for dropped in _dropped(activity.saga, known, after):
                with observers.observe(dropped):
                    pass
            for fact in _facts_of(activity.saga, known, after):
                observers.note(fact)

        return _told(observers, activity, tell)

    def publication(
        self, saga_type: type[Saga], record: SagaRecord, message: OutgoingMessage, clock: Clock
    ) -> AbstractContextManager[Telling[Failing | None]]:
        """Tell of a message that is offered to the bus; it ends with how that has failed."""
        observers = self.observers
        if observers is None:
            return _NOBODY
        activity = Activity(
            kind=ActivityKind.PUBLISH,
            saga=saga_type.table.saga,
            correlation_id=record.correlation_id,
            name=message.message.type,
            message_id=message.id,
            headers=decoded(message.headers),
            version=record.version,
            late=clock.now() - message.created_at,
            outcome="failed",
        )

        def tell(failing: Failing | None) -> None:
            activity.outcome = "accepted" if failing is None else "refused"
            if failing is not None:
                activity.attempt = failing.attempts
                observers.note(_retrying(activity.saga, record, failing))

        return _told(observers, activity, tell)

    def failed(self, error: BaseException) -> None:
        """Tell of the present activity that it has failed, which nobody sees raised."""
        activity = None if self.observers is None else current_activity()
        if activity is not None:
            activity.error = error

    def dropped(self, why: str) -> None:
        """Tell of the present activity that what it is about means nothing any more."""
        activity = None if self.observers is None else current_activity()
        if activity is not None:
            activity.outcome = _DROPPED.get(why, "dropped")

    def store_fails(self, error: RepositoryError) -> None:
        """Tell that the store has begun to fail."""
        if self.observers is not None:
            self.observers.note(StoreFails(error=error))

    def store_is_back(self) -> None:
        """Tell that the store answers again."""
        if self.observers is not None:
            self.observers.note(StoreIsBack())


SILENT: Final = Trace()
"""Tells nobody."""


@contextmanager
def _told(
    observers: Observers, activity: Activity, tell: Callable[[ResultT], None]
) -> Generator[Telling[ResultT]]:
    with observers.observe(activity):
        yield _Told(tell)


def _activity_of(saga_type: type[Saga], record: SagaRecord, work: Work, now: datetime) -> Activity:
    due: datetime | None
    match work:
        case Undo(entry):
            kind, name, message_id = ActivityKind.COMPENSATION, entry.step, entry.message_id
            headers, failing, due = entry.headers, entry.failing, None
        case Fire(timer):
            kind, (name, message_id) = ActivityKind.EVENT, described(work)
            headers, failing, due = timer.headers, timer.failing, timer.due
        case Offer(event):
            kind, (name, message_id) = ActivityKind.EVENT, described(work)
            headers, failing, due = event.headers, event.failing, None
    due = due if failing is None else failing.due
    return Activity(
        kind=kind,
        saga=saga_type.table.saga,
        correlation_id=record.correlation_id,
        name=name,
        message_id=message_id,
        headers=decoded(headers),
        version=record.version,
        attempt=attempts_of(work),
        late=None if due is None else max(now - due, timedelta(0)),
        timer=work.timer.name if isinstance(work, Fire) else None,
    )


def _outcome_of(
    activity: Activity, before: SagaRecord, work: Work, after: SagaRecord | None
) -> str:
    if after is None:
        return "conflict"
    if after.suspension is not None:
        return OutcomeKind.SUSPENDED.value
    if activity.error is not None:
        return "failed"
    if isinstance(work, Undo):
        return "done"
    return activity.outcome or _kind_of(before, work, after).value


def _kind_of(before: SagaRecord, work: Fire | Offer, after: SagaRecord) -> OutcomeKind:
    if isinstance(work, Offer) and any(event.id == work.event.id for event in after.parked):
        return OutcomeKind.DEFERRED
    if after.status is Status.COMPENSATING:
        return OutcomeKind.COMPENSATING
    return OutcomeKind.STAYED if after.state == before.state else OutcomeKind.TRANSITIONED


def _facts_of(
    saga: str, before: SagaRecord | None, after: SagaRecord
) -> Iterator[Retrying | Suspended | Ended]:
    """Yield what a write means beyond itself."""
    correlation_id, suspension = after.correlation_id, after.suspension
    for failing in _new_failures(before, after):
        yield _retrying(saga, after, failing)
    if suspension is not None and (before is None or before.suspension is None):
        yield Suspended(saga=saga, correlation_id=correlation_id, reason=suspension.reason)
    if after.finished_at is not None and (before is None or before.finished_at is None):
        took = after.finished_at - after.created_at
        yield Ended(saga=saga, correlation_id=correlation_id, state=after.state, took=took)


def _dropped(saga: str, before: SagaRecord | None, after: SagaRecord) -> Iterator[Activity]:
    """Yield what was accepted, was waiting, and comes to nothing with this write."""
    headers = {} if before is None else {event.id: event.headers for event in before.parked}
    for entry in after.history:
        if entry.kind is HistoryKind.DROPPED and entry.step in WITHOUT_EFFECT:
            yield Activity(
                kind=ActivityKind.EVENT,
                saga=saga,
                correlation_id=after.correlation_id,
                name=entry.event,
                message_id=entry.message_id,
                headers=decoded(headers.get(entry.message_id, {})),
                version=entry.version,
                outcome="dropped",
            )


def _retrying(saga: str, record: SagaRecord, failing: Failing) -> Retrying:
    return Retrying(
        saga=saga,
        correlation_id=record.correlation_id,
        attempts=failing.attempts,
        due=failing.due,
    )


def _new_failures(before: SagaRecord | None, after: SagaRecord) -> Iterator[Failing]:
    """Yield what has failed with this write, and is tried again."""
    if after.suspension is not None:
        return
    known = {} if before is None else dict(_failures(before))
    for key, failing in _failures(after):
        if key not in known or known[key].attempts < failing.attempts:
            yield failing


def _failures(record: SagaRecord) -> Iterator[tuple[tuple[str, SagaId], Failing]]:
    elements: tuple[RecordedCompensation | Timer | ParkedEvent, ...] = (
        *record.compensations,
        *record.timers,
        *record.parked,
    )
    for element in elements:
        if element.failing is not None:
            yield (type(element).__name__, element.id), element.failing
