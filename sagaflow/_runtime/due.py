"""Does the due work of a saga: undoes steps, fires timers, offers parked events again."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from typing import assert_never

from attrs import field, frozen

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._definition.table import Action, TransitionRow
from sagaflow._engine.backoff import failed_again
from sagaflow._engine.conclusion import COMPENSATION, concluded, dropped, parked, undone
from sagaflow._engine.conclusion import described as handled
from sagaflow._engine.decision import choose, timeout_row
from sagaflow._engine.failure import attempts_of, failed, timed_out
from sagaflow._engine.work import Fire, Offer, Undo, Work, next_work
from sagaflow._engine.writing import Write
from sagaflow._model.errors import (
    LimitExceededError,
    RepositoryError,
    SerializationError,
)
from sagaflow._model.ids import SagaId, SagaKey, saga_key
from sagaflow._model.log import about, get_logger
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import (
    Failing,
    ParkedEvent,
    SagaRecord,
    StoredMessage,
    TimerKind,
    evolve,
)
from sagaflow._model.texts import traceback_of
from sagaflow._runtime.invoke import Event, Invoker, read_saga
from sagaflow._runtime.process import Process
from sagaflow._runtime.races import Race
from sagaflow._runtime.store import Store
from sagaflow._runtime.trace import SILENT, Trace

logger = get_logger(__name__)

_at_work: ContextVar[tuple[SagaKey, ...]] = ContextVar("sagas_at_work", default=())
"""The sagas whose work the current task does."""


@frozen(kw_only=True)
class DueWork:
    """Does the work of a saga; each piece of work is stored before the next one begins.

    A failure is stored as well: the work is tried again later, with growing delays. Once it has
    failed for too long, its saga is suspended, and no other saga.

    :ivar conflict_deadline: for how long one piece of work competes with other writers.
    """

    process: Process
    store: Store
    invoker: Invoker
    retry: RetryPolicy
    conflict_deadline: timedelta
    trace: Trace = SILENT
    _under_way: Counter[SagaKey] = field(factory=Counter[SagaKey], init=False)

    async def advance(
        self, saga_type: type[Saga], record: SagaRecord, *, only: type[Work] | None = None
    ) -> SagaRecord:
        """Do what is due, until nothing is, and return the saga as it is then.

        Goes on with what another process has stored, where that process was faster. `is_under_way`
        is true of the saga until this returns.

        :param only: the kind of work to do; what comes after the last of that kind stays due.
        :raises ConcurrencyError: if other writers were faster until the deadline; what is due then
            stays due.
        :raises RepositoryError: if the store failed.
        """
        key = saga_key(saga_type.table.saga, record.correlation_id)
        self._under_way[key] += 1
        try:
            return await self._advance(saga_type, record, only)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    async def _advance(
        self, saga_type: type[Saga], record: SagaRecord, only: type[Work] | None
    ) -> SagaRecord:
        machine = self.process.machine(saga_type)
        race: Race | None = None
        while True:
            work = next_work(record, machine, self.process.clock.now())
            if work is None or (only is not None and not isinstance(work, only)):
                return record
            after = await self._done(saga_type, record, work)
            if after is not None:
                record, race = after, None
                continue
            # Another process was faster, or the write was lost on its way.
            race = race or Race(
                process=self.process,
                saga=machine.table.saga,
                correlation_id=record.correlation_id,
                deadline=self.conflict_deadline,
            )
            await race.lose()
            newer = await self.store.load(saga_type, record.correlation_id, None)
            if newer is None:
                return record
            record = newer

    def is_under_way(self, saga_type: type[Saga], correlation_id: SagaId) -> bool:
        """Tell whether this process is doing work of that saga."""
        return saga_key(saga_type.table.saga, correlation_id) in self._under_way

    def is_within(self, saga_type: type[Saga], correlation_id: SagaId) -> bool:
        """Tell whether the current task does work of that saga.

        An event that a handler sends to its own saga cannot wait for the timer that has called this
        handler.
        """
        return saga_key(saga_type.table.saga, correlation_id) in _at_work.get()

    def failing(self, error: Exception, write: Write) -> Failing:
        """Return the first failure of a piece of work."""
        return failed_again(None, traceback_of(error), write.now, self.retry, self.process.random())

    async def _done(
        self, saga_type: type[Saga], record: SagaRecord, work: Work
    ) -> SagaRecord | None:
        """Do *work*, and store its result or its failure; None if another write came first."""
        with self.trace.work(saga_type, record, work, self.process.clock.now()) as telling:
            if isinstance(work, Undo):
                headers = self.trace.carried(work.entry.headers)
                work = Undo(evolve(work.entry, headers=headers))
            after = await self._stored(saga_type, record, work)
            telling.ended(after)
            return after

    async def _stored(
        self, saga_type: type[Saga], record: SagaRecord, work: Work
    ) -> SagaRecord | None:
        if record.fault is None:
            after = await self._attempt(saga_type, record, work)
        else:  # its migration failed: not even the names in it can be relied on
            after = self._failed(saga_type, record, work, record.fault)
        try:
            stored = await self.store.update(saga_type, record, after)
        except (
            LimitExceededError,
            SerializationError,
        ) as exc:  # the store refuses the result: the work has failed
            after = self._failed(saga_type, record, work, exc)
            stored = await self.store.update(saga_type, record, after)
        return after if stored else None

    async def _attempt(self, saga_type: type[Saga], record: SagaRecord, work: Work) -> SagaRecord:
        """Return the saga as it is after *work*, or after its failure."""
        machine = self.process.machine(saga_type)
        token = _at_work.set(
            (*_at_work.get(), saga_key(saga_type.table.saga, record.correlation_id))
        )
        try:
            match work:
                case Undo():
                    return await self._undo(saga_type, record, work)
                case Fire(timer) if timer.kind is TimerKind.DEFAULT:
                    return timed_out(record, work, machine, self.process.write())
                case Fire(timer) if timer.event is None:
                    return await self._time_out(saga_type, record, work)
                case Fire(timer):
                    assert timer.event is not None  # noqa: S101 - for the type checkers
                    return await self._offer(saga_type, record, work, timer.event, timer.headers)
                case Offer(event):
                    return await self._offer(saga_type, record, work, event.message, event.headers)
                case _:
                    assert_never(work)
        except RepositoryError:
            raise
        except BaseException as exc:  # noqa: BLE001 - user code; stored where an operator sees it
            return self._failed(saga_type, record, work, failure(exc))
        finally:
            _at_work.reset(token)

    def _failed(
        self, saga_type: type[Saga], record: SagaRecord, work: Work, exc: Exception
    ) -> SagaRecord:
        self.trace.failed(exc)
        after = failed(
            record,
            work,
            traceback_of(exc),
            self.retry,
            self.process.random(),
            self.process.machine(saga_type),
            self.process.write(),
        )
        logger.error(
            "%s %r: %s failed (attempt %d): %s; %s",
            saga_type.table.saga,
            record.correlation_id,
            _name(work),
            attempts_of(work),
            exc,
            "it is tried again" if after.suspension is None else "the saga is suspended",
            exc_info=exc,
            extra=_about(saga_type, record, work),
        )
        return after

    async def _undo(self, saga_type: type[Saga], record: SagaRecord, work: Undo) -> SagaRecord:
        table = saga_type.table
        saga = read_saga(saga_type, record)
        goal = table.state(record.goal or record.state)
        assert goal is not None  # noqa: S101 - what leads to an unknown state is left alone
        data, sent = await self.invoker.undo(saga, work.entry, record)
        machine = self.process.machine(saga_type)
        return undone(record, work.entry, data, sent, goal, machine, self.process.write())

    async def _time_out(self, saga_type: type[Saga], record: SagaRecord, work: Fire) -> SagaRecord:
        timer = work.timer
        row = timeout_row(saga_type.table, record, timer.name, timer.delay)
        if row is None:
            return self._dropped(saga_type, record, work, "no longer declared")
        event = Event(
            body=None,
            correlation_id=record.correlation_id,
            message_id=timer.id,
            headers=timer.headers,
        )
        return await self._take(saga_type, record, work, row, read_saga(saga_type, record), event)

    async def _offer(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        work: Fire | Offer,
        message: StoredMessage,
        headers: object,
    ) -> SagaRecord:
        table = saga_type.table
        body = self.invoker.decode(message, record, table.saga)
        subject = work.timer.id if isinstance(work, Fire) else work.event.id
        arisen = work.timer.due if isinstance(work, Fire) else work.event.parked_at
        event = Event(
            body=body, correlation_id=record.correlation_id, message_id=subject, headers=headers
        )
        copy = partial(read_saga, saga_type, record)
        saga = copy()
        row = choose(table, record.state, copy, body)
        if row is None:
            return self._dropped(saga_type, record, work, "unhandled")
        if row.action is Action.IGNORE:
            return self._dropped(saga_type, record, work, "ignored")
        if row.action is Action.DEFER:
            write = self.process.write()
            again = ParkedEvent(id=subject, message=message, headers=headers, parked_at=arisen)
            return parked(record, again, work, self.process.machine(saga_type), write)
        return await self._take(saga_type, record, work, row, saga, event)

    async def _take(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        work: Fire | Offer,
        row: TransitionRow,
        saga: Saga,
        event: Event,
    ) -> SagaRecord:
        run = await self.invoker.run(row, saga, event, record)
        machine = self.process.machine(saga_type)
        return concluded(record, run, work, machine, self.process.write())

    def _dropped(
        self, saga_type: type[Saga], record: SagaRecord, work: Fire | Offer, why: str
    ) -> SagaRecord:
        self.trace.dropped(why)
        if why != "ignored":
            logger.warning(
                "%s %r: %s is %s in state %s; it was dropped",
                saga_type.table.saga,
                record.correlation_id,
                _name(work),
                why,
                record.state,
                extra=_about(saga_type, record, work),
            )
        machine = self.process.machine(saga_type)
        return dropped(record, work, why, machine, self.process.write())


def _about(saga_type: type[Saga], record: SagaRecord, work: Work) -> dict[str, object]:
    if isinstance(work, Undo):
        event, message_id = COMPENSATION, work.entry.message_id
    else:
        event, message_id = handled(work)
    return about(
        saga_type.table.saga,
        record.correlation_id,
        event=event,
        message_id=message_id,
        version=record.version,
    )


def _name(work: Work) -> str:
    match work:
        case Undo(entry):
            return f"undoing {entry.step!r}"
        case Fire(timer):
            return f"the timer {timer.name!r}"
        case Offer(event):
            return f"the parked {event.message.type} {event.id!r}"
