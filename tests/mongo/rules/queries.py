"""Rules about what is asked of documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from bson import Code, ObjectId

from tests.mongo.rules.parts import (
    Command,
    conditions_of,
    filters_of,
    is_list,
    is_mapping,
    is_operators,
    name_of,
    rule,
    stages_of,
    write_filters,
)

OPERATORS: Final = frozenset({"$exists", "$gt", "$gte", "$in", "$lt", "$lte", "$not"})
"""What may be asked of a field: MongoDB 5.0, Amazon DocumentDB, Azure DocumentDB and FerretDB have
them."""
LOGICAL: Final = frozenset({"$or"})
"""What may join such questions; likewise."""
BOUNDS: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})
STAGES: Final = frozenset({"$group", "$match", "$unwind"})
ACCUMULATORS: Final = frozenset({"$max", "$min", "$sum"})
MOST_IN_A_LIST: Final = 10_000
_IDENTITY: Final = frozenset({"incarnation", "token", "version"})
_ID_TYPES: Final = (str, int, UUID, ObjectId)


def is_id(value: object) -> bool:
    """Tell whether a value is an id, which no server takes for anything else."""
    return isinstance(value, _ID_TYPES) and not isinstance(value, (bool, Code))


@rule("Query and Projection Operators")
def known_query_operators(command: Command) -> Iterator[str]:
    """Only operators that MongoDB 5.0 and every compatible service have."""
    for query in filters_of(command):
        yield from _unknown(query)


def _unknown(query: Mapping[str, Any]) -> Iterator[str]:
    for name, asked in query.items():
        if name in LOGICAL:
            for one in asked:
                yield from _unknown(one)
        elif name.startswith("$"):
            yield f"{name} is not among those that every server has"
        elif is_operators(asked):
            unknown = asked.keys() - OPERATORS
            if unknown:
                yield f"{name} is asked for {sorted(unknown)}"


@rule("Query and Projection Operators, $not: the operator expression")
def plain_negations(command: Command) -> Iterator[str]:
    """`$not` is about one bound, and never about another negation or a pattern."""
    for query in filters_of(command):
        for name, asked in conditions_of(query):
            if not is_operators(asked) or "$not" not in asked:
                continue
            negated = asked["$not"]
            if not is_mapping(negated) or len(negated) != 1 or not negated.keys() <= BOUNDS:
                yield f"{name} is asked for $not {negated!r}"


@rule("Query and Projection Operators, $eq: a plain value; $in: fewer than tens of thousands")
def plain_values(command: Command) -> Iterator[str]:
    """A value is asked for as it is: a pattern or a document is none, and lists are short."""
    for query in filters_of(command):
        for name, asked in conditions_of(query):
            for value in _values(asked):
                if is_list(value) or is_mapping(value) or _is_pattern(value):
                    yield f"{name} is compared with {value!r}"
            if is_operators(asked) and len(asked.get("$in", ())) > MOST_IN_A_LIST:
                yield f"{name} is looked for in a list of {len(asked['$in'])}"


def _values(asked: object) -> Iterator[object]:
    if not is_operators(asked):
        yield asked
        return
    for operator, value in asked.items():
        if operator == "$in":
            yield from value
        elif operator == "$not":
            yield from _values(value)
        else:
            yield value


def _is_pattern(value: object) -> bool:
    return type(value).__name__ in {"Regex", "Pattern", "Code"}


@rule("Query and Projection Operators, $exists: a boolean")
def plain_existence(command: Command) -> Iterator[str]:
    """`$exists` asks whether a field is there; that one is missing, no index tells."""
    for query in filters_of(command):
        for name, asked in conditions_of(query):
            if is_operators(asked) and asked.get("$exists", True) is not True:
                yield f"{name} is asked for $exists {asked['$exists']!r}"


@rule("Documents, The _id Field: any type but an array or a regular expression")
def plain_ids(command: Command) -> Iterator[str]:
    """What is stored or found by its id has an id of a plain type, which is never a question."""
    if name_of(command) == "insert":
        for document in command["documents"]:
            if not is_id(document.get("_id")):
                yield f"a document has the _id {document.get('_id')!r}"
    for query in filters_of(command):
        for name, asked in conditions_of(query):
            if name != "_id":
                continue
            many = is_mapping(asked) and set(asked) == {"$in"}
            ids = asked["$in"] if many and query not in list(write_filters(command)) else [asked]
            for one in ids:
                if not is_id(one):
                    yield f"_id is asked for {one!r}"


@rule("Operational Restrictions in Sharded Clusters, Single Document Modification Operations")
def writes_name_one_document(command: Command) -> Iterator[str]:
    """An update or deletion of one document names its `_id`, by an equality, first of all."""
    for query in write_filters(command):
        if next(iter(query), None) != "_id":
            yield f"{query!r} does not begin with an _id"


@rule("Atomicity and Transactions, Concurrency Control; $eq")
def conditions_of_writes_are_equalities(command: Command) -> Iterator[str]:
    """A write asks for the version that it rests on by an equality, without negations."""
    for query in write_filters(command):
        for name, asked in conditions_of(query):
            if name in _IDENTITY and is_operators(asked):
                yield f"{name} is asked for {asked!r}"


@rule("Aggregation Stages; $group, Accumulators")
def known_stages(command: Command) -> Iterator[str]:
    """Only stages and accumulators that MongoDB 5.0 and every compatible service have."""
    for stage, given in stages_of(command):
        if stage not in STAGES:
            yield f"{stage} is not among those that every server has"
        elif stage == "$unwind" and not _is_path(given):
            yield f"$unwind of {given!r}"
        elif stage == "$group":
            yield from _groups(given)


def _groups(given: Mapping[str, Any]) -> Iterator[str]:
    key = given["_id"]
    for name, path in key.items() if is_mapping(key) else [("_id", key)]:
        if name.startswith("$") or not _is_path(path):
            yield f"$group by {name}: {path!r}"
    for name, accumulator in given.items():
        if name != "_id" and not accumulator.keys() <= ACCUMULATORS:
            yield f"$group has {name}: {accumulator!r}"


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("$") and not value.startswith("$$")
