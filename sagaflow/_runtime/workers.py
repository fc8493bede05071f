"""The workers of the background: several sagas at a time, and no saga twice at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._model.errors import RepositoryError
from sagaflow._model.ids import SagaId, SagaKey, saga_key
from sagaflow._model.log import about, get_logger
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.outages import Outages

logger = get_logger(__name__)


@define(kw_only=True)
class Workers:
    """Do the work of sagas, each in a task of its own.

    :ivar resume: does what is due for one saga; returns the lane on which its messages are being
        sent after that. The worker is free for another saga meanwhile.
    :ivar concurrency: for how many sagas work is done at the same time, sending apart.
    """

    outages: Outages
    resume: Callable[[type[Saga], SagaId], Awaitable[Lane | None]]
    concurrency: int
    _busy: set[SagaKey] = field(factory=set[SagaKey], init=False)
    _sending: int = field(default=0, init=False)
    _finished: anyio.Event = field(factory=anyio.Event, init=False)
    _limiter: anyio.CapacityLimiter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(self.concurrency)

    def is_busy(self, key: SagaKey) -> bool:
        """Tell whether a worker has a saga, or it waits for one."""
        return key in self._busy

    def start(self, tasks: TaskGroup, saga_type: type[Saga], correlation_id: SagaId) -> None:
        """Have a worker do what is due for a saga, unless one has it already."""
        key = saga_key(saga_type.table.saga, correlation_id)
        if key not in self._busy:
            self._busy.add(key)
            name = f"work of {saga_type.table.saga}"
            tasks.start_soon(self._work, key, saga_type, correlation_id, name=name)

    async def wait_until_fewer_than(self, number: int) -> None:
        """Return once fewer sagas than *number* are being worked on or have messages being sent."""
        while len(self._busy) + self._sending >= number:
            if self._finished.is_set():
                self._finished = anyio.Event()
            await self._finished.wait()

    async def _work(self, key: SagaKey, saga_type: type[Saga], correlation_id: SagaId) -> None:
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
        """Count a saga whose messages are being sent, so that the sweep does not claim too many."""
        self._sending += 1
        try:
            await sending.wait_until_idle()
        finally:
            self._sending -= 1
            self._finished.set()
