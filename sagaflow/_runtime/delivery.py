"""Takes an event through load, decision, handler and commit."""

from __future__ import annotations

from copy import copy
from datetime import datetime, timedelta

from anyio.abc import TaskGroup
from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._engine.outcome import Outcome, OutcomeKind
from sagaflow._engine.work import Undo, earliest, has_timer_before, has_work, next_work
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import (
    LimitExceededError,
    RepositoryError,
    SerializationError,
)
from sagaflow._model.ids import SagaId
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import SagaRecord, Status, evolve, has_expired
from sagaflow._runtime.cache import is_same
from sagaflow._runtime.deciding import Decided, Deciding, about_event
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.invoke import Event
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.mailbox import Fate, Letter, Mailboxes
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.process import Process
from sagaflow._runtime.races import Race
from sagaflow._runtime.store import Store
from sagaflow._runtime.trace import SILENT, Trace

logger = get_logger(__name__)


@frozen(kw_only=True)
class Taking:
    """An event that is being taken.

    :ivar accepted: when it was its turn for the first time: what arose before that comes first.
    :ivar tasks: where messages are sent if the caller is cancelled or does not wait.
    :ivar wait: whether the caller waits until its messages are sent.
    :ivar keep_failures: store an event whose handler raises, to try it again later, rather than
        raise.
    """

    saga_type: type[Saga]
    event: Event
    accepted: datetime
    tasks: TaskGroup | None
    wait: bool
    keep_failures: bool
    letter: Letter


@frozen(kw_only=True)
class Delivery:
    """Has sagas take events, one conditional write each, or one for many that come at once."""

    process: Process
    store: Store
    outages: Outages
    deciding: Deciding
    due: DueWork
    outbox: Outbox
    leases: Leases
    mailboxes: Mailboxes
    conflict_deadline: timedelta
    trace: Trace = SILENT

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
        with self.trace.event(
            saga_type, event.correlation_id, event.body, event.message_id, event.headers
        ) as telling:
            headers = self.trace.carried(event.headers)
            if headers is not event.headers:
                event = evolve(event, headers=headers)
            outcome = await self._take(
                saga_type, event, tasks, wait=wait, keep_failures=keep_failures
            )
            telling.ended(outcome)
            return outcome

    async def _take(
        self,
        saga_type: type[Saga],
        event: Event,
        tasks: TaskGroup | None,
        *,
        wait: bool,
        keep_failures: bool,
    ) -> Outcome:
        letter = self.mailboxes.enter(saga_type, event.correlation_id, waits=wait)
        race: Race | None = None
        try:
            await letter.turn()
            delivery = Taking(
                saga_type=saga_type,
                event=event,
                accepted=self.process.clock.now(),
                tasks=tasks,
                wait=wait,
                keep_failures=keep_failures,
                letter=letter,
            )
            while True:
                outcome = await self._attempt(delivery, is_first=race is None)
                if outcome is not None:
                    return outcome
                race = race or Race(
                    process=self.process,
                    saga=saga_type.table.saga,
                    correlation_id=event.correlation_id,
                    deadline=self.conflict_deadline,
                )
                # An event that was not to be written by itself waits for its turn instead.
                await race.lose(pauses=letter.has_written)
                await letter.turn()
        finally:
            letter.leave()
            if letter.unsent is not None:
                await self.outbox.send(saga_type, letter.unsent, tasks, wait=wait, lingers=True)

    def uncorrelated(self, saga_type: type[Saga], event: object) -> Outcome:
        """Log that an event says nowhere which saga it belongs to."""
        logger.warning(
            "%s: %s says nowhere which saga it belongs to; it was dropped. Declare by= or "
            "correlate_by=, give it a correlation_id attribute, or pass correlation_id=",
            saga_type.table.saga,
            type(event).__name__,
            extra=about(saga_type.table.saga, event=type(event).__name__),
        )
        outcome = Outcome(OutcomeKind.UNCORRELATED, saga_type)
        with self.trace.event(saga_type, None, event) as telling:
            telling.ended(outcome)
        return outcome

    async def resume(
        self,
        saga_type: type[Saga],
        correlation_id: SagaId,
        tasks: TaskGroup | None,
        *,
        take_over: bool,
        wait: bool = True,
    ) -> Lane | None:
        """Do what is due for one saga, and send what waits; the work does not wait for the bus.

        :param take_over: also if another process holds a lease on it, or this one is at work on it.
        :param wait: return when the saga has nothing left to send; where it goes on in *tasks*,
            after the time that one message may take.
        :return: what is being sent; None if nothing is, or somebody else sends it.
        """
        record = await self.store.load(saga_type, correlation_id, None)
        if record is None:
            return None
        busy = is_leased_to_others(record, self.process.owner, self.process.clock.now())
        busy = busy or self.due.is_under_way(saga_type, correlation_id)
        if busy and not take_over:
            self.store.on_stored(saga_type, record)  # look again soon
            return None
        held = self.leases.hold(saga_type, correlation_id)
        try:
            after = await self.due.advance(saga_type, record)
        finally:
            self.leases.release(held)
        lane = await self.outbox.send(saga_type, after, tasks, wait=wait)
        if after.version == record.version:
            if lane is None:
                await self._correct_wake(saga_type, after)
            elif not wait:  # what falls due meanwhile is nobody else's
                sending = evolve(after, lease=self.process.own_lease())
                self.store.on_stored(saga_type, sending)
        return lane

    async def _correct_wake(self, saga_type: type[Saga], record: SagaRecord) -> None:
        """Note when a saga is really due, if it was due and there was nothing to do.

        A write that was decided on before others noted their sending leaves ``wake`` too early;
        nobody else would ever set it right.
        """
        now = self.process.clock.now()
        wake = earliest(record, self.process.machine(saga_type))
        if record.wake is None or record.wake > now or (wake is not None and wake <= now):
            return
        if await self.store.bookkeep(saga_type, record, sending=record.sending, wake=wake):
            self.store.on_stored(saga_type, evolve(record, wake=wake, lease=None))

    async def _attempt(self, delivery: Taking, *, is_first: bool) -> Outcome | None:
        """Try once; None says that another write came first. Ends the turn once it is stored."""
        saga_type, event, letter = delivery.saga_type, delivery.event, delivery.letter
        letter.has_written = True
        seen = await self._look(delivery, is_first=is_first)
        if seen is None:
            return None
        record, expired, certain = seen
        while True:
            decided = await self.deciding.decide(
                saga_type,
                record,
                event,
                letter,
                accepted=delivery.accepted,
                keep_failures=delivery.keep_failures,
            )
            if decided.after is None:
                if certain:
                    self._report_expired(delivery, expired)
                    return self._without_write(delivery, decided, record)
            elif decided.goes_on and record is not None and letter.box.folds(letter):
                return await self._fold(delivery, decided, record)
            else:
                try:
                    return await self._store(delivery, decided, record, expired)
                except (LimitExceededError, SerializationError):
                    if certain:
                        raise
            # That nothing is written is never decided on what may be out of date.
            if not await letter.box.flush(letter):
                return None
            stored, expired = await self._load(delivery)
            if decided.after is None and is_same(record, stored):
                self._report_expired(delivery, expired)
                return self._without_write(delivery, decided, stored)
            record, certain = stored, True

    async def _look(
        self, delivery: Taking, *, is_first: bool
    ) -> tuple[SagaRecord | None, SagaRecord | None, bool] | None:
        """Return the saga, what expired of it, and whether that is as it is stored.

        None says that what this event rests on could not be stored.
        """
        known = self._known(delivery)
        if self._is_behind(delivery, known):  # what is done first is done to what is stored
            if not await delivery.letter.box.flush(delivery.letter):
                return None
        elif known is not None or (is_first and self._can_only_start(delivery)):
            return known, None, False
        record, expired = await self._load(delivery)
        return record, expired, True

    def _is_behind(self, delivery: Taking, record: SagaRecord | None) -> bool:
        """Tell whether a timer was due before it was the event's turn, and can be done now."""
        saga_type, event = delivery.saga_type, delivery.event
        if record is None or not has_timer_before(record, delivery.accepted):
            return False
        if self.due.is_within(saga_type, event.correlation_id):
            return False  # it comes out of that very timer, perhaps
        machine = self.process.machine(saga_type)
        return next_work(record, machine, delivery.accepted) is not None

    async def _catch_up(self, delivery: Taking, record: SagaRecord) -> bool:
        """Do what arose before the event and no worker has done yet; tell whether there was any.

        What fails of it is stored as well, and the event then waits for it.
        """
        if not self._is_behind(delivery, record):
            return False
        letter = delivery.letter
        token = letter.begin()
        try:
            after = await self.due.advance(delivery.saga_type, record)
        finally:
            letter.end(token)
        if after.version == record.version:  # the clock has been set back
            return False
        letter.unsent = after
        return True

    def _known(self, delivery: Taking) -> SagaRecord | None:
        """Return the saga as it is after those that were handled just before, if that is known."""
        letter = delivery.letter
        letter.epoch = letter.box.epoch
        if letter.by_itself:
            return None
        if letter.has_turn() and letter.box.head is not None:
            return letter.box.head
        known = self.store.hot.get(delivery.saga_type.table.saga, delivery.event.correlation_id)
        if known is None:
            return None
        expire_at = known.record.expire_at
        if expire_at is not None and has_expired(expire_at, self.process.clock.now()):
            return None
        return known.record

    def _can_only_start(self, delivery: Taking) -> bool:
        """Tell whether no saga that exists takes this event, so that it is better not to look."""
        table = delivery.saga_type.table
        return not delivery.letter.by_itself and table.only_starts_with(type(delivery.event.body))

    async def _load(self, delivery: Taking) -> tuple[SagaRecord | None, SagaRecord | None]:
        """Read the saga, or what expired of it and a new one takes the place of.

        What arose before the event and no worker has done yet is done then.
        """
        letter, saga_type, event = delivery.letter, delivery.saga_type, delivery.event
        if self.store.hot.most or letter.box.waiting:
            record = await self.store.load_hot(saga_type, event.correlation_id)
        else:
            record = await self.store.load(saga_type, event.correlation_id, event.message_id)
            letter.by_itself = True  # nobody can be told from a duplicate on top of that
        if record is None:
            return None, None
        if has_expired(record.expire_at, self.process.clock.now()):
            return None, record
        if record.fault is not None:
            raise record.fault
        if await self._catch_up(delivery, record):
            return await self._load(delivery)
        return record, None

    async def _fold(self, delivery: Taking, decided: Decided, record: SagaRecord) -> Outcome | None:
        """Have one write store this event together with others that come at once."""
        letter, after = delivery.letter, decided.after
        assert after is not None  # noqa: S101 - the caller has looked
        await letter.box.fold(letter, record, after)
        if isinstance(letter.fate, RepositoryError):
            raise copy(letter.fate) from letter.fate  # each its own, with its own traceback
        if letter.fate is not Fate.STORED:
            return None
        if letter.left_over is not None:
            # What fell due meanwhile is left to the event whose turn it is: it arose in between.
            await self._follow_up(delivery, letter.left_over, works=letter.box.holder is None)
        return self._outcome(decided.kind, delivery, after)

    async def _store(
        self,
        delivery: Taking,
        decided: Decided,
        record: SagaRecord | None,
        expired: SagaRecord | None,
    ) -> Outcome | None:
        """Store this event by a write of its own, and do what follows from it."""
        saga_type, letter, after = delivery.saga_type, delivery.letter, decided.after
        assert after is not None  # noqa: S101 - the caller has looked
        if letter.has_turn() and not await letter.box.flush(letter):
            return None
        stored: SagaRecord | None = after
        if record is not None:
            stored = await letter.box.commit(record, after)
        elif expired is not None:
            stored = after if await self.store.update(saga_type, expired, after) else None
        elif not await self.store.insert(saga_type, after):
            letter.has_written = False  # a look at what is there settles it
            stored = None
        if stored is None:
            return None
        self._report_expired(delivery, expired)
        letter.leave()
        own = stored
        if not decided.busy:
            own = await self._follow_up(delivery, stored)
        kind = decided.kind
        if decided.runs and kind is not OutcomeKind.STARTED:
            if own.status is Status.COMPENSATING:
                kind = OutcomeKind.COMPENSATING
            elif own.status is Status.SUSPENDED:
                kind = OutcomeKind.SUSPENDED
        return self._outcome(kind, delivery, own if decided.runs else stored)

    async def _follow_up(
        self, delivery: Taking, stored: SagaRecord, *, works: bool = True
    ) -> SagaRecord:
        """Do what is due after a write, and send; return the saga after it was undone, if it is.

        The event itself is stored: what fails here does not make it fail.

        :param works: whether to do what is due; otherwise only to send.
        """
        saga_type, own, last = delivery.saga_type, stored, stored
        delivery.letter.unsent = None  # it is sent together with what this event has added
        try:
            if works and has_work(stored):
                held = self.leases.hold(saga_type, stored.correlation_id)
                try:
                    own = await self.due.advance(saga_type, stored, only=Undo)
                    last = await self.due.advance(saga_type, own)
                finally:
                    self.leases.release(held)
        except RepositoryError as exc:
            self._leave_to_workers(saga_type, delivery.event, exc)
        else:
            await self.outbox.send(
                saga_type, last, delivery.tasks, wait=delivery.wait, lingers=True
            )
        return own

    def _report_expired(self, delivery: Taking, expired: SagaRecord | None) -> None:
        """Log which early events have waited in vain, where one finds them still stored."""
        if expired is None or expired.status is not Status.EMBRYO:
            return
        for early in expired.parked:
            logger.warning(
                "%s %r: %s %r came early and was kept, but the saga has not started within "
                "early_events=; it has no effect",
                delivery.saga_type.table.saga,
                delivery.event.correlation_id,
                early.message.type,
                early.id,
                extra=about(
                    delivery.saga_type.table.saga,
                    delivery.event.correlation_id,
                    event=early.message.type,
                    message_id=early.id,
                ),
            )

    def _without_write(
        self, delivery: Taking, decided: Decided, record: SagaRecord | None
    ) -> Outcome:
        if decided.error is not None:
            raise decided.error
        if decided.kind in (OutcomeKind.UNHANDLED, OutcomeKind.NOT_FOUND):
            logger.warning(
                "%s %r: %s %r is %s in state %s; nothing was stored",
                delivery.saga_type.table.saga,
                delivery.event.correlation_id,
                type(delivery.event.body).__name__,
                delivery.event.message_id,
                decided.kind.value,
                None if record is None else record.state,
                extra=about_event(delivery.saga_type, delivery.event, record),
            )
        elif decided.kind is OutcomeKind.FINISHED:
            logger.info(
                "%s %r: %s %r came after the end of the saga; nothing was stored",
                delivery.saga_type.table.saga,
                delivery.event.correlation_id,
                type(delivery.event.body).__name__,
                delivery.event.message_id,
                extra=about_event(delivery.saga_type, delivery.event, record),
            )
        return self._outcome(decided.kind, delivery, record)

    def _outcome(self, kind: OutcomeKind, delivery: Taking, record: SagaRecord | None) -> Outcome:
        saga_type, correlation_id = delivery.saga_type, delivery.event.correlation_id
        if record is None or not record.state:
            return Outcome(kind, saga_type, correlation_id)
        state = saga_type.table.state(record.state)
        return Outcome(kind, saga_type, correlation_id, state, record.version)

    def _leave_to_workers(
        self, saga_type: type[Saga], event: Event, error: RepositoryError
    ) -> None:
        """Note that the store failed after it had taken *event*, which has not failed."""
        self.outages.report(error)
        logger.info(
            "%s %r: %s %r is stored, but the store failed on what follows; that is left to the "
            "background or the next run_due(): %s",
            saga_type.table.saga,
            event.correlation_id,
            type(event.body).__name__,
            event.message_id,
            error,
            extra=about_event(saga_type, event, None),
        )
