"""Which indexes there are, and whether they are those that the queries need."""

from __future__ import annotations

from typing import Any

import pymongo
import pytest
from attrs import frozen

from sagaflow import Saga, SagaRepository, State, initially
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.indexes import indexes_of
from tests.contract.records import PARCEL, Parcel, document, store


@frozen
class Begun:
    key: str


@frozen
class Ended:
    key: str


@pytest.mark.anyio
async def test_an_index_is_missing_another_one_or_there(
    repository: SagaRepository,
    database_name: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
) -> None:
    assert isinstance(repository, MongoRepository)
    assert not any((await repository.check_indexes(Parcel)).values())
    await store(repository, document("a"))
    collection = mongodb_client[database_name][PARCEL]
    collection.create_index([("state", 1)], name="sagaflow_state")
    collection.create_index([("wake", 1)], name="sagaflow_wake")  # not sparse
    found = await repository.check_indexes(Parcel)
    assert (found["sagaflow_state"], found["sagaflow_wake"]) == (False, False)
    collection.drop_indexes()
    await repository.create_indexes(Parcel)
    assert await repository.check_indexes(Parcel) == {
        "sagaflow_wake": True,
        "sagaflow_state": True,
        "sagaflow_expire": True,
    }


class Early(Saga, correlate_by="key"):
    begun = State(final=True)

    begin = initially.on(Begun).goto(begun)
    early = initially.on(Ended).defer()


class Plain(Saga, correlate_by="key"):
    begun = State(final=True)

    begin = initially.on(Begun).goto(begun)


@pytest.mark.parametrize(("saga_type", "expires"), [(Parcel, True), (Early, True), (Plain, False)])
def test_only_a_class_whose_documents_may_expire_has_an_index_for_that(
    saga_type: type[Saga], *, expires: bool
) -> None:
    """Ended sagas that are kept for a time, or events that wait for a start that may not come."""
    names = {index.name for index in indexes_of(saga_type)}
    assert ("sagaflow_expire" in names) == expires
