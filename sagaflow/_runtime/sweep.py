"""The sweep: goes through the store and finds the sagas that have work to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.generators import closing
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._engine.backoff import delays
from sagaflow._engine.work import next_work
from sagaflow._model.errors import (
    DamagedDocumentError,
    LeftAloneError,
    NewerSchemaError,
    RepositoryError,
)
from sagaflow._model.ids import SagaId, saga_key
from sagaflow._model.record import Lease
from sagaflow._runtime.left_alone import check_stored_id
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store
from sagaflow._runtime.workers import Workers

BATCH: Final = 200
"""How many sagas a sweep claims. If there are more, the next follows once fewer are being done."""
_CLAIMS: Final = 8
"""How many it claims at a time."""
_LONGEST_OUTAGE_PAUSE: Final = timedelta(seconds=30)
_LONGEST_REST: Final = 5
"""How many times its interval a sweep rests at most."""
_SHARE: Final = 9
"""How many times as long as it looks a sweep rests at least: it looks for a tenth of the time.

A look takes longer the more sagas are being worked on: the store passes them by one after another.
"""
_LONGEST_REST_FOR_THAT: Final = timedelta(seconds=5)
_LONGEST_SWEEP: Final = timedelta(seconds=60)
"""A sweep that takes longer is taken for stuck."""


class _Fitness(Enum):
    """Whether this process may work on a saga that is due."""

    FIT = "fit"
    LEFT_ALONE = "left alone"
    """It is damaged, or for other code."""
    FOR_SENDERS = "for senders"
    """It waits for nothing but the sending of its messages, and this process does not send."""


@define(kw_only=True)
class Sweep:
    """Claims what is due in the store and nobody works on, and has workers do it.

    :ivar poll_interval: how long the sweep rests, on average. After a quiet spell, in which it has
        found nothing for `quiet_after`, it is up to five times that.
    :ivar quiet_after: how long after it has found work the sweep looks as often as it can: what
        other processes leave to it should not wait, and where there was some there is more.
    :ivar last: when it last looked successfully for due work.
    """

    process: Process
    store: Store
    outages: Outages
    sagas: tuple[type[Saga], ...]
    workers: Workers
    poll_interval: timedelta
    quiet_after: timedelta = timedelta(minutes=1)
    last: datetime | None = field(default=None, init=False)
    _round: float | None = field(default=None, init=False)
    """When it last began to look, by the clock of the event loop; None while it does not run."""
    _newer: set[type[Saga]] = field(factory=set[type[Saga]], init=False)
    """The classes of which newer code has stored sagas."""
    _passed: dict[type[Saga], int] = field(factory=dict[type[Saga], int], init=False)
    """How many sagas of a class, of those that are left alone, the next sweep goes past."""
    _looked_for: float = field(default=0.0, init=False)
    """How many seconds the store took to say what is due, in the present sweep."""
    _fails: bool = field(default=False, init=False)
    """Whether the present sweep has failed for some class."""

    def is_alive(self) -> bool:
        """Tell whether it runs, and is not stuck."""
        longest = self.poll_interval * 10 + _LONGEST_OUTAGE_PAUSE + _LONGEST_SWEEP
        return (
            self._round is not None
            and anyio.current_time() - self._round <= longest.total_seconds()
        )

    async def run(self, tasks: TaskGroup) -> None:
        """Sweep again and again until cancelled. Workers do in *tasks* what it finds."""
        self._round = anyio.current_time()
        try:
            await self._sweep(tasks)
        finally:
            self._round = None

    async def _sweep(self, tasks: TaskGroup) -> None:
        idle, more = 1, False
        found_at = anyio.current_time()
        outage = self._outage_pauses()
        while True:
            pause = (self.poll_interval * idle * (0.5 + self.process.random())).total_seconds()
            least = min(self._looked_for * _SHARE, _LONGEST_REST_FOR_THAT.total_seconds())
            pause = max(pause, least)
            if more:  # not for ever: work that hangs must not hold up all other sagas
                with anyio.move_on_after(pause):
                    await self.workers.wait_until_fewer_than(BATCH)
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
                self.last = self.process.clock.now()
            outage = self._outage_pauses()
            now = anyio.current_time()
            if found:
                idle, found_at = 1, now
            elif now - found_at >= self.quiet_after.total_seconds():
                idle = min(idle + 1, _LONGEST_REST)

    def _outage_pauses(self) -> Iterator[timedelta]:
        return delays(self.poll_interval, _LONGEST_OUTAGE_PAUSE, self.process.random)

    async def _claim_due(self, tasks: TaskGroup) -> tuple[bool, bool]:
        """Claim sagas that nobody else works on, and start their work.

        :return: whether anything was claimed, and whether there is more.
        """
        found = more = False
        self._fails, self._looked_for = False, 0.0
        for saga_type in self.sagas:
            try:
                claimed, rest = await self._claim_due_of(saga_type, tasks)
            except RepositoryError:
                raise
            except Exception as exc:  # noqa: BLE001 - one class must not keep the others from it
                self._fails = True
                self.outages.report_bug(saga_type.table.saga, exc)
            else:
                found, more = found or claimed, more or rest
        return found, more

    async def _claim_due_of(self, saga_type: type[Saga], tasks: TaskGroup) -> tuple[bool, bool]:
        """Claim the due sagas of one class, past the sagas that are left alone.

        Only so many sagas that are left alone are remembered. If there are more, each sweep goes
        past one batch of them, and the next sweep goes on behind that, until the end is reached:
        however many they are, the sagas behind them get their turn.
        """
        saga, now = saga_type.table.saga, self.process.clock.now()
        known = self.outages.left_alone
        # Sagas of newer code are asked for until the first one was found and logged.
        schema = definition_of(saga_type).options.schema if saga_type in self._newer else None
        passed = self._passed.pop(saga_type, 0)
        limit = BATCH + known.count(saga) + passed
        began = anyio.current_time()
        waiting = self.store.repository.due(saga, now, unclaimed=True, schema=schema, limit=limit)
        async with closing(waiting) as due:
            batch = [correlation_id async for correlation_id in due]
        self._looked_for += anyio.current_time() - began
        is_all = len(batch) < limit
        if is_all:
            known.keep_only(saga, batch)
        fit: list[SagaId] = []
        damaged = 0
        awake = [one for one in batch if not known.rests(saga, one, now)][passed:]
        for one in awake:
            try:
                check_stored_id(saga, one)
            except DamagedDocumentError as exc:
                self.outages.report(exc)
                damaged += 1
            else:
                fit.append(one)
        idle = [one for one in fit if not self.workers.is_busy(saga_key(saga, one))]
        claimed, left_alone, for_senders = await self._claim_all(tasks, saga_type, idle, now)
        left_alone += damaged
        if known.is_full(saga) and not is_all:
            remembered = sum(known.rests(saga, one, now) for one in awake)
            self._passed[saga_type] = passed + left_alone - remembered
            left_alone = remembered
        if for_senders and not is_all:
            self._passed[saga_type] = self._passed.get(saga_type, passed) + for_senders
        return claimed > 0, claimed + left_alone > 0 and not is_all

    async def _claim_all(
        self, tasks: TaskGroup, saga_type: type[Saga], idle: list[SagaId], now: datetime
    ) -> tuple[int, int, int]:
        """Claim sagas, several at a time, and start their work.

        :return: how many were claimed, how many are to be left alone, and how many are left to
            processes that send messages, since this one does not and they wait for nothing else.
        """
        saga, schema = saga_type.table.saga, definition_of(saga_type).options.schema
        lease = Lease(owner=self.process.owner, until=now + self.process.lease)
        rest, errors = iter(idle), list[RepositoryError]()
        claimed = left_alone = for_senders = 0

        async def claim() -> None:
            nonlocal claimed, left_alone, for_senders
            for one in rest:
                try:
                    fitness = await self._fitness(saga_type, one, now)
                    if fitness is _Fitness.LEFT_ALONE:
                        left_alone += 1
                    elif fitness is _Fitness.FOR_SENDERS:
                        for_senders += 1
                    elif await self.store.repository.claim(saga, one, lease, now, schema=schema):
                        claimed += 1
                        self.workers.start(tasks, saga_type, one)
                except RepositoryError as exc:
                    errors.append(exc)
                    return

        async with anyio.create_task_group() as claims:
            for _ in range(min(_CLAIMS, len(idle))):
                claims.start_soon(claim)
        if errors:
            raise errors[0]
        return claimed, left_alone, for_senders

    async def _fitness(
        self, saga_type: type[Saga], correlation_id: SagaId, now: datetime
    ) -> _Fitness:
        """Tell whether a saga may be worked on; otherwise it is not claimed."""
        try:
            record = await self.store.load(saga_type, correlation_id, None)
        except LeftAloneError as exc:
            if isinstance(exc, NewerSchemaError):
                self._newer.add(saga_type)
            self.outages.report(exc)
            return _Fitness.LEFT_ALONE
        self.outages.left_alone.forget(saga_type.table.saga, correlation_id)
        if record is None or self.process.sends or not record.outbox:
            return _Fitness.FIT
        has_work = next_work(record, self.process.machine(saga_type), now) is not None
        return _Fitness.FIT if has_work else _Fitness.FOR_SENDERS
