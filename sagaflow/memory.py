"""A repository in memory, for tests and for trying things out."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

from bson import ObjectId

from sagaflow._codec.data import fields_of
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document, encode_lease
from sagaflow._codec.selection import Selection, Summary, summary_of
from sagaflow._definition.saga import Saga
from sagaflow._model.clock import Clock
from sagaflow._model.ids import SagaId, check_id
from sagaflow._model.record import Lease, Status, has_expired
from sagaflow.abc import SagaRepository

_Key = tuple[type, object]
_UNCHANGING: Final = frozenset(
    {bool, int, float, str, bytes, datetime, UUID, ObjectId, types.NoneType}
)
_UNFINISHED: Final = {Status.ACTIVE.value, Status.COMPENSATING.value, Status.SUSPENDED.value}
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class MemoryRepository(SagaRepository):
    """Keeps stored documents in a dictionary, as MongoDB would keep them.

    Everything is copied on the way in and on the way out. It holds what one process wrote while it
    lives; otherwise it behaves as `sagaflow.mongo.MongoRepository` does, and passes the same tests.

    :param clock: tells which sagas are stale and which tombstones have expired.
    """

    may_wait = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.may_wait = True  # it may, in what it overrides

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._collections: dict[str, dict[_Key, Document]] = {}
        self._waiting: dict[str, dict[_Key, Document]] = {}  # those that have a wake, as an index

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: SagaId | None
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
        key = _key(document["_id"])
        if self._at(saga, key) is not None:
            return False
        kept = self._collection(saga)[key] = copied(document)
        self._index(saga, key, kept)
        return True

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Apply a change to one document; see `SagaRepository.update_document`."""
        document = self._get(saga, change.correlation_id)
        if (
            document is None
            or document.get("incarnation") != change.incarnation
            or document.get("version") != change.version
        ):
            return False
        for path, value in change.set.items():
            kept = value if type(value) in _UNCHANGING else copied(value)
            if "." in path:
                _set_within(document, path, kept)
            else:
                document[path] = kept
        for name in change.unset:
            document.pop(name, None)
        for name, push in change.push.items():
            items = document.setdefault(name, [])
            items.extend(copied(push.items))
            if push.keep is not None:
                del items[: -push.keep]
        self._index(saga, _key(change.correlation_id), document)
        return True

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Note something about a saga; see `SagaRepository.bookkeep`."""
        document = self._get(saga, note.correlation_id)
        if document is None or document.get("incarnation") != note.incarnation:
            return False
        if note.sent:
            document["outbox"] = [
                item for item in document.get("outbox", ()) if item["id"] not in note.sent
            ]
        if document.get("version") != note.version:
            return False
        document.update(copied(dict(note.set)))
        for name in note.unset:
            document.pop(name, None)
        self._index(saga, _key(note.correlation_id), document)
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
        waiting = [
            (document["wake"], document["_id"])
            for document in self._waiting.get(saga, {}).values()
            if _is_due(document, now, unclaimed=unclaimed, schema=schema)
            and not self._has_expired(document)
        ]
        for _, correlation_id in sorted(waiting, key=lambda item: item[0])[:limit]:
            yield correlation_id

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
            yield copied(document)

    async def count_states(self, saga: str) -> dict[str, int]:
        """Return how many sagas are in each state."""
        counted: dict[str, int] = {}
        for document in self._living(saga):
            state = document.get("state")
            if isinstance(state, str) and state:  # none yet: that of a saga that has not started
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
        return self._remove(saga, _key(check_id(correlation_id)))

    async def create_indexes(self, saga_type: type[Saga]) -> None:
        """Check that the class can be stored; a dictionary needs no indexes."""
        fields_of(saga_type)

    def _collection(self, saga: str) -> dict[_Key, Document]:
        return self._collections.setdefault(saga, {})

    def _get(self, saga: str, correlation_id: SagaId) -> Document | None:
        """Return the stored document itself, unless its tombstone has expired."""
        return self._at(saga, _key(check_id(correlation_id)))

    def _at(self, saga: str, key: _Key) -> Document | None:
        collection = self._collection(saga)
        document = collection.get(key)
        if document is not None and self._has_expired(document):
            self._remove(saga, key)
            return None
        return document

    def _remove(self, saga: str, key: _Key) -> bool:
        self._waiting.get(saga, {}).pop(key, None)
        return self._collection(saga).pop(key, None) is not None

    def _index(self, saga: str, key: _Key, document: Document) -> None:
        """Note whether a document has work to do, so that a sweep need not look at all others."""
        waiting = self._waiting.get(saga)
        if waiting is None:
            waiting = self._waiting[saga] = {}
        if "wake" in document:
            waiting[key] = document
        else:
            waiting.pop(key, None)

    def _living(self, saga: str) -> list[Document]:
        return [
            document
            for document in self._collection(saga).values()
            if not self._has_expired(document)
        ]

    def _has_expired(self, document: Document) -> bool:
        expire_at = document.get("expire_at")
        return expire_at is not None and has_expired(expire_at, self._clock.now())


def copied(value: Any) -> Any:
    """Return a copy of what is stored: dicts and lists of values that cannot be changed."""
    kind = cast("type[object]", type(value))
    if kind is dict:
        return {
            name: part if type(part) in _UNCHANGING else copied(part)
            for name, part in value.items()
        }
    if kind is list:
        return [part if type(part) in _UNCHANGING else copied(part) for part in value]
    return value if kind in _UNCHANGING else deepcopy(value)


def _copy(document: Document) -> Document:
    copy: Document = copied(document)
    return copy


def _changed(document: Document) -> datetime:
    """Return when a document was changed; one that is not sagaflow's comes first."""
    changed: object = document.get("updated_at")
    return changed if isinstance(changed, datetime) else _NEVER


def _is_due(document: Document, now: datetime, *, unclaimed: bool, schema: int | None) -> bool:
    """Tell whether a document is due, as a server would: a value of another type is none."""
    wake, stored, lease = document.get("wake"), document.get("schema"), document.get("lease")
    if not isinstance(wake, datetime) or wake > now:
        return False
    if schema is not None and isinstance(stored, int) and stored > schema:
        return False
    until: Any = cast("Document", lease).get("until") if isinstance(lease, dict) else None
    return not unclaimed or not isinstance(until, datetime) or until <= now


def _key(correlation_id: object) -> _Key:
    """Tell ids of different types apart, whatever they are equal to; a stranger's may be a dict."""
    kind = type(correlation_id)
    if isinstance(correlation_id, int) and kind is not bool:
        return (int, correlation_id)
    return (kind, repr(correlation_id) if kind in (dict, list) else correlation_id)


def _set_within(document: Document, path: str, value: object) -> None:
    """Set one of the paths that a change may name into a part of a document."""
    name, _, rest = path.partition(".")
    if name == "compensations":
        document[name][int(rest)] = value
    else:
        document.setdefault(name, {})[rest] = value
