"""Sends what sagas have in their outboxes: one lane for each saga, in which messages keep order."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._codec.messages import MessageTypes
from sagaflow._definition.saga import Saga
from sagaflow._engine.work import is_suspended_by_message
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.ids import saga_key
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import SagaRecord
from sagaflow._runtime.drain import Drain
from sagaflow._runtime.lanes import Lane, Life
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.noting import Noting
from sagaflow._runtime.offers import Offers
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.progress import Progress
from sagaflow._runtime.publisher import Publisher
from sagaflow._runtime.refusal_log import RefusalLog
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.store import Store
from sagaflow._runtime.trace import SILENT, Trace
from sagaflow.abc import Bus


@define(kw_only=True)
class Outbox:
    """Publishes what sagas have sent.

    A message is removed from its saga after the bus accepted it: a crash in between delivers it
    again, with the same id. A message that the bus refuses, or does not accept in time, stays, and
    the messages behind it wait; it is offered again later, and if that fails for too long its saga
    is suspended.

    :ivar drain: empties lanes; None where there is no bus, and messages stay in their sagas.
    """

    process: Process
    leases: Leases
    progress: Progress
    drain: Drain | None
    _lanes: dict[Life, Lane] = field(factory=dict[Life, Lane], init=False)

    def silent_since(self) -> datetime | None:
        """Return since when the bus neither accepts nor refuses some messages; None if it does."""
        return None if self.drain is None else self.drain.publisher.silent_since()

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

        A message that the bus has refused is not offered before its time, whatever messages have
        come since.

        :param tasks: where the sending goes on if the caller is cancelled or does not wait.
        :param wait: return when the saga has nothing left to send, or, where it goes on in *tasks*,
            once that takes longer than one message may. The caller must not be part of a delivery,
            which might be the very one that is waited for. Does not wait for a sending that is
            under way already, for the same reason.
        :param lingers: whether accepted messages may stay in the saga for its next write to remove.
        :return: the lane that this has begun to empty; None if nothing is left to send, or a lane
            of this saga is being emptied already.
        """
        drain = self.drain
        if drain is None or not record.outbox or (tasks is None and not wait):
            return None  # where nobody can send it now, it stays for the next run_due()
        lane = self._enqueue(saga_type, record)
        if lane is None:
            return None
        if tasks is None:
            await drain.run(saga_type, lane, None, lingers=False)  # nobody would renew its lease
            return lane
        if wait and lingers and drain.publisher.are_answered_at_once(lane):
            # No cancellation of the caller can interrupt it: it needs no task.
            await drain.run(saga_type, lane, tasks, lingers=True)
            return lane
        run = partial(self._drain_held, drain, saga_type, lane, tasks, lingers=lingers)
        try:
            tasks.start_soon(run, name=f"messages of {saga_type.table.saga}")
        except RuntimeError:  # the task group was closed meanwhile: others send it
            lane.end()
            return None
        if wait:
            await lane.wait_long_enough()
        return lane

    async def look_again(self, saga_type: type[Saga], newer: SagaRecord, tasks: TaskGroup) -> None:
        """Send what others have stored, since the lease of this process said that it would."""
        if not is_leased_to_others(newer, self.process.owner, self.process.clock.now()):
            await self.send(saga_type, newer, tasks, wait=False)

    def withdraw(
        self, saga_type: type[Saga], record: SagaRecord
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Send no more of what a saga that was cancelled had in its outbox.

        A message that undoes a step is sent nevertheless.

        :param record: the saga as it was before it was cancelled.
        :return: the ids of its messages that the bus has accepted, and of those that are being
            handed to it at this moment.
        """
        life = (saga_key(saga_type.table.saga, record.correlation_id), record.incarnation)
        lane = self._lanes.get(life)
        accepted, under_way = self.progress.accepted.get(life, 0), frozenset[str]()
        if lane is not None and lane.waiting:
            accepted, first = lane.accepted, lane.waiting[0]
            under_way = frozenset((first.id,))
            kept = [m for m in lane.waiting if m is first or m.undoes is not None]
            lane.waiting.clear()
            lane.waiting.extend(kept)
        return frozenset(m.id for m in record.outbox if m.sequence <= accepted), under_way

    def _enqueue(self, saga_type: type[Saga], record: SagaRecord) -> Lane | None:
        """Put messages into the lane of their saga; return the lane if it is new, to be emptied."""
        life = (saga_key(saga_type.table.saga, record.correlation_id), record.incarnation)
        if record.suspension is not None and is_suspended_by_message(record):
            self.progress.forget_refusal(life)
            return None  # an operator decides first
        lane = self._lanes.get(life)
        if lane is not None:
            lane.extend(record)
            return None
        known = self.progress.accepted.used(life) or 0
        lane = Lane(self._lanes, life, record, known, known)
        lane.extend(record)
        # Accepted messages may be in the saga still, or again: it was read before they were
        # removed, perhaps by a write that has set the whole outbox since.
        first = record.outbox[0]
        if first.sequence > known and (record.sending is not None or self.progress.refused):
            now = self.process.clock.now()
            if record.sending is not None:
                if record.sending.due > now:
                    return None  # the background offers it again then
            else:
                lane.refused = self.progress.not_before(life, record, first, now)
        self._lanes[life] = lane
        return lane

    async def _drain_held(
        self, drain: Drain, saga_type: type[Saga], lane: Lane, tasks: TaskGroup, *, lingers: bool
    ) -> None:
        """Empty a lane, which may take longer than a lease lasts."""
        held = self.leases.hold(saga_type, lane.latest.correlation_id)
        try:
            await drain.run(saga_type, lane, tasks, lingers=lingers)
        finally:
            self.leases.release(held)


def make_outbox(  # noqa: PLR0913 - here the parts meet
    process: Process,
    store: Store,
    outages: Outages,
    bus: Bus | None,
    messages: MessageTypes,
    *,
    retry: RetryPolicy,
    removals: Removals,
    leases: Leases,
    send_timeout: timedelta,
    trace: Trace = SILENT,
) -> Outbox:
    """Return an outbox, put together from its parts; *removals* has it look at newer sagas.

    :param bus: None if messages stay in their sagas.
    :param send_timeout: how long one message may take until the bus accepts or refuses it.
    """
    progress = Progress(process.clock)
    drain: Drain | None = None
    if bus is not None:
        publisher = Publisher(
            process=process,
            messages=messages,
            offers=Offers(
                bus=bus, timeout=send_timeout, clock=process.clock, memory=retry.max_delay * 2
            ),
            retry=retry,
            progress=progress,
            log=RefusalLog(process.clock),
            trace=trace,
        )
        noting = Noting(
            process=process,
            store=store,
            outages=outages,
            retry=retry,
            progress=progress,
            removals=removals,
        )
        drain = Drain(
            store=store,
            publisher=publisher,
            noting=noting,
            progress=progress,
            removals=removals,
            send_timeout=send_timeout,
        )
    outbox = Outbox(process=process, leases=leases, progress=progress, drain=drain)
    removals.on_newer = outbox.look_again
    return outbox
