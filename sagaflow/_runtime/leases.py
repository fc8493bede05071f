"""The sagas that this process is at work on: their leases are renewed for as long as it lives."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import anyio
from attrs import define, field

from sagaflow._definition.saga import Saga
from sagaflow._engine.work import earliest_work
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.ids import SagaId, SagaKey, saga_key
from sagaflow._model.log import about, get_logger
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store

logger = get_logger(__name__)

_PARTS: Final = 4
"""Into how many parts a lease is divided; it is renewed after one or two of them."""
_AT_ONCE: Final = 16
_LONGEST: Final = timedelta(hours=1)
"""For how long a lease is renewed for one piece of work: should that hang, others must get on."""


@define(eq=False)
class _Held:
    """A saga that this process is at work on.

    :ivar times: how many holds on the saga there are.
    :ivar rounds: how often all leases were renewed since the first of these holds.
    """

    saga_type: type[Saga]
    correlation_id: SagaId
    times: int = 0
    rounds: int = 0


@define
class Leases:
    """Renews the leases on the sagas that this process is at work on.

    Work that takes no longer than a part of a lease, as nearly all work does, costs no write.

    :ivar fires: whether this process fires its timers itself. If it does not, a lease ends when
        one is due, so that others can.
    """

    _process: Process
    _store: Store
    fires: bool = True
    _held: dict[SagaKey, _Held] = field(factory=dict[SagaKey, _Held], init=False)

    def hold(self, saga_type: type[Saga], correlation_id: SagaId) -> SagaKey:
        """Have the lease on a saga renewed until `release` is called with the key returned."""
        key = saga_key(saga_type.table.saga, correlation_id)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(saga_type, correlation_id)
        held.times += 1
        return key

    def release(self, key: SagaKey) -> None:
        """End one of the holds on a saga."""
        held = self._held[key]
        held.times -= 1
        if not held.times:
            del self._held[key]

    async def run(self) -> None:
        """Renew leases until cancelled."""
        pause = (self._process.lease / _PARTS).total_seconds()
        while pause > 0:  # without a lease there is nothing to renew
            await anyio.sleep(pause)
            await self.renew()

    async def renew(self) -> None:
        """Renew the leases on the sagas that have been held since the last time."""
        most = _LONGEST * _PARTS // self._process.lease
        lasting = [held for held in self._held.values() if 0 < held.rounds <= most]
        for held in self._held.values():
            held.rounds += 1
        rest = iter(lasting)

        async def renew() -> None:
            for held in rest:
                await self._renew(held)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(_AT_ONCE, len(lasting))):
                tasks.start_soon(renew)

    async def _renew(self, held: _Held) -> None:
        """Renew one lease, and look what others have stored and left to its holder meanwhile."""
        saga_type, process, store = held.saga_type, self._process, self._store
        try:
            record = await store.load(saga_type, held.correlation_id, None)
            if record is None or not held.times:
                return
            now = process.clock.now()
            if is_leased_to_others(record, process.owner, now):
                return
            store.on_stored(saga_type, record)
            until: datetime = now + process.lease
            if not self.fires:
                due = earliest_work(record, process.machine(saga_type))
                until = until if due is None else min(until, due)
            if until > now:
                await store.renew(saga_type, record, until)
        except Exception as exc:  # noqa: BLE001 - it must not keep other leases from being renewed
            saga = saga_type.table.saga
            logger.debug(
                "%s %r: its lease was not renewed: %s",
                saga,
                held.correlation_id,
                exc,
                extra=about(saga, held.correlation_id),
            )
