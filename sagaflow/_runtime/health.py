"""How an orchestrator is: whether its workers live, its store answers, its work is late."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, evolve, field, frozen

from sagaflow._codec.selection import Selection
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
from sagaflow._runtime.aside import checked
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store
from sagaflow.abc import closing
from sagaflow.observing import Backlog, Observers

logger = get_logger(__name__)

_MOST_COUNTED: Final = 1_000
_MOST_READ: Final = 10
_NONE: Final = timedelta(0)
_TOLD_EVERY: Final = timedelta(seconds=15)


@frozen(kw_only=True)
class Health:
    """How an orchestrator is.

    :ivar workers_alive: whether the background does its rounds; None if there is none, as in an
        orchestrator that was not entered.
    :ivar last_sweep: when it last looked successfully for due work that others have left.
    :ivar late: for how long the longest due work of any saga class has been due, by whomever it is
        to be done; None if the store did not say.
    :ivar store_reachable: whether the store answered just now.
    :ivar outage_since: since when the store is known to fail; None if it does not.
    :ivar bus_silent_since: since when the bus neither accepts nor refuses any message of some
        class, if that is for longer than half of what one may take (``send_timeout=``); else None.
    :ivar damaged: how many documents this process leaves alone, since they cannot be read;
        ``sagaflow ls --damaged`` lists them.
    :ivar newer: how many due sagas it leaves to other code, which has stored them with a later
        schema or in a state that the class here does not know.
    """

    workers_alive: bool | None
    last_sweep: datetime | None
    late: timedelta | None
    store_reachable: bool
    outage_since: datetime | None
    bus_silent_since: datetime | None = None
    damaged: int = 0
    newer: int = 0

    @property
    def ok(self) -> bool:
        """Whether store and bus answer and the background, if there is one, is alive.

        What is left alone does not count: a process that is started anew would do the same.
        """
        return (
            self.store_reachable
            and self.workers_alive is not False
            and self.bus_silent_since is None
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should look at, each in a sentence; also while all is ok."""
        newer = (
            f"{self.newer:,} due sagas are left to newer code, or are in a state that the class "
            "does not know: see sagaflow check --against"
        )
        damaged = f"{self.damaged:,} damaged documents are left alone: see sagaflow ls --damaged"
        said = (
            (not self.store_reachable, "the store does not answer"),
            (self.workers_alive is False, "the background has not done its rounds for long"),
            (self.bus_silent_since is not None, "the bus does not answer"),
            (self.damaged > 0, damaged),
            (self.newer > 0, newer),
        )
        return tuple(sentence for is_so, sentence in said if is_so)


@define
class _Look:
    """One look at what is due, for everyone who asks meanwhile."""

    over: anyio.Event = field(factory=anyio.Event, init=False)
    found: list[Backlog] | None = field(default=None, init=False)


@define(kw_only=True)
class Survey:
    """Looks at what is due, one look at a time."""

    process: Process
    store: Store
    outages: Outages
    sagas: tuple[type[Saga], ...]
    _look: _Look | None = field(default=None, init=False)

    async def due(self, tasks: TaskGroup | None, within: timedelta) -> list[Backlog] | None:
        """Return what is due of each saga class, or None if the store does not say in time.

        :param tasks: where the look goes on if it takes longer: a driver that waits for a server
            cannot be interrupted.
        """
        with anyio.move_on_after(within.total_seconds()):
            if tasks is None:
                return await self._backlogs()
            look = self._look
            if look is None:
                look = self._look = _Look()
                tasks.start_soon(self._take, look, name="sagaflow survey")
            await look.over.wait()
            return look.found
        return None

    async def tell(self, observers: Observers, tasks: TaskGroup | None) -> None:
        """Tell observers every 15 seconds what is due and suspended, until cancelled."""
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
            look.found = await self._backlogs()
        finally:
            self._look = None
            look.over.set()

    async def _backlogs(self) -> list[Backlog] | None:
        """Return what is due of each class; None if the store fails."""
        found: list[Backlog] = []
        for saga_type in self.sagas:
            try:
                found.append(await self._backlog(saga_type))
            except RepositoryError as exc:
                logger.debug("a look at what is due failed: %s", exc, extra=about())
                return None
            except Exception as exc:
                logger.debug(
                    "a look at what is due failed", exc_info=exc, extra=about(saga_type.table.saga)
                )
        return found

    async def _backlog(self, saga_type: type[Saga]) -> Backlog:
        saga, now, aside = saga_type.table.saga, self.process.clock.now(), self.outages.aside
        schema = definition_of(saga_type).options.schema  # what newer code has stored is for that
        due = await self._due(saga, now, schema)
        ids = [one for one in due if not aside.rests(saga, one, now)]
        late = outbox_age = _NONE
        for correlation_id in ids[:_MOST_READ]:
            try:
                checked(saga, correlation_id)
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
        newer = len(await self._due(saga, now, None)) - len(due) if aside.knows_newer(saga) else 0
        return Backlog(
            saga=saga,
            due=sum(not aside.rests(saga, one, now) for one in ids),
            late=late,
            outbox_age=outbox_age,
            damaged=aside.count(saga, DamagedDocumentError),
            newer=max(newer, 0) + aside.count(saga, UnknownStateError),
        )

    async def _due(self, saga: str, now: datetime, schema: int | None) -> list[SagaId]:
        due = self.store.repository.due(
            saga, now, unclaimed=False, schema=schema, limit=_MOST_COUNTED
        )
        async with closing(due) as found:
            return [correlation_id async for correlation_id in found]
