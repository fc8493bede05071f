"""Hands stored messages to the bus, in order per saga, and removes them once it has them."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from attrs import Factory, define, field

from sagaflow._codec.messages import MessageTypes
from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._engine.backoff import failed_again, is_too_old
from sagaflow._engine.failure import undeliverable
from sagaflow._engine.work import earliest, is_suspended_by_message
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._forms.values import decode_dynamic
from sagaflow._model.envelope import CAUSATION_ID, MESSAGE_KIND, current_envelope
from sagaflow._model.errors import LeftAloneError, RepositoryError
from sagaflow._model.log import about, get_logger
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import Failing, OutgoingMessage, SagaRecord, Status, evolve
from sagaflow._model.texts import line_of
from sagaflow._runtime.lanes import Key, Lane, Refused
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.offers import Offers
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.refusals import Refusals, about_message
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.store import Store
from sagaflow._runtime.trace import SILENT, Trace
from sagaflow.abc import Bus

logger = get_logger(__name__)

_REMEMBERED: Final = 4096
_MOST_UNNOTED: Final = 32
"""How many messages of a saga the bus may have that are in its outbox still, while others wait."""
_UNNOTED_FOR: Final = 0.02
"""For how many seconds, where nobody else sees to it."""


@define
class Outbox:
    """Publishes what sagas have sent.

    A message is removed from its saga after the bus accepted it: a crash in between delivers it
    again, with the same id. A message that the bus refuses, or does not accept in time, stays, and
    those behind it wait; it is offered again later, and if that fails for too long its saga is
    suspended.
    """

    _process: Process
    _store: Store
    _outages: Outages
    _bus: Bus | None
    _messages: MessageTypes
    _retry: RetryPolicy
    _removals: Removals = field(
        default=Factory(
            lambda self: Removals(self._process, self._store, self._outages), takes_self=True
        )
    )
    _trace: Trace = field(default=SILENT, kw_only=True, alias="trace")
    _leases: Leases = field(
        default=Factory(lambda self: Leases(self._process, self._store), takes_self=True)
    )
    _send_timeout: timedelta = field(
        default=timedelta(seconds=30), kw_only=True, alias="send_timeout"
    )
    _offers: Offers = field(
        default=Factory(
            lambda self: Offers(
                bus=self._bus,
                timeout=self._send_timeout,
                clock=self._process.clock,
                memory=self._retry.max_delay * 2,
            ),
            takes_self=True,
        ),
        init=False,
    )
    _lanes: dict[Key, Lane] = field(factory=dict[Key, Lane], init=False)
    _sent: dict[Key, int] = field(factory=dict[Key, int], init=False)
    _refused: dict[Key, Refused] = field(factory=dict[Key, Refused], init=False)
    _refusals: Refusals = field(
        default=Factory(lambda self: Refusals(self._process.clock, logger), takes_self=True),
        init=False,
    )

    def silent_since(self) -> datetime | None:
        """Return since when the bus neither accepts nor refuses some messages; None if it does."""
        return self._offers.silent_since()

    async def wait_until_idle(self) -> None:
        """Return once nothing is being sent."""
        while self._lanes:
            await next(iter(self._lanes.values())).wait_until_idle()

    async def send(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        tasks: TaskGroup | None,
        *,
        wait: bool,
        lingers: bool = False,
    ) -> Lane | None:
        """Send the outbox of *record*, which has just been stored or read.

        What the bus has refused is not offered before its time, whatever has come since.

        :param tasks: where the sending goes on if the caller is cancelled or does not wait.
        :param wait: return when the saga has nothing left to send, or, where it goes on in *tasks*,
            once that takes longer than one message may. The caller must not be part of a delivery,
            which might be the very one that is waited for. Does not wait for a sending that is
            under way already, for the same reason.
        :param lingers: whether what was sent may stay in the saga for its next write to remove.
        :return: what has been begun.
        """
        if tasks is None and not wait:
            return None  # nobody is there to send it now: it stays for the next run_due()
        lane = self._enqueue(saga_type, record)
        if lane is None:
            return None
        if tasks is None:
            await self._drain(saga_type, lane, None, lingers=False)  # nobody would renew its lease
            return lane
        if wait and lingers and self._is_sent_at_once(lane):
            await self._drain(saga_type, lane, tasks, lingers=True)
            return lane
        drain = partial(self._drain_held, saga_type, lane, tasks, lingers=lingers)
        try:
            tasks.start_soon(drain, name=f"relay of {saga_type.table.saga}")
        except RuntimeError:  # closed meanwhile: it stays in the saga for others
            del self._lanes[lane.key]
            return None
        if wait:
            await lane.wait_long_enough()
        return lane

    def withdraw(
        self, saga_type: type[Saga], record: SagaRecord
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Send no more of what a saga that was cancelled had in its outbox.

        What undoes a step is sent nevertheless.

        :param record: the saga as it was before.
        :return: the ids of its messages that the bus has taken, and of those that are being handed
            to it at this moment.
        """
        key = _key(saga_type, record)
        lane = self._lanes.get(key)
        accepted, under_way = self._sent.get(key, 0), frozenset[str]()
        if lane is not None and lane.waiting:
            accepted, first = lane.accepted, lane.waiting[0]
            under_way = frozenset((first.id,))
            kept = [m for m in lane.waiting if m is first or m.undoes is not None]
            lane.waiting.clear()
            lane.waiting.extend(kept)
        return frozenset(m.id for m in record.outbox if m.sequence <= accepted), under_way

    def _is_sent_at_once(self, lane: Lane) -> bool:
        """Tell whether no cancellation of the caller can interrupt it: it needs no task then."""
        for message in lane.waiting:
            cls = self._messages.find(message.message.type)
            if cls is None or not self._offers.is_answered_at_once(cls, lane.latest.correlation_id):
                return False
        return True

    def _enqueue(self, saga_type: type[Saga], record: SagaRecord) -> Lane | None:
        """Queue what is not queued yet; return the lane if nobody drains it so far."""
        if self._bus is None or not record.outbox:
            return None
        key = _key(saga_type, record)
        if is_suspended_by_message(record):
            self._refused.pop(key, None)
            return None  # an operator decides first
        lane = self._lanes.get(key)
        if lane is not None:
            lane.extend(record)
            return None
        known = self._sent.get(key, 0)
        lane = Lane(key, record, last=known, accepted=known)
        lane.extend(record)
        # What was sent may be in the saga still, or again: it was read before it was removed,
        # perhaps by a write that has set the whole outbox since.
        first = record.outbox[0]
        if first.sequence > known and (record.sending is not None or self._refused):
            now = self._process.clock.now()
            if record.sending is not None:
                if record.sending.due > now:
                    return None  # it is offered again by whoever wakes up then
            else:
                lane.refused = self._refusal_of(key, record, first, now)
        self._lanes[key] = lane
        return lane

    def _refusal_of(
        self, key: Key, record: SagaRecord, message: OutgoingMessage, now: datetime
    ) -> Failing | None:
        """Return how a message has failed that is not to be offered yet, though *record* allows it.

        A write that was decided on before the refusal was noted has overwritten that.
        """
        known = self._refused.get(key)
        if known is None or known.message_id != message.id or known.failing.due <= now:
            return None
        return known.failing if record.updated_at <= known.noted_at else None

    async def _drain_held(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup, *, lingers: bool
    ) -> None:
        """Send what may take longer than its lease."""
        held = self._leases.hold(saga_type, lane.latest.correlation_id)
        try:
            await self._drain(saga_type, lane, tasks, lingers=lingers)
        finally:
            self._leases.release(held)

    async def _drain(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup | None, *, lingers: bool
    ) -> None:
        # Where it *lingers*, what was sent is left to the next write, or to one of *tasks*.
        # The relay delivers for the saga, not for the message that its caller may be handling.
        handled = current_envelope.set(None)
        try:
            while await self._publish_waiting(saga_type, lane, tasks, lingers=lingers):
                if not lane.waiting:
                    break
            # If one was refused, what has come meanwhile must not overtake it.
        except BaseException as exc:
            # One saga that cannot be sent for must not keep the others from it.
            saga, record = saga_type.table.saga, lane.latest
            logger.exception(
                "%s %r: sending failed",
                saga,
                record.correlation_id,
                exc_info=failure(exc),
                extra=about(saga, record.correlation_id, version=record.version),
            )
        finally:
            self._lanes.pop(lane.key, None)
            lane.end()
            current_envelope.reset(handled)

    async def _publish_waiting(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup | None, *, lingers: bool
    ) -> bool:
        """Publish what waits and then remove it from the saga; tell whether all was accepted."""
        failing, is_left = lane.refused, False
        lingers = lingers and lane.latest.sending is None  # that it failed must not stay noted
        try:
            while lane.waiting and failing is None:
                failing = await self._publish(saga_type, lane.latest, lane.waiting[0])
                if failing is not None:
                    break
                self._accept(lane)
                if not lane.waiting:
                    break
                await self._note_meanwhile(saga_type, lane, tasks)
            if failing is None and lingers and tasks is not None:
                is_left = self._leave_removal(saga_type, lane, tasks, goes_on=False)
        finally:
            # Also when cancelled: what the bus has accepted should not be sent again.
            if not is_left:
                with self._store.shield():
                    await self._note(saga_type, lane, failing)
        return failing is None

    def _accept(self, lane: Lane) -> None:
        """Remember what the bus has accepted, for those who know the saga from before that."""
        lane.accept()
        self._sent[lane.key] = lane.accepted
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]
        if self._refused:
            self._refused.pop(lane.key, None)

    async def _note_meanwhile(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup | None
    ) -> None:
        """See to it that what was accepted is removed soon, though more is being sent."""
        now = anyio.current_time()
        if tasks is None or lane.latest.sending is not None:
            outbox = lane.latest.outbox
            is_much = len(outbox) > _MOST_UNNOTED and (
                outbox[_MOST_UNNOTED - 1].sequence <= lane.accepted
            )
            if lane.latest.sending is not None or is_much or now - lane.noted_at >= _UNNOTED_FOR:
                await self._note(saga_type, lane, None, goes_on=True)
                lane.noted_at = now
            return
        lane.begun_at = lane.begun_at or now
        if now - lane.begun_at >= self._send_timeout.total_seconds():
            lane.release()  # who waits has waited for long enough; it goes on without them
        if not self._leave_removal(saga_type, lane, tasks, goes_on=True):
            await self._note(saga_type, lane, None, goes_on=True)
        elif len(self._removals.of(saga_type, lane.latest)) >= _MOST_UNNOTED:
            await self._removals.settle(saga_type, lane.latest.correlation_id)

    def _unnoted(self, saga_type: type[Saga], lane: Lane) -> tuple[str, ...]:
        """Return the ids of what the bus has accepted and what may be in the saga still."""
        accepted = (m.id for m in lane.latest.outbox if m.sequence <= lane.accepted)
        waiting = self._removals.of(saga_type, lane.latest)
        return tuple(dict.fromkeys((*lane.unnoted, *waiting, *accepted)))

    def _leave_removal(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup, *, goes_on: bool
    ) -> bool:
        """Leave it to the next write to remove what was sent, if one may; tell whether it is.

        This spares most sagas a write of their own for that.
        """
        record = lane.latest
        if record.sending is not None or not (self._store.hot.most or goes_on):
            return False  # it is to be noted that it no longer fails; or no write would know of it
        sent = self._unnoted(saga_type, lane)
        left = tuple(message for message in record.outbox if message.id not in sent)
        lease = self._process.own_lease() if goes_on else None
        after = evolve(record, outbox=left, lease=lease)
        try:
            self._removals.add(saga_type, after, sent, tasks, self._look_again)
        except RuntimeError:  # closed meanwhile
            return False
        lane.latest, lane.unnoted = after, ()
        if goes_on:
            return True
        wake = earliest(after, self._process.machine(saga_type))
        if wake is not None:  # what is due later must not wait for the removal
            self._store.on_stored(saga_type, evolve(after, wake=wake))
        return True

    async def _look_again(self, saga_type: type[Saga], newer: SagaRecord, tasks: TaskGroup) -> None:
        """Send what others have stored, since the lease of this process said that it would."""
        if not is_leased_to_others(newer, self._process.owner, self._process.clock.now()):
            await self.send(saga_type, newer, tasks, wait=False)

    async def _publish(
        self, saga_type: type[Saga], record: SagaRecord, message: OutgoingMessage
    ) -> Failing | None:
        with self._trace.publication(saga_type, record, message, self._process.clock) as telling:
            headers = self._trace.carried(message.headers)
            if headers is not message.headers:
                message = evolve(message, headers=headers)
            failing = await self._offer(saga_type, record, message)
            telling.ended(failing)
            return failing

    async def _offer(
        self, saga_type: type[Saga], record: SagaRecord, message: OutgoingMessage
    ) -> Failing | None:
        saga = saga_type.table.saga
        try:
            body = self._messages.decode(
                message.message, f"{saga} {record.correlation_id!r}: outbox"
            )
            await self._offers.offer(
                body,
                message.message.type,
                correlation_id=record.correlation_id,
                message_id=message.id,
                headers=_headers(message),
            )
        except BaseException as caught:  # noqa: BLE001 - a stranger's bus and handlers
            exc = failure(caught)
            self._trace.failed(exc)
            self._refusals.report(saga, record, message, exc)
            now, random = self._process.clock.now(), self._process.random()
            before = self._failed_before(_key(saga_type, record), record, message)
            return failed_again(before, line_of(exc), now, self._retry, random)
        self._refusals.end(saga, record, message)
        return None

    def _failed_before(
        self, key: Key, record: SagaRecord, message: OutgoingMessage
    ) -> Failing | None:
        """Return how a message has failed so far, by what is stored or by what is remembered."""
        if record.outbox and message.id == record.outbox[0].id and record.sending is not None:
            return record.sending
        known = self._refused.get(key)
        return None if known is None or known.message_id != message.id else known.failing

    async def _note(
        self,
        saga_type: type[Saga],
        lane: Lane,
        failing: Failing | None,
        *,
        goes_on: bool = False,
        again: int = 3,
    ) -> None:
        """Store what was sent and what failed; look for more if the saga has changed meanwhile.

        :param goes_on: whether more is being sent after this.
        :param again: how often to store a failure anew that others were faster than.
        """
        record, process, store = lane.latest, self._process, self._store
        sent = self._unnoted(saga_type, lane)
        left = tuple(message for message in record.outbox if message.id not in sent)
        lease = process.own_lease() if goes_on else None
        after = evolve(record, outbox=left, sending=failing, lease=lease)
        wake = earliest(after, process.machine(saga_type))
        after = lane.latest = evolve(after, wake=wake)
        lane.unnoted = sent
        if failing is not None and left:
            self._remember_refusal(lane.key, left[0], failing)
        try:
            noted = await store.bookkeep(
                saga_type, record, sent=sent, sending=failing, wake=wake, lease=lease
            )
            self._removals.forget(saga_type, record, sent)
            lane.unnoted = ()
            if noted:
                store.on_stored(saga_type, after)
                if failing is not None and is_too_old(failing, process.clock.now(), self._retry):
                    await self._suspend(saga_type, after, failing)
                return
            if goes_on:
                return  # it is looked at when all is sent
            newer = await store.load(saga_type, record.correlation_id, None)
        except RepositoryError as exc:
            self._report_unnoted(saga_type, record, sent, exc)
            return
        if newer is None or newer.incarnation != record.incarnation:
            return
        if failing is None:
            self._take_over(lane, newer)
        elif again and newer.outbox and lane.waiting and newer.outbox[0].id == lane.waiting[0].id:
            lane.latest = newer
            await self._note(saga_type, lane, failing, again=again - 1)
        elif newer.outbox:  # whoever writes so fast has not noticed: it is tried when it is time
            store.on_stored(saga_type, evolve(newer, wake=failing.due, lease=None))

    def _report_unnoted(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        sent: tuple[str, ...],
        error: RepositoryError,
    ) -> None:
        self._outages.report(error)
        if not isinstance(error, LeftAloneError):  # what is to be sent then is for other code
            logger.info(
                "%s %r: %d sent messages could not be removed; should this process end before they "
                "are, they are sent again: %s",
                saga_type.table.saga,
                record.correlation_id,
                len(sent),
                error,
                extra=about(saga_type.table.saga, record.correlation_id, version=record.version),
            )

    def _remember_refusal(self, key: Key, message: OutgoingMessage, failing: Failing) -> None:
        self._refused.pop(key, None)
        self._refused[key] = Refused(message.id, failing, self._process.clock.now())
        if len(self._refused) > _REMEMBERED:
            del self._refused[next(iter(self._refused))]

    def _take_over(self, lane: Lane, newer: SagaRecord) -> None:
        """Send what others have stored while this lane was sending, as its lease says."""
        now = self._process.clock.now()
        if newer.outbox and not is_leased_to_others(newer, self._process.owner, now):
            lane.extend(newer)
        elif newer.version > lane.latest.version:
            lane.latest = newer

    async def _suspend(self, saga_type: type[Saga], record: SagaRecord, failing: Failing) -> None:
        if record.status is Status.SUSPENDED or not record.outbox:
            return
        self._refused.pop(_key(saga_type, record), None)
        machine, write = self._process.machine(saga_type), self._process.write()
        after = undeliverable(record, failing, machine, write)
        if await self._store.update(saga_type, record, after):
            logger.error(
                "%s %r: suspended, since the bus has refused %s %r for too long",
                saga_type.table.saga,
                record.correlation_id,
                record.outbox[0].message.type,
                record.outbox[0].id,
                extra=about_message(saga_type.table.saga, after, record.outbox[0]),
            )


def _headers(message: OutgoingMessage) -> dict[str, object]:
    passed_on: Any = decode_dynamic(message.headers) if message.headers else {}
    return {**passed_on, CAUSATION_ID: message.causation_id, MESSAGE_KIND: message.kind}


def _key(saga_type: type[Saga], record: SagaRecord) -> Key:
    saga = saga_type.table.saga
    return (saga, type(record.correlation_id), record.correlation_id, record.incarnation)
