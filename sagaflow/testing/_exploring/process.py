"""One process that runs a saga for one step, and may be gone in the middle of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import define, field

from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._model.envelope import Envelope
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import HistoryKind
from sagaflow.memory import MemoryRepository
from sagaflow.testing._clock import ManualClock
from sagaflow.testing._exploring.world import Accepted

_TICK: Final = timedelta(milliseconds=1)


class ProcessGoneError(BaseException):
    """The process has died. Nothing in it can catch this for good: every port raises it now."""


class TickingClock(ManualClock):
    """A clock that moves a little whenever it is read, so that patience can run out."""

    def now(self) -> Any:
        """Return where the clock stands, and move it."""
        self.advance(_TICK)
        return super().now()


@define
class Death:
    """When a process dies.

    :ivar before: it dies before this write, counted from 1; 0 for none.
    :ivar after: it dies after this write; 0 for none.
    :ivar writes: how many writes there were so far.
    """

    before: int = 0
    after: int = 0
    writes: int = 0
    is_dead: bool = False

    def check(self) -> None:
        """Stop the code that asks, if its process has died."""
        if self.is_dead:
            raise ProcessGoneError

    def die(self) -> None:
        """Have the process die now."""
        self.is_dead = True
        raise ProcessGoneError


class DyingRepository(MemoryRepository):
    """A repository in memory, as one process sees it."""

    def __init__(self, clock: ManualClock, death: Death) -> None:
        super().__init__(clock=clock)
        self._death = death
        self.undoing: dict[MessageId, str] = {}

    async def restore(self, saga: str, document: Document) -> None:
        """Store a document that was there before the process began."""
        await super().insert_document(saga, document)

    def stored(self, saga: str) -> AsyncIterator[Document]:
        """Yield the documents that are stored when the process is gone."""
        return super().scan_documents(saga)

    async def insert_document(self, saga: str, document: Document) -> bool:
        """Insert, unless the process dies first."""
        return await self._write(
            lambda: super(DyingRepository, self).insert_document(saga, document)
        )

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Update, unless the process dies first."""
        return await self._write(lambda: self._update(saga, change))

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Bookkeep, unless the process dies first."""
        return await self._write(lambda: super(DyingRepository, self).bookkeep(saga, note))

    async def _update(self, saga: str, change: DocumentChange) -> bool:
        """Update, and note which messages the undoing of a step has sent."""
        entries: list[Any] = change.push["history"].items
        if entries[-1]["kind"] != HistoryKind.COMPENSATION.value:
            return await super().update_document(saga, change)
        known = await self._outbox(saga, change.correlation_id)
        done = await super().update_document(saga, change)
        new = await self._outbox(saga, change.correlation_id) - known
        step = str(entries[-1]["step"])
        self.undoing.update((message_id, step) for message_id in new)
        return done

    async def _outbox(self, saga: str, correlation_id: SagaId) -> set[MessageId]:
        document = await self.load_document(saga, correlation_id, message_id=None)
        return set() if document is None else {message["id"] for message in document["outbox"]}

    async def _write(self, write: Callable[[], Awaitable[bool]]) -> bool:
        death = self._death
        death.check()
        death.writes += 1
        if death.writes == death.before:
            death.die()
        done = await write()
        if death.writes == death.after:
            death.die()
        return done


@define
class RecordingBus:
    """A bus that keeps what it was given, and hands events to one orchestrator."""

    death: Death
    accepted: list[Accepted] = field(factory=list[Accepted])
    receive: Callable[[Envelope[object]], Awaitable[None]] | None = None

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool = False
    ) -> None:
        """Remember who takes events."""
        del message_type, envelope
        self.receive = handler

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Accept a message, while the process lives."""
        del headers
        self.death.check()
        assert message_id is not None  # noqa: S101 - an orchestrator gives both
        assert correlation_id is not None  # noqa: S101
        self.accepted.append(Accepted(id=message_id, correlation_id=correlation_id, body=message))
