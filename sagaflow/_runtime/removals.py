"""The messages that the bus has accepted and that are in their sagas still.

The next write of the saga, most often that of its next event, removes them. Where no such write
comes within a moment, they are removed by writes of their own, for many sagas at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._engine.work import earliest
from sagaflow._model.errors import RepositoryError
from sagaflow._model.ids import SagaId, SagaKey, saga_key
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import SagaRecord, evolve
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store

logger = get_logger(__name__)

OnNewer: TypeAlias = Callable[[type[Saga], SagaRecord, TaskGroup], Awaitable[None]]
"""Called with a saga that others have changed meanwhile, and where to do what follows."""


async def _nothing(saga_type: type[Saga], newer: SagaRecord, tasks: TaskGroup) -> None:
    """Leave what others have stored to the sweep."""


@define(eq=False)
class Removal:
    """Accepted messages of one saga that are to be removed.

    :ivar key: which saga that is.
    :ivar record: the saga as it is known to be stored; these messages may be in it or not.
    :ivar accepted: the ids of the messages.
    :ivar tasks: where they are removed if no other write does that, and what follows is done.
    :ivar goes_on: whether more messages of the saga are being sent.
    :ivar additions: how often messages were added.
    :ivar has_lingered: whether it has waited for long enough.
    """

    key: SagaKey
    saga_type: type[Saga]
    record: SagaRecord
    accepted: tuple[str, ...]
    tasks: TaskGroup
    goes_on: bool
    additions: int = 1
    has_lingered: bool = False


@define
class Removals:
    """Remembers which accepted messages are in their sagas still, and has them removed.

    Should the process die before that, the messages are delivered again, with the same ids.

    :ivar linger: for how long a removal waits for the next write of its saga, at least; twice that
        at most. Others leave the saga alone for much longer than that, as its lease says.
    :ivar at_once: from how many sagas messages are removed at a time; a repository may have them
        share a round trip.
    :ivar on_newer: called with each saga that others turn out to have changed meanwhile.
    """

    _process: Process
    _store: Store
    _outages: Outages
    linger: timedelta = field(default=timedelta(milliseconds=20), kw_only=True)
    at_once: int = field(default=64, kw_only=True)
    on_newer: OnNewer = field(default=_nothing, kw_only=True)
    _waiting: dict[SagaKey, Removal] = field(factory=dict[SagaKey, Removal], init=False)
    _under_way: dict[SagaKey, anyio.Event] = field(factory=dict[SagaKey, anyio.Event], init=False)
    _is_watched: bool = field(default=False, init=False)

    def add(self, removal: Removal) -> None:
        """Note that the bus has accepted messages, which the next write of their saga may remove.

        :raises RuntimeError: if the tasks of the removal take no more.
        """
        if not self._is_watched:
            removal.tasks.start_soon(self._watch, name="removal of accepted messages")
            self._is_watched = True
        known = self._waiting.get(removal.key)
        if known is None or known.record.incarnation != removal.record.incarnation:
            self._waiting[removal.key] = removal
            return
        # The first of the messages does not wait any longer, whatever keeps coming.
        known.record, known.tasks, known.goes_on = removal.record, removal.tasks, removal.goes_on
        known.accepted = tuple(dict.fromkeys((*known.accepted, *removal.accepted)))
        known.additions += 1

    def of(self, saga_type: type[Saga], record: SagaRecord) -> tuple[str, ...]:
        """Return the ids of the accepted messages of a saga that are to be removed still."""
        known = self._waiting.get(saga_key(saga_type.table.saga, record.correlation_id))
        if known is None or known.record.incarnation != record.incarnation:
            return ()
        return known.accepted

    def forget(self, saga_type: type[Saga], record: SagaRecord, removed: Collection[str]) -> None:
        """Note that a write has removed messages from their saga."""
        key = saga_key(saga_type.table.saga, record.correlation_id)
        known = self._waiting.get(key)
        if known is None or known.record.incarnation != record.incarnation:
            return
        left = [message for message in known.accepted if message not in removed]
        if left:
            known.accepted = tuple(left)
        else:
            del self._waiting[key]

    @asynccontextmanager
    async def alone(
        self, saga_type: type[Saga], correlation_id: SagaId
    ) -> AsyncGenerator[None, None]:
        """Wait until nothing else is noted of what a saga has sent, and keep others waiting.

        Two notes of one version are told apart by nothing in the store: if the earlier one, which
        says that more is being sent, came last, the saga would stay due with nothing to do.
        """
        key = saga_key(saga_type.table.saga, correlation_id)
        while (other := self._under_way.get(key)) is not None:
            await other.wait()
        ended = self._under_way[key] = anyio.Event()
        try:
            yield
        finally:
            del self._under_way[key]
            ended.set()

    async def settle(self, saga_type: type[Saga], correlation_id: SagaId | None) -> None:
        """Remove at once the accepted messages of one saga or of a class.

        Whoever is about to look at those sagas then sees none that was sent.

        :param correlation_id: None for all sagas of the class.
        """
        if correlation_id is not None:
            waiting = self._waiting.get(saga_key(saga_type.table.saga, correlation_id))
            if waiting is not None:
                await self._remove(waiting)
        else:
            all_of = [known for known in self._waiting.values() if known.saga_type is saga_type]
            await self._remove_all(all_of)

    async def settle_all(self) -> None:
        """Remove at once the accepted messages of all sagas."""
        await self._remove_all(tuple(self._waiting.values()))

    async def _watch(self) -> None:
        """Remove what no other write has come for, as long as there is anything."""
        try:
            while self._waiting:
                await anyio.sleep(self.linger.total_seconds())
                late = [removal for removal in self._waiting.values() if removal.has_lingered]
                for removal in self._waiting.values():
                    removal.has_lingered = True
                if late:
                    await self._remove_all(late)
        finally:
            self._is_watched = False

    async def _remove_all(self, removals: Collection[Removal]) -> None:
        rest = iter(removals)

        async def remove() -> None:
            for removal in rest:
                await self._remove(removal)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(self.at_once, len(removals))):
                tasks.start_soon(remove)

    async def _remove(self, removal: Removal) -> None:
        """Remove messages from one saga, and see to what others have stored meanwhile.

        What fails here is left to the sweep, which removes the messages without sending them again.
        """
        newer: SagaRecord | None = None
        async with self.alone(removal.saga_type, removal.record.correlation_id):
            if self._waiting.get(removal.key) is removal:  # and no other write has come by
                newer = await self._remove_now(removal)
        if newer is not None:
            await self.on_newer(removal.saga_type, newer, removal.tasks)

    async def _remove_now(self, removal: Removal) -> SagaRecord | None:
        """Remove messages from one saga; return it as others have stored it meanwhile, if so."""
        saga_type, record, accepted = removal.saga_type, removal.record, removal.accepted
        goes_on, additions = removal.goes_on, removal.additions
        left = tuple(message for message in record.outbox if message.id not in accepted)
        wake = earliest(evolve(record, outbox=left), self._process.machine(saga_type))
        lease = self._process.own_lease() if goes_on else None
        newer: SagaRecord | None = None
        done = is_cancelled = False
        try:
            noted = await self._store.bookkeep(
                saga_type, record, sent=accepted, sending=None, wake=wake, lease=lease
            )
            done = True
            if not noted and not self._is_outdated(saga_type, record):
                newer = await self._store.load(saga_type, record.correlation_id, None)
        except RepositoryError as exc:
            self._outages.report(exc)
        except BaseException as exc:
            # One saga that cannot be read must not keep the others from being seen to.
            is_cancelled = True  # then the messages are removed when the orchestrator closes
            error = failure(exc)
            is_cancelled = False
            saga = saga_type.table.saga
            logger.exception(
                "%s %r: removing sent messages failed",
                saga,
                record.correlation_id,
                exc_info=error,
                extra=about(saga, record.correlation_id, version=record.version),
            )
        finally:
            # Where more is being sent, or was accepted meanwhile, all of it is tried again: for the
            # lane that sends, the messages are removed.
            if done or not (goes_on or is_cancelled or removal.additions > additions):
                self.forget(saga_type, record, accepted)
        return newer

    def _is_outdated(self, saga_type: type[Saga], record: SagaRecord) -> bool:
        """Tell whether this process itself has written the saga since, and sends for it."""
        known = self._store.hot.get(saga_type.table.saga, record.correlation_id)
        return known is not None and known.record.version > record.version
