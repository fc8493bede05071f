from __future__ import annotations

import math
import typing
from collections import ChainMap, Counter, defaultdict, deque
from collections.abc import (
    Callable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
)
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Final, Generic, Literal, NamedTuple, TypedDict, TypeVar, Union, cast
from uuid import UUID

import bson
import pytest
from attrs import frozen, make_class
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from sagaflow import SerializationError
from sagaflow._forms.forms import form_of, json_form_of
from sagaflow._forms.values import cannot_decode, cannot_encode, decode_dynamic, encode_dynamic
from sagaflow._model.redaction import Secret
from tests.codec.types import (
    A_UUID,
    AN_OBJECT_ID,
    DECLARED,
    EAST,
    INSTANT,
    Box,
    Colour,
    Derived,
    Level,
    Line,
    Mixed,
    Mode,
    Node,
    OldMode,
    OrderNumber,
    Place,
    Rank,
    SpecialLine,
    Stop,
    Unnamed,
)
from tests.naming import named

# As the repository has it.
T = TypeVar("T")
# As the repository has it.
OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, uuid_representation=UuidRepresentation.STANDARD, document_class=dict
)


def through_bson(stored: object) -> Any:
    encoded = bson.encode({"value": stored}, codec_options=OPTIONS)
    decoded: dict[str, Any] = bson.BSON(encoded).decode(OPTIONS)
    return decoded["value"]


def written_and_read(declared: Any, value: object) -> object:
    """Return *value* after it was in BSON; what memory keeps must come to the same."""
    form = form_of(declared)
    stored = form.encode(value)
    found: object = form.decode(through_bson(stored))
    assert_same(form.decode(stored), found)
    return found


def assert_same(found: object, wanted: object) -> None:
    """Compare more closely than `==`: 1 is not True, 1.0 not 1.00, a list no tuple."""
    assert type(found) is type(wanted)
    assert found == wanted
    if not isinstance(found, set | frozenset | datetime):
        assert repr(found) == repr(wanted)


def refusal(declared: Any, value: object) -> SerializationError:
    try:
        stored = form_of(declared).encode(value)
    except Exception as exc:  # noqa: BLE001 - as the codec does it
        return cannot_encode("Order.field", exc)
    raise AssertionError(f"{value!r} was stored as {stored!r}")


def misreading(declared: Any, stored: object) -> SerializationError:
    try:
        found: object = form_of(declared).decode(stored)
    except Exception as exc:  # noqa: BLE001 - as the codec does it
        return cannot_decode("Order.field", exc)
    raise AssertionError(f"{stored!r} was read as {found!r}")


@pytest.mark.parametrize(("declared", "value"), DECLARED, ids=lambda value: named(value)[:40])
def test_value_is_read_back_as_it_was(declared: Any, value: object) -> None:
    assert_same(written_and_read(declared, value), value)


@pytest.mark.parametrize(
    ("declared", "value", "wanted"),
    [
        (float, 1, 1.0),
        (float, True, 1.0),
        (float, 2**70, float(2**70)),
        (int, True, 1),
        (int, Level.HIGH, 2),
        (int, Int64(5), 5),
        (Any, Int64(5), 5),
        (str, Mode.FAST, "fast"),
        (str, OldMode.SLOW, "slow"),
        (Decimal, 5, Decimal(5)),
        (int | str, Level.HIGH, 2),
        (int | str, OldMode.SLOW, "slow"),
        (int | str, True, 1),
        (float | str, 5, 5.0),
        (Decimal | float, 5, 5.0),
        (Sequence[int], [1, 2], [1, 2]),
        (MutableSequence[int], [1, 2], [1, 2]),
        (AbstractSet[int], {1, 2}, {1, 2}),
        (MutableSet[int], {1, 2}, {1, 2}),
        (OrderNumber, Mode.FAST, "fast"),
    ],
    ids=named,
)
def test_value_that_counts_as_the_declared_type_is_read_back_as_of_that_type(
    declared: Any, value: object, wanted: object
) -> None:
    assert_same(written_and_read(declared, value), wanted)


@pytest.mark.parametrize("declared", [datetime, Any, datetime | date, datetime | None])
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (datetime(2026, 1, 1, 12, 0, 0, 999_999, tzinfo=UTC), 999_000),
        (datetime(2026, 1, 1, 17, 30, tzinfo=EAST), 0),
        (datetime(2026, 1, 1, 4, 0, 0, 1_000, timezone(timedelta(hours=-8))), 1_000),
    ],
)
def test_instant_is_kept_to_the_millisecond_and_read_in_utc(
    declared: Any, value: datetime, wanted: int
) -> None:
    found = written_and_read(declared, value)
    assert found == datetime(2026, 1, 1, 12, 0, 0, wanted, tzinfo=UTC)
    assert isinstance(found, datetime)
    assert found.tzinfo is UTC


def test_not_a_number_is_read_back() -> None:
    for declared in (float, Any):
        found = written_and_read_nan(declared)
        assert isinstance(found, float)
        assert math.isnan(found)


def written_and_read_nan(declared: Any) -> object:
    return form_of(declared).decode(through_bson(form_of(declared).encode(math.nan)))


def test_default_of_a_defaultdict_is_there_again() -> None:
    found = written_and_read(defaultdict[str, list[int]], defaultdict(list, a=[1]))
    assert isinstance(found, defaultdict)
    assert found["b"] == []


def test_class_is_stored_as_a_document_of_its_fields() -> None:
    assert form_of(Line).encode(Line("tea")) == {"product": "tea", "price": "9.90", "tags": []}


def test_plain_keys_are_stored_as_they_are() -> None:
    assert encode_dynamic({"a": 1, "_id": 2}) == {"a": 1, "_id": 2}


@pytest.mark.parametrize("key", ["$gt", "$", "a.b", ".", "a\0", "@type", 1, None], ids=named)
def test_key_that_a_server_might_misread_is_stored_as_a_value(key: object) -> None:
    for stored in (encode_dynamic({key: 1}), form_of(dict[Any, int]).encode({key: 1})):
        assert stored == {"@type": "dict", "value": [[key, 1]]}


def test_stored_name_of_a_type_does_not_say_where_it_is_defined() -> None:
    assert form_of(Line | Stop).encode(Stop("here"))["@type"] == "Stop"  # type: ignore[index]
    assert form_of(list[Line] | str).encode([])["@type"] == "list[Line]"  # type: ignore[index]


# A value of one class may still be meant for the other member of a union

BY_KIND: Final = cast(
    "tuple[tuple[Any, Any, Any], ...]",
    (
        (Sequence, list, list),
        (Sequence, tuple, tuple),
        (MutableSequence, list, list),
        (AbstractSet, set, set),
        (AbstractSet, frozenset, frozenset),
        (MutableSet, set, set),
    ),
)
MAPPINGS: Final = cast("tuple[Any, ...]", (Mapping, MutableMapping))
ITEMS: Final = ((bytes, int, b"x"), (bool, int, False), (int, bool, 1), (str, int, "a"))


def unions_of_kinds() -> list[tuple[Any, object]]:
    """Unions of a kind of collection with another that the value is of as well, but for its items.

    The value may be empty, too, or hold a collection.
    """
    lists, tuples = cast("Any", list), cast("Any", tuple)
    dicts, sequences = cast("Any", dict), cast("Any", Sequence)
    found: list[tuple[Any, object]] = []
    for mine, yours, item in ITEMS:
        for wide, narrow, make in BY_KIND:
            other = tuples[yours, ...] if narrow is tuple else narrow[yours]
            found += [(wide[mine] | other, make([item])), (other | wide[mine], make([item]))]
            found.append((wide[mine] | other, make([])))
        for wide in MAPPINGS:
            found.append((wide[str, mine] | dicts[str, yours], {"a": item}))
            found.append((dicts[str, yours] | wide[str, mine], {"a": item}))
        found.append((sequences[lists[mine]] | lists[lists[yours]], [[item]]))
        found.append((sequences[mine] | tuples[yours, yours], (item, item)))
    found.append((Sequence[str] | tuple[str, int], ()))
    found.append((tuple[str, int] | Sequence[str], ("a",)))
    found.append((tuple[int] | tuple[int, int] | Sequence[int], (1, 2, 3)))
    return found


@pytest.mark.parametrize(("declared", "value"), unions_of_kinds(), ids=named)
def test_value_that_only_the_wider_member_of_a_union_keeps_is_read_back(
    declared: Any, value: object
) -> None:
    assert_same(written_and_read(declared, value), value)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (MutableSequence[int] | list[str], [True]),
        (list[str] | Sequence[int], [True]),
        (Sequence[float] | tuple[str, ...], (1,)),
        (Mapping[str, int] | dict[str, str], {"a": True}),
        (AbstractSet[int] | set[str], {True}),
    ],
    ids=named,
)
def test_value_that_the_wider_member_of_a_union_would_change_is_refused(
    declared: Any, value: object
) -> None:
    assert "expected str" in str(refusal(declared, value))


# What cannot be stored

WEST: Final = timezone(timedelta(hours=-8))
NAIVE: Final = datetime(2026, 1, 1)  # noqa: DTZ001


class Shade(Enum):
    RED = "red"


class Prices(dict[str, int]):
    pass


class Options(TypedDict):
    one: int


@frozen
class Endless(Generic[T]):
    """Holds ever other types."""

    inner: Endless[list[T]] | None = None


class Pair(NamedTuple):
    first: int


class Seasonal(tzinfo):
    """Its distance from UTC depends on the day."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return None if when is None else timedelta(hours=1 + (3 < when.month < 11))

    def dst(self, when: datetime | None) -> timedelta | None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "seasonal"


class Broken(tzinfo):
    """Knows no time."""

    def utcoffset(self, instant: datetime | None) -> timedelta | None:
        raise OverflowError

    tzname = dst = utcoffset  # type: ignore[assignment]


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError


LOOP: list[object] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("declared", "value", "path", "says"),
    [
        (int, 2**63, "", "the int 9223372036854775808 needs more than 64 bits"),
        (int, -(2**63) - 1, "", "needs more than 64 bits"),
        (int, 10**5000, "", "the int a value of type int needs more than 64 bits"),
        (int, "7", "", "expected int, found '7'"),
        (int, 7.0, "", "expected int, found 7.0"),
        (int, None, "", "expected int, found None"),
        (bool, 1, "", "expected bool, found 1"),
        (float, "1", "", "expected float, found '1'"),
        (str, 7, "", "expected str, found 7"),
        (str, b"a", "", "expected str, found b'a'"),
        (str, "\ud800", "", r"'\ud800' is not valid Unicode"),
        (bytes, "a", "", "expected bytes, found 'a'"),
        (bytes, bytearray(b"a"), "", "expected bytes"),
        (UUID, str(A_UUID), "", "expected UUID"),
        (Decimal, 1.5, "", "expected Decimal, found 1.5"),
        (Decimal, "1.5", "", "expected Decimal, found '1.5'"),
        (date, INSTANT, "", "expected date, found datetime.datetime"),
        (date, "2026-01-01", "", "expected date"),
        (datetime, date(2026, 1, 1), "", "expected datetime"),
        (datetime, NAIVE, "", "has no time zone: use an aware datetime"),
        (datetime, datetime.max.replace(tzinfo=WEST), "", "outside of the years 1 to 9999"),
        (datetime, datetime.min.replace(tzinfo=EAST), "", "outside of the years 1 to 9999"),
        (time, "01:02", "", "expected time"),
        (timedelta, 5, "", "expected timedelta, found 5"),
        (timedelta, timedelta.max, "", "needs more than 64 bits"),
        (None, 5, "", "expected NoneType, found 5"),
        (Colour, "red", "", "expected Colour, found 'red'"),
        (Colour, Rank.FIRST, "", "expected Colour, found <Rank.FIRST: 1>"),
        (Mode, "fast", "", "expected Mode"),
        (Unnamed, Unnamed.A | Unnamed.B, "", "has no name of its own"),
        (Line, SpecialLine("tea"), "", "expected Line, found SpecialLine"),
        (Line, {"product": "tea"}, "", "expected Line, found {'product': 'tea'}"),
        (Line, Line("tea", tags=("a", "\ud800")), ".tags[1]", "is not valid Unicode"),
        (Stop, Stop("here", NAIVE), ".at", "has no time zone"),
        (Stop, Stop("here", notes=["a", 5]), ".notes[1]", "expected str"),  # type: ignore[list-item]
        (Node, Node("a", [Node("b"), Node(5)]), ".children[1].name", "found 5"),  # type: ignore[arg-type]
        (Box[int], Box(1, [2, 2**70]), ".others[1]", "needs more than 64 bits"),
        (list[int], (1,), "", "expected list, found (1,)"),
        (list[int], [1, "2"], "[1]", "expected int, found '2'"),
        (list[list[Line]], [[], [Line("\ud800")]], "[1][0].product", "not valid Unicode"),
        (tuple[int, str], (1,), "", "expected a tuple of 2, found (1,)"),
        (tuple[int, str], (1, 2), "[1]", "expected str, found 2"),
        (tuple[int, ...], [1], "", "expected tuple, found [1]"),
        (tuple[int, ...], (1, None), "[1]", "expected int, found None"),
        (set[int], [1], "", "expected set, found [1]"),
        (frozenset[int], {1}, "", "expected frozenset"),
        (deque[int], [1], "", "expected deque"),
        (Sequence[str], "ab", "", "expected Sequence, found 'ab'"),
        (dict[str, int], [("a", 1)], "", "expected dict, found"),
        (dict[str, int], {"a": "b"}, "['a']", "expected int, found 'b'"),
        (dict[str, int], {5: 1}, "[5]", "expected str, found 5"),
        (dict[str, list[Line]], {"$a": [Line("\ud800")]}, "['$a'][0].product", "Unicode"),
        (Literal["a", 1], "b", "", "'b' is none of"),
        (Literal["a", 1], True, "", "True is none of"),
        (Literal["auto"] | int, "b", "", "'b' is none of"),
        (int | str, 1.5, "", "1.5 is none of int | str"),
        (int | str, None, "", "None is none of int | str"),
        (int | Decimal, 2**63, "", "needs more than 64 bits"),
        (date | str, NAIVE, "", "expected date"),
        (Line | Stop, SpecialLine("tea"), "", "expected Line, found SpecialLine"),
        (Line | Stop, Stop("here", NAIVE), ".at", "has no time zone"),
        (list[int] | list[str], [1.5], "[0]", "expected str, found 1.5"),
        (Line | None, 5, "", "expected Line, found 5"),
        (Any, 2**63, "", "needs more than 64 bits"),
        (Any, "\udc00", "", "not valid Unicode"),
        (Any, {"a": [1, "\udc00"]}, "['a'][1]", "not valid Unicode"),
        (Any, {"\udc00": 1}, r"['\udc00']", "not valid Unicode"),
        (Any, NAIVE, "", "has no time zone"),
        (Any, datetime(2026, 1, 1, tzinfo=Broken()), "", None),
        (Any, (1, NAIVE), "[1]", "has no time zone"),
        (Any, Colour.RED, "", "<Colour.RED: 'red'> cannot be read back without a declared type"),
        (Any, Mode.FAST, "", "cannot be read back without a declared type"),
        (time, time(1, fold=1), "", "has fold=1, which has no place in its stored form"),
        (time, time(1, tzinfo=Seasonal()), "", "depends on the day: store a datetime"),
        (Any, [time(1, fold=1)], "[0]", "has fold=1"),
        (dict[str, int], Counter("a"), "", "found a Counter, which makes values for new keys"),
        (Mapping[str, int], defaultdict(int), "", "declare it so"),
        (
            defaultdict[str, int],
            defaultdict(list),
            "",
            "cannot be stored: let its field start with",
        ),
        (defaultdict[str, int | None], defaultdict(int), "", "a new key of this defaultdict"),
        (Any, {1, 2}, "", "a value of type set cannot be stored without a declared type"),
        (Any, Line("tea"), "", "a value of type Line cannot be stored without a declared type"),
        (Any, bytearray(b""), "", "a value of type bytearray"),
        (Any, 1j, "", "a value of type complex"),
        (Any, Fraction(1, 2), "", "a value of type Fraction"),
        (Any, object(), "", "a value of type object"),
        (Any, print, "", "a value of type builtin_function_or_method"),
        (Any, LOOP, "", "it is nested too deeply, or contains itself"),
        (list[Any], [{1}], "[0]", "a value of type set"),
        (list, [1, [Line("tea")]], "[1][0]", "a value of type Line"),
        (str, Unprintable(), "", "expected str, found a value of type Unprintable"),
        (int, "x" * 10_000, "", "..."),
    ],
    ids=lambda value: (
        named(value)[:30] if not isinstance(value, int | Unprintable) else type(value).__name__
    ),
)
def test_value_that_cannot_be_stored_is_refused_with_its_path(
    declared: Any, value: object, path: str, says: str | None
) -> None:
    error = refusal(declared, value)
    assert error.path == f"Order.field{path}"
    assert str(error).startswith(f"Order.field{path}: cannot be stored: ")
    assert (says or "") in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "declared",
    [
        complex,
        Fraction,
        Pair,
        Callable[[], int],
        type[int],
        list[complex],
        tuple[complex, ...],
        tuple[int, complex],
        dict[str, complex],
        dict[complex, str],
        complex | None,
        int | complex,
        Box[complex],
        Literal[Colour.RED] | int,
        Literal[Colour.RED, Shade.RED],
        Literal[2**70],
        Union[str, Any],  # noqa: UP007
        Line | object,
        ChainMap[str, int],
        Prices,
        Options,
        list["Missing"],  # type: ignore[name-defined]  # noqa: F821
        Endless[int],
        tuple[int, *tuple[str, ...]],
        memoryview,
        5,
    ],
    ids=named,
)
def test_type_that_cannot_be_stored_is_refused_without_a_value(declared: Any) -> None:
    with pytest.raises(TypeError):
        form_of(declared)
    with pytest.raises(TypeError):
        form_of(declared)  # it is not taken for known now


def test_types_of_one_name_cannot_be_told_apart_in_a_union() -> None:
    with pytest.raises(TypeError, match=r"several types of .* have the same name"):
        form_of(Line | other_line())


def other_line() -> Any:
    @frozen
    class Line:
        text: str

    return Line


def test_class_with_a_field_that_cannot_be_stored_is_refused_with_its_name() -> None:
    @frozen
    class Wave:
        phase: complex = 0

    with pytest.raises(TypeError, match=r"the field Wave\.phase: <class 'complex'> is not among"):
        form_of(Wave)


def test_field_without_annotation_is_refused() -> None:
    Loose = make_class("Loose", ["content"])  # noqa: N806 - a class

    with pytest.raises(TypeError, match="the field 'content' of Loose has no annotation"):
        form_of(Loose)


# What cannot be read


@pytest.mark.parametrize(
    ("declared", "stored", "path", "says"),
    [
        (int, "7", "", "expected int, found '7'"),
        (int, True, "", "expected int, found True"),
        (int, 7.0, "", "expected int, found 7.0"),
        (float, True, "", "expected float, found True"),
        (str, 7, "", "expected str, found 7"),
        (bool, 1, "", "expected bool, found 1"),
        (datetime, "2026-01-01", "", "expected datetime, found '2026-01-01'"),
        (date, INSTANT, "", "expected a stored str"),
        (date, "today", "", "today"),
        (timedelta, 1.5, "", "expected a stored int"),
        (Decimal, "cheap", "", "'cheap' is no Decimal"),
        (Colour, "green", "", "Colour has no member 'green'"),
        (Place, "NOWHERE", "", "Place has no member 'NOWHERE'"),
        (Place, 5, "", "Place has no member 5"),
        (Literal["a"], "b", "", "'b' is none of"),
        (int | str, 1.5, "", "1.5 is none of int | str"),
        (Line | Stop, {"@type": "Gone", "value": {}}, "", "Gone"),
        (Line, {}, ".product", "required field missing"),
        (Line, {"product": 5}, ".product", "expected str, found 5"),
        (list[Line], [{"product": "a"}, {"product": 5}], "[1].product", "expected str, found 5"),
        (dict[str, int], [1], "", "expected a stored mapping, found [1]"),
        (tuple[int, str], [1], "", None),
        (Any, {"@type": "fraction", "value": 1}, "", "unknown tag 'fraction'"),
        (Any, {"@type": "date"}, "", "required field missing"),
        (Any, {"@type": "Decimal", "value": "x"}, "", "'x' is no Decimal"),
    ],
    ids=named,
)
def test_stored_value_that_does_not_fit_is_refused_with_its_path(
    declared: Any, stored: object, path: str, says: str | None
) -> None:
    error = misreading(declared, stored)
    assert error.path == f"Order.field{path}"
    assert (says or "") in str(error)


def test_every_fault_is_told() -> None:
    error = misreading(Line, {"product": 5, "price": 5})
    assert error.path == "Order.field"
    assert "expected str, found 5 at Order.field.product" in str(error)
    assert "expected a stored str, found 5 at Order.field.price" in str(error)


# What changes with the code


def test_enum_is_read_by_value_after_it_has_become_one_of_names_and_the_other_way_round() -> None:
    class Plain(Enum):
        A = "a"

    class Grown(Enum):
        A = "a"
        B = ("b",)

    def read(stored: object, declared: Any) -> object:
        return form_of(declared).decode(stored)

    assert read(form_of(Plain).encode(Plain.A), Grown) is Grown.A
    assert read(form_of(Grown).encode(Grown.A), Plain) is Plain.A
    assert read(form_of(Mixed).encode(Mixed.A), Mixed) is Mixed.A


def test_field_that_is_missing_has_its_default_in_nested_classes_too() -> None:
    assert form_of(Line).decode({"product": "tea"}) == Line("tea")


def test_field_that_a_nested_class_no_longer_has_is_passed_over() -> None:
    assert form_of(Line).decode({"product": "tea", "colour": "red"}) == Line("tea")


def test_field_that_init_does_not_take_is_stored_and_follows_from_the_others_if_it_is_missing() -> (
    None
):
    """Earlier releases did not store it."""
    assert form_of(Derived).encode(Derived(3)) == {"width": 3, "area": 9}
    assert form_of(Derived).decode({"width": 3, "area": 8}).area == 8
    assert form_of(Derived).decode({"width": 3}) == Derived(3)


def test_dynamic_values_are_copies() -> None:
    inner: list[int] = []
    given = {"a": inner, "$b": (inner,)}
    stored: Any = encode_dynamic(given)
    inner.append(1)
    decoded: Any = decode_dynamic(stored)
    assert decoded == {"a": [], "$b": ([],)}
    decoded["a"].append(2)
    assert decode_dynamic(stored) == {"a": [], "$b": ([],)}


# Any dynamic value at all

NUMBERS = st.integers(-(2**64), 2**64) | st.decimals(allow_nan=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["$", "$set", "a.b", "@type", "value", "$ref", "$id", "dict", "tuple", "date", "\0"]
)
KEYS = (
    TEXT
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.none()
    | st.dates()
    | st.uuids()
    | st.tuples(TEXT, st.integers(0, 9))
)
LEAVES = (
    KEYS
    | st.floats(allow_nan=False)
    | st.binary(max_size=8)
    | st.times()
    | st.timedeltas()
    | NUMBERS
    | st.sampled_from([AN_OBJECT_ID])
    | st.datetimes(timezones=st.sampled_from([UTC, EAST]), min_value=datetime(2, 1, 1)).map(  # noqa: DTZ001
        lambda instant: instant.replace(microsecond=instant.microsecond // 1000 * 1000)
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=100)
@given(VALUES)
def test_any_dynamic_value_is_read_back(value: object) -> None:
    try:
        stored = encode_dynamic(value)
    except ValueError as exc:
        # A span, a late instant or a time that is twice in a day
        assert any(word in str(exc) for word in ("64 bits", "years", "fold"))  # noqa: PT017
        return
    assert decode_dynamic(stored) == value
    assert decode_dynamic(through_bson(stored)) == value


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(TEXT, st.lists(NUMBERS | TEXT, max_size=4), max_size=4))
def test_any_declared_value_is_read_back(value: dict[str, list[int | Decimal | str]]) -> None:
    declared = dict[str, list[int | Decimal | str]]
    try:
        stored = form_of(declared).encode(value)
    except ValueError as exc:
        assert "64 bits" in str(exc)  # noqa: PT017
        return
    assert form_of(declared).decode(through_bson(stored)) == value


def test_deep_nesting_within_reason_is_read_back() -> None:
    value: object = 1
    for _ in range(40):
        value = [{"a": value}]
    assert decode_dynamic(through_bson(encode_dynamic(value))) == value


# Aliases of Python 3.12


HAS_TYPE_STATEMENT: Final = hasattr(typing, "TypeAliasType")


def aliases(*statements: str) -> dict[str, Any]:
    if not HAS_TYPE_STATEMENT:
        pytest.skip("the statement `type` is of Python 3.12")
    names: dict[str, Any] = {"Decimal": Decimal, "Secret": Secret}
    exec("\n".join(statements), names)  # noqa: S102 - a syntax error for Python 3.11
    return names


def test_alias_of_a_union_within_a_union_takes_each_member() -> None:
    declared = aliases("type Number = int | Decimal")["Number"] | str | None
    for value in (5, Decimal("1.5"), "five", None):
        assert_same(written_and_read(declared, value), value)


def test_recursive_alias_is_read_back() -> None:
    json = aliases("type Json = dict[str, Json] | list[Json] | str | int | None")["Json"]
    value = {"a": [1, {"$b": None}], "c": "d"}
    assert_same(written_and_read(json, value), value)
    nested: object = 1
    for _ in range(12):
        nested = [nested]
    assert_same(written_and_read(json, nested), nested)
    for levels in (45, 200):
        nested = 1
        for _ in range(levels):
            nested = {"$": [nested]}
        assert "nested too deeply" in str(refusal(json, nested))


@pytest.mark.parametrize(
    "statement",
    [
        "type It = It",
        "type It = It | int",
        "type Other = It | str\ntype It = Other | int",
        "type It[T] = T | list[It[list[T]]]",
    ],
)
def test_alias_that_stands_for_nothing_or_too_much_is_refused(statement: str) -> None:
    it = aliases(statement)["It"]
    declared = it[int] if it.__type_params__ else it
    with pytest.raises(TypeError, match=r"itself|ever more types"):
        form_of(declared)


def test_alias_of_what_is_not_defined_is_told_by_its_name() -> None:
    with pytest.raises(
        NameError, match=r"'Missing' cannot be resolved \(in It\): define or import"
    ):
        form_of(aliases("type It = list[Missing]")["It"])


def test_secret_within_an_alias_is_kept_out_of_errors() -> None:
    it = aliases("type Card = Secret[str]", "type It = dict[str, It | Card]")["It"]
    assert_same(written_and_read(it, {"a": {"b": "c"}}), {"a": {"b": "c"}})
    assert "4111" not in str(refusal(it, {"a": 4111}))
    for encode in (json_form_of(it).encode, json_form_of(it).decode):
        with pytest.raises((ValueError, TypeError)) as caught:
            encode({"a": 4111})
        assert "4111" not in str(caught.value)
    number = aliases("from uuid import UUID", "type Number = Secret[UUID]")["Number"]
    assert json_form_of(number).encode(A_UUID) == str(A_UUID)


def test_tag_of_a_union_is_read_by_either_of_its_names() -> None:
    """Python before 3.14 calls `int | None` otherwise than later ones do."""
    form = form_of(list[int | None] | str)
    for name in ("Union", "UnionType"):
        stored = {"@type": f"list[{name}[int, NoneType]]", "value": [1, None]}
        assert form.decode(stored) == [1, None]


def test_what_failed_halfway_leaves_nothing_behind() -> None:
    """One class names the other, which cannot be stored: then neither can."""

    @frozen
    class Outer:
        inner: Any
        phase: complex = 0

    @frozen
    class Inner:
        outer: Any

    Outer.__annotations__["inner"] = Inner | None
    Inner.__annotations__["outer"] = Outer | None
    for _ in range(2):
        for declared in (Outer, Inner):
            with pytest.raises(TypeError, match=r"Outer\.phase"):
                form_of(declared)


class SilentError(ValueError):
    def __str__(self) -> str:
        raise LookupError("no text")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SilentError(), "<its text cannot be had>"),
        (ValueError("caf\udce9\0"), "caf\\udce9\\x00"),
        (ValueError("z" * 17_000_000), "z" * 2_000 + "..."),
        (ValueError(), "ValueError"),
    ],
    ids=["no text", "half a character", "17 MB", "empty"],
)
def test_whatever_an_error_says_about_a_value_can_be_told(error: Exception, said: str) -> None:
    assert str(cannot_encode("Order.field", error)) == f"Order.field: cannot be stored: {said}"
    assert str(cannot_decode("Order.field", error)) == f"Order.field: {said}"
