"""Each rule about what servers are told finds what breaks it, and the watch sees each driver."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pymongo
import pytest
from bson import Code, Decimal128, Regex
from pymongo.monitoring import CommandStartedEvent

from sagaflow.mongo import drivers
from tests.contract.records import NOW, PARCEL, Parcel, document, plain_change
from tests.mongo.rules.book import RULES, violations
from tests.mongo.rules.parts import Command
from tests.mongo.support import repository_of
from tests.mongo.watching import WATCH, Watch

Client = pymongo.MongoClient[dict[str, Any]]

READ: Final[dict[str, Any]] = {"readConcern": {"level": "majority"}, "$db": "shop"}
WRITE: Final[dict[str, Any]] = {"writeConcern": {"w": "majority", "j": True}, "$db": "shop"}
AT_VERSION: Final[dict[str, Any]] = {"_id": "a", "incarnation": "i-1", "version": 5}


def find(query: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    return {"find": "Order", "filter": query, **others, **READ}


def update(change: Any, query: Mapping[str, Any] = AT_VERSION, **others: Any) -> dict[str, Any]:
    return {"update": "Order", "updates": [{"q": query, "u": change, **others}], **WRITE}


def insert(*documents: Mapping[str, Any]) -> dict[str, Any]:
    return {"insert": "Order", "documents": list(documents), "ordered": True, **WRITE}


def aggregate(*stages: Mapping[str, Any]) -> dict[str, Any]:
    return {"aggregate": "Order", "pipeline": list(stages), "cursor": {}, **READ}


def index(key: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    made = {"key": key, "name": "sagaflow_some", **options}
    return {"createIndexes": "Order", "indexes": [made], **WRITE}


def deep(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels - 1):
        made = {"in": made}
    return made


PLAIN: Final[list[Command]] = [
    find({"_id": "a"}, limit=1, singleBatch=True),
    find({"_id": {"$in": ["a", 7]}}, projection={"version": 1, "history.token": 1}),
    find(
        {"wake": {"$lte": NOW}, "lease.until": {"$not": {"$gt": NOW}}},
        projection={"_id": 1},
        sort={"wake": 1},
        limit=100,
    ),
    find({"state": {"$in": ["new"]}, "status": {"$in": [None, "active"]}}, sort={"updated_at": 1}),
    find({"state": {"$gte": ""}}, sort={"updated_at": 1}, allowDiskUse=True),
    find({}, projection={"history": 0}),
    find({"_id": "a"}, projection={"state": 1, "inbox": {"$elemMatch": {"$eq": "m-1"}}}),
    update({"$set": {"version": 6, "data.total": 3}, "$unset": {"wake": ""}}),
    update({"$push": {"history": {"$each": [{"version": 6}], "$slice": -64}}}),
    update({"$pull": {"outbox": {"id": {"$in": ["m-1"]}}}, "$set": {"lease": {"owner": "me"}}}),
    insert({"_id": 7, **deep(100)}),
    {"delete": "Order", "deletes": [{"q": {"_id": "a"}, "limit": 1}], **WRITE},
    aggregate(
        {"$match": {"$or": [{"state": {"$gt": ""}}, {"wake": {"$exists": True}}]}},
        {"$unwind": "$timers"},
        {"$group": {"_id": {"name": "$timers.name"}, "count": {"$sum": 1}}},
    ),
    index({"wake": 1}, sparse=True),
    index({"state": 1, "status": 1}),
    index({"wake": 1}, partialFilterExpression={"wake": {"$exists": True}}),
    index({"expire_at": 1}, expireAfterSeconds=0),
    {"getMore": 7, "collection": "Order", "$db": "shop"},
    {"listIndexes": "Order", "cursor": {}, "$db": "shop"},
    {"endSessions": [], "$db": "admin"},
]


@pytest.mark.parametrize("command", PLAIN, ids=str)
def test_what_every_server_knows_breaks_no_rule(command: Command) -> None:
    assert violations(command) == []


LEFT_OUT: Final[list[tuple[str, Command]]] = [
    ("known_commands", {"findAndModify": "Order", "$db": "shop"}),
    ("known_commands", {"bulkWrite": 1, "$db": "admin"}),
    ("known_commands", find({"_id": "a"}, hint="sagaflow_wake")),
    ("known_commands", find({"_id": "a"}, collation={"locale": "de"})),
    ("known_commands", update({"$set": {"a": 1}}) | {"startTransaction": True}),
    ("known_commands", update({"$set": {"a": 1}}) | {"let": {"a": 1}}),
    ("durable_concerns", find({"_id": "a"}) | {"readConcern": {"level": "linearizable"}}),
    ("durable_concerns", find({"_id": "a"}) | {"readConcern": {"level": "snapshot"}}),
    ("durable_concerns", update({"$set": {"a": 1}}) | {"writeConcern": {"w": 2}}),
    ("durable_concerns", update({"$set": {"a": 1}}) | {"writeConcern": {"w": 1, "j": True}}),
    ("durable_concerns", {"getMore": 7, "collection": "Order", **READ}),
    ("durable_concerns", find({"_id": "a"}) | WRITE),
    ("read_from_the_primary", find({"_id": "a"}) | {"$readPreference": {"mode": "secondary"}}),
    ("plain_namespaces", find({"_id": "a"}) | {"find": "system.orders"}),
    ("plain_namespaces", find({"_id": "a"}) | {"find": "Order$"}),
    ("plain_namespaces", find({"_id": "a"}) | {"find": "O" * 240}),
    ("plain_projections", find({"_id": "a"}, projection={"state": 1, "history": 0})),
    ("plain_projections", find({"_id": "a"}, projection={"data": 1, "data.total": 1})),
    ("plain_projections", find({"_id": "a"}, projection={"inbox": {"$slice": -3}})),
    ("plain_projections", find({"_id": "a"}, projection={"now": "$wake"})),
    ("known_query_operators", find({"_id": "a", "state": {"$ne": "new"}})),
    ("known_query_operators", find({"_id": "a", "$where": "true"})),
    ("known_query_operators", find({"_id": "a", "$expr": {"$gt": ["$a", "$b"]}})),
    ("known_query_operators", find({"_id": "a", "name": {"$regex": "x"}})),
    ("known_query_operators", find({"$or": [{"_id": "a"}, {"_id": "b", "$comment": "x"}]})),
    ("known_query_operators", find({"_id": "a", "data": {"$elemMatch": {"a": 1}}})),
    ("plain_negations", update({"$set": {"a": 1}}, {"_id": "a", "x": {"$not": {"$ne": 5}}})),
    ("plain_negations", find({"_id": "a", "x": {"$not": {"$gt": 1, "$lt": 5}}})),
    ("plain_negations", find({"_id": "a", "x": {"$not": Regex("a")}})),
    ("plain_values", find({"_id": "a", "state": Regex("new")})),
    ("plain_values", find({"_id": "a", "state": {"x": 1}})),
    ("plain_values", find({"_id": "a", "state": {"$in": [["new"]]}})),
    ("plain_values", find({"_id": {"$in": list(range(10_001))}})),
    ("plain_existence", find({"_id": "a", "lease": {"$exists": False}})),
    ("plain_ids", find({"_id": Regex(".*")})),
    ("plain_ids", find({"_id": {"$gt": ""}})),
    ("plain_ids", find({"_id": {"owner": "me"}})),
    ("plain_ids", find({"_id": {"$in": ["a", Code("x")]}})),
    ("plain_ids", update({"$set": {"a": 1}}, {"_id": Decimal128(Decimal(1))})),
    ("plain_ids", update({"$set": {"a": 1}}, {"_id": {"$in": ["a"]}})),
    ("plain_ids", insert({"_id": True})),
    ("plain_ids", insert({"state": "new"})),
    ("writes_name_one_document", update({"$set": {"a": 1}}, {"wake": {"$lte": NOW}})),
    ("writes_name_one_document", {"delete": "Order", "deletes": [{"q": {}, "limit": 1}], **WRITE}),
    (
        "conditions_of_writes_are_equalities",
        update({"$set": {"a": 1}}, {"_id": "a", "version": {"$gte": 5}}),
    ),
    ("known_stages", aggregate({"$match": {"_id": "a"}}, {"$lookup": {"from": "Other"}})),
    ("known_stages", aggregate({"$match": {"_id": "a"}}, {"$out": "Other"})),
    ("known_stages", aggregate({"$group": {"_id": "$state", "all": {"$push": "$_id"}}})),
    ("known_stages", aggregate({"$group": {"_id": {"at": {"$hour": "$wake"}}}})),
    ("known_stages", aggregate({"$group": {"_id": "$$ROOT"}})),
    ("known_stages", aggregate({"$match": {"_id": "a"}}, {"$unwind": {"path": "$timers"}})),
    ("bounded_by_an_index", find({"data.total": 3})),
    ("bounded_by_an_index", find({"status": "active"})),
    ("bounded_by_an_index", find({"wake": None})),
    ("bounded_by_an_index", find({"wake": {"$not": {"$gt": NOW}}})),
    ("bounded_by_an_index", find({"$or": [{"wake": {"$lte": NOW}}, {"goal": "failed"}]})),
    ("bounded_by_an_index", aggregate({"$match": {"goal": "failed"}})),
    ("bounded_by_an_index", aggregate({"$unwind": "$timers"})),
    ("sorted_by_an_index", find({"wake": {"$lte": NOW}}, sort={"wake": -1})),
    ("sorted_by_an_index", find({"state": {"$gte": ""}}, sort={"updated_at": 1})),
    (
        "sorted_by_an_index",
        find({"state": {"$gte": ""}}, sort={"updated_at": 1}, limit=9, allowDiskUse=True),
    ),
    ("plain_indexes", index({"key": 1}, unique=True)),
    ("plain_indexes", index({"key": "hashed"})),
    ("plain_indexes", index({"name": 1}, collation={"locale": "de"})),
    ("index_limits", index({f"field{number}": 1 for number in range(33)})),
    ("index_limits", index({"key": 1}, name="n" * 128)),
    ("index_limits", index({"data.$total": 1})),
    ("plain_expiry", index({"state": 1, "expire_at": 1}, expireAfterSeconds=0)),
    ("plain_expiry", index({"_id": 1}, expireAfterSeconds=0)),
    ("plain_expiry", index({"expire_at": 1}, expireAfterSeconds=2**31)),
    ("plain_partial_indexes", index({"a": 1}, sparse=True, partialFilterExpression={"a": 1})),
    ("plain_partial_indexes", index({"_id": 1}, partialFilterExpression={"a": 1})),
    ("plain_partial_indexes", index({"a": 1}, partialFilterExpression={"a": {"$ne": 1}})),
    ("plain_partial_indexes", index({"a": 1}, partialFilterExpression={"a": {"$in": [1]}})),
    ("plain_partial_indexes", index({"a": 1}, partialFilterExpression={"$or": [{"a": 1}]})),
    ("plain_partial_indexes", index({"a": 1}, partialFilterExpression={"a": {"$exists": False}})),
    ("known_update_operators", update({"$addToSet": {"inbox": "m-1"}})),
    ("known_update_operators", update({"state": "new"})),
    ("known_update_operators", update([{"$set": {"a": 1}}])),
    ("no_empty_updates", update({})),
    ("no_empty_updates", update({"$set": {}, "$unset": {"a": ""}})),
    (
        "no_conflicting_paths",
        update({"$set": {"outbox": []}, "$pull": {"outbox": {"id": {"$in": []}}}}),
    ),
    ("no_conflicting_paths", update({"$set": {"data": {}, "data.total": 1}})),
    ("no_conflicting_paths", update({"$set": {"data.total.net": 1}, "$unset": {"data.total": ""}})),
    ("plain_paths", update({"$set": {"timers.$.due": NOW}})),
    ("plain_paths", update({"$set": {"timers.$[one].due": NOW}})),
    ("plain_paths", update({"$set": {"_id": "b"}})),
    ("plain_paths", update({"$unset": {"data.": ""}})),
    ("plain_array_changes", update({"$push": {"inbox": "m-1"}})),
    ("plain_array_changes", update({"$push": {"inbox": {"$each": [], "$position": 0}}})),
    ("plain_array_changes", update({"$push": {"inbox": {"$each": [], "$slice": "9"}}})),
    ("plain_array_changes", update({"$pull": {"inbox": "m-1"}})),
    ("plain_array_changes", update({"$pull": {"outbox": {"seq": {"$lte": 3}}}})),
    ("plain_field_names", insert({"_id": "a", "data": {"a.b": 1}})),
    ("plain_field_names", insert({"_id": "a", "notes": [{"$set": 1}]})),
    ("plain_field_names", update({"$set": {"data.by": [{"$gt": 1}]}})),
    ("plain_field_names", update({"$push": {"notes": {"$each": [{"a.b": 1}]}}})),
    ("no_deep_nesting", insert({"_id": "a", **deep(101)})),
    ("no_deep_nesting", update({"$set": {"data.tree": deep(99)}})),
    ("no_large_messages", insert({"_id": "a", "text": "x" * 16 * 1024 * 1024})),
    ("no_large_messages", insert(*({"_id": n, "text": "x" * 12_100_000} for n in range(4)))),
    ("plain_statements", update({"$set": {"a": 1}}, upsert=True)),
    ("plain_statements", update({"$set": {"a": 1}}, multi=True)),
    ("plain_statements", update({"$set": {"a": 1}}, sort={"wake": 1})),
    ("plain_statements", update({"$set": {"a": 1}}, arrayFilters=[{"one.id": 1}])),
    (
        "plain_statements",
        {"delete": "Order", "deletes": [{"q": {"_id": "a"}, "limit": 0}], **WRITE},
    ),
]


@pytest.mark.parametrize(
    ("rule", "command"), LEFT_OUT, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(LEFT_OUT)]
)
def test_what_breaks_a_rule_is_found(rule: str, command: Command) -> None:
    found = violations(command)
    assert rule in {one.partition(":")[0] for one in found}, found


def test_more_writes_than_a_command_may_have_are_found() -> None:
    many = update({"$set": {"a": 1}})["updates"] * 100_001
    (look,) = (one.look for one in RULES if one.name == "no_large_messages")
    assert list(look({"update": "Order", "updates": many, **WRITE}))


def test_each_rule_has_something_that_breaks_it() -> None:
    assert {rule for rule, _ in LEFT_OUT} == {rule.name for rule in RULES}
    assert all(rule.section for rule in RULES)


@pytest.mark.anyio
async def test_the_watch_sees_what_each_driver_sends(
    anyio_backend: str, store: str, mongodb_uri: str, database: str
) -> None:
    before = WATCH.seen.copy()
    async with repository_of(store, mongodb_uri, database) as repository:
        await repository.create_indexes(Parcel)
        assert await repository.insert_document(PARCEL, document("a"))
        assert await repository.update_document(PARCEL, plain_change("a", 1))
        assert [one async for one in repository.scan_documents(PARCEL)]
        assert await repository.count_states(PARCEL)
        assert await repository.delete_document(PARCEL, "a")
    seen = WATCH.seen - before
    assert dict(seen) == {
        "createIndexes": 3,
        "insert": 1,
        "update": 1,
        "find": 1,
        "aggregate": 1,
        "delete": 1,
    }


@pytest.mark.anyio
async def test_the_watch_finds_what_the_library_should_not_have_said(
    mongodb_client: Client, database: str
) -> None:
    driver = drivers.driver_for(mongodb_client[database])
    await driver.update_one(PARCEL, {"_id": "a"}, {"$min": {"version": 1}})
    (found,) = WATCH.taken()
    assert found.startswith("known_update_operators: the update has ['$min']")


def test_the_watch_leaves_out_what_a_test_says_itself(
    mongodb_client: Client, database: str
) -> None:
    before = WATCH.seen.copy()
    mongodb_client[database]["Order"].update_many({}, {"$inc": {"version": 1}}, upsert=True)
    assert WATCH.seen == before


def test_a_rule_that_fails_is_a_finding() -> None:
    watch = Watch()
    source = Path(drivers.__file__)
    command = {"update": "Order"}  # without any statement
    event = CommandStartedEvent(command, "shop", 1, ("localhost", 27017), 1)
    said = compile("watch.started(event)", str(source), "exec")
    exec(said, {"watch": watch, "event": event})  # noqa: S102 - as the library would say it
    (found,) = watch.taken()
    assert found.startswith("KeyError('updates') about")
