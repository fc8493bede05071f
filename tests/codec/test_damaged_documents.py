"""Whatever a stranger puts into a document, reading it ends in one error, or in a sound record."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from bson import Code, DatetimeMS, Decimal128, MaxKey, ObjectId, Regex, Timestamp

from sagaflow import DamagedDocumentError, LeftAloneError, NewerSchemaError, UnknownStateError
from sagaflow._codec.documents import decode_record, encode_record
from sagaflow._codec.elements import Document
from sagaflow._codec.instance import read_instance
from sagaflow._codec.selection import Part, Tally, summary_of
from sagaflow._codec.upgrade import read_record
from sagaflow._definition.saga import definition_of
from sagaflow._engine.work import Machine, earliest, next_work
from sagaflow._model.record import Status, evolve
from sagaflow.testing._contract.records import NOW, Parcel, full_record, outgoing, record

ODD: list[Any] = [
    None,
    True,
    -1,
    2**62,
    1.5,
    float("nan"),
    "",
    "text",
    "\ud800",
    b"bytes",
    [],
    ["text"],
    [[]],
    [{}],
    [None],
    {},
    {"$gt": ""},
    {"until": "never"},
    datetime(2020, 1, 1),  # noqa: DTZ001 - a stranger's
    datetime(1, 1, 1, tzinfo=UTC),
    DatetimeMS(2**60),
    ObjectId(),
    Regex(".*"),
    Code("1"),
    Decimal128("1"),
    Timestamp(1, 1),
    MaxKey(),
]


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where something stands in a document."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, part in cast("Document", value).items():
            yield from paths(part, (*path, name))
    elif isinstance(value, list):
        for number, part in enumerate(cast("list[object]", value)):
            yield from paths(part, (*path, number))


WHOLE = encode_record(full_record())
PATHS = [path for path in paths(WHOLE) if path[0] != "data"]


def changed(path: tuple[str | int, ...], value: Any, *, removed: bool = False) -> Document:
    """Return the whole document with one part changed or removed."""
    document = deepcopy(WHOLE)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    if removed:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


def used(document: Document) -> None:
    """Do with a document all that a process does without being asked."""
    try:
        found = read_record(Parcel, document)
        machine = Machine(Parcel.table, definition_of(Parcel).options, lambda _: None)
        next_work(found, machine, NOW)
        earliest(found, machine)
        assert repr(found)
        read_instance(Parcel, document)
    except LeftAloneError as exc:
        text = f"{exc.saga} {exc}"
    else:
        text = "Parcel"
    assert text.startswith("Parcel")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_whatever_stands_in_a_document_ends_in_one_error(path: tuple[str | int, ...]) -> None:
    used(changed(path, None, removed=True))
    for odd in ODD:
        used(changed(path, odd))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_whatever_stands_in_a_document_can_be_listed_and_counted(
    path: tuple[str | int, ...],
) -> None:
    for odd in ODD:
        document = changed(path, odd)
        summary_of(document)
        tally = Tally()
        tally.add(document, finished=True)
        tally.add(encode_record(record("sound")), finished=True)
        traits = list(tally.traits())
        assert any(trait.part in (Part.STATE, Part.DAMAGED) for trait in traits)
        assert any("sound" in trait.examples for trait in traits)


def test_schema_is_looked_at_before_anything_else() -> None:
    """What newer code has changed is no damage."""
    with pytest.raises(NewerSchemaError):
        read_record(Parcel, {"_id": "p-1", "schema": 2, "state": {"name": "moving"}})


def test_damaged_document_says_which_and_why() -> None:
    with pytest.raises(DamagedDocumentError, match=r"Parcel: the document 'p-1' .* its wake") as it:
        decode_record(changed(("wake",), "soon"), "Parcel")
    assert (it.value.saga, it.value.correlation_id) == ("Parcel", "p-1")
    assert it.value.reason == "its wake is 'soon'"
    with pytest.raises(DamagedDocumentError, match="its _id is a Regex") as it:
        decode_record(changed(("_id",), Regex(".*")))


def test_state_that_the_class_does_not_know_is_no_damage() -> None:
    for given in ({"state": "flying"}, {"goal": "flying"}):
        document = encode_record(record()) | given
        with pytest.raises(UnknownStateError, match="'flying'") as caught:
            read_record(Parcel, document)
        assert caught.value.state == "flying"
        assert read_record(Parcel, document, any_state=True).correlation_id == "p-1"


def test_saga_that_is_finished_and_has_sent_all_has_no_unknown_state() -> None:
    """A late duplicate is told so; what is left to be sent is left to code that knows it."""
    ended = record(state="flying", status=Status.FINISHED, finished_at=NOW)
    assert read_record(Parcel, encode_record(ended)).state == "flying"
    with pytest.raises(UnknownStateError):
        read_record(Parcel, encode_record(evolve(ended, outbox=(outgoing(1),))))
