"""Who waits in this process for what is stored of which saga."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio
from attrs import define, field

from sagaflow._model.ids import SagaKey
from sagaflow._model.record import SagaRecord


@define(eq=False)
class Watch:
    """Somebody who waits for one saga.

    :ivar concerns: tells of a saga, as it was stored, whether that is worth a look.
    """

    concerns: Callable[[SagaRecord], bool]
    _changed: anyio.Event = field(factory=anyio.Event, init=False)

    def rearm(self) -> None:
        """Wait for what is stored from now on."""
        if self._changed.is_set():
            self._changed = anyio.Event()

    async def wait(self) -> None:
        """Return once something has been stored that is worth a look."""
        await self._changed.wait()

    def see(self, record: SagaRecord) -> None:
        """Look at a saga that was just stored."""
        if self.concerns(record):
            self._changed.set()


@define
class Watches:
    """All who wait for sagas of one orchestrator.

    :ivar waiting: those who wait, by saga. While nobody does, a write looks at this and no more.
    """

    waiting: dict[SagaKey, list[Watch]] = field(factory=dict[SagaKey, list[Watch]], init=False)

    @contextmanager
    def watch(self, key: SagaKey, concerns: Callable[[SagaRecord], bool]) -> Generator[Watch]:
        """Have a watch told of what is stored of a saga, until the block ends."""
        watch = Watch(concerns)
        self.waiting.setdefault(key, []).append(watch)
        try:
            yield watch
        finally:
            watches = self.waiting[key]
            watches.remove(watch)
            if not watches:
                del self.waiting[key]

    def tell(self, key: SagaKey, record: SagaRecord) -> None:
        """Tell those who wait for a saga that it was stored."""
        for watch in self.waiting.get(key, ()):
            watch.see(record)
