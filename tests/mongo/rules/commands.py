"""Rules about commands as a whole: what they are called, and what is said beside the question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.mongo.rules.parts import Command, is_mapping, name_of, rule

ARGUMENTS: Final[Mapping[str, frozenset[str]]] = {
    "aggregate": frozenset({"cursor", "pipeline"}),
    "createIndexes": frozenset({"indexes"}),
    "delete": frozenset({"deletes", "ordered"}),
    "endSessions": frozenset(),
    "find": frozenset(
        {"allowDiskUse", "batchSize", "filter", "limit", "projection", "singleBatch", "sort"}
    ),
    "getMore": frozenset({"batchSize", "collection"}),
    "insert": frozenset({"documents", "ordered"}),
    "killCursors": frozenset({"cursors"}),
    "listIndexes": frozenset({"cursor"}),
    "update": frozenset({"ordered", "updates"}),
}
"""The commands that are sent, and what they are told. All are in MongoDB 5.0 and in version 1 of
its stable API; none takes a hint, a collation, a variable or a part in a transaction."""
_FROM_DRIVERS: Final = frozenset(
    {"$clusterTime", "$db", "$readPreference", "lsid", "readConcern", "txnNumber", "writeConcern"}
)
_READS: Final = frozenset({"aggregate", "find"})
_WRITES: Final = frozenset({"createIndexes", "delete", "insert", "update"})
MOST_BYTES_OF_A_NAMESPACE: Final = 235


@rule("Database Commands; Stable API, version 1; Transactions")
def known_commands(command: Command) -> Iterator[str]:
    """Only these commands, with these arguments: nothing that needs a replica set or a session."""
    name = name_of(command)
    if name not in ARGUMENTS:
        yield f"{name} is not among the commands that are sent"
        return
    unknown = command.keys() - ARGUMENTS[name] - _FROM_DRIVERS - {name}
    if unknown:
        yield f"{name} is told {sorted(unknown)}"


@rule('Read Concern "majority", Availability; Write Concern, Standalone and j')
def durable_concerns(command: Command) -> Iterator[str]:
    """Reads see what a majority has, writes are journaled by one: every kind of server has that."""
    name = name_of(command)
    if name in _READS and command.get("readConcern") != {"level": "majority"}:
        yield f"{name} with the read concern {command.get('readConcern')!r}"
    if name in _WRITES and command.get("writeConcern") != {"w": "majority", "j": True}:
        yield f"{name} with the write concern {command.get('writeConcern')!r}"
    if name not in _READS and "readConcern" in command:
        yield f"{name} has a read concern"
    if name not in _WRITES and "writeConcern" in command:
        yield f"{name} has a write concern"


@rule("Read Preference: primary; what a single server is told instead, primaryPreferred")
def read_from_the_primary(command: Command) -> Iterator[str]:
    """What is read is read from the primary."""
    preference = command.get("$readPreference", {"mode": "primary"})
    if preference.get("mode") not in {"primary", "primaryPreferred"} or len(preference) > 1:
        yield f"the read preference {preference!r}"


@rule("Limits, Naming Restrictions: collections; 235 bytes where it is sharded")
def plain_namespaces(command: Command) -> Iterator[str]:
    """A collection is called as every server allows; which database it is in, the user says."""
    name = name_of(command)
    collection = command.get("collection") if name == "getMore" else command[name]
    if name == "endSessions" or not isinstance(collection, str):
        return
    begins = collection[:1].isalnum() or collection[:1] == "_"
    if not begins or collection.startswith("system.") or set(collection) & {"$", "\0"}:
        yield f"the collection {collection!r}"
    if len(f"{command['$db']}.{collection}".encode()) > MOST_BYTES_OF_A_NAMESPACE:
        yield f"the name of the collection {collection!r} is too long"


@rule("Projection: inclusion or exclusion, Path Collision; $elemMatch (projection)")
def plain_projections(command: Command) -> Iterator[str]:
    """What is read is named, or what is not read; never both, and no path within another."""
    projection: Mapping[str, Any] = command.get("projection") or {}
    kinds = {_kind(asked) for name, asked in projection.items() if name != "_id"}
    if None in kinds or len(kinds) > 1:
        yield f"the projection {projection!r}"
    for path in projection:
        parts = path.split(".")
        if any(not part or part.startswith("$") for part in parts):
            yield f"the projection of {path!r}"
        if any(".".join(parts[:end]) in projection for end in range(1, len(parts))):
            yield f"the projection of {path!r} within another one"


def _kind(asked: object) -> str | None:
    if is_mapping(asked):
        return "included" if list(asked) == ["$elemMatch"] else None
    return {0: "excluded", 1: "included"}.get(asked) if isinstance(asked, int) else None
