"""The parts of an orchestrator, each telling observers what it does.

An orchestrator that nobody observes is made of the parts themselves, and does nothing for this.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from anyio.abc import TaskGroup
from attrs import define, evolve, field, frozen

from sagaflow._definition.chain import Finished
from sagaflow._definition.saga import Saga
from sagaflow._definition.table import TransitionRow
from sagaflow._engine.conclusion import Run, described
from sagaflow._engine.failure import attempts_of
from sagaflow._engine.work import Fire, Offer, Undo, Work
from sagaflow.commits import Commits
from sagaflow.deciding import Decided, Deciding
from sagaflow.handling import Event, Handling
from sagaflow.observed_commits import ObservedCommits
from sagaflow.observing import (
    Activity,
    ActivityKind,
    Observers,
    Retrying,
    current_activity,
    decoded,
)
from sagaflow.outcome import Outcome, OutcomeKind
from sagaflow.processing import Processing
from sagaflow.record import (
    Failing,
    OutgoingMessage,
    SagaRecord,
    Status,
)
from sagaflow.relay import Relay
from sagaflow.working import Working


@frozen(kw_only=True)
class ObservedProcessing(Processing):
    """Tells of each event."""

    observers: Observers

    async def take(
        self,
        saga_type: type[Saga],
        event: Event,
        tasks: TaskGroup | None,
        *,
        wait: bool,
        keep_failures: bool,
    ) -> Outcome:
        """Have a saga take *event*; what that causes carries what the observers add."""
        activity = Activity(
            kind=ActivityKind.EVENT,
            saga=saga_type.table.saga,
            correlation_id=event.correlation_id,
            name=type(event.body).__name__,
            message_id=event.message_id,
            headers=decoded(event.headers),
            body=event.body,
            outcome="failed",
        )
        with self.observers.observe(activity):
            carrying = evolve(event, headers=self.observers.carried(event.headers))
            outcome = await super().take(
                saga_type, carrying, tasks, wait=wait, keep_failures=keep_failures
            )
            activity.outcome, activity.version = outcome.kind.value, outcome.version
            return outcome

    def uncorrelated(self, saga_type: type[Saga], event: object) -> Outcome:
        """Tell that an event says nowhere which saga it belongs to."""
        outcome = super().uncorrelated(saga_type, event)
        activity = Activity(
            kind=ActivityKind.EVENT,
            saga=saga_type.table.saga,
            correlation_id=None,
            name=type(event).__name__,
            outcome=outcome.kind.value,
        )
        with self.observers.observe(activity):
            return outcome


@frozen(kw_only=True)
class ObservedDeciding(Deciding):
    """Tells of a failure that is kept rather than raised."""

    def _failed(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        event: Event,
        error: Exception,
        accepted: datetime,
    ) -> Decided:
        _note_error(error)
        return super()._failed(saga_type, record, event, error, accepted)


@frozen(kw_only=True)
class ObservedHandling(Handling):
    """Tells of each handler that runs."""

    observers: Observers

    async def run(
        self, row: TransitionRow, saga: Saga, event: Event, record: SagaRecord | None
    ) -> Run:
        """Run the handler of *row*; what it causes carries what the observers add."""
        if isinstance(getattr(saga, row.step), Finished):
            run = await super().run(row, saga, event, record)
            return evolve(run, headers=self.observers.carried(event.headers))
        activity = Activity(
            kind=ActivityKind.HANDLER,
            saga=type(saga).table.saga,
            correlation_id=event.correlation_id,
            name=row.step,
            message_id=event.message_id,
            headers=decoded(event.headers),
            body=event.body,
            version=0 if record is None else record.version,
            outcome="failed",
        )
        with self.observers.observe(activity):
            run = await super().run(row, saga, event, record)
            activity.outcome = "done"
            return evolve(run, headers=self.observers.carried(event.headers))


@frozen(kw_only=True)
class ObservedWorking(Working):
    """Tells of each timer that fires, parked event that is offered and step that is undone."""

    observers: Observers

    async def _done(
        self, saga_type: type[Saga], record: SagaRecord, work: Work
    ) -> SagaRecord | None:
        activity = _activity_of(saga_type, record, work, self.commits.clock.now())
        with self.observers.observe(activity):
            if isinstance(work, Undo):
                headers = self.observers.carried(work.entry.headers)
                work = Undo(evolve(work.entry, headers=headers))
            after = await super()._done(saga_type, record, work)
            activity.outcome = _outcome_of(activity, record, work, after)
            activity.version = 0 if after is None else after.version
            return after

    def _failed(
        self, saga_type: type[Saga], record: SagaRecord, work: Work, exc: Exception
    ) -> SagaRecord:
        _note_error(exc)
        return super()._failed(saga_type, record, work, exc)

    def _dropped(
        self, saga_type: type[Saga], record: SagaRecord, work: Fire | Offer, why: str
    ) -> SagaRecord:
        activity = current_activity()
        if activity is not None:
            activity.outcome = _DROPPED.get(why, "dropped")
        return super()._dropped(saga_type, record, work, why)


@define
class ObservedRelay(Relay):
    """Tells of each message that is offered to the bus."""

    observers: Observers = field(kw_only=True)

    async def _publish(
        self, saga_type: type[Saga], record: SagaRecord, message: OutgoingMessage
    ) -> Failing | None:
        activity = Activity(
            kind=ActivityKind.PUBLISH,
            saga=saga_type.table.saga,
            correlation_id=record.correlation_id,
            name=message.message.type,
            message_id=message.id,
            headers=decoded(message.headers),
            version=record.version,
            late=self._commits.clock.now() - message.created_at,
            outcome="failed",
        )
        with self.observers.observe(activity):
            carrying = evolve(message, headers=self.observers.carried(message.headers))
            failing = await super()._publish(saga_type, record, carrying)
            activity.outcome = "accepted" if failing is None else "refused"
            if failing is not None:
                activity.attempt = failing.attempts
                self.observers.note(
                    Retrying(
                        saga=activity.saga,
                        correlation_id=record.correlation_id,
                        attempts=failing.attempts,
                        due=failing.due,
                    )
                )
            return failing

    def _report(
        self, saga: str, record: SagaRecord, message: OutgoingMessage, error: Exception
    ) -> None:
        _note_error(error)
        super()._report(saga, record, message, error)


@frozen(kw_only=True)
class Parts:
    """What an orchestrator is made of."""

    commits: Callable[..., Commits]
    handling: Callable[..., Handling]
    relay: Callable[..., Relay]
    working: Callable[..., Working]
    deciding: Callable[..., Deciding]
    processing: Callable[..., Processing]


_PLAIN: Final = Parts(
    commits=Commits,
    handling=Handling,
    relay=Relay,
    working=Working,
    deciding=Deciding,
    processing=Processing,
)


def parts(observers: Observers | None) -> Parts:
    """Return what to make an orchestrator of."""
    if observers is None:
        return _PLAIN
    return Parts(
        commits=partial(ObservedCommits, observers=observers),
        handling=partial(ObservedHandling, observers=observers),
        relay=partial(ObservedRelay, observers=observers),
        working=partial(ObservedWorking, observers=observers),
        deciding=ObservedDeciding,
        processing=partial(ObservedProcessing, observers=observers),
    )


_DROPPED: Final = {
    "unhandled": OutcomeKind.UNHANDLED.value,
    "ignored": OutcomeKind.IGNORED.value,
}


def _note_error(error: Exception) -> None:
    activity = current_activity()
    if activity is not None:
        activity.error = error


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
    """Return what became of work; None is given where another write came first."""
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
