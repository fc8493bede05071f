"""What can be stored, and values whose type is not declared, there and back.

What is stored consists of None, bool, int, float, str, bytes, datetime, UUID, ObjectId, and lists
and dicts of these. Everything else becomes one of them by its declared type
(`sagaflow._codec.encoding`, `sagaflow._codec.decoding`) or, where the type says nothing, with a
tag (`encode_dynamic`, `decode_dynamic`).
"""

from __future__ import annotations

import types
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    TypeGuard,
    Union,
    cast,
    get_args,
    get_origin,
)
from uuid import UUID

from bson import ObjectId

from sagaflow._shown import shown
from sagaflow.clock import to_milliseconds
from sagaflow.exceptions import SerializationError
from sagaflow.ids import INT64_MAX, INT64_MIN

TAG: Final = "@type"
VALUE: Final = "value"
_NATIVE: Final = (bool, int, float, str, bytes, datetime, UUID, ObjectId, types.NoneType)
_PLAIN: Final = (bool, int, float, str)

MOST_LEVELS: Final = 90
"""How many levels of stored documents and arrays a value without a declared type may have.
MongoDB allows 100 in all."""

COLLECTIONS: Final[Mapping[type, tuple[type, ...]]] = {
    list: (list,),
    deque: (deque,),
    set: (set,),
    frozenset: (frozenset,),
    Sequence: (list, tuple),
    MutableSequence: (list,),
    AbstractSet: (set, frozenset),
    MutableSet: (set,),
}
"""The collections that may be declared, beside tuples, with the types of what they may hold."""


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


class TooDeepError(UnfitValueError):
    """Says that a value is nested too deeply; where in it would be no help."""

    def __init__(self) -> None:
        super().__init__("it is nested too deeply, or contains itself")

    def within(self, part: str) -> UnfitValueError:  # noqa: ARG002
        """Return this error as it is."""
        return self


def expected(what: str, value: object) -> UnfitValueError:
    """Return the error for a value of another type."""
    return UnfitValueError(f"expected {what}, found {shown(value)}")


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
        return to_milliseconds(value.astimezone(UTC))
    except OverflowError as exc:
        raise UnfitValueError(f"{value!r} is outside of the years 1 to 9999 in UTC") from exc


def encode_timedelta(value: object) -> int:
    """Return a span as a number of microseconds."""
    if not isinstance(value, timedelta):
        raise expected("timedelta", value)
    return encode_int(value // timedelta(microseconds=1))


def decode_timedelta(value: int) -> timedelta:
    """Return the span whose stored form this is."""
    return timedelta(microseconds=value)


def decode_decimal(value: str) -> Decimal:
    """Return the number whose stored form this is."""
    try:
        return Decimal(value)
    except ArithmeticError as exc:
        raise ValueError(f"{shown(value)} is no Decimal") from exc


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
        case None | bool() | float() | bytes() | UUID() | ObjectId():
            return value
        case Enum():
            raise UnfitValueError(f"{value!r} cannot be read back without a declared type")
        case int():
            return encode_int(value)
        case str():
            return encode_str(value)
        case datetime():
            return encode_datetime(value)
        case date():
            return {TAG: "date", VALUE: value.isoformat()}
        case time():
            return {TAG: "time", VALUE: value.isoformat()}
        case timedelta():
            return {TAG: "timedelta", VALUE: encode_timedelta(value)}
        case Decimal():
            return {TAG: "Decimal", VALUE: str(value)}
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
            return int(value)  # the driver has a subclass for long ones
        case datetime():
            return value.astimezone(UTC)  # the driver has a zone of its own
        case _ if type(value) in _NATIVE:
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


# Collections


def encode_each(
    encode: Callable[[Any], object], values: Iterable[Any], first: int = 0
) -> list[object]:
    """Return the stored forms of *values*, the index of the first being *first*."""
    encoded: list[object] = []
    for index, value in enumerate(values, first):
        try:
            encoded.append(encode(value))
        except UnfitValueError as exc:
            raise exc.within(f"[{index}]") from exc.__cause__
    return encoded


def encode_items(
    encode_key: Callable[[Any], object],
    encode_value: Callable[[Any], object],
    mapping: Mapping[Any, Any],
) -> dict[str, object]:
    """Store a mapping as a document if its keys allow that, otherwise as pairs.

    Keys that a server or driver would read as operators, paths or references stay data.
    """
    items: list[tuple[object, object]] = []
    for key, value in mapping.items():
        try:
            items.append((encode_key(key), encode_value(value)))
        except UnfitValueError as exc:
            raise exc.within(f"[{shown(key)}]") from exc.__cause__
    if _are_plain_keys(items):
        return dict(items)
    return {TAG: "dict", VALUE: [list(item) for item in items]}


def _are_plain_keys(items: list[tuple[object, object]]) -> TypeGuard[list[tuple[str, object]]]:
    return all(_is_plain_key(key) for key, _ in items)


def _is_plain_key(key: object) -> bool:
    return (
        type(key) is str and key != TAG and not key.startswith("$") and not {".", "\0"} & set(key)
    )


def decode_items(value: Any) -> list[tuple[object, object]]:
    """Return the items of a stored mapping, each still in stored form."""
    if value.get(TAG) == "dict":
        return [(key, item) for key, item in value[VALUE]]
    return list(value.items())


# What a declaration says


def stripped(declared: Any) -> Any:
    """Return the type that an alias, a NewType, ``Annotated`` or ``Final`` stands for."""
    while True:
        if isinstance(declared, NewType):
            declared = declared.__supertype__
        elif get_origin(declared) is Annotated:
            declared = declared.__origin__
        elif get_origin(declared) is Final:
            (declared,) = get_args(declared)
        elif type(declared).__name__ == "TypeAliasType":
            declared = declared.__value__
        else:
            return declared


def is_class(declared: Any, kind: type) -> bool:
    """Tell whether *declared* is a subclass of *kind*, whatever it is a collection of."""
    cls = get_origin(declared) or declared
    return isinstance(cls, type) and issubclass(cls, kind)


def is_mapping(declared: Any) -> bool:
    """Tell whether *declared* is a mapping."""
    return is_class(declared, Mapping)


def is_document(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Tell whether *value* is a stored document."""
    return isinstance(value, Mapping)


def is_dynamic(declared: Any) -> bool:
    """Tell whether *declared* says nothing about a value."""
    return declared is Any or declared is object


def mapping_types(declared: Any) -> tuple[Any, Any]:
    """Return the types of keys and values of a mapping."""
    arguments = get_args(declared)
    if len(arguments) == 1 and is_class(declared, Counter):
        return arguments[0], int
    return arguments if len(arguments) == 2 else (object, object)  # noqa: PLR2004


def is_stored_by_name(enum: type[Enum]) -> bool:
    """Tell whether the members of *enum* are stored by name: not all values are plain."""
    return any(type(member.value) not in _PLAIN for member in enum.__members__.values())


def is_literal(declared: Any) -> bool:
    """Tell whether *declared* lists the values themselves."""
    return get_origin(declared) is Literal


def is_union(declared: Any) -> bool:
    """Tell whether *declared* is a union of more than one type and None."""
    if get_origin(declared) not in (Union, types.UnionType):
        return False
    return sum(member is not types.NoneType for member in get_args(declared)) > 1


def members(declared: Any) -> tuple[tuple[type, ...], tuple[Any, ...], dict[str, Any]]:
    """Split a union into types and literals that are stored as they are, and those with a tag."""
    found = [stripped(member) for member in get_args(declared)]
    native = tuple(member for member in found if member in _NATIVE)
    literals = tuple(value for member in found if is_literal(member) for value in get_args(member))
    others = [member for member in found if member not in _NATIVE and not is_literal(member)]
    tagged = {_tag_of(member): member for member in others}
    if len(tagged) < len(others):
        raise TypeError(f"several types of {declared} have the same name")
    return native, literals, tagged


def _tag_of(member: Any) -> str:
    """Return a name for a type. Stored, so it does not say where the type is defined."""
    name = getattr(get_origin(member) or member, "__name__", str(member))
    arguments = ", ".join(_tag_of(argument) for argument in get_args(member))
    return f"{name}[{arguments}]" if arguments else name


def same_literal(literals: tuple[Any, ...], value: object) -> bool:
    """Tell whether *value* is one of *literals*; 1, True and 1.0 are three."""
    return any(literal == value and type(literal) is type(value) for literal in literals)


def cannot_encode(path: str, error: Exception) -> SerializationError:
    """Return the error for a value that cannot be stored.

    :param path: where the value stands; the error knows where in it the fault is.
    """
    if isinstance(error, UnfitValueError):
        path += error.path
    return SerializationError(path, f"cannot be stored: {str(error) or type(error).__name__}")
