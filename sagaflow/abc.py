"""The ports: what sagaflow needs from a store and from a bus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from sagaflow._codec.documents import Bookkeeping, DocumentChange, Push
from sagaflow._codec.elements import Document, encode_lease
from sagaflow._codec.instance import Instance, instances_of, read_instance, unreadable_of
from sagaflow._codec.selection import (
    Selection,
    Summary,
    Tally,
    Trait,
    Unreadable,
    summary_of,
)
from sagaflow._concurrency.event_loops import PerLoop
from sagaflow._concurrency.generators import closing
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._definition.state import State
from sagaflow._model.clock import Clock, SystemClock, stale_since
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import MessageId, SagaId, check_id
from sagaflow._model.record import Lease, Status, has_expired

__all__ = [
    "Bookkeeping",
    "Bus",
    "Clock",
    "Document",
    "DocumentChange",
    "Lease",
    "MessageId",
    "Push",
    "SagaId",
    "SagaRepository",
    "Selection",
    "Settle",
    "Summary",
    "Trait",
    "Unreadable",
    "encode_lease",
]

SagaT = TypeVar("SagaT", bound=Saga)
T = TypeVar("T")

Settle: TypeAlias = Callable[[type[Saga], SagaId | None], Awaitable[None]]
"""A function that writes what was put off about one saga, or about all sagas of a class."""


class SagaRepository(ABC):
    """Where sagas are stored: one document each, in one collection per saga class.

    A subclass provides the primitives, which take the name of the saga; the queries are built on
    them. Every primitive works on one document, so that a store needs no transactions. Documents
    are handed over for good: what a primitive is given or returns is never changed in place and
    never shared with what is stored.

    Primitives are called concurrently, also for one saga. A store may have several writes share a
    round trip. Then each caller is still told what became of its own write, and what makes one
    write fail, such as a lost race or a document that is too large, makes no other write fail. A
    caller that is cancelled leaves its own write done or not done, and all others undisturbed.

    Every primitive may raise `RepositoryError`, or `ServerUnavailableError` when nothing was done.
    A primitive that writes raises `UnknownOutcomeError` when the answer was lost, or does not tell,
    so that the write may have taken place or not.

    :param clock: tells which sagas are stale and which tombstones have expired.
    :cvar may_wait: whether a primitive that writes may wait for something. A write that never waits
        cannot be interrupted, and need not be shielded from cancellation.
    """

    may_wait: ClassVar[bool] = True

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._settling: PerLoop[list[Settle]] = PerLoop(list[Settle])

    # What a transition needs

    @abstractmethod
    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        """Return the document of a saga, as last written by anyone, or None.

        :param message_id: read what is needed to handle this message: without the history, and of
            the inbox just this id, if it is there. With None, the whole document.
        """

    async def load_recent(self, saga: str, correlation_id: SagaId) -> Document | None:
        """Return the document of a saga without its history, or None.

        Events are handled with it. This method reads the whole document; a store that can leave
        the history unread overrides it.
        """
        document = await self.load_document(saga, correlation_id, message_id=None)
        if document is not None:
            document.pop("history", None)
        return document

    @abstractmethod
    async def insert_document(self, saga: str, document: Document) -> bool:
        """Store a new document, and tell whether its ``_id`` was free. Never replaces one.

        Returns once the document is durable: it survives the death of the server.
        """

    @abstractmethod
    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Apply *change* as a whole if id, incarnation and version match, and tell whether.

        The store does not count versions: the new version is part of the change. Never inserts.
        Returns once the change is durable. A change of a saga's state has a ``token`` of its own,
        which stands in the new entry of the history as well: a store may recognise its own write
        by it after it has lost the answer.
        """

    # What workers need

    @abstractmethod
    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Note something about a saga without changing its version.

        Removes the messages that *note* names from the outbox, whatever version the saga has, and
        leaves every other message where it is. Sets and unsets the other fields only if the saga
        still has the version that *note* names, and tells whether it has. Does nothing to another
        incarnation.
        """

    @abstractmethod
    async def claim(
        self,
        saga: str,
        correlation_id: SagaId,
        lease: Lease,
        now: datetime,
        *,
        schema: int | None = None,
    ) -> bool:
        """Store *lease* if the saga is due and nobody holds one now, and tell whether.

        :param schema: leave it alone if it is stored with a later schema than this.
        """

    @abstractmethod
    def due(
        self,
        saga: str,
        now: datetime,
        *,
        unclaimed: bool,
        schema: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SagaId]:
        """Yield the ids of the sagas whose ``wake`` is not after *now*, the longest due first.

        A ``wake`` that is no instant counts as none. An ``_id`` that cannot be the id of a saga is
        yielded as it is: other programs may write into the collection.

        :param unclaimed: leave out sagas on which somebody holds a lease at *now*.
        :param schema: leave out sagas that are stored with a later schema than this.
        :param limit: read no more ids than this, which is at least 1; None for all.
        """

    # What queries need

    @abstractmethod
    def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        """Yield whole documents, oldest change first, without any limit of number.

        :param state: only sagas in this state, or in one of these states.
        :param unchanged_since: only sagas that are not finished and last changed before this.
        """

    @abstractmethod
    async def count_states(self, saga: str) -> dict[str, int]:
        """Return how many sagas are in each state that some saga is in.

        Leaves out documents that only keep events for a saga that has not started, and those whose
        ``expire_at`` has come.
        """

    @abstractmethod
    async def delete_document(self, saga: str, correlation_id: SagaId) -> bool:
        """Remove a document and tell whether there was one."""

    @abstractmethod
    async def create_indexes(self, saga_type: type[Saga]) -> None:
        """Make the indexes that the queries and the background use. Call it at each deployment."""

    # Queries

    def settle_with(self, settle: Settle) -> None:
        """Have *settle* called before sagas are shown, so that nothing put off is missing there.

        An orchestrator puts off the removal of sent messages for a moment. *settle* is called only
        for queries in the event loop of this call; for queries in other event loops, it is as if
        another process had put the removal off.
        """
        self._settling.get().append(settle)

    def settle_without(self, settle: Settle) -> None:
        """Stop calling *settle* before sagas are shown."""
        self._settling.get().remove(settle)

    async def _settle(self, saga_type: type[Saga], correlation_id: SagaId | None) -> None:
        for settle in tuple(self._settling.get()):
            await settle(saga_type, correlation_id)

    async def find(
        self, saga_type: type[SagaT], correlation_id: SagaId, *, now: datetime | None = None
    ) -> Instance[SagaT] | None:
        """Return a copy of one saga, or None.

        A saga of an earlier schema is migrated in memory; nothing is written.

        :param now: at which a tombstone may have expired; by the repository's clock, if it is None.
        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises SerializationError: if its data does not fit the class, or a migration fails.
        :raises NewerSchemaError: if newer code has stored it.
        :raises DamagedDocumentError: if it is no document of sagaflow's.
        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        known = check_id(correlation_id)
        await self._settle(saga_type, known)
        document = await self.load_document(saga_type.table.saga, known, message_id=None)
        if document is None or document.get("status") == Status.EMBRYO.value:
            return None
        if has_expired(document.get("expire_at"), now or self._clock.now()):
            return None
        return read_instance(saga_type, document)

    async def find_by_state(
        self, saga_type: type[SagaT], state: State | str, *, now: datetime | None = None
    ) -> AsyncGenerator[Instance[SagaT], None]:
        """Yield every saga in *state*, the one that changed longest ago first.

        A caller that leaves the loop early closes the generator: `contextlib.aclosing`.

        :param now: at which tombstones may have expired; by the repository's clock, if it is None.
        :raises SagaflowError: if the class has no such state; and once all other sagas were
            yielded, about the first saga that cannot be read: `NewerSchemaError`,
            `DamagedDocumentError`, `SerializationError`.
        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        name = state.name if isinstance(state, State) else state
        if saga_type.table.state(name) is None:
            states = ", ".join(known.name for known in saga_type.table.states)
            raise SagaflowError(f"{saga_type.__name__} has no state {name!r}; it has: {states}")
        await self._settle(saga_type, None)
        names = definition_of(saga_type).evolution.names_of(name)
        scanned = self.scan_documents(
            saga_type.table.saga, state=name if len(names) == 1 else names
        )
        now = now or self._clock.now()
        async with closing(instances_of(saga_type, scanned, now)) as instances:
            async for instance in instances:
                yield instance

    async def find_stale(
        self,
        saga_type: type[SagaT],
        older_than: timedelta | datetime,
        *,
        now: datetime | None = None,
    ) -> AsyncGenerator[Instance[SagaT], None]:
        """Yield every unfinished saga that has not changed for so long, or since that instant.

        A caller that leaves the loop early closes the generator: `contextlib.aclosing`.

        :param older_than: how long before *now*, or an aware instant.
        :param now: the present instant; by the repository's clock, if it is None.
        :raises SagaflowError: if *older_than* is neither; and once all other sagas were yielded,
            about the first saga that cannot be read: `NewerSchemaError`, `DamagedDocumentError`,
            `SerializationError`.
        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        now = now or self._clock.now()
        limit = stale_since(older_than, now)
        await self._settle(saga_type, None)
        scanned = self.scan_documents(saga_type.table.saga, unchanged_since=limit)
        async with closing(instances_of(saga_type, scanned, now)) as instances:
            async for instance in instances:
                yield instance

    async def count_by_state(self, saga_type: type[Saga]) -> dict[State, int]:
        """Return how many sagas are in each state of the class, 0 included.

        A state that was renamed counts as what it is called now; one that is stored but no longer
        declared is counted too.

        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        evolution = definition_of(saga_type).evolution
        counted: dict[str, int] = {}
        for stored, count in (await self.count_states(saga_type.table.saga)).items():
            name = evolution.present(stored)
            counted[name] = counted.get(name, 0) + count
        states = {state.name: state for state in saga_type.table.states}
        return {states.get(name, State(name)): counted.get(name, 0) for name in (states | counted)}

    async def summaries(
        self, saga_type: type[Saga], selection: Selection
    ) -> AsyncGenerator[Summary, None]:
        """Yield what a list shows of every saga that *selection* takes, without its data.

        A caller that leaves the loop early closes the generator: `contextlib.aclosing`.

        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        found: list[Summary] = []
        async with closing(self.scan_documents(saga_type.table.saga)) as documents:
            async for document in documents:
                summary = summary_of(document)
                if summary is None or not selection.takes(summary):
                    continue
                if not has_expired(document.get("expire_at"), self._clock.now()):
                    found.append(summary)
        if selection.due_before is not None:
            found.sort(key=lambda summary: summary.wake or summary.updated_at)
        for summary in found:
            yield summary

    async def unreadable(self, saga_type: type[Saga]) -> AsyncGenerator[Unreadable, None]:
        """Yield the documents that cannot be worked on with the class as it is, in no order.

        Every document is read and decoded for that. A caller that leaves the loop early closes the
        generator: `contextlib.aclosing`.

        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        async with closing(self.scan_documents(saga_type.table.saga)) as documents:
            async for document in documents:
                if (found := unreadable_of(saga_type, document)) is not None:
                    yield found

    async def survey(
        self, saga_type: type[Saga], *, finished: bool = False
    ) -> AsyncGenerator[Trait, None]:
        """Yield traits that unfinished sagas share, and how many sagas have each trait.

        :param finished: whether to count the states of finished sagas as well.
        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        tally = Tally()
        async with closing(self.scan_documents(saga_type.table.saga)) as documents:
            async for document in documents:
                if not has_expired(document.get("expire_at"), self._clock.now()):
                    tally.add(document, finished=finished)
        for trait in tally.traits():
            yield trait

    async def delete(self, saga_type: type[Saga], correlation_id: SagaId) -> bool:
        """Remove a saga with all it has, and tell whether there was one.

        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises ServerUnavailableError: if no server could be reached; nothing was removed.
        :raises UnknownOutcomeError: if the answer was lost: the saga may be removed or not.
        :raises RepositoryError: if the store failed otherwise.
        """
        return await self.delete_document(saga_type.table.saga, check_id(correlation_id))


class Bus(Protocol):
    """What carries messages. Any object with these two methods will do.

    An orchestrator that closes also calls the bus's method ``unsubscribe(handler)``, if there is
    one, and one that has subscribed its coroutine method ``announce()``, which returns once others
    can publish to it. A bus may also have a method
    ``delivers_at_once(message_type, correlation_id)``, which tells whether `publish` would wait for
    nothing now: then no task is started to send a message. And it may have an attribute
    ``down_since``: since when its broker cannot be reached, which `Orchestrator.health` tells.
    """

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool
    ) -> Any:
        """Have *handler* called with every message of this class or a subclass.

        :param envelope: whether it takes the `Envelope` rather than its body.
        """
        ...

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = ...,
        message_id: MessageId | None = ...,
        headers: Mapping[str, object] | None = ...,
    ) -> None:
        """Accept *message*; once this returns, the bus is responsible for it.

        A bus that does not accept the message raises whatever it likes; the message is then
        offered again later, with the same id.
        """
        ...
