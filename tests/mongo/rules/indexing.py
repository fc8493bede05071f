"""Rules about indexes, and about which of them bounds what a query reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sagaflow.mongo.dead_letters import DEAD_LETTER_INDEXES
from sagaflow.mongo.indexes import Index, indexes_of
from sagaflow.mongo.queues import QUEUE_INDEXES
from tests.contract.records import Parcel
from tests.mongo.rules.parts import (
    Command,
    is_mapping,
    is_operators,
    name_of,
    rule,
    stages_of,
    write_filters,
)

_ID: Final = Index(name="_id_", keys=("_id",))
INDEXES: Final = (_ID, *indexes_of(Parcel), *QUEUE_INDEXES, *DEAD_LETTER_INDEXES)
"""Those of a class which has all of them, and those of a bus."""
MOST_KEYS: Final = 32
MOST_BYTES_OF_A_NAME: Final = 127
MOST_SECONDS: Final = 2**31 - 1

_OPTIONS: Final = frozenset(
    {"expireAfterSeconds", "key", "name", "partialFilterExpression", "sparse"}
)
_PARTIAL: Final = frozenset({"$eq", "$exists", "$gt", "$gte", "$lt", "$lte"})
_RANGES: Final = frozenset({"$gt", "$gte", "$in", "$lt", "$lte"})


@rule("Analyze Query Performance; Sparse Indexes and Partial Indexes, Behavior: incomplete results")
def bounded_by_an_index(command: Command) -> Iterator[str]:
    """Each query has an index that bounds what is read; what asks for every saga has no query."""
    first = stages_of(command)[:1]
    if first and first[0][0] not in {"$match", "$group"}:
        yield f"the aggregation begins with {first[0][0]}"
    matches = [asked for stage, asked in first if stage == "$match"]
    found = [command.get("filter", {})] if name_of(command) == "find" else matches
    for query in (*found, *write_filters(command)):
        if query and not _is_bounded(query):
            yield f"no index bounds {dict(query)!r}"


def _is_bounded(query: Mapping[str, Any]) -> bool:
    if any(_serves(index, query) for index in INDEXES):
        return True
    return "$or" in query and all(_is_bounded(one) for one in query["$or"])


def _serves(index: Index, query: Mapping[str, Any]) -> bool:
    return (
        index.keys[0] in query
        and _is_range(query[index.keys[0]], sparse="sparse" in index.options)
        and all(
            name in query and asked == {"$exists": True} and _excludes_missing(query[name])
            for name, asked in index.options.get("partialFilterExpression", {}).items()
        )
    )


def _is_range(asked: object, *, sparse: bool) -> bool:
    """Tell whether this bounds an index on the field; a sparse one has no entry where it lacks."""
    if sparse:
        return _excludes_missing(asked)
    return not is_operators(asked) or bool(asked.keys() & _RANGES)


def _excludes_missing(asked: object) -> bool:
    if not is_operators(asked):
        return asked is not None
    return asked.get("$exists") is True or any(
        None not in value if operator == "$in" else value is not None
        for operator, value in asked.items()
        if operator in _RANGES
    )


@rule("Use Indexes to Sort Query Results; cursor.sort(), Limits: 100 MB unless allowDiskUse")
def sorted_by_an_index(command: Command) -> Iterator[str]:
    """A sort follows an index, or may go to disk; one with a limit follows an index."""
    if name_of(command) != "find" or not command.get("sort"):
        return
    sort, query = command["sort"], command.get("filter", {})
    if any(direction != 1 for direction in sort.values()):
        yield f"the sort {dict(sort)!r} is not ascending"
    if any(_serves(one, query) and _follows(tuple(sort), one, query) for one in INDEXES):
        return
    if command.get("limit"):
        yield f"the first by {dict(sort)!r} are known only when all of {dict(query)!r} are read"
    elif command.get("allowDiskUse") is not True:
        yield f"{dict(query)!r} is sorted by {dict(sort)!r} in memory"


def _follows(sort: tuple[str, ...], index: Index, query: Mapping[str, Any]) -> bool:
    """Tell whether an index has its entries in this order, where what comes before is named."""
    for place, key in enumerate(index.keys):
        if index.keys[place : place + len(sort)] == sort:
            return True
        asked = query.get(key)
        if key not in query or (is_operators(asked) and set(asked) != {"$in"}):
            return False
    return False


def _created(command: Command) -> Iterator[Mapping[str, Any]]:
    if name_of(command) == "createIndexes":
        yield from command["indexes"]


@rule("createIndexes, Index Options; Unique Indexes in Sharded Collections")
def plain_indexes(command: Command) -> Iterator[str]:
    """An index is ascending, and has only options that every server and a shard allow."""
    for index in _created(command):
        if not index.keys() <= _OPTIONS:
            yield f"an index with {sorted(index.keys() - _OPTIONS)}"
        if any(direction != 1 for direction in index["key"].values()):
            yield f"an index over {dict(index['key'])!r}"


@rule("Limits, Indexes: keys and names")
def index_limits(command: Command) -> Iterator[str]:
    """An index has at most 32 keys, and a name of its own of at most 127 bytes."""
    for index in _created(command):
        name = index["name"]
        if not 0 < len(index["key"]) <= MOST_KEYS:
            yield f"the index {name} has {len(index['key'])} keys"
        if not 0 < len(name.encode()) <= MOST_BYTES_OF_A_NAME or "$" in name or name == "_id_":
            yield f"the index is called {name!r}"
        if any(not part or part.startswith("$") for key in index["key"] for part in key.split(".")):
            yield f"the index {name} is over {list(index['key'])}"


@rule("TTL Indexes, Restrictions")
def plain_expiry(command: Command) -> Iterator[str]:
    """What expires is told by one field that is not `_id`, within 2³¹ - 1 seconds."""
    for index in _created(command):
        seconds = index.get("expireAfterSeconds")
        if seconds is None:
            continue
        if len(index["key"]) != 1 or "_id" in index["key"]:
            yield f"an expiry by {list(index['key'])}"
        if not isinstance(seconds, int) or not 0 <= seconds <= MOST_SECONDS:
            yield f"an expiry after {seconds!r} seconds"


@rule("Partial Indexes, Create a Partial Index and Restrictions: what 5.0 allows")
def plain_partial_indexes(command: Command) -> Iterator[str]:
    """A partial index is not sparse as well, not on `_id`, and asks for what MongoDB 5.0 allows."""
    for index in _created(command):
        partial = index.get("partialFilterExpression")
        if partial is None:
            continue
        if "sparse" in index or "_id" in index["key"]:
            yield f"a partial index over {list(index['key'])} with {sorted(index)}"
        for name, asked in partial.items():
            given = asked if is_mapping(asked) else {"$eq": asked}
            known = given.keys() <= _PARTIAL and given.get("$exists", True) is True
            if name.startswith("$") or not known:
                yield f"a partial index of {name}: {asked!r}"
