"""All rules: what a MongoDB server may be told, whichever it is.

MongoDB's manual is what they were taken from. Each names its page and part there; what is said of
compatible services stands in the manuals of Amazon DocumentDB, Azure DocumentDB and FerretDB.
"""

from __future__ import annotations

from typing import Final

from tests.mongo.rules import changes, commands, indexing, queries
from tests.mongo.rules.parts import Command, Rule

RULES: Final[tuple[Rule, ...]] = (
    commands.known_commands,
    commands.durable_concerns,
    commands.read_from_the_primary,
    commands.plain_namespaces,
    commands.plain_projections,
    queries.known_query_operators,
    queries.plain_negations,
    queries.plain_values,
    queries.plain_existence,
    queries.plain_ids,
    queries.writes_name_one_document,
    queries.conditions_of_writes_are_equalities,
    queries.known_stages,
    indexing.bounded_by_an_index,
    indexing.sorted_by_an_index,
    indexing.plain_indexes,
    indexing.index_limits,
    indexing.plain_expiry,
    indexing.plain_partial_indexes,
    changes.known_update_operators,
    changes.no_empty_updates,
    changes.no_conflicting_paths,
    changes.plain_paths,
    changes.plain_array_changes,
    changes.plain_field_names,
    changes.no_deep_nesting,
    changes.no_large_messages,
    changes.plain_statements,
)


def violations(command: Command) -> list[str]:
    """Return which rules a command breaks, and by what."""
    return [
        f"{rule.name}: {complaint} [{rule.section}]"
        for rule in RULES
        for complaint in rule.look(command)
    ]
