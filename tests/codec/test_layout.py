"""Classes that are described once, for both ways."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from attrs import frozen

from sagaflow._codec import documents, elements
from sagaflow._codec.layout import Layout, among, array, flag, named, number, optional, part, text
from sagaflow._model import record


@frozen(kw_only=True)
class Inner:
    kind: str
    size: int = 0


@frozen(kw_only=True)
class Outer:
    id: str
    inner: Inner
    open: bool = False
    note: str | None = None
    last: Inner | None = None
    all: tuple[Inner, ...] = ()
    count: int


INNER = Layout(Inner, text("kind"), optional(number("size")))
OUTER = Layout(
    Outer,
    text("id"),
    among("inner", INNER),
    flag("open"),
    optional(text("note")),
    optional(part("last", INNER)),
    array("all", INNER),
    named("n", number("count")),
)


FULL = Outer(
    id="a",
    inner=Inner(kind="k", size=1),
    open=True,
    note="",
    last=Inner(kind="l"),
    all=(Inner(kind="m"),),
    count=2,
)
FULL_STORED: list[tuple[str, Any]] = [
    ("id", "a"),
    ("kind", "k"),
    ("size", 1),
    ("open", True),
    ("note", ""),
    ("last", {"kind": "l", "size": 0}),
    ("all", [{"kind": "m", "size": 0}]),
    ("n", 2),
]


def test_fields_are_stored_in_the_order_in_which_they_are_described() -> None:
    assert list(OUTER.encode(FULL).items()) == FULL_STORED


def test_what_says_nothing_is_left_out_without_changing_the_order() -> None:
    bare = Outer(id="a", inner=Inner(kind="k"), count=2)
    stored: list[tuple[str, Any]] = [("id", "a"), ("kind", "k"), ("size", 0), ("all", []), ("n", 2)]
    assert list(OUTER.encode(bare).items()) == stored
    assert OUTER.decode(dict(stored)) == bare
    assert OUTER.encode_any(None) is None


def test_what_was_stored_is_read() -> None:
    assert OUTER.decode(OUTER.encode(FULL)) == FULL


def test_field_that_has_to_be_there_is_named() -> None:
    with pytest.raises(KeyError, match="n"):
        OUTER.decode({"id": "a", "kind": "k"})


DESCRIBED: dict[type, Layout[Any]] = {
    record.StoredMessage: elements.MESSAGE,
    record.OutgoingMessage: elements.OUTGOING,
    record.RecordedCompensation: elements.COMPENSATION,
    record.Failing: elements.FAILING,
    record.Lease: elements.LEASE,
    record.Suspension: elements.SUSPENSION,
    record.Timer: elements.TIMER,
    record.ParkedEvent: elements.PARKED,
    record.HistoryEntry: elements.HISTORY,
    record.SagaRecord: documents.RECORD,
}


@pytest.mark.parametrize("cls", DESCRIBED, ids=lambda cls: cls.__name__)
def test_every_field_is_described(cls: Any) -> None:
    """But for what a record says of how it was read."""
    described = [stored.attribute for stored in DESCRIBED[cls].fields]
    there = {field.name for field in attrs.fields(cls)} - {"stored", "fault"}
    assert set(described) == there
    assert len(described) == len(there)
