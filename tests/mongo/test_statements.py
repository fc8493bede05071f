"""What a document tells, later, about a statement that may have matched it."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from sagaflow._codec.documents import HISTORY_SIZE, Bookkeeping, DocumentChange, encode_change
from sagaflow._codec.elements import HISTORY, Document
from sagaflow.mongo.batches import UnknownResultError, WriteResult
from sagaflow.mongo.statements import (
    fates_of,
    is_traceable,
    note_of,
    removal_of,
    transition,
)
from tests.contract.records import document, past, plain_change, record

BEFORE = record(version=5, token="t-5")


def written(**given: Any) -> DocumentChange:
    """Return the change from version 5 to 6, as a commit makes it."""
    after = evolve(BEFORE, version=6, token="t-6", inbox=(), history=(past(6),))
    return encode_change(BEFORE, evolve(after, **given), inbox_size=9)


def at(version: int, *tokens: str, incarnation: str = "i-1", kept: int = HISTORY_SIZE) -> Document:
    """Return a document at *version*, the last writes of which had these tokens."""
    first = version - len(tokens) + 1
    history = [
        evolve(past(number), token=token) for number, token in enumerate(tokens, start=first)
    ]
    given = document(version=version, token=tokens[-1], incarnation=incarnation)
    return given | {"history": [HISTORY.encode(entry) for entry in history[-kept:]]}


@pytest.mark.parametrize(
    ("found", "took_place"),
    [
        (at(6, "t-6"), True),
        (at(5, "t-5"), False),
        (at(6, "other"), False),
        (at(8, "t-5", "t-6", "x", "y"), True),
        (at(8, "t-6", "x", "y"), True),
        (at(8, "t-5", "other", "x", "y"), False),
        (at(8, "other", "x", "y"), False),
        (at(8, "x", "y"), None),
        (at(80, *(f"x-{number}" for number in range(HISTORY_SIZE))), None),
        (at(6, "other", incarnation="i-2"), None),
        (at(1, "other", incarnation="i-2"), None),
        (document(version=6, token="t-6"), True),
        (document(version=6, token="other"), False),
        (document(version=9, token="other"), None),
        ({"_id": "p-1", "strange": True}, None),
        ({"_id": "p-1", "incarnation": "i-1", "version": "six"}, None),
    ],
)
def test_transition_is_known_by_its_token_and_otherwise_by_who_made_its_version(
    found: Document, took_place: bool | None
) -> None:
    statement = transition(written())
    assert statement.trace(found) is took_place


def test_change_that_makes_several_versions_is_known_as_well() -> None:
    after = evolve(BEFORE, version=8, token="t-8", inbox=(), history=(past(6), past(7), past(8)))
    statement = transition(encode_change(BEFORE, after, inbox_size=9))
    assert statement.trace(at(9, "t-5", "t-6", "t-7", "t-8", "x")) is True
    assert statement.trace(at(9, "t-8", "x")) is True
    assert statement.trace(at(9, "t-5", "other", "x", "y", "z")) is False
    assert statement.trace(at(8, "other", "x", "y")) is False
    assert statement.trace(at(9, "x")) is None


@pytest.mark.parametrize(
    ("found", "took_place"),
    [
        (at(1, "t-1", incarnation="i-2"), True),
        (at(80, *(f"x-{number}" for number in range(64)), incarnation="i-2"), True),
        (at(5, "t-5"), False),
        (at(6, "other"), False),
        (at(1, "other", incarnation="i-3"), None),
    ],
)
def test_change_of_the_incarnation_is_known_by_the_incarnation(
    found: Document, took_place: bool | None
) -> None:
    after = record(incarnation="i-2", token="t-1", history=(past(1),))
    statement = transition(encode_change(BEFORE, after, inbox_size=9))
    assert statement.trace(found) is took_place


def test_change_without_token_or_version_leaves_no_trace() -> None:
    assert is_traceable(written())
    assert not is_traceable(plain_change("p-1", 1))
    assert not is_traceable(
        DocumentChange(correlation_id="p-1", incarnation="i", version=1, set={"token": "t"})
    )


@pytest.mark.parametrize(
    ("found", "took_place"),
    [
        (at(5, "t-5"), True),
        (at(6, "t-6"), None),
        (at(5, "t-5", incarnation="i-2"), None),
        ({"_id": "p-1"}, None),
    ],
)
def test_note_has_found_its_version_if_it_is_still_there(
    found: Document, took_place: bool | None
) -> None:
    note = Bookkeeping(correlation_id="p-1", incarnation="i-1", version=5, sent=("m",))
    assert note_of(note).trace(found) is took_place
    assert removal_of(note).trace(found) is None


# Several statements


def three() -> list[Any]:
    """Return three statements about three sagas."""
    return [
        transition(evolve(written(), correlation_id=correlation_id))
        for correlation_id in ("a", "b", "c")
    ]


WON, LOST, GONE = at(6, "t-6"), at(6, "other"), at(8, "x", "y")


@pytest.mark.parametrize(
    ("found", "matched", "fates"),
    [
        ({}, 0, [False, False, False]),
        ({"a": WON, "b": LOST, "c": WON}, 2, [True, False, True]),
        ({"a": WON, "b": LOST, "c": GONE}, 2, [True, False, True]),
        ({"a": WON, "b": LOST, "c": GONE}, 1, [True, False, False]),
        ({"a": WON, "b": LOST}, 2, [True, False, True]),
        ({"a": WON, "b": LOST}, 1, [True, False, False]),
        ({"a": WON}, 3, [True, True, True]),
        ({"a": WON}, 2, [True, None, None]),
        ({"a": LOST, "b": GONE, "c": GONE}, 1, [False, None, None]),
    ],
)
def test_what_the_documents_do_not_tell_the_number_tells_if_it_can(
    found: dict[str, Document], matched: int, fates: list[bool | None]
) -> None:
    told = fates_of(three(), {key: found[key] for key in found}, matched)
    assert [fate if isinstance(fate, bool) else None for fate in told] == fates
    for fate in told:
        assert isinstance(fate, bool | UnknownResultError)


def test_note_whose_version_is_gone_is_told_so_though_it_may_have_been_there() -> None:
    note = Bookkeeping(correlation_id="a", incarnation="i-1", version=5)
    other = Bookkeeping(correlation_id="b", incarnation="i-1", version=5)
    told: list[WriteResult] = fates_of(
        [note_of(note), note_of(other)], {"a": at(6, "t-6"), "b": at(6, "t-6")}, 1
    )
    assert told == [False, False]
