"""Rules about what is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from tests.mongo.rules.parts import (
    Command,
    conditions_of,
    is_list,
    is_mapping,
    name_of,
    rule,
    stored_of,
    updates_of,
)

OPERATORS: Final = frozenset({"$inc", "$pull", "$push", "$set", "$unset"})
"""What may be done to a field: MongoDB 5.0, Amazon DocumentDB, Azure DocumentDB and FerretDB have
them."""
MODIFIERS: Final = frozenset({"$each", "$slice"})
MOST_BYTES: Final = 16 * 1024 * 1024
MOST_BYTES_OF_A_MESSAGE: Final = 48_000_000
MOST_WRITES: Final = 100_000
MOST_LEVELS: Final = 100

_OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD
)


def _changes(command: Command) -> Iterator[Mapping[str, Any]]:
    yield from (one["u"] for one in updates_of(command) if is_mapping(one["u"]))


@rule("Update Operators")
def known_update_operators(command: Command) -> Iterator[str]:
    """Only operators that MongoDB 5.0 and every compatible service have: no pipeline either."""
    for one in updates_of(command):
        change = one["u"]
        if not is_mapping(change):
            yield f"the update is a pipeline: {change!r}"
        elif not change.keys() <= OPERATORS:
            yield f"the update has {sorted(change.keys() - OPERATORS)}"


@rule("Update Operators, Behavior: an empty operand is an error before MongoDB 5.0")
def no_empty_updates(command: Command) -> Iterator[str]:
    """Each operator changes something, and each update has one."""
    for change in _changes(command):
        if not change:
            yield "the update is empty"
        yield from (f"{operator} is empty" for operator, fields in change.items() if not fields)


@rule("db.collection.updateOne(), Behavior; error ConflictingUpdateOperators")
def no_conflicting_paths(command: Command) -> Iterator[str]:
    """No two operators on one path, or on a path and its parent."""
    for change in _changes(command):
        paths = [(path, operator) for operator, fields in change.items() for path in fields]
        known: dict[tuple[str, ...], str] = {}
        for path, operator in sorted(paths, key=lambda one: one[0].count(".")):
            parts = tuple(path.split("."))
            for end in range(1, len(parts) + 1):
                if parts[:end] in known:
                    yield f"{operator} {path} and {known[parts[:end]]} {'.'.join(parts[:end])}"
            known[parts] = operator


@rule("Documents, The _id Field: immutable; Dot Notation; Update Operators, $[] and arrayFilters")
def plain_paths(command: Command) -> Iterator[str]:
    """A path is made of names and numbers, and never leads to `_id`."""
    for change in _changes(command):
        for path in (path for fields in change.values() for path in fields):
            parts = path.split(".")
            if parts[0] == "_id" or any(not part or part.startswith("$") for part in parts):
                yield f"the path {path!r}"


@rule("Update Operators, $push: modifiers; $pull: a condition")
def plain_array_changes(command: Command) -> Iterator[str]:
    """`$push` takes `$each`, and cuts by `$slice`; `$pull` asks for plain values."""
    for change in _changes(command):
        for path, given in change.get("$push", {}).items():
            if not is_mapping(given) or "$each" not in given or not given.keys() <= MODIFIERS:
                yield f"$push {path}: {given!r}"
            elif not isinstance(given.get("$slice", 0), int):
                yield f"$push {path} with $slice {given['$slice']!r}"
        for path, given in change.get("$pull", {}).items():
            for name, asked in conditions_of(given) if is_mapping(given) else [("", None)]:
                if not is_mapping(asked) or set(asked) != {"$in"} or name.startswith("$"):
                    yield f"$pull {path}: {given!r}"


@rule("Documents, Field Names; Limits, Naming Restrictions: $ and dots")
def plain_field_names(command: Command) -> Iterator[str]:
    """No name of a stored field begins with `$` or has a dot in it; BSON has no null in any."""
    for place, value in stored_of(command):
        for name in _names(value):
            if name.startswith("$") or "." in name:
                yield f"{place} has a field {name!r}"


def _names(value: object) -> Iterator[str]:
    if is_mapping(value):
        for name, item in value.items():
            yield name
            yield from _names(item)
    elif is_list(value):
        for item in value:
            yield from _names(item)


@rule("Limits, Nested Depth for BSON Documents: 100 levels")
def no_deep_nesting(command: Command) -> Iterator[str]:
    """A document has at most a hundred levels."""
    for place, value in stored_of(command):
        path = 1 if name_of(command) == "insert" else place.count(".") + 2
        levels = _levels(value) + path - 1
        if levels > MOST_LEVELS:
            yield f"{place} has {levels} levels"


def _levels(value: object) -> int:
    """Return how deep a value is, without recursion: what is too deep might be far too deep."""
    deepest, left = 0, [(value, 1)]
    while left:
        one, level = left.pop()
        if is_mapping(one):
            left += [(item, level + 1) for item in one.values()]
        elif is_list(one):
            left += [(item, level + 1) for item in one]
        else:
            continue
        deepest = max(deepest, level)
    return deepest


@rule("Limits, BSON Document Size; hello: maxMessageSizeBytes, maxWriteBatchSize")
def no_large_messages(command: Command) -> Iterator[str]:
    """A document has at most 16 MiB, a message 48 MB, and a command 100,000 writes."""
    for writes in ("documents", "updates", "deletes"):
        given = command.get(writes, ())
        if len(given) > MOST_WRITES:
            yield f"{len(given)} {writes}"
        sizes = [len(bson.encode(one, codec_options=_OPTIONS)) for one in given]
        if writes == "documents" and max(sizes, default=0) > MOST_BYTES:
            yield f"a document of {max(sizes)} bytes"
        if sum(sizes) > MOST_BYTES_OF_A_MESSAGE:
            yield f"{writes} of {sum(sizes)} bytes"


@rule("db.collection.updateOne(): upsert, multi, arrayFilters, collation, hint, sort")
def plain_statements(command: Command) -> Iterator[str]:
    """An update changes one document that is there; a deletion removes one: nothing is optional."""
    for one in updates_of(command):
        unusual = one.keys() - {"q", "u", "multi", "upsert"}
        if unusual or one.get("multi") or one.get("upsert"):
            yield f"an update with {sorted(one.keys() - {'q', 'u'})}"
    for one in command["deletes"] if name_of(command) == "delete" else ():
        if one.keys() != {"q", "limit"} or one["limit"] != 1:
            yield f"a deletion with {sorted(one.keys() - {'q'})}, limit {one.get('limit')}"
