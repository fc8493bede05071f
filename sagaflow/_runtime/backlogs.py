"""How much work is due in the store: for health probes and for observers."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, evolve, field

from sagaflow._codec.selection import Selection
from sagaflow._concurrency.generators import closing
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._model.errors import (
    DamagedDocumentError,
    LeftAloneError,
    RepositoryError,
    UnknownStateError,
)
from sagaflow._model.ids import SagaId
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import Status
from sagaflow._runtime.left_alone import check_stored_id
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store
from sagaflow.observing import Backlog, Observers

logger = get_logger(__name__)

_MOST_COUNTED: Final = 1_000
_MOST_READ: Final = 10
_NONE: Final = timedelta(0)
_TOLD_EVERY: Final = timedelta(seconds=15)


@define
class _Look:
    """One look at the store, shared by all callers that ask while it is under way."""

    over: anyio.Event = field(factory=anyio.Event, init=False)
    found: list[Backlog] | None = field(default=None, init=False)


@define(kw_only=True)
class Backlogs:
    """Looks at what is due of each saga class, one look at a time."""

    process: Process
    store: Store
    outages: Outages
    sagas: tuple[type[Saga], ...]
    _look: _Look | None = field(default=None, init=False)

    async def due(self, tasks: TaskGroup | None, within: timedelta) -> list[Backlog] | None:
        """Return the backlog of each saga class, or None if the store does not answer in time.

        :param tasks: where the look at the store goes on if it takes longer: a driver that waits
            for a server cannot be interrupted.
        :param within: how long to wait.
        """
        with anyio.move_on_after(within.total_seconds()):
            if tasks is None:
                return await self._look_at_all()
            look = self._look
            if look is None:
                look = self._look = _Look()
                tasks.start_soon(self._take, look, name="sagaflow backlogs")
            await look.over.wait()
            return look.found
        return None

    async def tell(self, observers: Observers, tasks: TaskGroup | None) -> None:
        """Tell observers every 15 seconds of the backlog of each class, until cancelled."""
        while True:
            try:
                for backlog in await self.due(tasks, _TOLD_EVERY) or ():
                    suspended = await self._suspended(backlog.saga)
                    observers.note(evolve(backlog, suspended=suspended))
            except Exception as exc:  # noqa: BLE001 - what is only told of must not end anything
                logger.debug("counting suspended sagas failed: %s", exc, extra=about())
            await anyio.sleep(_TOLD_EVERY.total_seconds())

    async def _suspended(self, saga: str) -> int:
        (saga_type,) = (known for known in self.sagas if known.table.saga == saga)
        selection = Selection(statuses=(Status.SUSPENDED,))
        count = 0
        async with aclosing(self.store.repository.summaries(saga_type, selection)) as found:
            async for summary in found:
                count += summary.damaged is None
                if count == _MOST_COUNTED:
                    break
        return count

    async def _take(self, look: _Look) -> None:
        try:
            look.found = await self._look_at_all()
        finally:
            self._look = None
            look.over.set()

    async def _look_at_all(self) -> list[Backlog] | None:
        """Return the backlog of each class; None if the store fails."""
        found: list[Backlog] = []
        for saga_type in self.sagas:
            try:
                found.append(await self._look_at(saga_type))
            except RepositoryError as exc:
                logger.debug("a look at what is due failed: %s", exc, extra=about())
                return None
            except Exception as exc:
                logger.debug(
                    "a look at what is due failed", exc_info=exc, extra=about(saga_type.table.saga)
                )
        return found

    async def _look_at(self, saga_type: type[Saga]) -> Backlog:
        saga, now = saga_type.table.saga, self.process.clock.now()
        left_alone = self.outages.left_alone
        schema = definition_of(
            saga_type
        ).options.schema  # sagas of newer code are not this process's work
        due = await self._due(saga, now, schema)
        ids = [one for one in due if not left_alone.rests(saga, one, now)]
        late = outbox_age = _NONE
        for correlation_id in ids[:_MOST_READ]:
            try:
                check_stored_id(saga, correlation_id)
                record = await self.store.load(saga_type, correlation_id, None)
            except LeftAloneError as exc:
                self.outages.report(exc)
                continue
            if record is None:
                continue
            if record.wake is not None:
                late = max(late, now - record.wake)
            if record.outbox:
                outbox_age = max(outbox_age, now - record.outbox[0].created_at)
        newer = (
            len(await self._due(saga, now, None)) - len(due) if left_alone.knows_newer(saga) else 0
        )
        return Backlog(
            saga=saga,
            due=sum(not left_alone.rests(saga, one, now) for one in ids),
            late=late,
            outbox_age=outbox_age,
            damaged=left_alone.count(saga, DamagedDocumentError),
            newer=max(newer, 0) + left_alone.count(saga, UnknownStateError),
        )

    async def _due(self, saga: str, now: datetime, schema: int | None) -> list[SagaId]:
        due = self.store.repository.due(
            saga, now, unclaimed=False, schema=schema, limit=_MOST_COUNTED
        )
        async with closing(due) as found:
            return [correlation_id async for correlation_id in found]
