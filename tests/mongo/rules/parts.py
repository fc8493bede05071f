"""What a command consists of, for the rules about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeGuard

from attrs import frozen

Command: TypeAlias = Mapping[str, Any]
"""A command as it is sent, `$db` included; its first key is its name."""

Look: TypeAlias = Callable[[Command], Iterator[str]]


@frozen
class Rule:
    """A rule of MongoDB's.

    :ivar section: the page of MongoDB's manual, and the part of it, that has the rule.
    :ivar look: yields what breaks it in a command.
    """

    name: str
    section: str
    look: Look


def rule(section: str) -> Callable[[Look], Rule]:
    """Make a rule of a function that yields what breaks it."""

    def made(look: Look) -> Rule:
        return Rule(look.__name__, section, look)

    return made


def name_of(command: Command) -> str:
    """Return the name of a command."""
    return next(iter(command))


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether a value is a document."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Tell whether a value is an array."""
    return isinstance(value, list)


def is_operators(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether what a query asks of a field is made of operators, and not a value."""
    return is_mapping(value) and any(key.startswith("$") for key in value)


def updates_of(command: Command) -> Iterator[Mapping[str, Any]]:
    """Yield the update statements of a command."""
    if name_of(command) == "update":
        yield from command["updates"]


def stages_of(command: Command) -> list[tuple[str, Any]]:
    """Return the stages of an aggregation, each with its name."""
    if name_of(command) != "aggregate":
        return []
    return [item for stage in command["pipeline"] for item in stage.items()]


def read_filters(command: Command) -> Iterator[Mapping[str, Any]]:
    """Yield the queries of what only reads."""
    if name_of(command) == "find":
        yield command.get("filter", {})
    yield from (asked for stage, asked in stages_of(command) if stage == "$match")


def write_filters(command: Command) -> Iterator[Mapping[str, Any]]:
    """Yield the queries that say what is to be changed or deleted."""
    yield from (one["q"] for one in updates_of(command))
    if name_of(command) == "delete":
        yield from (one["q"] for one in command["deletes"])


def filters_of(command: Command) -> Iterator[Mapping[str, Any]]:
    """Yield all queries."""
    yield from read_filters(command)
    yield from write_filters(command)


def conditions_of(query: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a query asks of each field, within `$or` and its like too."""
    for name, asked in query.items():
        if name.startswith("$") and is_list(asked):
            for one in asked:
                yield from conditions_of(one)
        else:
            yield name, asked


def stored_of(command: Command) -> Iterator[tuple[str, Any]]:
    """Yield the values that become part of documents, each with where it goes."""
    if name_of(command) == "insert":
        for document in command["documents"]:
            yield f"the document {document.get('_id')!r}", document
    for one in updates_of(command):
        changes: Mapping[str, Any] = one["u"] if is_mapping(one["u"]) else {}
        for path, value in changes.get("$set", {}).items():
            yield path, value
        for path, value in changes.get("$push", {}).items():
            yield path, value["$each"] if is_operators(value) and "$each" in value else value
