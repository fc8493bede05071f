"""The values that can be stored; and how values without a declared type are stored and read.

A stored value consists of None, bool, int, float, str, bytes, datetime, UUID, ObjectId, and lists
and dicts of these. Everything else becomes one of them by its declared type
(`forms`) or, where the type says nothing, with a tag (`encode_dynamic`,
`decode_dynamic`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Final, TypeGuard, cast
from uuid import UUID

from bson import ObjectId

from sagaflow._model.clock import to_milliseconds
from sagaflow._model.errors import SerializationError
from sagaflow._model.ids import INT64_MAX, INT64_MIN
from sagaflow._model.shown import shown
from sagaflow._model.texts import name_of, text_of

TAG: Final = "@type"
VALUE: Final = "value"
NATIVE: Final = (bool, int, float, str, bytes, datetime, UUID, ObjectId, types.NoneType)
"""The types whose values are stored as they are."""

MOST_LEVELS: Final = 90
"""How many levels of stored documents and arrays a value without a declared type may have.
MongoDB allows 100 in all."""

_PlainDatetime: Final = datetime  # the real class, which freezegun may replace later on


class UnfitValueError(ValueError):
    """Says what is wrong with a value.

    :ivar path: where the value stands in what was to be encoded, such as ``.lines[2].price``.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.path = ""

    def within(self, part: str) -> UnfitValueError:
        """Return this error, seen from one level further out."""
        self.path = part + self.path
        return self


class MisfitError(ValueError):
    """Says what is wrong with a stored value.

    :ivar faults: where each fault is in what was to be read, such as ``.lines[2].price``, and what
        is wrong there.
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(reason for _, reason in faults))
        self.faults = faults


def faults_of(error: Exception, part: str = "") -> list[tuple[str, str]]:
    """Return the faults that *error* tells, with *part* in front of each path."""
    if isinstance(error, MisfitError):
        return [(part + path, reason) for path, reason in error.faults]
    if isinstance(error, KeyError):
        return [(part, "required field missing")]
    return [(part, text_of(error) or name_of(type(error)))]


class TooDeepError(UnfitValueError):
    """Says that a value is nested too deeply; a path into the value would be no help."""

    def __init__(self) -> None:
        super().__init__("it is nested too deeply, or contains itself")

    def within(self, part: str) -> UnfitValueError:  # noqa: ARG002
        """Return this error as it is."""
        return self


def expected(what: str, value: object) -> UnfitValueError:
    """Return the error for a value of another type."""
    return UnfitValueError(f"expected {what}, found {shown(value)}")


def check(value: object, what: str, *accepted: type) -> None:
    """Refuse a value that is of another type than *accepted*."""
    if not isinstance(value, accepted):
        raise expected(what, value)


def encode_int(value: object) -> int:
    """Return an int of 64 bits; a bool and a member of an enum are ints, too."""
    if not isinstance(value, int):
        raise expected("int", value)
    if not INT64_MIN <= value <= INT64_MAX:
        raise UnfitValueError(f"the int {shown(value)} needs more than 64 bits")
    return int(value)


def encode_str(value: object) -> str:
    """Return a str that can be encoded; a member of an enum may be one, too."""
    if not isinstance(value, str):
        raise expected("str", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise UnfitValueError(f"{shown(value)} is not valid Unicode") from exc
    return str.__str__(value)


def encode_datetime(value: object) -> datetime:
    """Return an instant as MongoDB stores it: UTC, cut to milliseconds."""
    if not isinstance(value, datetime):
        raise expected("datetime", value)
    if value.tzinfo is None:
        raise UnfitValueError(f"{value!r} has no time zone: use an aware datetime")
    try:
        instant = to_milliseconds(value.astimezone(UTC))
    except OverflowError as exc:
        raise UnfitValueError(f"{value!r} is outside of the years 1 to 9999 in UTC") from exc
    if type(instant) is _PlainDatetime and not instant.fold:
        return instant
    at = instant.timetz().replace(fold=0)  # no instant comes twice in UTC
    return _PlainDatetime.combine(instant.date(), at)


def decode_datetime(value: object) -> datetime:
    """Return a stored instant in UTC; the driver returns it with a zone of its own."""
    if not isinstance(value, datetime):
        raise expected("datetime", value)
    return value.astimezone(UTC)


def encode_date(value: object) -> str:
    """Return a day in ISO form."""
    if not isinstance(value, date) or isinstance(value, datetime):  # its time would be lost
        raise expected("date", value)
    return value.isoformat()


def encode_time(value: object) -> str:
    """Return a time of day in ISO form, which can say its distance from UTC, but no zone."""
    if not isinstance(value, time):
        raise expected("time", value)
    if value.fold:
        raise UnfitValueError(
            f"{value!r} has fold=1, which has no place in its stored form: store a datetime"
        )
    if value.tzinfo is not None and value.utcoffset() is None:
        raise UnfitValueError(
            f"the distance of {value!r} from UTC depends on the day: store a datetime, or the name "
            "of the zone beside a time without one"
        )
    return value.isoformat()


def encode_decimal(value: object) -> str:
    """Return a number as text, with all its digits."""
    if type(value) is Decimal:  # the usual case: nothing to convert
        return str(value)
    if not isinstance(value, Decimal | int):
        raise expected("Decimal", value)
    return str(Decimal(value))


def encode_timedelta(value: object) -> int:
    """Return a span as a number of microseconds."""
    if not isinstance(value, timedelta):
        raise expected("timedelta", value)
    return encode_int(value // timedelta(microseconds=1))


def decode_timedelta(value: int) -> timedelta:
    """Return the span of so many microseconds."""
    return timedelta(microseconds=value)


def decode_decimal(value: object) -> Decimal:
    """Return the number that a stored text says."""
    if not isinstance(value, str):
        raise expected("a stored str", value)
    try:
        return Decimal(value)
    except ArithmeticError as exc:
        raise ValueError(f"{shown(value)} is no Decimal") from exc


def encode_uuid(value: object) -> UUID:
    """Return a plain UUID; drivers of databases have subclasses of it."""
    if not isinstance(value, UUID):
        raise expected("UUID", value)
    return value if type(value) is UUID else UUID(int=value.int)


# Where the type says nothing


def encode_dynamic(value: object) -> object:
    """Return the stored form of a value whose type is not declared.

    :raises UnfitValueError: if it cannot be stored.
    """
    return _encode_dynamic(value, 0)


def _encode_dynamic(value: Any, depth: int) -> object:
    if depth > MOST_LEVELS:
        raise TooDeepError
    match value:
        case None | bool() | ObjectId():
            return value
        case float():
            return float(value)
        case bytes():
            return bytes(value)
        case UUID():
            return encode_uuid(value)
        case Enum():
            raise UnfitValueError(f"{value!r} cannot be read back without a declared type")
        case int():
            return encode_int(value)
        case str():
            return encode_str(value)
        case datetime():
            return encode_datetime(value)
        case date():
            return {TAG: "date", VALUE: encode_date(value)}
        case time():
            return {TAG: "time", VALUE: encode_time(value)}
        case timedelta():
            return {TAG: "timedelta", VALUE: encode_timedelta(value)}
        case Decimal():
            return {TAG: "Decimal", VALUE: encode_decimal(value)}
        case list():
            return encode_each(
                partial(_encode_dynamic, depth=depth + 1), cast("list[object]", value)
            )
        case tuple():
            items = cast("tuple[object, ...]", value)
            encode = partial(_encode_dynamic, depth=depth + 2)
            return {TAG: "tuple", VALUE: encode_each(encode, items)}
        case dict():
            document = cast("dict[object, object]", value)
            levels = 1 if all(map(_is_plain_key, document)) else 3
            encode = partial(_encode_dynamic, depth=depth + levels)
            return encode_items(encode, encode, document)
        case _:
            raise UnfitValueError(
                f"a value of type {type(value).__qualname__} cannot be stored without a declared "
                "type: annotate the field, or use an attrs class"
            )


_DYNAMIC_DECODERS: Final[dict[str, Callable[[Any], object]]] = {
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": decode_timedelta,
    "Decimal": decode_decimal,
    "tuple": lambda items: tuple(decode_dynamic(item) for item in items),
}


def decode_dynamic(value: Any) -> object:
    """Return the value whose stored form `encode_dynamic` made.

    :raises ValueError: if it is nothing that `encode_dynamic` makes.
    """
    match value:
        case list():
            return [decode_dynamic(item) for item in cast("list[object]", value)]
        case Mapping():
            return _decode_document(cast("Mapping[str, Any]", value))
        case bool():
            return value
        case int():
            return int(value)  # the driver returns a subclass for long ints
        case datetime():
            return decode_datetime(value)
        case _ if type(value) in NATIVE:
            return value
        case _:
            raise ValueError(f"a stored value of type {type(value).__qualname__} is unknown")


def _decode_document(document: Mapping[str, Any]) -> object:
    tag = document.get(TAG)
    if isinstance(tag, str) and tag != "dict":
        decode = _DYNAMIC_DECODERS.get(tag)
        if decode is None:
            raise ValueError(f"unknown tag {tag!r}")
        return decode(document[VALUE])
    return {decode_dynamic(k): decode_dynamic(v) for k, v in decode_items(document)}


def levels(stored: Any) -> int:
    """Return how many levels of documents and arrays a stored value has."""
    match stored:
        case Mapping():
            return 1 + max(map(levels, cast("Mapping[str, Any]", stored).values()), default=0)
        case list():
            return 1 + max(map(levels, cast("Iterable[Any]", stored)), default=0)
        case _:
            return 0


# Collections


def encode_each(
    encode: Callable[[Any], object], values: Iterable[Any], first: int = 0
) -> list[object]:
    """Return the stored forms of *values*; *first* is the index of the first one, for errors."""
    encoded: list[object] = []
    try:
        for value in values:
            encoded.append(encode(value))  # noqa: PERF401 - its length tells which one failed
    except UnfitValueError as exc:
        raise exc.within(f"[{first + len(encoded)}]") from exc.__cause__
    return encoded


def encode_items(
    encode_key: Callable[[Any], object],
    encode_value: Callable[[Any], object],
    mapping: Mapping[Any, Any],
) -> dict[str, object]:
    """Store a mapping as a document if its keys allow that, otherwise as pairs.

    Keys that a server or driver would read as operators, paths or references stay data.
    """
    items: list[list[object]] = []
    document: dict[str, object] = {}
    for key, value in mapping.items():
        try:
            stored_key, stored = encode_key(key), encode_value(value)
        except UnfitValueError as exc:
            raise exc.within(f"[{shown(key)}]") from exc.__cause__
        items.append([stored_key, stored])
        if _is_plain_key(stored_key):
            document[stored_key] = stored
    return document if len(document) == len(items) else {TAG: "dict", VALUE: items}


def _is_plain_key(key: object) -> TypeGuard[str]:
    return type(key) is str and key[:1] != "$" and "." not in key and "\0" not in key and key != TAG


def decode_items(value: Any) -> Iterable[tuple[object, object]]:
    """Return the items of a stored mapping, each still in stored form."""
    if value.get(TAG) == "dict":
        return [(key, item) for key, item in value[VALUE]]
    items: Iterable[tuple[object, object]] = value.items()
    return items


def is_document(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Tell whether *value* is a stored document."""
    return isinstance(value, Mapping)


def cannot_encode(path: str, error: Exception) -> SerializationError:
    """Return the error for a value that cannot be stored.

    :param path: where the value stands; the error says where in the value the fault is.
    """
    if isinstance(error, UnfitValueError):
        path += error.path
    reason = text_of(error) or name_of(type(error))
    return SerializationError(path, f"cannot be stored: {reason}")


def cannot_decode(path: str, error: Exception) -> SerializationError:
    """Return the error for a stored value that cannot be read, with the path of each fault.

    :param path: where the value stands.
    """
    faults = faults_of(error, path)
    if len(faults) == 1:
        return SerializationError(*faults[0])
    return SerializationError(path, "; ".join(f"{reason} at {place}" for place, reason in faults))
