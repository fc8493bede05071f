"""Takes one event from the saga as it is known to the saga as it is stored, and tries again.

Each event is one conditional write. Where another write came first, the event is decided on again,
on what is stored then; that nothing is written is never decided on what may be out of date.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from anyio.abc import TaskGroup
from attrs import define, frozen

from sagaflow._definition.saga import Saga
from sagaflow._engine.outcome import Outcome, OutcomeKind
from sagaflow._engine.work import Machine, has_timer_before, next_work
from sagaflow._model.errors import (
    LimitExceededError,
    SerializationError,
)
from sagaflow._model.record import SagaRecord, Status, evolve, has_expired
from sagaflow._model.value import value
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.following import Follower, FollowUp
from sagaflow._runtime.group_commit import Fate, GroupCommit
from sagaflow._runtime.handling import Change, Handling, Raised, Unchanged
from sagaflow._runtime.hot_sagas import is_same
from sagaflow._runtime.invoke import Event
from sagaflow._runtime.mailbox import Mailboxes, Turn, running
from sagaflow._runtime.process import Process
from sagaflow._runtime.races import Race
from sagaflow._runtime.reports import (
    report_expired,
    report_unchanged,
)
from sagaflow._runtime.store import Store
from sagaflow._runtime.trace import SILENT, Trace
from sagaflow._runtime.transitions import Transitions


class _Again(Enum):
    """That an event is to be decided on again, since what it rested on was not stored."""

    AT_ONCE = "at once"
    LATER = "later"
    """After a pause, so that those who compete for the saga get out of each other's way."""


@define
class _Taking:
    """An event that is being taken.

    :ivar accepted: when it was the event's turn for the first time: what arose before that comes
        first.
    :ivar tasks: where messages are sent if the caller is cancelled or does not wait.
    :ivar follower: who sees to what follows from the event.
    :ivar keep_failures: store an event whose handler raises, to try it again later, rather than
        raise.
    :ivar is_alone: whether the event is stored by a write of its own.
    :ivar unsent: the saga after what had to be done before this event; its messages are to be sent.
    """

    machine: Machine
    saga_type: type[Saga]
    event: Event
    turn: Turn
    accepted: datetime
    tasks: TaskGroup | None
    follower: Follower
    keep_failures: bool
    is_alone: bool
    unsent: SagaRecord | None = None


@value
class _Seen:
    """What an event is decided on.

    :ivar record: the saga; None if there is none.
    :ivar expired: what is stored in its place and counts as gone.
    :ivar is_certain: whether that was just read, rather than known from before.
    """

    record: SagaRecord | None
    expired: SagaRecord | None = None
    is_certain: bool = False


_NOTHING = _Seen(None)


_UNDONE: Final = {
    Status.COMPENSATING: OutcomeKind.COMPENSATING,
    Status.SUSPENDED: OutcomeKind.SUSPENDED,
}
"""What the sender of an event is told if the event has the completed steps undone."""


@frozen(kw_only=True)
class Delivery:
    """Has sagas take events, one conditional write each, or one for many that come at once."""

    process: Process
    store: Store
    handling: Handling
    due: DueWork
    follow_up: FollowUp
    mailboxes: Mailboxes
    transitions: Transitions
    group: GroupCommit
    conflict_deadline: timedelta
    trace: Trace = SILENT

    async def take(
        self,
        saga_type: type[Saga],
        event: Event,
        tasks: TaskGroup | None,
        *,
        follower: Follower,
        keep_failures: bool,
    ) -> Outcome:
        """Have a saga take *event*, however often others change it meanwhile.

        :param tasks: where messages are sent if the caller is cancelled or does not wait.
        :param follower: who sees to what follows from the event.
        :param keep_failures: store an event whose handler raises, to try it again later, rather
            than raise.
        :raises ConcurrencyError: if the event was overtaken until the deadline.
        :raises RepositoryError: if the store failed.
        """
        if self.trace.observers is None:
            return await self._take(saga_type, event, tasks, follower, keep_failures)
        with self.trace.event(
            saga_type, event.correlation_id, event.body, event.message_id, event.headers
        ) as telling:
            event = evolve(event, headers=self.trace.carried(event.headers))
            outcome = await self._take(saga_type, event, tasks, follower, keep_failures)
            telling.ended(outcome)
            return outcome

    async def _take(
        self,
        saga_type: type[Saga],
        event: Event,
        tasks: TaskGroup | None,
        follower: Follower,
        keep_failures: bool,  # noqa: FBT001
    ) -> Outcome:
        turn = self.mailboxes.enter(saga_type, event.correlation_id)
        taking: _Taking | None = None
        race: Race | None = None
        try:
            if turn.mailbox.holder is not turn or turn.mailbox.writing is not None:
                await turn.wait()
            taking = _Taking(
                self.process.machine(saga_type),
                saga_type,
                event,
                turn,
                self.process.clock.now(),
                tasks,
                follower,
                keep_failures,
                turn.passes_by,
            )
            while True:
                result = await self._attempt(taking, is_first=race is None)
                if not isinstance(result, _Again):
                    return result
                race = race or Race(
                    process=self.process,
                    saga=saga_type.table.saga,
                    correlation_id=event.correlation_id,
                    deadline=self.conflict_deadline,
                )
                await race.lose(pauses=result is _Again.LATER)
                await turn.wait()
        finally:
            if turn.mailbox.holder is turn or turn.is_waiting:
                turn.leave()
            if taking is not None and taking.unsent is not None:
                await self.follow_up.send_earlier(saga_type, taking.unsent, tasks, follower)

    async def _attempt(self, taking: _Taking, *, is_first: bool) -> Outcome | _Again:
        """Try once. Ends the event's turn once it is stored."""
        mailbox = taking.turn.mailbox
        epoch = mailbox.epoch
        seen = await self._look(taking, epoch, is_first=is_first)
        while seen is not None:
            record = seen.record
            decision = await self.handling.decide(
                taking.machine,
                taking.saga_type,
                record if record is None else self.transitions.before(taking.saga_type, record),
                taking.event,
                taking.turn,
                accepted=taking.accepted,
                keep_failures=taking.keep_failures,
                leaves=taking.follower is Follower.OTHERS,
            )
            if isinstance(decision, Change):
                if record is not None and self._may_share(taking, decision):
                    return await self._fold(taking, epoch, decision, record)
                try:
                    return await self._store(taking, epoch, decision, seen)
                except (LimitExceededError, SerializationError):
                    if seen.is_certain:
                        raise
            elif seen.is_certain:
                return self._without_write(taking, decision, seen)
            if not await self.group.flush(taking.turn, epoch):
                return _Again.LATER
            stored = await self._load(taking)
            if not isinstance(decision, Change) and is_same(record, stored.record):
                return self._without_write(taking, decision, stored)
            seen = stored
        return _Again.LATER

    async def _look(self, taking: _Taking, epoch: int, *, is_first: bool) -> _Seen | None:
        """Return the saga, as it is known or as it is stored.

        None says that what this event rests on could not be stored.
        """
        record = self._known(taking)
        if record is None:
            only_starts = taking.machine.table.only_starts_with(type(taking.event.body))
            if is_first and not taking.is_alone and only_starts:
                return _NOTHING  # no saga that exists takes this event: it is better not to look
        elif not record.timers or not self._is_behind(taking, record):
            return _Seen(record)
        elif not await self.group.flush(taking.turn, epoch):
            return None  # what is done before the event is done to what is stored
        return await self._load(taking)

    def _known(self, taking: _Taking) -> SagaRecord | None:
        """Return the saga as it is after those that were handled just before, if that is known."""
        if taking.is_alone:
            return None
        turn = taking.turn
        if turn.mailbox.has_batch and turn.mailbox.holder is turn:
            return self.group.head_of(turn.mailbox)
        known = self.store.hot.get(taking.machine.table.saga, taking.event.correlation_id)
        if known is None:
            return None
        expire_at = known.record.expire_at
        if expire_at is not None and has_expired(expire_at, self.process.clock.now()):
            return None
        return known.record

    def _is_behind(self, taking: _Taking, record: SagaRecord) -> bool:
        """Tell whether a timer was due before it was the event's turn, and can be done now."""
        if not has_timer_before(record, taking.accepted):
            return False
        if self.due.is_within(taking.saga_type, taking.event.correlation_id):
            return False  # it comes out of that very timer, perhaps
        return next_work(record, taking.machine, taking.accepted) is not None

    async def _load(self, taking: _Taking) -> _Seen:
        """Read the saga, or what expired of it and a new one takes the place of.

        What arose before the event and no worker has done yet is done then.
        """
        saga_type, event = taking.saga_type, taking.event
        while True:
            if self.store.hot.most or taking.turn.mailbox.waiting:
                record = await self.store.load_hot(saga_type, event.correlation_id)
            else:
                record = await self.store.load(saga_type, event.correlation_id, event.message_id)
                taking.is_alone = True  # what is stored on top of that could be no duplicate's
            if record is None:
                return _Seen(None, is_certain=True)
            if has_expired(record.expire_at, self.process.clock.now()):
                return _Seen(None, expired=record, is_certain=True)
            if record.fault is not None:
                raise record.fault
            if not await self._catch_up(taking, record):
                return _Seen(record, is_certain=True)

    async def _catch_up(self, taking: _Taking, record: SagaRecord) -> bool:
        """Do what arose before the event and no worker has done yet; tell whether there was any.

        What fails of it is stored as well, and the event then waits for it.
        """
        if not record.timers or not self._is_behind(taking, record):
            return False
        turn = taking.turn
        turn.is_running = True
        token = running.set((*running.get(), turn))
        try:
            after = await self.due.advance(taking.saga_type, record)
        finally:
            running.reset(token)
            turn.is_running = False
        if after.version == record.version:  # the clock has been set back
            return False
        taking.unsent = after
        return True

    def _may_share(self, taking: _Taking, change: Change) -> bool:
        """Tell whether one write may store this event together with others that come at once.

        That is so if the next event may be decided on before anything else is done.
        """
        if taking.is_alone or not self.group.has_company(taking.turn):
            return False
        after = change.after
        return (
            change.ran
            and change.kind is not OutcomeKind.STARTED
            and after.status in (Status.ACTIVE, Status.FINISHED)
            and next_work(after, taking.machine, after.updated_at) is None
        )

    async def _fold(
        self, taking: _Taking, epoch: int, change: Change, record: SagaRecord
    ) -> Outcome | _Again:
        """Have one write store this event together with others that come at once."""
        folded = await self.group.fold(
            taking.turn, epoch, taking.saga_type, record, change.after, follower=taking.follower
        )
        if folded.fate is not Fate.STORED:
            taking.is_alone = taking.is_alone or folded.fate is Fate.REFUSED
            return _Again.LATER if folded.wrote else _Again.AT_ONCE
        if folded.left_over is not None:
            # What fell due meanwhile is left to the event whose turn it is: it arose in between.
            works = taking.turn.mailbox.holder is None
            taking.unsent = None  # it is sent together with what this event has added
            await self.follow_up.see_to(
                taking.saga_type,
                taking.event,
                folded.left_over,
                taking.tasks,
                taking.follower,
                works=works,
            )
        return self._outcome(taking, change.kind, change.after)

    async def _store(
        self, taking: _Taking, epoch: int, change: Change, seen: _Seen
    ) -> Outcome | _Again:
        """Store this event by a write of its own, and do what follows from it."""
        turn, saga_type, after = taking.turn, taking.saga_type, change.after
        mailbox = turn.mailbox
        has_turn = mailbox.holder is turn
        if has_turn and not mailbox.is_settled(epoch) and not await self.group.flush(turn, epoch):
            return _Again.LATER
        stored: SagaRecord | None = after
        if seen.record is not None:
            stored = await self.transitions.commit(saga_type, seen.record, after)
        elif seen.expired is not None:
            stored = after if await self.store.update(saga_type, seen.expired, after) else None
        elif not await self.store.insert(saga_type, after):
            return _Again.AT_ONCE  # a look at what is there settles it
        if stored is None:
            return _Again.LATER
        if seen.expired is not None:
            report_expired(taking.machine.table.saga, seen.expired)
        turn.leave()
        own = stored
        if not change.others_work:
            taking.unsent = None  # it is sent together with what this event has added
            own = await self.follow_up.see_to(
                saga_type, taking.event, stored, taking.tasks, taking.follower
            )
        if not change.ran:
            return self._outcome(taking, change.kind, stored)
        kind = change.kind
        if kind is not OutcomeKind.STARTED:
            kind = _UNDONE.get(own.status, kind)
        return self._outcome(taking, kind, own)

    def _without_write(self, taking: _Taking, decision: Unchanged | Raised, seen: _Seen) -> Outcome:
        saga = taking.machine.table.saga
        if seen.expired is not None:
            report_expired(saga, seen.expired)
        if isinstance(decision, Raised):
            raise decision.error
        report_unchanged(saga, taking.event, decision.kind, seen.record)
        return self._outcome(taking, decision.kind, seen.record)

    def _outcome(self, taking: _Taking, kind: OutcomeKind, record: SagaRecord | None) -> Outcome:
        correlation_id = taking.event.correlation_id
        if record is None or not record.state:
            return Outcome(kind, taking.saga_type, correlation_id)
        state = taking.machine.table.state(record.state)
        return Outcome(kind, taking.saga_type, correlation_id, state, record.version)
