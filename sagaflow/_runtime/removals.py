"""What the bus has accepted and is still in the outboxes, until a write comes by that removes it.

The next event of the saga most often is that write. What none has come for after a moment is
removed by writes of their own, many sagas at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._engine.work import earliest
from sagaflow._model.errors import RepositoryError
from sagaflow._model.ids import SagaId
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import SagaRecord
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store

logger = get_logger(__name__)

_LINGER: Final = 0.02
"""Seconds for which a removal waits for the next write of its saga, at least; twice that at most.
Others leave the saga alone for much longer than that, as its lease says."""
_AT_ONCE: Final = 64
"""For how many sagas at a time; a repository may have them share a round trip."""

OnNewer: TypeAlias = Callable[[type[Saga], SagaRecord, TaskGroup], Awaitable[None]]
"""Called with a saga that others have changed meanwhile, and where to do what follows."""

_Key = tuple[str, type, SagaId]


@define(eq=False)
class _Removal:
    """Messages of one saga that are to be removed.

    :ivar record: the saga without them; with a lease, if more of it is being sent.
    :ivar tasks: where to do what follows.
    :ivar has_lingered: whether it has waited for long enough.
    """

    saga_type: type[Saga]
    record: SagaRecord
    sent: tuple[str, ...]
    tasks: TaskGroup
    on_newer: OnNewer
    has_lingered: bool = False


@define
class Removals:
    """Remembers what was sent and not removed yet, and sees to it that it is.

    Should the process die before that, the messages are delivered again, with the same ids.
    """

    _process: Process
    _store: Store
    _outages: Outages
    _waiting: dict[_Key, _Removal] = field(factory=dict[_Key, _Removal], init=False)
    _is_watched: bool = field(default=False, init=False)

    def add(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        sent: tuple[str, ...],
        tasks: TaskGroup,
        on_newer: OnNewer,
    ) -> None:
        """Note that messages were sent, which the next write of their saga may remove.

        :param record: the saga without them; with a lease, if more of it is being sent.
        :param tasks: where they are removed if no such write comes.
        :param on_newer: called with the saga if others are found to have changed it meanwhile.
        :raises RuntimeError: if *tasks* takes no more.
        """
        if not self._is_watched:
            tasks.start_soon(self._watch, name="removal of sent messages")
            self._is_watched = True
        key = _key(saga_type, record.correlation_id)
        known = self._waiting.get(key)
        if known is None or known.record.incarnation != record.incarnation:
            self._waiting[key] = _Removal(saga_type, record, sent, tasks, on_newer)
            return
        # The first of them does not wait any longer, whatever keeps coming.
        known.record, known.tasks, known.on_newer = record, tasks, on_newer
        known.sent = tuple(dict.fromkeys((*known.sent, *sent)))

    def of(self, saga_type: type[Saga], record: SagaRecord) -> tuple[str, ...]:
        """Return the ids of the messages of a saga that were sent and are not removed yet."""
        known = self._waiting.get(_key(saga_type, record.correlation_id))
        if known is None or known.record.incarnation != record.incarnation:
            return ()
        return known.sent

    def forget(self, saga_type: type[Saga], record: SagaRecord, removed: Collection[str]) -> None:
        """Note that a write has removed messages from their saga."""
        key = _key(saga_type, record.correlation_id)
        known = self._waiting.get(key)
        if known is None or known.record.incarnation != record.incarnation:
            return
        left = tuple(message for message in known.sent if message not in removed)
        if left:
            known.sent = left
        else:
            del self._waiting[key]

    async def settle(self, saga_type: type[Saga], correlation_id: SagaId | None) -> None:
        """Remove what has been sent of one saga or of a class now, for who wants to look at it."""
        if correlation_id is not None:
            waiting = self._waiting.get(_key(saga_type, correlation_id))
            if waiting is not None:
                await self._remove(waiting)
        else:
            all_of = [known for known in self._waiting.values() if known.saga_type is saga_type]
            await self._remove_all(all_of)

    async def settle_all(self) -> None:
        """Remove all that has been sent now."""
        await self._remove_all(tuple(self._waiting.values()))

    async def _watch(self) -> None:
        """Remove what no other write has come for, as long as there is anything."""
        try:
            while self._waiting:
                await anyio.sleep(_LINGER)
                late = [removal for removal in self._waiting.values() if removal.has_lingered]
                for removal in self._waiting.values():
                    removal.has_lingered = True
                if late:
                    await self._remove_all(late)
        finally:
            self._is_watched = False

    async def _remove_all(self, removals: Collection[_Removal]) -> None:
        rest = iter(removals)

        async def remove() -> None:
            for removal in rest:
                await self._remove(removal)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(_AT_ONCE, len(removals))):
                tasks.start_soon(remove)

    async def _remove(self, removal: _Removal) -> None:
        """Remove messages from one saga, and see to what others have stored meanwhile.

        What fails here is left to the sweep, which removes it without sending it again.
        """
        saga_type, record, sent = removal.saga_type, removal.record, removal.sent
        if self._waiting.get(_key(saga_type, record.correlation_id)) is not removal:
            return  # another write has come by
        wake = earliest(record, self._process.machine(saga_type))
        lease = None if record.lease is None else self._process.own_lease()
        newer: SagaRecord | None = None
        done = False
        try:
            noted = await self._store.bookkeep(
                saga_type, record, sent=sent, sending=None, wake=wake, lease=lease
            )
            done = True
            if not noted and not self._is_outdated(saga_type, record):
                newer = await self._store.load(saga_type, record.correlation_id, None)
        except RepositoryError as exc:
            self._outages.report(exc)
        except BaseException as exc:
            # One saga that cannot be read must not keep the others from being seen to.
            saga = saga_type.table.saga
            logger.exception(
                "%s %r: removing sent messages failed",
                saga,
                record.correlation_id,
                exc_info=failure(exc),
                extra=about(saga, record.correlation_id, version=record.version),
            )
        finally:
            # Who sends more, or has sent more meanwhile, takes this for removed: it is tried again.
            is_last = lease is None and removal.record is record
            if done or is_last:
                self.forget(saga_type, record, sent)
        if newer is not None:
            await removal.on_newer(saga_type, newer, removal.tasks)

    def _is_outdated(self, saga_type: type[Saga], record: SagaRecord) -> bool:
        """Tell whether this process itself has written the saga since, and sends for it."""
        known = self._store.hot.get(saga_type.table.saga, record.correlation_id)
        return known is not None and known.record.version > record.version


def _key(saga_type: type[Saga], correlation_id: SagaId) -> _Key:
    return (saga_type.table.saga, type(correlation_id), correlation_id)
