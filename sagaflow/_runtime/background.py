"""The background of an orchestrator: does what is due, also what a dead process has left."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.generators import closing
from sagaflow._definition.saga import Saga
from sagaflow._engine.work import earliest_work
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import RepositoryError
from sagaflow._model.ids import SagaId, saga_key
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import SagaRecord
from sagaflow._runtime.left_alone import check_stored_id
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store
from sagaflow._runtime.sweep import BATCH, Sweep
from sagaflow._runtime.wakes import Wakes
from sagaflow._runtime.workers import Workers

logger = get_logger(__name__)

_HORIZON: Final = timedelta(minutes=10)
"""Timers that are further away are left to the sweep, so that memory is bounded."""
_SECOND_LOOK: Final = timedelta(milliseconds=100)
_LONGEST_SLEEP: Final = timedelta(seconds=5)


@define(kw_only=True)
class Background:
    """Has workers do what is due.

    Work of sagas that this process has stored begins in the millisecond in which it is due. The
    sweep finds all other work, such as that of a dead process.

    :ivar takes_back: whether another process of the same name may have left its leases behind.
    """

    process: Process
    store: Store
    outages: Outages
    sagas: tuple[type[Saga], ...]
    workers: Workers
    sweep: Sweep
    takes_back: bool = False
    _wakes: Wakes = field(factory=Wakes, init=False)
    _sooner: anyio.Event = field(factory=anyio.Event, init=False)
    """Set when a saga has work to do earlier than all that were known before."""

    def is_alive(self) -> bool:
        """Tell whether it runs, and its sweep is not stuck."""
        return self.sweep.is_alive()

    async def wait_until_idle(self) -> None:
        """Return once no saga is being worked on or sent for."""
        await self.workers.wait_until_fewer_than(1)

    def note(self, saga_type: type[Saga], record: SagaRecord) -> None:
        """Remember when a saga that this process has stored has work to do."""
        key = saga_key(saga_type.table.saga, record.correlation_id)
        wake = record.wake
        if wake is None and record.lease is None:
            self._wakes.forget(key)
            return
        now = self.process.clock.now()
        if is_leased_to_others(record, self.process.owner, now):
            # The other process may be done by now, and not know of work that this one has added.
            wake = now + _SECOND_LOOK
        elif wake is not None and wake <= now:
            if record.lease is not None or not self.process.sends:
                # Work does not wait until messages are sent, here or elsewhere.
                wake = earliest_work(record, self.process.machine(saga_type))
            if wake is not None and wake <= now:
                # Whoever has stored the saga does its work without being woken. Or the work became
                # due while messages were being sent, and nobody is doing it.
                wake = now + _SECOND_LOOK
        if wake is None or wake - now > _HORIZON:
            self._wakes.forget(key)
            return
        self._wakes.set(key, wake)
        earliest = self._wakes.earliest()
        if earliest is not None and earliest[0] == wake:
            self._sooner.set()

    def begin(self, saga_type: type[Saga], record: SagaRecord) -> None:
        """Have a worker do now what is due for a saga, which whoever has stored it does not do."""
        key = saga_key(saga_type.table.saga, record.correlation_id)
        self._wakes.set(key, self.process.clock.now())
        self._sooner.set()

    async def run(self, tasks: TaskGroup) -> None:
        """Do what is due until cancelled. Workers go on in *tasks* when this is cancelled."""
        async with anyio.create_task_group() as loops:
            loops.start_soon(self._follow_wakes, tasks)
            loops.start_soon(self.sweep.run, tasks)
            if self.takes_back:
                loops.start_soon(self._take_back, tasks)

    async def _follow_wakes(self, tasks: TaskGroup) -> None:
        while True:
            self._sooner = anyio.Event()
            pause = self._start_due(tasks)
            with anyio.move_on_after(pause):
                await self._sooner.wait()

    def _start_due(self, tasks: TaskGroup) -> float:
        """Start due work of sagas that this process has stored; return the seconds to the next."""
        now = self.process.clock.now()
        classes = {saga_type.table.saga: saga_type for saga_type in self.sagas}
        while (earliest := self._wakes.earliest()) is not None:
            wake, key = earliest
            if wake > now:
                return min((wake - now).total_seconds(), _LONGEST_SLEEP.total_seconds())
            if self.workers.is_busy(key):  # its worker may have read the saga before that was due
                self._wakes.set(key, now + _SECOND_LOOK)
                continue
            self._wakes.forget(key)
            saga, _, correlation_id = key
            self.workers.start(tasks, classes[saga], correlation_id)
        return _LONGEST_SLEEP.total_seconds()

    async def _take_back(self, tasks: TaskGroup) -> None:
        """Go on with the sagas on which an earlier process of the same name has left its leases.

        If that fails, the sweep finds these sagas once the leases have run out.
        """
        saga_type = self.sagas[0]
        try:
            for saga_type in self.sagas:
                now = self.process.clock.now()
                waiting = self.store.repository.due(saga_type.table.saga, now, unclaimed=False)
                async with closing(waiting) as due:
                    found = [correlation_id async for correlation_id in due]
                for correlation_id in found:
                    await self.workers.wait_until_fewer_than(BATCH)
                    await self._take_one_back(tasks, saga_type, correlation_id)
        except RepositoryError as exc:
            self.outages.report(exc)
        except Exception as exc:  # noqa: BLE001 - it only saves time
            self.outages.report_bug(saga_type.table.saga, exc)

    async def _take_one_back(
        self, tasks: TaskGroup, saga_type: type[Saga], correlation_id: SagaId
    ) -> None:
        saga = saga_type.table.saga
        try:
            check_stored_id(saga, correlation_id)
            record = await self.store.load(saga_type, correlation_id, None)
            if record is None or record.lease is None or record.lease.owner != self.process.owner:
                return
            if self.workers.is_busy(saga_key(saga, correlation_id)):
                return
            until = self.process.clock.now() + self.process.lease
            if await self.store.renew(saga_type, record, until):
                self.workers.start(tasks, saga_type, correlation_id)
        except RepositoryError as exc:
            logger.debug(
                "%s %r was not taken back: %s",
                saga,
                correlation_id,
                exc,
                extra=about(saga, correlation_id),
            )
