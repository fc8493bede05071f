"""A repository in memory, for tests and for trying things out."""

from __future__ import annotations

import heapq
import types
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from copy import deepcopy
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from attrs import define, field
from bson import ObjectId

from sagaflow._codec.data import fields_of
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document, encode_lease
from sagaflow._codec.selection import Selection, Summary, summary_of
from sagaflow._definition.saga import Saga
from sagaflow._model.clock import Clock
from sagaflow._model.ids import MOST_BYTES, MessageId, SagaId, check_id
from sagaflow._model.record import Lease, Status, has_expired
from sagaflow.abc import SagaRepository

_Key: TypeAlias = str | tuple[type, object]
_Place: TypeAlias = tuple[datetime, int, _Key]
_UNCHANGING: Final[frozenset[object]] = frozenset(
    {bool, int, float, str, bytes, datetime, UUID, ObjectId, types.NoneType}
)
_UNFINISHED: Final = {Status.ACTIVE.value, Status.COMPENSATING.value, Status.SUSPENDED.value}
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_SPARE: Final = 64
_kind_of: Callable[[object], object] = type  # type checkers narrow too far by `type` itself


@define(eq=False)
class _Documents:
    """The documents of one class of sagas, and in which order they have work to do.

    The order is a heap of wakes. A document gets its place in the heap when somebody looks for due
    work, not when it is written: by then, most documents were written again, or have no work any
    more. A place that is out of date stays until it is the first of the heap, or until the heap is
    made anew: when most places are out of date, or passing them has cost more than that.

    :ivar by_key: all documents.
    """

    by_key: dict[_Key, Document] = field(factory=dict[_Key, Document])
    _moved: dict[_Key, Document] = field(factory=dict[_Key, Document])
    _places: dict[_Key, _Place] = field(factory=dict[_Key, _Place])
    _heap: list[_Place] = field(factory=list[_Place])
    _passed: int = 0
    _numbers: Iterator[int] = field(factory=count)

    def note(self, key: _Key, document: Document) -> None:
        """Note that a document was written: it may wake at another instant, or no more."""
        if "wake" in document:
            self._moved[key] = document
        else:
            self._moved.pop(key, None)
            self._places.pop(key, None)

    def remove(self, key: _Key) -> bool:
        """Remove a document and tell whether there was one."""
        self._moved.pop(key, None)
        self._places.pop(key, None)
        return self.by_key.pop(key, None) is not None

    def waking(
        self, until: datetime, takes: Callable[[Document], bool], most: int | None
    ) -> list[Document]:
        """Return the documents that wake by *until*, the earliest first.

        :param takes: tells which of these documents count.
        :param most: look no further once so many documents are found.
        """
        self._arrange()
        heap, found = self._heap, list[Document]()
        ahead = [(place, 0) for place in heap[:1]]  # the places of the heap that may come next
        while ahead and (most is None or len(found) < most):
            place, index = heapq.heappop(ahead)
            if place[0] > until:
                break
            for below in range(2 * index + 1, min(2 * index + 3, len(heap))):
                heapq.heappush(ahead, (heap[below], below))
            if not self._holds(place):
                self._passed += 1
            elif takes(document := self.by_key[place[2]]):
                found.append(document)
        return found

    def _holds(self, place: _Place) -> bool:
        return self._places.get(place[2]) is place

    def _arrange(self) -> None:
        """Give each document that was written since the last call its place in the heap."""
        for key, document in self._moved.items():
            wake, known = _wake_of(document), self._places.get(key)
            if wake is None:
                self._places.pop(key, None)
            elif known is None or known[0] != wake:
                place = self._places[key] = (wake, next(self._numbers), key)
                heapq.heappush(self._heap, place)
        self._moved.clear()
        heap = self._heap
        while heap and not self._holds(heap[0]):
            heapq.heappop(heap)
        if self._passed > len(heap) or len(heap) > 2 * len(self._places) + _SPARE:
            self._heap, self._passed = list(self._places.values()), 0
            heapq.heapify(self._heap)


class MemoryRepository(SagaRepository):
    """Keeps stored documents in a dictionary, as MongoDB would keep them.

    Documents are copied on the way in and on the way out. They are gone when the process ends;
    otherwise this repository behaves as `sagaflow.mongo.MongoRepository` does, and passes the
    same tests.

    :param clock: tells which sagas are stale and which tombstones have expired.
    """

    may_wait = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.may_wait = True  # the methods that a subclass overrides may wait

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._collections: defaultdict[str, _Documents] = defaultdict(_Documents)

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        """Return a copy of a document; see `SagaRepository.load_document`."""
        document = self._get(saga, correlation_id)
        if document is None:
            return None
        if message_id is None:
            return _copy(document)
        wanted = _key(message_id)
        seen = [known for known in document.get("inbox", ()) if _key(known) == wanted]
        part = {name: value for name, value in document.items() if name != "history"}
        return _copy(part | {"inbox": seen})

    async def load_recent(self, saga: str, correlation_id: SagaId) -> Document | None:
        """Return a copy of a document without its history; see `SagaRepository.load_recent`."""
        document = self._get(saga, correlation_id)
        if document is None:
            return None
        return _copy({name: part for name, part in document.items() if name != "history"})

    async def insert_document(self, saga: str, document: Document) -> bool:
        """Store a copy of a new document; see `SagaRepository.insert_document`."""
        documents, key = self._collections[saga], _key(document["_id"])
        if key in documents.by_key and self._living_at(documents, key) is not None:
            return False
        kept = documents.by_key[key] = copied(document)
        documents.note(key, kept)
        return True

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Apply a change to one document; see `SagaRepository.update_document`."""
        documents, key, document = self._find(saga, change.correlation_id)
        if (
            document is None
            or document.get("incarnation") != change.incarnation
            or document.get("version") != change.version
        ):
            return False
        for path, value in change.set.items():
            kept = value if type(value) in _UNCHANGING else copied(value)
            if "." not in path:
                document[path] = kept
                continue
            name, _, rest = path.partition(".")
            if name == "compensations":
                document[name][int(rest)] = kept
            else:
                document.setdefault(name, {})[rest] = kept
        for name in change.unset:
            document.pop(name, None)
        for name, push in change.push.items():
            items = document.setdefault(name, [])
            items += [one if type(one) in _UNCHANGING else copied(one) for one in push.items]
            if push.keep is not None:
                del items[: -push.keep]
        documents.note(key, document)
        return True

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Note something about a saga; see `SagaRepository.bookkeep`."""
        documents, key, document = self._find(saga, note.correlation_id)
        if document is None or document.get("incarnation") != note.incarnation:
            return False
        if note.sent:
            document["outbox"] = [
                item for item in document.get("outbox", ()) if item["id"] not in note.sent
            ]
        if document.get("version") != note.version:
            return False
        document.update(copied({**note.set}))
        for name in note.unset:
            document.pop(name, None)
        documents.note(key, document)
        return True

    async def claim(
        self,
        saga: str,
        correlation_id: SagaId,
        lease: Lease,
        now: datetime,
        *,
        schema: int | None = None,
    ) -> bool:
        """Store a lease on a saga that is due; see `SagaRepository.claim`."""
        document = self._get(saga, correlation_id)
        if document is None or not _is_due(document, now, unclaimed=True, schema=schema):
            return False
        document["lease"] = encode_lease(lease)
        return True

    async def due(
        self,
        saga: str,
        now: datetime,
        *,
        unclaimed: bool,
        schema: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SagaId]:
        """Yield the ids of sagas with work to do; see `SagaRepository.due`."""

        def takes(document: Document) -> bool:
            fits = _is_due(document, now, unclaimed=unclaimed, schema=schema)
            return fits and not self._has_expired(document)

        for document in self._collections[saga].waking(now, takes, limit):
            yield document["_id"]

    async def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        """Yield copies of documents; see `SagaRepository.scan_documents`."""
        states = {state} if isinstance(state, str) else state
        documents = sorted(self._living(saga), key=_changed)
        for document in documents:
            if states is not None and document.get("state") not in states:
                continue
            if unchanged_since is not None and (
                document.get("status") not in _UNFINISHED or _changed(document) >= unchanged_since
            ):
                continue
            yield _copy(document)

    async def count_states(self, saga: str) -> dict[str, int]:
        """Return how many sagas are in each state."""
        counted: dict[str, int] = {}
        for document in self._living(saga):
            state = document.get("state")
            if isinstance(state, str) and state:  # a saga that has not started has none
                counted[state] = counted.get(state, 0) + 1
        return counted

    async def summaries(
        self, saga_type: type[Saga], selection: Selection
    ) -> AsyncGenerator[Summary, None]:
        """Yield what a list shows of sagas; see `SagaRepository.summaries`."""
        documents = sorted(self._living(saga_type.table.saga), key=_changed)
        read = (summary_of(document) for document in documents)
        found = [summary for summary in read if summary is not None]
        if selection.due_before is not None:
            found.sort(key=lambda summary: summary.wake or summary.updated_at)
        for summary in found:
            if selection.takes(summary):
                yield summary

    async def delete_document(self, saga: str, correlation_id: SagaId) -> bool:
        """Remove a document and tell whether there was one."""
        return self._collections[saga].remove(_key(check_id(correlation_id)))

    async def create_indexes(self, saga_type: type[Saga]) -> None:
        """Check that the class can be stored; a dictionary needs no indexes.

        :raises SagaDefinitionError: if the class cannot be stored.
        """
        fields_of(saga_type)

    def _get(self, saga: str, correlation_id: SagaId) -> Document | None:
        """Return the stored document itself, unless its tombstone has expired."""
        return self._find(saga, correlation_id)[2]

    def _find(self, saga: str, correlation_id: SagaId) -> tuple[_Documents, _Key, Document | None]:
        """Return the stored document itself, as `_get` does, and where it is kept.

        A text that is a key needs no check: only ids that have passed it become keys.
        """
        documents = self._collections[saga]
        if type(correlation_id) is str:
            document = documents.by_key.get(correlation_id)
            if document is not None and "expire_at" not in document:
                return documents, correlation_id, document
        key = _key(check_id(correlation_id))
        return documents, key, self._living_at(documents, key)

    def _living_at(self, documents: _Documents, key: _Key) -> Document | None:
        document = documents.by_key.get(key)
        if document is not None and self._has_expired(document):
            documents.remove(key)
            return None
        return document

    def _living(self, saga: str) -> list[Document]:
        return [
            document
            for document in self._collections[saga].by_key.values()
            if not self._has_expired(document)
        ]

    def _has_expired(self, document: Document) -> bool:
        expire_at = document.get("expire_at")
        return expire_at is not None and has_expired(expire_at, self._clock.now())


def copied(value: Any) -> Any:
    """Return a deep copy of a stored value: dicts and lists of unchanging values, mostly."""
    kind = _kind_of(value)
    if kind is not dict and kind is not list:
        return deepcopy(value)
    whole: Any = value.copy()
    left = [whole]
    for container in left:  # the list grows meanwhile; a call for each part would take longer
        kind = _kind_of(container)
        for place, part in container.items() if kind is dict else enumerate(container):
            kind = _kind_of(part)
            if kind in _UNCHANGING:
                continue
            if kind is dict or kind is list:
                copy = part.copy()
                left.append(copy)
            else:
                copy = deepcopy(part)
            container[place] = copy
    return whole


def _copy(document: Document) -> Document:
    copy: Document = copied(document)
    return copy


def _changed(document: Document) -> datetime:
    """Return when a document was changed; documents of others come first."""
    changed: object = document.get("updated_at")
    return changed if isinstance(changed, datetime) else _NEVER


def _wake_of(document: Document) -> datetime | None:
    """Return when a document has work to do; None if its ``wake`` is no instant."""
    wake: object = document.get("wake")
    return wake if isinstance(wake, datetime) and wake.tzinfo is not None else None


def _is_due(document: Document, now: datetime, *, unclaimed: bool, schema: int | None) -> bool:
    """Tell whether a document is due, by the comparisons that a MongoDB server makes."""
    wake, stored, lease = _wake_of(document), document.get("schema"), document.get("lease")
    if wake is None or wake > now:
        return False
    if schema is not None and isinstance(stored, int) and stored > schema:
        return False
    until: Any = cast("Document", lease).get("until") if isinstance(lease, dict) else None
    return not unclaimed or not isinstance(until, datetime) or until <= now


def _key(correlation_id: object) -> _Key:
    """Return a key that tells ids of different types apart, even if Python calls them equal.

    A usual text is its own key. A text that `check_id` has to look at more closely is not. The id
    of a document that sagaflow has not written may be a dict or a list, which cannot be a key.
    """
    kind = type(correlation_id)
    if isinstance(correlation_id, str):
        usual = kind is str and 0 < len(correlation_id) <= MOST_BYTES and correlation_id.isascii()
        return correlation_id if usual else (kind, correlation_id)
    if isinstance(correlation_id, int) and kind is not bool:
        return (int, correlation_id)
    return (kind, repr(correlation_id) if kind in (dict, list) else correlation_id)
