"""The writes to one collection: writes that come at the same time share round trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import InsertOne, UpdateOne
from pymongo.errors import DuplicateKeyError

from sagaflow._codec.elements import Document
from sagaflow._model.ids import SagaId
from sagaflow.mongo.batches import Batches, UnknownResultError, WriteResult
from sagaflow.mongo.drivers import Driver, encoded_size
from sagaflow.mongo.statements import TRACES, Statement, fates_of

MOST: Final = 32
"""How many writes share a round trip, at most."""
AT_ONCE: Final = 4
"""How many batches of one kind are under way at the same time, at most."""
_LARGE: Final = 256 * 1024
"""A larger write, in bytes, travels alone: a batch must fit into one message of 48 MB."""


class Writes:
    """The writes to one collection.

    If a write travels alone, the number of matches tells whether it took place. Of several writes,
    the server tells how many have matched and which it refused; if some have not matched, one read
    of the documents tells which.
    """

    def __init__(self, driver: Driver, collection: str) -> None:
        self._driver = driver
        self._collection = collection
        self._inserts: Batches[Document] = Batches(
            self._insert_all, self._insert_one, most=MOST, at_once=AT_ONCE
        )
        self._updates: Batches[Statement] = Batches(
            self._update_all, self._update_one, most=MOST, at_once=AT_ONCE
        )

    async def insert(self, document: Document) -> WriteResult:
        """Insert a document and tell whether its id was free.

        A document that cannot be encoded is refused before it gets into a batch, where it would
        make all other writes fail as well.
        """
        if not self._inserts.is_idle and encoded_size(document) > _LARGE:
            return await self._insert_one(document)
        return await self._inserts.submit(document)

    async def update(
        self, statement: Statement, *, size: int | None = None, alone: bool = False
    ) -> WriteResult:
        """Update at most one document and tell whether one matched.

        :param size: how many bytes the statement takes, about; None if it was not encoded before.
        :param alone: whether the statement must share no round trip, since its document would not
            tell later whether it has matched.
        """
        if not self._updates.is_idle:
            if size is None:
                size = encoded_size({"q": statement.query, "u": statement.update})
            if alone or size > _LARGE:
                return await self._update_one(statement)
        return await self._updates.submit(statement)

    async def _insert_one(self, document: Document) -> WriteResult:
        return await self._driver.insert_one(self._collection, document)

    async def _insert_all(self, documents: Sequence[Document]) -> Sequence[WriteResult]:
        answer = await self._driver.bulk_write(
            self._collection, [InsertOne(document) for document in documents]
        )
        fates: list[WriteResult] = [answer.unconfirmed or True] * len(documents)
        for index, error in answer.errors.items():
            fates[index] = False if isinstance(error, DuplicateKeyError) else error
        return fates

    async def _update_one(self, statement: Statement) -> WriteResult:
        matched = await self._driver.update_one(self._collection, statement.query, statement.update)
        return matched == 1

    async def _update_all(self, statements: Sequence[Statement]) -> Sequence[WriteResult]:
        answer = await self._driver.bulk_write(
            self._collection, [UpdateOne(one.query, one.update) for one in statements]
        )
        fates: list[WriteResult] = [answer.unconfirmed or True] * len(statements)
        for index, error in answer.errors.items():
            fates[index] = error
        accepted = [index for index in range(len(statements)) if index not in answer.errors]
        if answer.unconfirmed is None and answer.matched < len(accepted):
            known = await self._fates([statements[index] for index in accepted], answer.matched)
            for index, fate in zip(accepted, known, strict=True):
                fates[index] = fate
        return fates

    async def _fates(self, statements: list[Statement], matched: int) -> Sequence[WriteResult]:
        """Find out which of *statements* have matched."""
        found: dict[SagaId, Mapping[str, Any]] = {}
        if matched:
            ids = [statement.correlation_id for statement in statements]
            query = {"_id": {"$in": ids}}
            try:
                async for document in self._driver.find(self._collection, query, TRACES):
                    found[document["_id"]] = document
            except Exception as exc:  # noqa: BLE001 - whatever it was, some writes took place
                reason = f"reading which of several writes took place failed: {exc}"
                return [UnknownResultError(reason)] * len(statements)
        return fates_of(statements, found, matched)
