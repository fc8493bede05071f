"""Sagas in one file: a repository on the `sqlite3` of the standard library.

It is written from the public names of sagaflow alone, passes the suite that every repository has to
pass (`sagaflow.testing.RepositoryContract`), and shows what a store of your own comes to. Several
processes may share the file. The page "A store of your own" explains it part by part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from os import PathLike
from threading import Lock
from typing import Any, TypeVar

import bson
from anyio import to_thread
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from sagaflow import Clock, MessageId, RepositoryError, Saga, SagaId, ServerUnavailableError
from sagaflow.abc import (
    Bookkeeping,
    Document,
    DocumentChange,
    Lease,
    SagaRepository,
    encode_lease,
)

T = TypeVar("T")

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, uuid_representation=UuidRepresentation.STANDARD
)
EPOCH = datetime.fromtimestamp(0, UTC)
UNFINISHED = ("active", "compensating", "suspended")
PAGE = 100
"""How many documents a scan reads at a time."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS sagas (
    saga TEXT NOT NULL, id BLOB NOT NULL, document BLOB NOT NULL,
    state TEXT, status TEXT, schema INTEGER, updated_at INTEGER NOT NULL,
    wake INTEGER, leased_until INTEGER, expire_at INTEGER,
    PRIMARY KEY (saga, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON sagas (saga, wake) WHERE wake IS NOT NULL;
CREATE INDEX IF NOT EXISTS changed ON sagas (saga, updated_at, id);
"""


class SqliteRepository(SagaRepository):
    """Keeps each saga as one row of a file: the document as BSON, and what is asked for beside it.

    :param connection: made with ``check_same_thread=False`` and ``isolation_level=None``.
    :param clock: tells which sagas are stale and which tombstones have expired.
    """

    def __init__(self, connection: sqlite3.Connection, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._connection = connection
        self._one_at_a_time = Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: str | PathLike[str], *, clock: Clock | None = None, patience: float = 10
    ) -> AsyncGenerator[SqliteRepository, None]:
        """Open a file, which is made if it is not there, and close it at the end.

        :param patience: seconds for which a call waits for other processes to finish theirs.
        """

        def connect() -> sqlite3.Connection:
            made = sqlite3.connect(
                path, timeout=patience, isolation_level=None, check_same_thread=False
            )
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives a power cut
            made.executescript(SCHEMA)
            return made

        connection = await to_thread.run_sync(connect)
        try:
            yield cls(connection, clock=clock)
        finally:
            await to_thread.run_sync(connection.close)

    # What a transition needs

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        """Return the document of a saga; see `SagaRepository.load_document`."""
        document = await self._run(lambda: self._read(saga, correlation_id))
        if document is not None and message_id is not None:
            document.pop("history", None)
            wanted = key_of(message_id)
            document["inbox"] = [one for one in document.get("inbox", ()) if key_of(one) == wanted]
        return document

    async def insert_document(self, saga: str, document: Document) -> bool:
        """Store a new document; see `SagaRepository.insert_document`."""

        def insert() -> bool:
            with self._writing():
                if self._read(saga, document["_id"]) is not None:
                    return False
                self._write(saga, document)
                return True

        return await self._run(insert)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Apply a change; see `SagaRepository.update_document`."""

        def update() -> bool:
            with self._writing():
                document = self._read(saga, change.correlation_id)
                if document is None or not is_at(document, change):
                    return False
                for path, value in change.set.items():
                    set_path(document, path, value)
                for name in change.unset:
                    document.pop(name, None)
                for name, push in change.push.items():
                    items = [*document.get(name, ()), *push.items]
                    document[name] = items if push.keep is None else items[-push.keep :]
                self._write(saga, document)
                return True

        return await self._run(update)

    # What workers need

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Note something without a new version; see `SagaRepository.bookkeep`."""

        def bookkeep() -> bool:
            with self._writing():
                document = self._read(saga, note.correlation_id)
                if document is None or document.get("incarnation") != note.incarnation:
                    return False
                if note.sent:
                    waiting = document.get("outbox", ())
                    document["outbox"] = [one for one in waiting if one["id"] not in note.sent]
                is_latest = is_at(document, note)
                if is_latest:
                    document.update(note.set)
                    for name in note.unset:
                        document.pop(name, None)
                self._write(saga, document)
                return is_latest

        return await self._run(bookkeep)

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

        def claim() -> bool:
            with self._writing():
                due, given = due_where(now, unclaimed=True, schema=schema)
                found = self._connection.execute(
                    f"SELECT 1 FROM sagas WHERE saga = ? AND id = ? AND {due}",  # noqa: S608
                    (saga, key_of(correlation_id), *given),
                ).fetchone()
                document = self._read(saga, correlation_id) if found else None
                if document is None:
                    return False
                self._write(saga, {**document, "lease": encode_lease(lease)})
                return True

        return await self._run(claim)

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
        due, given = due_where(now, unclaimed=unclaimed, schema=schema)
        rows = await self._select(
            f"SELECT id FROM sagas WHERE saga = ? AND {due} AND {LIVING} "  # noqa: S608
            "ORDER BY wake LIMIT ?",
            (saga, *given, milliseconds(self._clock.now()), -1 if limit is None else limit),
        )
        for (key,) in rows:
            yield id_of(key)

    # What queries need

    async def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        """Yield documents, oldest change first; see `SagaRepository.scan_documents`."""
        wanted, given = "TRUE", list[Any]()
        if state is not None:
            states = [state] if isinstance(state, str) else list(state)
            wanted += f" AND state IN ({', '.join('?' * len(states))})"
            given += states
        if unchanged_since is not None:
            wanted += f" AND updated_at < ? AND status IN ({', '.join('?' * len(UNFINISHED))})"
            given += [milliseconds(unchanged_since), *UNFINISHED]
        after: tuple[int, bytes] = (-(2**63), b"")
        while True:  # a page at a time, so that nothing is locked while the caller works
            rows = await self._select(
                "SELECT updated_at, id, document FROM sagas "  # noqa: S608
                f"WHERE saga = ? AND {wanted} AND {LIVING} AND (updated_at, id) > (?, ?) "
                "ORDER BY updated_at, id LIMIT ?",
                (saga, *given, milliseconds(self._clock.now()), *after, PAGE),
            )
            for *place, document in rows:
                after = (place[0], place[1])
                yield bson.decode(document, OPTIONS)
            if len(rows) < PAGE:
                return

    async def count_states(self, saga: str) -> dict[str, int]:
        """Return how many sagas are in each state; see `SagaRepository.count_states`."""
        rows = await self._select(
            "SELECT state, count(*) FROM sagas WHERE saga = ? AND state IS NOT NULL "  # noqa: S608
            f"AND status IS NOT 'embryo' AND {LIVING} GROUP BY state",
            (saga, milliseconds(self._clock.now())),
        )
        return dict(rows)

    async def delete_document(self, saga: str, correlation_id: SagaId) -> bool:
        """Remove a document; see `SagaRepository.delete_document`."""

        def delete() -> bool:
            with self._writing():
                there = self._read(saga, correlation_id) is not None
                self._connection.execute(
                    "DELETE FROM sagas WHERE saga = ? AND id = ?", (saga, key_of(correlation_id))
                )
                return there

        return await self._run(delete)

    async def create_indexes(self, saga_type: type[Saga]) -> None:
        """Do nothing: the indexes are made with the file."""

    # The file

    async def _run(self, work: Callable[[], T]) -> T:
        """Do something with the connection, in a thread, alone, and finish it if cancelled."""

        def alone() -> T:
            with self._one_at_a_time:
                try:
                    return work()
                except sqlite3.OperationalError as exc:  # such as a file that stays locked
                    raise ServerUnavailableError(f"SQLite: {exc}; nothing was done") from exc
                except sqlite3.Error as exc:
                    raise RepositoryError(f"SQLite: {exc}") from exc

        return await to_thread.run_sync(alone)

    async def _select(self, statement: str, given: tuple[Any, ...]) -> list[Any]:
        return await self._run(lambda: self._connection.execute(statement, given).fetchall())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Let nobody else write between what is read and what is written."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _read(self, saga: str, correlation_id: SagaId) -> Document | None:
        row = self._connection.execute(
            f"SELECT document FROM sagas WHERE saga = ? AND id = ? AND {LIVING}",  # noqa: S608
            (saga, key_of(correlation_id), milliseconds(self._clock.now())),
        ).fetchone()
        return None if row is None else bson.decode(row[0], OPTIONS)

    def _write(self, saga: str, document: Document) -> None:
        lease, changed = document.get("lease"), document.get("updated_at")
        self._connection.execute(
            "INSERT OR REPLACE INTO sagas VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                saga,
                key_of(document["_id"]),
                bson.encode(document, codec_options=OPTIONS),
                text(document.get("state")),
                text(document.get("status")),
                schema if isinstance(schema := document.get("schema", 1), int) else None,
                milliseconds(changed) or 0,
                milliseconds(document.get("wake")),
                milliseconds(lease.get("until")) if isinstance(lease, dict) else None,
                milliseconds(document.get("expire_at")),
            ),
        )


LIVING = "(expire_at IS NULL OR expire_at > ?)"


def due_where(now: datetime, *, unclaimed: bool, schema: int | None) -> tuple[str, list[Any]]:
    """Return what is asked of a saga that is due, and the values for it."""
    where, given = "wake <= ?", [milliseconds(now)]
    if unclaimed:
        where, given = f"{where} AND (leased_until IS NULL OR leased_until <= ?)", given * 2
    if schema is not None:
        where, given = f"{where} AND schema <= ?", [*given, schema]
    return where, given


def is_at(document: Document, change: DocumentChange | Bookkeeping) -> bool:
    """Tell whether a document is the one that a change is for."""
    found = (document.get("incarnation"), document.get("version"))
    return found == (change.incarnation, change.version)


def set_path(document: Document, path: str, value: object) -> None:
    """Set a field, a field of ``data``, or an element of ``compensations``."""
    name, _, within = path.partition(".")
    if not within:
        document[name] = value
    elif name == "compensations":
        document[name][int(within)] = value
    else:
        document.setdefault(name, {})[within] = value


def key_of(correlation_id: SagaId) -> bytes:
    """Return an id with its type, so that ``7`` and ``"7"`` are two."""
    return bson.encode({"": correlation_id}, codec_options=OPTIONS)


def id_of(key: bytes) -> SagaId:
    """Return the id that a key is made of."""
    found: SagaId = bson.decode(key, OPTIONS)[""]
    return int(found) if isinstance(found, int) else found


def text(value: object) -> str | None:
    """Return a text that is looked for; what is none is not found."""
    return value if isinstance(value, str) else None


def milliseconds(instant: object) -> int | None:
    """Return an instant as a number that compares as it does; what is none has no number."""
    if not isinstance(instant, datetime):
        return None
    return (instant - EPOCH) // timedelta(milliseconds=1)
