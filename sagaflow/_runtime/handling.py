"""Decides what an event makes of a saga, and has the handler run that says so."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TypeAlias

from attrs import frozen

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._definition.table import Action
from sagaflow._engine.conclusion import concluded, embryo, parked
from sagaflow._engine.decision import Park, Settled, choose, settle
from sagaflow._engine.outcome import OutcomeKind
from sagaflow._engine.work import Machine
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import RepositoryError
from sagaflow._model.record import ParkedEvent, SagaRecord, Status, evolve
from sagaflow._model.value import value
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.invoke import Event, Invoker, read_saga
from sagaflow._runtime.mailbox import Turn, running
from sagaflow._runtime.process import Process
from sagaflow._runtime.reports import report_failed
from sagaflow._runtime.trace import SILENT, Trace


@frozen
class Unchanged:
    """Nothing is to be written.

    :ivar kind: what the sender of the event is told.
    """

    kind: OutcomeKind


@frozen
class Raised:
    """Nothing is to be written, since the handler has raised.

    :ivar error: what it has raised.
    """

    error: Exception


@value
class Change:
    """The saga is to be written.

    :ivar kind: what the sender of the event is told; before anything is undone.
    :ivar after: the saga as it is to be written.
    :ivar ran: whether a handler has run, rather than the event being kept for later.
    :ivar others_work: whether another process does what is due for the saga.
    """

    kind: OutcomeKind
    after: SagaRecord
    ran: bool = True
    others_work: bool = False


Decision: TypeAlias = Unchanged | Raised | Change

_UNCHANGED = {kind: Unchanged(kind) for kind in OutcomeKind}


@frozen(kw_only=True)
class Handling:
    """Takes an event and a saga, and returns what is to be written."""

    process: Process
    invoker: Invoker
    due: DueWork
    trace: Trace = SILENT

    async def decide(  # noqa: C901, PLR0911, PLR0913 - the cases of one decision
        self,
        machine: Machine,
        saga_type: type[Saga],
        record: SagaRecord | None,
        event: Event,
        turn: Turn,
        *,
        accepted: datetime,
        keep_failures: bool,
        leaves: bool,
    ) -> Decision:
        """Return what *event* makes of *record*.

        :param record: the saga; None if there is none.
        :param turn: the place of the event in the line of its saga.
        :param accepted: when it was the event's turn for the first time.
        :param keep_failures: have an event whose handler raises stored, to try it again later.
        :param leaves: whether what is due after the write is left to other processes.
        :raises RepositoryError: if the handler has raised that of a store.
        """
        verdict = settle(machine, record, type(event.body), event.message_id, accepted)
        if isinstance(verdict, Settled):
            return _UNCHANGED[verdict.kind]
        if isinstance(verdict, Park):
            return self._parked(machine, record, event, verdict.kind, leaves)
        starting = record is None or record.status is Status.EMBRYO
        try:
            copy = partial(read_saga, saga_type, record)
            saga = copy()
            state = None if record is None or starting else record.state
            row = choose(machine.table, state, copy, event.body)
            if row is None:
                return _UNCHANGED[OutcomeKind.UNHANDLED]
            if row.action is Action.IGNORE:
                return _UNCHANGED[OutcomeKind.IGNORED]
            if row.action is Action.DEFER:
                return self._parked(machine, record, event, OutcomeKind.DEFERRED, leaves)
            turn.is_running = True
            token = running.set((*running.get(), turn))
            try:
                run = await self.invoker.run(row, saga, event, None if starting else record)
            finally:
                running.reset(token)
                turn.is_running = False
        except RepositoryError:
            raise
        except BaseException as caught:  # noqa: BLE001 - raised where it is known that it may be
            exc = failure(caught)
            if record is None or starting or not keep_failures:
                return Raised(exc)
            return self._failed(machine, record, event, exc, accepted)
        write = self.process.write(leaves=leaves)
        if record is None:
            record = embryo(event.correlation_id, self.process.new_id(), machine, write)
        after = concluded(record, run, None, machine, write)
        if starting:
            return Change(OutcomeKind.STARTED, after)
        stays = run.target is None
        return Change(OutcomeKind.STAYED if stays else OutcomeKind.TRANSITIONED, after)

    def _failed(
        self,
        machine: Machine,
        record: SagaRecord,
        event: Event,
        error: Exception,
        accepted: datetime,
    ) -> Change:
        """Keep an event whose handler failed; workers try it again, and then what came later."""
        self.trace.failed(error)
        report_failed(machine.table.saga, event, record, error)
        write = self.process.write()
        failing = self.due.failing(error, write)
        waiting = evolve(self._waiting(machine, event, accepted), failing=failing)
        after = parked(record, waiting, None, machine, write)
        return Change(OutcomeKind.DEFERRED, after, ran=False, others_work=True)

    def _parked(
        self,
        machine: Machine,
        record: SagaRecord | None,
        event: Event,
        kind: OutcomeKind,
        leaves: bool,  # noqa: FBT001
    ) -> Change:
        """Keep an event for later; what is due is done then, unless another process does it."""
        write = self.process.write(leaves=leaves)
        waiting = self._waiting(machine, event, write.now)
        if record is None:
            fresh = embryo(event.correlation_id, self.process.new_id(), machine, write)
            after = parked(fresh, waiting, None, machine, write)
            return Change(kind, after, ran=False, others_work=True)
        after = parked(record, waiting, None, machine, write)
        others_work = is_leased_to_others(record, self.process.owner, write.now)
        if others_work:
            after = evolve(after, lease=record.lease)
        return Change(kind, after, ran=False, others_work=others_work)

    def _waiting(self, machine: Machine, event: Event, accepted: datetime) -> ParkedEvent:
        path = f"{machine.table.saga} {event.correlation_id!r}: parked"
        return ParkedEvent(
            id=event.message_id,
            message=self.invoker.messages.encode(event.body, path),
            headers=event.headers,
            parked_at=accepted,
        )
