"""Whatever a message may declare is written as strict JSON and read back as it was."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from attrs import field, frozen, make_class
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from sagaflow._forms.forms import form_of, json_form_of
from sagaflow._forms.json_text import MOST_JSON_LEVELS, read_json, write_json
from sagaflow._model.redaction import Secret
from tests.codec.grammar import KINDS, Kind
from tests.codec.test_grammar import QUICK, assert_same
from tests.codec.types import A_UUID, AN_OBJECT_ID, DECLARED, INSTANT, Line
from tests.naming import named


def written_and_read(declared: Any, value: object) -> Any:
    form = json_form_of(declared)
    return form.decode(read_json(write_json(form.encode(value)).encode()))


@pytest.mark.parametrize(("declared", "value"), DECLARED, ids=lambda value: named(value)[:40])
def test_value_is_read_back_as_it_was(declared: Any, value: object) -> None:
    assert_same(written_and_read(declared, value), value)


@QUICK
@given(KINDS, st.data())
def test_what_documents_take_is_read_back_from_json(kind: Kind, data: st.DataObject) -> None:
    cls: Any = make_class("Given", {"value": field(type=kind.declared)})
    try:
        form_of(cls)
    except (TypeError, NameError):
        return
    value = data.draw(kind.values)
    assert_same(written_and_read(cls, cls(value)).value, value)


@pytest.mark.parametrize(
    ("declared", "value", "written"),
    [
        (Decimal, Decimal("1.10"), '"1.10"'),
        (datetime, INSTANT, '"2026-02-03T04:05:06.789Z"'),
        (date, date(2026, 1, 2), '"2026-01-02"'),
        (timedelta, timedelta(seconds=1), "1000000"),
        (UUID, A_UUID, '"12345678-1234-5678-1234-567812345678"'),
        (UUID | None, A_UUID, '"12345678-1234-5678-1234-567812345678"'),
        (ObjectId, AN_OBJECT_ID, '"0123456789abcdef01234567"'),
        (bytes, b"\0\xff", '"AP8="'),
        (int, 2**53 - 1, "9007199254740991"),
        (int, 2**53, '"9007199254740992"'),
        (float, math.inf, '"Infinity"'),
        (Line, Line("tea"), '{"product":"tea","price":"9.90","tags":[]}'),
        (UUID | str, A_UUID, '{"@type":"UUID","value":"12345678-1234-5678-1234-567812345678"}'),
        (int | str, 2**53, '{"@type":"int","value":"9007199254740992"}'),
        (Any, b"\xff", '{"@type":"bytes","value":"/w=="}'),
        (dict[UUID, int], {A_UUID: 1}, '{"12345678-1234-5678-1234-567812345678":1}'),
        (dict[int, str], {1: "a"}, '{"@type":"dict","value":[[1,"a"]]}'),
    ],
    ids=named,
)
def test_json_of_a_value(declared: Any, value: object, written: str) -> None:
    assert write_json(json_form_of(declared).encode(value)) == written


@pytest.mark.parametrize("declared", [float, float | str, Any])
def test_not_a_number_is_read_back(declared: Any) -> None:
    assert math.isnan(written_and_read(declared, math.nan))


@pytest.mark.parametrize(
    ("declared", "text", "wanted"),
    [
        (float, "1", 1.0),
        (float | str, "1", 1.0),
        (int | float, "1", 1),
        (int, '"5"', 5),
        (datetime, '"2026-01-01T01:00:00+01:00"', datetime(2026, 1, 1, tzinfo=UTC)),
        (UUID, '"12345678-1234-5678-1234-567812345678"', A_UUID),
    ],
    ids=named,
)
def test_what_another_language_may_write_is_read(declared: Any, text: str, wanted: object) -> None:
    assert_same(json_form_of(declared).decode(read_json(text)), wanted)


@frozen
class Card:
    number: Secret[str]
    owner: Secret[UUID] = A_UUID


def test_secret_is_written_as_json_as_well() -> None:
    assert_same(written_and_read(Card, Card("4111")), Card("4111"))


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (int, "true"),
        (int, "1.0"),
        (int, '"05"'),
        (int, "9223372036854775808"),
        (int, '"9223372036854775808"'),
        (int | str, "9223372036854775808"),
        (Any, "9223372036854775808"),
        (float, "true"),
        (float, '"nan"'),
        (float, "1" + "0" * 400),
        (str, "5"),
        (bytes, '"a"'),
        (bytes, '"*YQ=="'),
        (datetime, '"2026-01-01T00:00:00"'),
        (datetime, "5"),
        (UUID, '"{12345678-1234-5678-1234-567812345678}"'),
        (ObjectId, '"0123"'),
        (Decimal, "1.5"),
        (Decimal, '"x"'),
        (timedelta, "1.5"),
        (Line, "[]"),
        (Line, '{"product":"tea","foreign":1}'),
        (list[Line], '[{"product":"tea","foreign":1}]'),
        (Line, "{}"),
        (dict[str, int], '{"@type":"dict","value":5}'),
        (Any, '{"@type":["x"],"value":5,"other":1,"@type2":{"@type":"os.system"}}'),
        (UUID | int, '{"@type":"UUID","value":5}'),
    ],
    ids=named,
)
def test_json_that_does_not_fit_is_refused(declared: Any, text: str) -> None:
    with pytest.raises(Exception):  # noqa: B017 - the wire makes one error of all of them
        json_form_of(declared).decode(read_json(text))


def test_secret_is_in_no_error() -> None:
    with pytest.raises(ValueError, match="its secret value") as caught:
        json_form_of(Card).decode({"number": 4111})
    assert "4111" not in str(caught.value)


def test_member_of_a_union_that_is_called_as_a_tag_is_refused() -> None:
    other = make_class("UUID", ["x"])
    with pytest.raises(TypeError, match="a tag of JSON"):
        json_form_of(other | int)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON at character 1"),
        (b'{"a":1,"a":1}', "a key twice"),
        (b"NaN", "are not JSON"),
        (b"-Infinity", "are not JSON"),
        (b"1e999", "too large"),
        (b"1" * 5000, "digits"),
        (b'"\xff"', "not valid UTF-8"),
        (b'"\\ud800"', "not valid UTF-8"),
        (b'{"\\udfff":1}', "not valid UTF-8"),
        (b"[" * 100_000, "levels deep"),
        (b"[" * 500 + b"]" * 500, "levels deep"),
    ],
    ids=lambda value: named(value)[:20],
)
def test_what_is_not_strict_json_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_json(text)


def test_levels_are_counted_both_ways() -> None:
    value: list[Any] = []
    for _ in range(MOST_JSON_LEVELS - 1):
        value = [value]
    assert read_json(write_json(value)) == value
    with pytest.raises(ValueError, match="levels deep"):
        write_json([value])


def test_whole_characters_may_be_escaped() -> None:
    assert read_json(json.dumps("\U0001f4e6")) == "\U0001f4e6"
