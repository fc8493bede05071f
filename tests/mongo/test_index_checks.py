"""Which indexes there are, and whether they are those that the queries need."""

from __future__ import annotations

from typing import Any

import pymongo
import pytest

from sagaflow import SagaRepository
from sagaflow.mongo import MongoRepository
from tests.contract.records import PARCEL, Parcel, document, store

pytestmark = pytest.mark.anyio


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
        "sagaflow_stale": True,
        "sagaflow_expire": True,
    }
