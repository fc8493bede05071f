"""Hands stored messages to the bus, in order per saga, and removes them once it has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import Factory, define, field

from sagaflow._codec.messages import MessageTypes
from sagaflow._codec.values import decode_dynamic
from sagaflow._definition.saga import Saga
from sagaflow._engine.backoff import failed_again, is_too_old
from sagaflow._engine.failure import undeliverable
from sagaflow._engine.work import earliest, is_suspended_by_message
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._log import about, get_logger
from sagaflow._new import new_deque
from sagaflow._texts import line_of
from sagaflow.abc import Bus
from sagaflow.commits import Commits
from sagaflow.envelope import CAUSATION_ID, MESSAGE_KIND, current_envelope
from sagaflow.exceptions import NewerSchemaError, RepositoryError
from sagaflow.ids import SagaId
from sagaflow.policy import RetryPolicy
from sagaflow.record import Failing, OutgoingMessage, SagaRecord, Status, evolve
from sagaflow.refusals import Refusals, about_message
from sagaflow.removals import Removals

logger = get_logger(__name__)

_Key = tuple[str, type, SagaId, str]
_REMEMBERED = 4096


@define
class _Lane:
    """The messages of one saga. They leave one after another."""

    key: _Key
    latest: SagaRecord
    waiting: deque[OutgoingMessage] = field(factory=new_deque)
    last: int = 0
    unnoted: tuple[str, ...] = ()
    ended: bool = False
    idle: anyio.Event | None = None

    async def wait_until_idle(self) -> None:
        """Return once all have left."""
        if not self.ended:
            self.idle = self.idle or anyio.Event()
            await self.idle.wait()

    def end(self) -> None:
        """Note that all have left, or as many as could."""
        self.ended = True
        if self.idle is not None:
            self.idle.set()


@define
class Relay:
    """Publishes what sagas have sent.

    A message is removed from its saga after the bus accepted it: a crash in between delivers it
    again, with the same id. A message that the bus refuses stays, and those behind it wait; it is
    offered again later, and if that fails for too long its saga is suspended.
    """

    _commits: Commits
    _bus: Bus | None
    _messages: MessageTypes
    _retry: RetryPolicy
    _removals: Removals = field(
        default=Factory(lambda self: Removals(self._commits), takes_self=True)
    )
    _at_once: Callable[[type, SagaId], bool] | None = field(
        default=Factory(lambda self: getattr(self._bus, "delivers_at_once", None), takes_self=True),
        init=False,
    )
    _lanes: dict[_Key, _Lane] = field(factory=dict[_Key, _Lane], init=False)
    _sent: dict[_Key, int] = field(factory=dict[_Key, int], init=False)
    _refusals: Refusals = field(
        default=Factory(lambda self: Refusals(self._commits.clock, logger), takes_self=True),
        init=False,
    )

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
    ) -> None:
        """Send the outbox of *record*, which has just been stored or read.

        :param tasks: where the sending goes on if the caller is cancelled or does not wait.
        :param wait: return when the saga has nothing left to send. The caller must not be part of
            a delivery, which might be the very one that is waited for. Does not wait for a sending
            that is under way already, for the same reason.
        :param lingers: whether what was sent may stay in the saga for its next write to remove.
        """
        if tasks is None and not wait:
            return  # nobody is there to send it now: it stays in the saga for the next run_due()
        lane = self._enqueue(saga_type, record)
        if lane is None:
            return
        if tasks is None:
            await self._drain(saga_type, lane, None)
            return
        if wait and lingers and self._is_sent_at_once(lane):
            await self._drain(saga_type, lane, tasks)
            return
        try:
            name, rest = f"relay of {saga_type.table.saga}", tasks if lingers else None
            tasks.start_soon(self._drain, saga_type, lane, rest, name=name)
        except RuntimeError:  # closed meanwhile: it stays in the saga for others
            del self._lanes[lane.key]
            return
        if wait:
            await lane.wait_until_idle()

    def _is_sent_at_once(self, lane: _Lane) -> bool:
        """Tell whether no cancellation of the caller can interrupt it: it needs no task then."""
        at_once = self._at_once
        if at_once is None:
            return False
        for message in lane.waiting:
            cls = self._messages.find(message.message.type)
            if cls is None or not at_once(cls, lane.latest.correlation_id):
                return False
        return True

    def _enqueue(self, saga_type: type[Saga], record: SagaRecord) -> _Lane | None:
        """Queue what is not queued yet; return the lane if nobody drains it so far."""
        if self._bus is None or not record.outbox:
            return None
        if is_suspended_by_message(record):
            return None  # an operator decides first
        key = _key(saga_type, record)
        lane = self._lanes.get(key)
        if lane is not None:
            self._extend(lane, record)
            return None
        known = self._sent.get(key, 0)
        lane = _Lane(key, record, last=known)
        self._extend(lane, record)
        if len(lane.waiting) < len(record.outbox):
            # What was sent is in the saga still, or again: it was read before it was removed,
            # perhaps by a write that has set the whole outbox since.
            lane.unnoted = tuple(m.id for m in record.outbox if m.sequence <= known)
        if not lane.waiting and not lane.unnoted:
            return None
        self._lanes[key] = lane
        return lane

    def _extend(self, lane: _Lane, record: SagaRecord) -> None:
        if record.version > lane.latest.version:
            lane.latest = record
        for message in record.outbox:
            if message.sequence > lane.last:
                lane.waiting.append(message)
                lane.last = message.sequence

    async def _drain(self, saga_type: type[Saga], lane: _Lane, tasks: TaskGroup | None) -> None:
        # Where *tasks* are given, what was sent is left to the next write, or to one of them.
        # The relay delivers for the saga, not for the message that its caller may be handling.
        handled = current_envelope.set(None)
        try:
            while await self._publish_waiting(saga_type, lane, tasks):
                if not lane.waiting:
                    break
            # If one was refused, what has come meanwhile must not overtake it.
        except Exception:
            # One saga that cannot be sent for must not keep the others from it.
            saga, record = saga_type.table.saga, lane.latest
            logger.exception(
                "%s %r: sending failed",
                saga,
                record.correlation_id,
                extra=about(saga, record.correlation_id, version=record.version),
            )
        finally:
            self._lanes.pop(lane.key, None)
            lane.end()
            current_envelope.reset(handled)

    async def _publish_waiting(
        self, saga_type: type[Saga], lane: _Lane, tasks: TaskGroup | None
    ) -> bool:
        """Publish what waits and then remove it from the saga; tell whether all was accepted."""
        sent: list[str] = []
        failing: Failing | None = None
        is_left = False
        try:
            while lane.waiting:
                failing = await self._publish(saga_type, lane.latest, lane.waiting[0])
                if failing is not None:
                    break
                sent.append(lane.waiting.popleft().id)
            if failing is None and tasks is not None:
                is_left = self._leave_removal(saga_type, lane, tuple(sent), tasks)
        finally:
            # Also when cancelled: what the bus has accepted should not be sent again.
            if not is_left:
                with self._commits.shield():
                    await self._note(saga_type, lane, tuple(sent), failing)
        return failing is None

    def _leave_removal(
        self, saga_type: type[Saga], lane: _Lane, sent: tuple[str, ...], tasks: TaskGroup
    ) -> bool:
        """Leave it to the next write to remove what was sent, if one may; tell whether it is.

        This spares most sagas a write of their own for that.
        """
        record = lane.latest
        if record.sending is not None or not self._commits.hot.most:
            return False  # that it failed must not stay noted; or no write knows what is there
        sent = (*lane.unnoted, *sent)
        left = tuple(message for message in record.outbox if message.id not in sent)
        after = evolve(record, outbox=left, lease=None)
        try:
            self._removals.add(saga_type, after, sent, tasks, self._look_again)
        except RuntimeError:  # closed meanwhile
            return False
        self._remember(lane.key, record, sent)
        lane.latest, lane.unnoted = after, ()
        wake = earliest(after, self._commits.machine(saga_type))
        if wake is not None:  # what is due later must not wait for the removal
            self._commits.on_stored(saga_type, evolve(after, wake=wake))
        return True

    async def _look_again(self, saga_type: type[Saga], newer: SagaRecord, tasks: TaskGroup) -> None:
        """Send what others have stored, since the lease of this process said that it would."""
        if not is_leased_to_others(newer, self._commits.owner, self._commits.clock.now()):
            await self.send(saga_type, newer, tasks, wait=False)

    async def _publish(
        self, saga_type: type[Saga], record: SagaRecord, message: OutgoingMessage
    ) -> Failing | None:
        assert self._bus is not None  # noqa: S101 - there are no lanes without a bus
        saga = saga_type.table.saga
        try:
            body = self._messages.decode(
                message.message, f"{saga} {record.correlation_id!r}: outbox"
            )
            await self._bus.publish(
                body,
                correlation_id=record.correlation_id,
                message_id=message.id,
                headers=_headers(message),
            )
        except Exception as exc:  # noqa: BLE001 - a stranger's bus and handlers may raise anything
            self._report(saga, record, message, exc)
            now, random = self._commits.clock.now(), self._commits.random()
            is_first = bool(record.outbox) and message.id == record.outbox[0].id
            before = record.sending if is_first else None
            return failed_again(before, line_of(exc), now, self._retry, random)
        self._refusals.end(saga, record, message)
        return None

    def _report(
        self, saga: str, record: SagaRecord, message: OutgoingMessage, error: Exception
    ) -> None:
        """Tell of a refusal."""
        self._refusals.report(saga, record, message, error)

    async def _note(
        self,
        saga_type: type[Saga],
        lane: _Lane,
        sent: tuple[str, ...],
        failing: Failing | None,
        *,
        again: int = 3,
    ) -> None:
        """Store what was sent and what failed; look for more if the saga has changed meanwhile.

        :param again: how often to store a failure anew that others were faster than.
        """
        record = lane.latest
        # What could not be noted before has been sent as well.
        sent = (*lane.unnoted, *sent)
        left = tuple(message for message in record.outbox if message.id not in sent)
        after = evolve(record, outbox=left, sending=failing)
        wake = earliest(after, self._commits.machine(saga_type))
        lane.latest = evolve(after, lease=None)
        lane.unnoted = sent
        try:
            noted = await self._commits.bookkeep(
                saga_type, record, sent=sent, sending=failing, wake=wake
            )
            self._remember(lane.key, record, sent)
            lane.unnoted = ()
            if noted:
                self._commits.on_stored(saga_type, evolve(after, wake=wake, lease=None))
                if failing is not None and is_too_old(
                    failing, self._commits.clock.now(), self._retry
                ):
                    await self._suspend(saga_type, after, failing)
                return
            newer = await self._commits.load(saga_type, record.correlation_id, None)
        except NewerSchemaError as exc:  # what is to be sent now is for newer code
            self._commits.report_outage(exc)
            return
        except RepositoryError as exc:
            self._commits.report_outage(exc)
            logger.info(
                "%s %r: %d sent messages could not be removed and will be sent again: %s",
                saga_type.table.saga,
                record.correlation_id,
                len(sent),
                exc,
                extra=about(saga_type.table.saga, record.correlation_id, version=record.version),
            )
            return
        if newer is None or newer.incarnation != record.incarnation:
            return
        if failing is None:
            self._take_over(lane, newer)
        elif newer.outbox and again:
            lane.latest = newer
            await self._note(saga_type, lane, (), failing, again=again - 1)

    def _remember(self, key: _Key, record: SagaRecord, sent: tuple[str, ...]) -> None:
        """Remember what was sent and removed, for those who have read the saga before that."""
        for message in record.outbox:
            if message.id in sent:
                self._sent[key] = max(self._sent.get(key, 0), message.sequence)
        while len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def _take_over(self, lane: _Lane, newer: SagaRecord) -> None:
        """Send what others have stored while this lane was sending, as its lease says."""
        now = self._commits.clock.now()
        if newer.outbox and not is_leased_to_others(newer, self._commits.owner, now):
            self._extend(lane, newer)
        elif newer.version > lane.latest.version:
            lane.latest = newer

    async def _suspend(self, saga_type: type[Saga], record: SagaRecord, failing: Failing) -> None:
        if record.status is Status.SUSPENDED or not record.outbox:
            return
        machine, write = self._commits.machine(saga_type), self._commits.write()
        after = undeliverable(record, failing, machine, write)
        if await self._commits.update(saga_type, record, after):
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


def _key(saga_type: type[Saga], record: SagaRecord) -> _Key:
    saga = saga_type.table.saga
    return (saga, type(record.correlation_id), record.correlation_id, record.incarnation)
