"""Decides what an event makes of a saga, and runs the handler that says so."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from attrs import frozen

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._definition.table import Action
from sagaflow._engine.conclusion import concluded, embryo, parked
from sagaflow._engine.decision import Park, Settled, choose, settle
from sagaflow._engine.outcome import OutcomeKind
from sagaflow._engine.work import next_work
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import RepositoryError
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import ParkedEvent, SagaRecord, Status, evolve
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.invoke import Event, Invoker, read_saga
from sagaflow._runtime.mailbox import Letter
from sagaflow._runtime.process import Process
from sagaflow._runtime.trace import SILENT, Trace

logger = get_logger(__name__)


@frozen(kw_only=True)
class Decided:
    """What an event comes to.

    :ivar kind: what its sender is told; for a transition, before anything is undone.
    :ivar after: the saga as it is to be written; None if nothing is.
    :ivar error: what the handler raised, if nothing is written for that reason.
    :ivar runs: whether a handler has run, rather than the event being kept for later.
    :ivar goes_on: whether there is nothing to do before the next event may be decided on.
    :ivar busy: whether somebody else does what is due.
    """

    kind: OutcomeKind
    after: SagaRecord | None = None
    error: Exception | None = None
    runs: bool = False
    goes_on: bool = False
    busy: bool = False


@frozen(kw_only=True)
class Deciding:
    """Takes an event and a saga, and returns what is to be written."""

    process: Process
    invoker: Invoker
    due: DueWork
    trace: Trace = SILENT

    async def decide(  # noqa: C901, PLR0911 - the cases of one decision
        self,
        saga_type: type[Saga],
        record: SagaRecord | None,
        event: Event,
        letter: Letter,
        *,
        accepted: datetime,
        keep_failures: bool,
    ) -> Decided:
        """Return what *event* makes of *record*; None if there is no such saga."""
        machine = self.process.machine(saga_type)
        verdict = settle(machine, record, type(event.body), event.message_id, accepted)
        if isinstance(verdict, Settled):
            return Decided(kind=verdict.kind)
        if isinstance(verdict, Park):
            return self._parked(saga_type, record, event, verdict.kind)
        starting = record is None or record.status is Status.EMBRYO
        try:
            copy = partial(read_saga, saga_type, record)
            saga = copy()
            state = None if record is None or starting else record.state
            row = choose(machine.table, state, copy, event.body)
            if row is None:
                return Decided(kind=OutcomeKind.UNHANDLED)
            if row.action is Action.IGNORE:
                return Decided(kind=OutcomeKind.IGNORED)
            if row.action is Action.DEFER:
                return self._parked(saga_type, record, event, OutcomeKind.DEFERRED)
            token = letter.begin()
            try:
                run = await self.invoker.run(row, saga, event, None if starting else record)
            finally:
                letter.end(token)
        except RepositoryError:
            raise
        except BaseException as caught:  # noqa: BLE001 - raised by whoever knows that it may be
            exc = failure(caught)
            if record is None or starting or not keep_failures:
                return Decided(kind=OutcomeKind.UNHANDLED, error=exc)
            return self._failed(saga_type, record, event, exc, accepted)
        write = self.process.write()
        if record is None:
            record = embryo(event.correlation_id, self.process.new_id(), machine, write)
        after = concluded(record, run, None, machine, write)
        if starting:
            return Decided(kind=OutcomeKind.STARTED, after=after, runs=True)
        return Decided(
            kind=OutcomeKind.STAYED if run.target is None else OutcomeKind.TRANSITIONED,
            after=after,
            runs=True,
            goes_on=after.status in (Status.ACTIVE, Status.FINISHED)
            and next_work(after, machine, write.now) is None,
        )

    def _failed(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        event: Event,
        error: Exception,
        accepted: datetime,
    ) -> Decided:
        """Keep an event whose handler failed; workers try it again, and then what came later."""
        self.trace.failed(error)
        machine = self.process.machine(saga_type)
        logger.error(
            "%s %r: the handler of %s %r failed; the event is kept and tried again: %s",
            machine.table.saga,
            event.correlation_id,
            type(event.body).__name__,
            event.message_id,
            error,
            exc_info=error,
            extra=about_event(saga_type, event, record),
        )
        write = self.process.write()
        failing = self.due.failing(error, write)
        waiting = evolve(self._waiting(saga_type, event, accepted), failing=failing)
        after = parked(record, waiting, None, machine, write)
        return Decided(kind=OutcomeKind.DEFERRED, after=after, busy=True)

    def _parked(
        self,
        saga_type: type[Saga],
        record: SagaRecord | None,
        event: Event,
        kind: OutcomeKind,
    ) -> Decided:
        """Keep an event for later; what is due is done then, unless somebody else does it."""
        machine = self.process.machine(saga_type)
        write = self.process.write()
        waiting = self._waiting(saga_type, event, write.now)
        if record is None:
            fresh = embryo(event.correlation_id, self.process.new_id(), machine, write)
            after = parked(fresh, waiting, None, machine, write)
            return Decided(kind=kind, after=after, busy=True)
        after = parked(record, waiting, None, machine, write)
        busy = is_leased_to_others(record, self.process.owner, write.now)
        if busy:
            after = evolve(after, lease=record.lease)
        return Decided(kind=kind, after=after, busy=busy)

    def _waiting(self, saga_type: type[Saga], event: Event, accepted: datetime) -> ParkedEvent:
        path = f"{saga_type.table.saga} {event.correlation_id!r}: parked"
        return ParkedEvent(
            id=event.message_id,
            message=self.invoker.messages.encode(event.body, path),
            headers=event.headers,
            parked_at=accepted,
        )


def about_event(
    saga_type: type[Saga], event: Event, record: SagaRecord | None
) -> dict[str, object]:
    """Return the fields of a log record about an event that a saga takes."""
    return about(
        saga_type.table.saga,
        event.correlation_id,
        event=type(event.body).__name__,
        message_id=event.message_id,
        version=None if record is None else record.version,
    )
