"""Writes that observers are told of, and what each write means."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from attrs import define

from sagaflow._definition.saga import Saga
from sagaflow._engine.writing import WITHOUT_EFFECT
from sagaflow.commits import Commits
from sagaflow.exceptions import RepositoryError
from sagaflow.ids import SagaId
from sagaflow.observing import (
    Activity,
    ActivityKind,
    Ended,
    Observers,
    Retrying,
    StoreFails,
    StoreIsBack,
    Suspended,
    decoded,
)
from sagaflow.record import (
    Failing,
    HistoryKind,
    ParkedEvent,
    RecordedCompensation,
    SagaRecord,
    Timer,
)


@define(kw_only=True)
class ObservedCommits(Commits):
    """Tells of each write, and of what it means."""

    observers: Observers

    async def insert(self, saga_type: type[Saga], record: SagaRecord) -> bool:
        """Store a new saga, and tell of it."""
        write = partial(super().insert, saga_type, record)
        with self.observers.observe(_commit(saga_type, record)) as activity:
            stored = await write()
            self._tell(activity, None, record, stored=stored)
            return stored

    async def update(self, saga_type: type[Saga], before: SagaRecord, after: SagaRecord) -> bool:
        """Store a changed saga, and tell of it."""
        write = partial(super().update, saga_type, before, after)
        with self.observers.observe(_commit(saga_type, after)) as activity:
            stored = await write()
            known = before if before.incarnation == after.incarnation else None
            self._tell(activity, known, after, stored=stored)
            return stored

    def report_outage(self, error: RepositoryError) -> None:
        """Tell that the store fails, once for each outage."""
        before = self.outage_since
        super().report_outage(error)
        if before is None and self.outage_since is not None:
            self.observers.note(StoreFails(error=error))

    def report_recovery(self) -> None:
        """Tell that the store answers again, if it did not."""
        ends = self.outage_since is not None
        super().report_recovery()
        if ends:
            self.observers.note(StoreIsBack())

    def _tell(
        self, activity: Activity, before: SagaRecord | None, after: SagaRecord, *, stored: bool
    ) -> None:
        activity.outcome = "won" if stored else "lost"
        if not stored:
            return
        saga, correlation_id = activity.saga, after.correlation_id
        for failing in _new_failures(before, after):
            retrying = Retrying(
                saga=saga,
                correlation_id=correlation_id,
                attempts=failing.attempts,
                due=failing.due,
            )
            self.observers.note(retrying)
        for dropped in _dropped(saga, before, after):
            with self.observers.observe(dropped):
                pass
        suspension = after.suspension
        if suspension is not None and (before is None or before.suspension is None):
            reason = suspension.reason
            self.observers.note(Suspended(saga=saga, correlation_id=correlation_id, reason=reason))
        if after.finished_at is not None and (before is None or before.finished_at is None):
            took = after.finished_at - after.created_at
            self.observers.note(
                Ended(saga=saga, correlation_id=correlation_id, state=after.state, took=took)
            )


def _commit(saga_type: type[Saga], after: SagaRecord) -> Activity:
    entry = after.history[-1]
    return Activity(
        kind=ActivityKind.COMMIT,
        saga=saga_type.table.saga,
        correlation_id=after.correlation_id,
        name=entry.step,
        message_id=entry.message_id,
        version=after.version,
        attempt=entry.attempt,
        outcome="failed",
    )


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
