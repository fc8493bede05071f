"""Takes an event through load, decision, handler and commit."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup
from attrs import evolve, field, frozen

from sagaflow._codec.documents import Bookkeeping
from sagaflow._definition.saga import Saga
from sagaflow._definition.table import Action
from sagaflow._engine.conclusion import concluded, embryo, parked
from sagaflow._engine.decision import Park, Settled, choose, settle
from sagaflow._engine.work import earliest
from sagaflow._engine.writing import Write, is_leased_to_others
from sagaflow.commits import Commits
from sagaflow.exceptions import ConcurrencyError, RepositoryError
from sagaflow.handling import Event, Handling, read_saga
from sagaflow.ids import SagaId
from sagaflow.outcome import Outcome, OutcomeKind
from sagaflow.record import ParkedEvent, SagaRecord, Status
from sagaflow.relay import Relay
from sagaflow.turns import Turn, Turns
from sagaflow.working import Working

logger = logging.getLogger("sagaflow")


@frozen(kw_only=True)
class Processing:
    """Has sagas take events, one conditional write each."""

    commits: Commits
    handling: Handling
    working: Working
    relay: Relay
    conflict_deadline: timedelta
    turns: Turns = field(factory=Turns, init=False)

    async def take(
        self,
        saga_type: type[Saga],
        event: Event,
        tasks: TaskGroup | None,
        *,
        wait: bool,
        keep_failures: bool,
    ) -> Outcome:
        """Have a saga take *event*, however often others change it meanwhile.

        :param keep_failures: store an event whose handler raises, to try it again later, rather
            than raise.
        """
        attempts = 0
        async with self.turns.turn(saga_type.table.saga, event.correlation_id) as turn:
            begun = anyio.current_time()
            for delay in self.commits.conflict_delays():
                attempts += 1
                record = await self.commits.load(saga_type, event.correlation_id, event.message_id)
                expired: SagaRecord | None = None
                if record is not None and _has_expired(record, self.commits):
                    record, expired = None, record
                outcome = await self._attempt(
                    saga_type,
                    record,
                    event,
                    turn,
                    tasks,
                    wait=wait,
                    keep_failures=keep_failures,
                    expired=expired,
                )
                if outcome is not None:
                    return outcome
                elapsed = anyio.current_time() - begun
                if elapsed >= self.conflict_deadline.total_seconds():
                    break
                await anyio.sleep(delay.total_seconds())
        seconds = self.conflict_deadline.total_seconds()
        raise ConcurrencyError(saga_type.table.saga, event.correlation_id, attempts, seconds)

    async def resume(
        self,
        saga_type: type[Saga],
        correlation_id: SagaId,
        tasks: TaskGroup | None,
        *,
        take_over: bool,
    ) -> None:
        """Do what is due for one saga, and send what waits.

        :param take_over: also if another process holds a lease on it.
        """
        record = await self.commits.load(saga_type, correlation_id, None)
        if record is None:
            return
        busy = is_leased_to_others(record, self.commits.owner, self.commits.clock.now())
        if busy and not take_over:
            self.commits.on_stored(saga_type, record)  # look again soon
            return
        if record.outbox:
            await self.relay.send(saga_type, record, tasks, wait=True)
            # As it is now: what has been sent must not be sent once more.
            record = await self.commits.load(saga_type, correlation_id, None)
            if record is None:
                return
        after = await self.working.advance(saga_type, record)
        if after.version != record.version:
            await self.relay.send(saga_type, after, tasks, wait=True)
        else:
            await self._correct_wake(saga_type, after)

    async def _correct_wake(self, saga_type: type[Saga], record: SagaRecord) -> None:
        """Note when a saga is really due, if it was due and there was nothing to do.

        A write that was decided on before others noted their sending leaves ``wake`` too early;
        nobody else would ever set it right.
        """
        now = self.commits.clock.now()
        wake = earliest(record, self.commits.machine(saga_type))
        if record.wake is None or record.wake > now or (wake is not None and wake <= now):
            return
        note = Bookkeeping(
            correlation_id=record.correlation_id,
            incarnation=record.incarnation,
            version=record.version,
            set={} if wake is None else {"wake": wake},
            unset=("wake", "lease") if wake is None else ("lease",),
        )
        if await self.commits.repository.bookkeep(saga_type.table.saga, note):
            self.commits.on_stored(saga_type, evolve(record, wake=wake, lease=None))

    async def _attempt(  # noqa: C901, PLR0911, PLR0912, PLR0913 - the cases of one decision
        self,
        saga_type: type[Saga],
        record: SagaRecord | None,
        event: Event,
        turn: Turn,
        tasks: TaskGroup | None,
        *,
        wait: bool,
        keep_failures: bool,
        expired: SagaRecord | None,
    ) -> Outcome | None:
        """Try once; None says that another write came first. Ends the turn once it is stored.

        :param expired: what a new saga takes the place of.
        """
        machine = self.commits.machine(saga_type)
        verdict = settle(machine, record, type(event.body), event.message_id)
        if isinstance(verdict, Settled):
            return self._settled(verdict.kind, saga_type, record, event)
        if isinstance(verdict, Park):
            return await self._park(
                saga_type, record, event, turn, verdict.kind, tasks, wait=wait, expired=expired
            )
        starting = record is None or record.status is Status.EMBRYO
        try:
            saga = read_saga(saga_type, record)
            state = None if record is None or starting else record.state
            row = choose(machine.table, state, saga, event.body)
            if row is None:
                return self._settled(OutcomeKind.UNHANDLED, saga_type, record, event)
            if row.action is Action.IGNORE:
                return self._settled(OutcomeKind.IGNORED, saga_type, record, event)
            if row.action is Action.DEFER:
                kind = OutcomeKind.DEFERRED
                return await self._park(
                    saga_type, record, event, turn, kind, tasks, wait=wait, expired=expired
                )
            run = await self.handling.run(row, saga, event, None if starting else record)
        except RepositoryError:
            raise
        except Exception as exc:
            if record is None or starting or not keep_failures:
                raise
            return await self._keep_failed(saga_type, record, event, exc)
        write = self.commits.write()
        if record is None:
            fresh = embryo(event.correlation_id, uuid4().hex, write)
            after = concluded(fresh, run, None, machine, write)
            if not await self._insert(saga_type, after, expired):
                return None
        else:
            after = concluded(record, run, None, machine, write)
            if not await self.commits.update(saga_type, record, after):
                return None
        turn.end()
        own = after
        try:
            own = await self.working.undo_next(saga_type, after)
            last = await self.working.advance(saga_type, own)
        except RepositoryError as exc:
            self._leave_to_workers(saga_type, event, exc)
        else:
            await self.relay.send(saga_type, last, tasks, wait=wait)
        if starting:
            kind = OutcomeKind.STARTED
        elif own.status is Status.COMPENSATING:
            kind = OutcomeKind.COMPENSATING
        elif own.status is Status.SUSPENDED:
            kind = OutcomeKind.SUSPENDED
        else:
            kind = OutcomeKind.STAYED if run.target is None else OutcomeKind.TRANSITIONED
        return self._outcome(kind, saga_type, own, event.correlation_id)

    async def _keep_failed(
        self, saga_type: type[Saga], record: SagaRecord, event: Event, error: Exception
    ) -> Outcome | None:
        """Keep an event whose handler failed; workers try it again, and then what came later."""
        machine = self.commits.machine(saga_type)
        logger.error(
            "%s %r: the handler of %s %r failed; the event is kept and tried again: %s",
            machine.table.saga,
            event.correlation_id,
            type(event.body).__name__,
            event.message_id,
            error,
            exc_info=error,
        )
        write = self.commits.write()
        waiting = evolve(
            self._waiting(saga_type, event, write), failing=self.working.failing(error, write)
        )
        after = parked(record, waiting, None, machine, write)
        if not await self.commits.update(saga_type, record, after):
            return None
        return self._outcome(OutcomeKind.DEFERRED, saga_type, after, event.correlation_id)

    def _waiting(self, saga_type: type[Saga], event: Event, write: Write) -> ParkedEvent:
        path = f"{saga_type.table.saga} {event.correlation_id!r}: parked"
        return ParkedEvent(
            id=event.message_id,
            message=self.handling.messages.encode(event.body, path),
            headers=event.headers,
            parked_at=write.now,
        )

    async def _park(  # noqa: PLR0913
        self,
        saga_type: type[Saga],
        record: SagaRecord | None,
        event: Event,
        turn: Turn,
        kind: OutcomeKind,
        tasks: TaskGroup | None,
        *,
        wait: bool,
        expired: SagaRecord | None,
    ) -> Outcome | None:
        """Keep the event in the saga; then do what is due there, unless somebody else does."""
        machine = self.commits.machine(saga_type)
        write = self.commits.write()
        waiting = self._waiting(saga_type, event, write)
        if record is None:
            fresh = embryo(event.correlation_id, uuid4().hex, write)
            after = parked(fresh, waiting, None, machine, write)
            if not await self._insert(saga_type, after, expired):
                return None
        else:
            after = parked(record, waiting, None, machine, write)
            busy = is_leased_to_others(record, self.commits.owner, write.now)
            if busy:
                after = evolve(after, lease=record.lease)
            if not await self.commits.update(saga_type, record, after):
                return None
            turn.end()
            if not busy:
                try:
                    last = await self.working.advance(saga_type, after)
                except RepositoryError as exc:
                    self._leave_to_workers(saga_type, event, exc)
                else:
                    await self.relay.send(saga_type, last, tasks, wait=wait)
        return self._outcome(kind, saga_type, after, event.correlation_id)

    async def _insert(
        self, saga_type: type[Saga], record: SagaRecord, expired: SagaRecord | None
    ) -> bool:
        """Store a new saga, if nobody has started one in the place of what has expired."""
        if expired is None:
            return await self.commits.insert(saga_type, record)
        return await self.commits.update(saga_type, expired, record)

    def _leave_to_workers(
        self, saga_type: type[Saga], event: Event, error: RepositoryError
    ) -> None:
        """Note that the store failed after it had taken *event*, which has not failed."""
        self.commits.report_outage(error)
        logger.info(
            "%s %r: %s %r is stored, but the store failed on what follows; that is left to the "
            "background or the next run_due(): %s",
            saga_type.table.saga,
            event.correlation_id,
            type(event.body).__name__,
            event.message_id,
            error,
        )

    def _settled(
        self, kind: OutcomeKind, saga_type: type[Saga], record: SagaRecord | None, event: Event
    ) -> Outcome:
        if kind in (OutcomeKind.UNHANDLED, OutcomeKind.NOT_FOUND):
            logger.warning(
                "%s %r: %s %r is %s in state %s; nothing was stored",
                saga_type.table.saga,
                event.correlation_id,
                type(event.body).__name__,
                event.message_id,
                kind.value,
                None if record is None else record.state,
            )
        return self._outcome(kind, saga_type, record, event.correlation_id)

    def _outcome(
        self,
        kind: OutcomeKind,
        saga_type: type[Saga],
        record: SagaRecord | None,
        correlation_id: SagaId,
    ) -> Outcome:
        if record is None or not record.state:
            return Outcome(kind, saga_type, correlation_id)
        state = saga_type.table.state(record.state)
        return Outcome(kind, saga_type, correlation_id, state, record.version)


def _has_expired(record: SagaRecord, commits: Commits) -> bool:
    """Tell whether a document of early events has outlived its time."""
    return (
        record.status is Status.EMBRYO
        and record.expire_at is not None
        and record.expire_at <= commits.clock.now()
    )
