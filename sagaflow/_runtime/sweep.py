"""The background of an orchestrator: does what is due, also what a dead process has left."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._engine.backoff import delays
from sagaflow._engine.work import earliest_work
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import (
    DamagedDocumentError,
    LeftAloneError,
    NewerSchemaError,
    RepositoryError,
)
from sagaflow._model.ids import SagaId
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import Lease, SagaRecord
from sagaflow._runtime.aside import checked
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store
from sagaflow.abc import closing

logger = get_logger(__name__)

_HORIZON: Final = timedelta(minutes=10)
"""Timers that are further away are left to the sweep, so that memory is bounded."""
_SECOND_LOOK: Final = timedelta(milliseconds=100)
_LONGEST_SLEEP: Final = timedelta(seconds=5)
_LONGEST_OUTAGE_PAUSE: Final = timedelta(seconds=30)
_LONGEST_SWEEP: Final = timedelta(seconds=60)
"""A sweep that takes longer is taken for stuck."""
_BATCH: Final = 200
"""How many sagas a sweep claims. If there are more, the next follows once fewer are being done."""
_CLAIMS: Final = 8
"""How many it claims at a time."""

_SPARE: Final = 64

_Key = tuple[type[Saga], type, SagaId]


@define(kw_only=True)
class Sweep:
    """Does due work in the background.

    What this process has stored wakes it to the millisecond; a sweep over what is due finds the
    rest, such as what a dead process has left.

    :ivar resume: does what is due for one saga; returns what is being sent after that, which
        others need not wait for.
    :ivar poll: how long the sweep rests when there is work now and then; up to five times that
        when there is none.
    :ivar concurrency: for how many sagas work is done at the same time, sending apart.
    :ivar takes_back: whether another process of the same name may have left its leases behind.
    :ivar last_sweep: when it last looked successfully for due work.
    """

    process: Process
    store: Store
    outages: Outages
    sagas: tuple[type[Saga], ...]
    resume: Callable[[type[Saga], SagaId], Awaitable[Lane | None]]
    poll: timedelta
    concurrency: int
    takes_back: bool = False
    last_sweep: datetime | None = field(default=None, init=False)
    _round: float | None = field(default=None, init=False)
    _wakes: dict[_Key, datetime] = field(factory=dict[_Key, datetime], init=False)
    _heap: list[tuple[datetime, int, _Key]] = field(
        factory=list[tuple[datetime, int, _Key]], init=False
    )
    _counter: Iterator[int] = field(factory=count, init=False)
    _changed: anyio.Event = field(factory=anyio.Event, init=False)
    _busy: set[_Key] = field(factory=set[_Key], init=False)
    _sending: int = field(default=0, init=False)
    _newer: set[type[Saga]] = field(factory=set[type[Saga]], init=False)
    _passed: dict[type[Saga], int] = field(factory=dict[type[Saga], int], init=False)
    _fails: bool = field(default=False, init=False)
    _bugs: set[tuple[str, type]] = field(factory=set[tuple[str, type]], init=False)
    _finished: anyio.Event = field(factory=anyio.Event, init=False)
    _limiter: anyio.CapacityLimiter = field(init=False)

    def are_alive(self) -> bool:
        """Tell whether they run, and the sweep is not stuck."""
        longest = self.poll * 10 + _LONGEST_OUTAGE_PAUSE + _LONGEST_SWEEP
        return (
            self._round is not None
            and anyio.current_time() - self._round <= longest.total_seconds()
        )

    async def wait_until_idle(self) -> None:
        """Return once no work is being done."""
        await self._wait_until_fewer_than(1)

    async def _wait_until_fewer_than(self, number: int) -> None:
        while len(self._busy) + self._sending >= number:
            if self._finished.is_set():
                self._finished = anyio.Event()
            await self._finished.wait()

    def note(self, saga_type: type[Saga], record: SagaRecord) -> None:
        """Remember when a saga that this process has stored has work to do."""
        key = (saga_type, type(record.correlation_id), record.correlation_id)
        wake = record.wake
        if wake is None and record.lease is None:
            self._wakes.pop(key, None)
            return
        now = self.process.clock.now()
        if is_leased_to_others(record, self.process.owner, now):
            # They may be done by now, and not know of what this process has added.
            wake = now + _SECOND_LOOK
        elif wake is not None and wake <= now:
            if record.lease is not None:  # work does not wait for what is being sent
                wake = earliest_work(record, self.process.machine(saga_type))
            if wake is not None and wake <= now:
                # Whoever has stored it does that without being woken, or it became due while
                # messages were being sent, and nobody is doing it.
                wake = now + _SECOND_LOOK
        if wake is None or wake - now > _HORIZON:
            self._wakes.pop(key, None)
            return
        self._wakes[key] = wake
        self._push(wake, key)
        if self._heap[0][0] == wake:
            self._changed.set()

    def _push(self, wake: datetime, key: _Key) -> None:
        """Add a wake to the heap, which is rid of those that hold no longer before it grows."""
        if len(self._heap) >= 2 * len(self._wakes) + _SPARE:
            self._heap = [(due, next(self._counter), one) for one, due in self._wakes.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (wake, next(self._counter), key))

    async def run(self, tasks: TaskGroup) -> None:
        """Do what is due until cancelled. Work goes on in *tasks* when this is cancelled."""
        self._limiter = anyio.CapacityLimiter(self.concurrency)
        try:
            self._round = anyio.current_time()
            async with anyio.create_task_group() as loops:
                loops.start_soon(self._follow_timers, tasks)
                loops.start_soon(self._sweep, tasks)
                if self.takes_back:
                    loops.start_soon(self._take_back, tasks)
        finally:
            self._round = None

    async def _follow_timers(self, tasks: TaskGroup) -> None:
        while True:
            self._changed = anyio.Event()
            pause = self._start_due(tasks)
            with anyio.move_on_after(pause):
                await self._changed.wait()

    def _start_due(self, tasks: TaskGroup) -> float:
        """Start what is due of the timers of this process; return the seconds to the next."""
        now = self.process.clock.now()
        while self._heap:
            wake, _, key = self._heap[0]
            if self._wakes.get(key) != wake:
                heapq.heappop(self._heap)  # the saga has changed since
                continue
            if wake > now:
                return min((wake - now).total_seconds(), _LONGEST_SLEEP.total_seconds())
            heapq.heappop(self._heap)
            if key in self._busy:  # who is busy with the saga may have passed it by
                self._wakes[key] = now + _SECOND_LOOK
                self._push(now + _SECOND_LOOK, key)
                continue
            del self._wakes[key]
            self._start(tasks, key)
        return _LONGEST_SLEEP.total_seconds()

    def _start(self, tasks: TaskGroup, key: _Key) -> None:
        if key not in self._busy:
            self._busy.add(key)
            tasks.start_soon(self._work, key, name=f"work of {key[0].table.saga}")

    async def _work(self, key: _Key) -> None:
        saga_type, _, correlation_id = key
        sending: Lane | None = None
        try:
            async with self._limiter:
                sending = await self.resume(saga_type, correlation_id)
        except RepositoryError as exc:
            self.outages.report(exc)
        except BaseException as exc:
            # One saga that cannot be worked on must not keep the others from it.
            saga = saga_type.table.saga
            logger.exception(
                "%s %r: its work failed",
                saga,
                correlation_id,
                exc_info=failure(exc),
                extra=about(saga, correlation_id),
            )
        finally:
            self._busy.discard(key)
            self._finished.set()
        if sending is not None:
            await self._watch(sending)

    async def _watch(self, sending: Lane) -> None:
        """Count what is being sent, so that a sweep does not claim more than can be sent."""
        self._sending += 1
        try:
            await sending.wait_until_idle()
        finally:
            self._sending -= 1
            self._finished.set()

    async def _take_back(self, tasks: TaskGroup) -> None:
        """Start what a process of the same name had begun; its leases are those of this one.

        What fails here is left to the sweep, which finds it once they have run out.
        """
        saga_type = self.sagas[0]
        try:
            for saga_type in self.sagas:
                now = self.process.clock.now()
                waiting = self.store.repository.due(saga_type.table.saga, now, unclaimed=False)
                async with closing(waiting) as due:
                    found = [correlation_id async for correlation_id in due]
                for correlation_id in found:
                    await self._wait_until_fewer_than(_BATCH)
                    await self._take_one_back(tasks, saga_type, correlation_id)
        except RepositoryError as exc:
            self.outages.report(exc)
        except Exception as exc:  # noqa: BLE001 - it only saves time
            self._report_bug(saga_type, exc)

    async def _take_one_back(
        self, tasks: TaskGroup, saga_type: type[Saga], correlation_id: SagaId
    ) -> None:
        key = (saga_type, type(correlation_id), correlation_id)
        try:
            checked(saga_type.table.saga, correlation_id)
            record = await self.store.load(saga_type, correlation_id, None)
            if record is None or record.lease is None or record.lease.owner != self.process.owner:
                return
            until = self.process.clock.now() + self.process.lease
            if key not in self._busy and await self.store.renew(saga_type, record, until):
                self._start(tasks, key)
        except RepositoryError as exc:
            logger.debug(
                "%s %r was not taken back: %s",
                saga_type.table.saga,
                correlation_id,
                exc,
                extra=about(saga_type.table.saga, correlation_id),
            )

    async def _sweep(self, tasks: TaskGroup) -> None:
        idle, more = 1, False
        outage = self._outage_pauses()
        while True:
            pause = (self.poll * idle * (0.5 + self.process.random())).total_seconds()
            if more:  # no longer than otherwise: what hangs must not hold up all others
                with anyio.move_on_after(pause):
                    await self._wait_until_fewer_than(_BATCH)
            else:
                await anyio.sleep(pause)
            if not self._fails:
                self._round = anyio.current_time()
            try:
                found, more = await self._claim_due(tasks)
            except RepositoryError as exc:
                more = False
                self.outages.report(exc)
                await anyio.sleep(next(outage).total_seconds())
                continue
            self.outages.report_recovery()
            if not self._fails:
                self.last_sweep = self.process.clock.now()
            outage = self._outage_pauses()
            idle = 1 if found else min(idle + 1, 5)

    def _outage_pauses(self) -> Iterator[timedelta]:
        return delays(self.poll, _LONGEST_OUTAGE_PAUSE, self.process.random)

    async def _claim_due(self, tasks: TaskGroup) -> tuple[bool, bool]:
        """Claim what nobody else works on, and start it.

        :return: whether anything was claimed, and whether there is more.
        """
        found = more = False
        self._fails = False
        for saga_type in self.sagas:
            try:
                claimed, rest = await self._claim_due_of(saga_type, tasks)
            except RepositoryError:
                raise
            except Exception as exc:  # noqa: BLE001 - one class must not keep the others from it
                self._fails = True
                self._report_bug(saga_type, exc)
            else:
                found, more = found or claimed, more or rest
        return found, more

    async def _claim_due_of(self, saga_type: type[Saga], tasks: TaskGroup) -> tuple[bool, bool]:
        """Claim what is due of one class, past what is left alone.

        Of that only so many are remembered. Further ones are passed a batch at a time, each sweep
        going on behind those before, until the end is reached: they hold nobody up for ever.
        """
        saga, now, aside = saga_type.table.saga, self.process.clock.now(), self.outages.aside
        # All, until one of newer code has been met, so that it is met.
        schema = definition_of(saga_type).options.schema if saga_type in self._newer else None
        passed = self._passed.pop(saga_type, 0)
        limit = _BATCH + aside.count(saga) + passed
        waiting = self.store.repository.due(saga, now, unclaimed=True, schema=schema, limit=limit)
        async with closing(waiting) as due:
            batch = [correlation_id async for correlation_id in due]
        is_all = len(batch) < limit
        if is_all:
            aside.keep_only(saga, batch)
        fit: list[SagaId] = []
        damaged = 0
        awake = [one for one in batch if not aside.rests(saga, one, now)][passed:]
        for one in awake:
            try:
                checked(saga, one)
            except DamagedDocumentError as exc:
                self.outages.report(exc)
                damaged += 1
            else:
                fit.append(one)
        idle = [one for one in fit if (saga_type, type(one), one) not in self._busy]
        claimed, left_alone = await self._claim_all(tasks, saga_type, idle, now)
        left_alone += damaged
        if aside.is_full(saga) and not is_all:
            remembered = sum(aside.rests(saga, one, now) for one in awake)
            self._passed[saga_type] = passed + left_alone - remembered
            left_alone = remembered
        return claimed > 0, claimed + left_alone > 0 and not is_all

    async def _claim_all(
        self, tasks: TaskGroup, saga_type: type[Saga], idle: list[SagaId], now: datetime
    ) -> tuple[int, int]:
        """Claim sagas, several at a time, and start their work.

        :return: how many were claimed, and how many are to be left alone.
        """
        saga, schema = saga_type.table.saga, definition_of(saga_type).options.schema
        lease = Lease(owner=self.process.owner, until=now + self.process.lease)
        rest, errors = iter(idle), list[RepositoryError]()
        claimed = left_alone = 0

        async def claim() -> None:
            nonlocal claimed, left_alone
            for one in rest:
                try:
                    if not await self._is_fit(saga_type, one):
                        left_alone += 1
                    elif await self.store.repository.claim(saga, one, lease, now, schema=schema):
                        claimed += 1
                        self._start(tasks, (saga_type, type(one), one))
                except RepositoryError as exc:
                    errors.append(exc)
                    return

        async with anyio.create_task_group() as claims:
            for _ in range(min(_CLAIMS, len(idle))):
                claims.start_soon(claim)
        if errors:
            raise errors[0]
        return claimed, left_alone

    async def _is_fit(self, saga_type: type[Saga], correlation_id: SagaId) -> bool:
        """Tell whether a saga may be worked on. What is left alone is not claimed either."""
        try:
            await self.store.load(saga_type, correlation_id, None)
        except LeftAloneError as exc:
            if isinstance(exc, NewerSchemaError):
                self._newer.add(saga_type)
            self.outages.report(exc)
            return False
        self.outages.aside.forget(saga_type.table.saga, correlation_id)
        return True

    def _report_bug(self, saga_type: type[Saga], error: Exception) -> None:
        """Log what should not have happened, once for each class and kind of error."""
        saga = saga_type.table.saga
        if (saga, type(error)) not in self._bugs:
            self._bugs.add((saga, type(error)))
            logger.error(
                "%s: looking for its due work failed; it is tried again, and further failures of "
                "this kind are not logged",
                saga,
                exc_info=error,
                extra=about(saga),
            )
