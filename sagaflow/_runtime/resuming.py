"""Does what is due for one saga and sends what waits in it: for the sweep, operators and tools."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from anyio.abc import TaskGroup
from attrs import frozen

from sagaflow._concurrency.cancellation import failure, raise_all
from sagaflow._definition.saga import Saga
from sagaflow._engine.work import earliest
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import (
    ConcurrencyError,
    NewerSchemaError,
    ServerUnavailableError,
    UnknownStateError,
)
from sagaflow._model.ids import SagaId
from sagaflow._model.record import SagaRecord, evolve
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.left_alone import check_stored_id
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.process import Process
from sagaflow._runtime.reports import report_overtaken
from sagaflow._runtime.store import Store


@frozen(kw_only=True)
class Resuming:
    """Puts sagas back to work.

    :ivar concurrency: of how many sagas messages are sent at the same time, where all are resumed.
    """

    process: Process
    store: Store
    outages: Outages
    due: DueWork
    outbox: Outbox
    leases: Leases
    concurrency: int

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

        :param tasks: where the sending goes on if the caller does not wait for it.
        :param take_over: also if another process holds a lease on it, or this one is at work on it.
        :param wait: return when the saga has nothing left to send; where it goes on in *tasks*,
            after the time that one message may take.
        :return: what is being sent; None if nothing is, another task or process sends it, or
            others were faster with each write.
        :raises LeftAloneError: if the document is damaged, or for other code.
        :raises RepositoryError: if the store failed.
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
        except ConcurrencyError as exc:
            report_overtaken(saga_type.table.saga, correlation_id, exc)
            self.store.on_stored(saga_type, record)  # look again soon
            return None
        finally:
            self.leases.release(held)
        lane = await self.outbox.send(saga_type, after, tasks, wait=wait)
        if after.version == record.version:
            if lane is None:
                await self._correct_wake(saga_type, after)
            elif not wait:  # what falls due meanwhile is left to this process alone
                sending = evolve(after, lease=self.process.own_lease())
                self.store.on_stored(saga_type, sending)
        return lane

    async def run_due(self, sagas: Iterable[type[Saga]], tasks: TaskGroup | None) -> int:
        """Do once all work that is due now; see `Orchestrator.run_due`."""
        worked, errors, sending = 0, list[Exception](), deque[Lane]()
        for saga_type in sagas:
            saga, now = saga_type.table.saga, self.process.clock.now()
            due = [found async for found in self.store.repository.due(saga, now, unclaimed=False)]
            self.outages.report_recovery()
            for correlation_id in due:
                try:
                    check_stored_id(saga, correlation_id)
                    lane = await self.resume(
                        saga_type, correlation_id, tasks, take_over=True, wait=tasks is None
                    )
                except (NewerSchemaError, UnknownStateError) as exc:
                    self.outages.report(exc)
                    continue
                except BaseException as exc:  # noqa: BLE001 - raised below
                    errors.append(failure(exc))
                    if isinstance(exc, ServerUnavailableError):  # as for all others
                        raise_all("several sagas failed", errors)
                else:
                    if lane is not None:
                        sending.append(lane)
                    if len(sending) >= self.concurrency:
                        await sending.popleft().wait_long_enough()
                worked += 1
        for lane in sending:
            await lane.wait_long_enough()
        raise_all("several sagas failed", errors)
        return worked

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
