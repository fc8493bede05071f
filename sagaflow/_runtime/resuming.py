"""Does what is due for one saga and sends what waits in it: for the sweep, operators and tools."""

from __future__ import annotations

from anyio.abc import TaskGroup
from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._engine.work import earliest
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.ids import SagaId
from sagaflow._model.record import SagaRecord, evolve
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store


@frozen(kw_only=True)
class Resuming:
    """Puts a saga back to work."""

    process: Process
    store: Store
    due: DueWork
    outbox: Outbox
    leases: Leases

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
        :return: what is being sent; None if nothing is, or another task or process sends it.
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
