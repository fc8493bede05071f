"""Stored values back as values of a declared type."""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Final, get_args, get_origin
from uuid import UUID

from bson import ObjectId
from cattrs import Converter, transform_error

from sagaflow._codec.values import (
    COLLECTIONS,
    TAG,
    VALUE,
    decode_decimal,
    decode_dynamic,
    decode_items,
    decode_timedelta,
    expected,
    is_class,
    is_document,
    is_dynamic,
    is_literal,
    is_mapping,
    is_stored_by_name,
    is_union,
    mapping_types,
    members,
    same_literal,
)
from sagaflow._shown import shown
from sagaflow.exceptions import SerializationError
from sagaflow.redaction import is_secret, revealed


def _strict(*accepted: type) -> Callable[[Any, Any], Any]:
    """Structure a primitive only from itself: a wrong type is an error, never converted."""
    kind = accepted[0]

    def structure(value: Any, cls: Any) -> Any:
        if cls is kind and type(value) is kind:  # the usual case, at once
            return value
        if is_class(cls, Enum):  # a StrEnum or IntEnum is a str or int to the dispatch
            return _decode_enum(value, cls)
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            raise expected(accepted[0].__name__, value)
        return value if type(value) is accepted[0] else accepted[0](value)

    return structure


def _from(stored: type, decode: Callable[[Any], object]) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, stored):
            raise expected(f"a stored {stored.__name__}", value)
        return decode(value)

    return structure


def _structure_datetime(value: Any, _: Any) -> datetime:
    if not isinstance(value, datetime):
        raise expected("datetime", value)
    return value.astimezone(UTC)


def _decode_enum(value: Any, cls: Any) -> object:
    # By the other way as well: the class may have gained a member that is stored otherwise.
    by_name: Callable[[Any], object] = partial(_member, cls)
    ways = (by_name, cls) if is_stored_by_name(cls) else (cls, by_name)
    for way in ways:
        try:
            return way(value)
        except ValueError:
            continue
    raise ValueError(f"{cls.__name__} has no member {shown(value)}")


def _member(cls: Any, name: object) -> object:
    if not isinstance(name, str) or name not in cls.__members__:
        raise ValueError(name)
    return cls[name]


def _structure_mapping(declared: Any, converter: Converter) -> Callable[[Any, Any], object]:
    key_type, value_type = mapping_types(declared)
    key_hook = converter.get_structure_hook(key_type)
    value_hook = converter.get_structure_hook(value_type)
    origin: Any = get_origin(declared) or declared
    make = origin
    if getattr(origin, "__abstractmethods__", None):
        make = dict
    elif is_class(origin, defaultdict):
        default = get_origin(value_type) or value_type
        make = partial(origin, default if isinstance(default, type) else None)

    def structure(value: Any, _: Any) -> object:
        if not is_document(value):
            raise expected("a stored mapping", value)
        items = decode_items(value)
        decoded: object = make({key_hook(k, key_type): value_hook(v, value_type) for k, v in items})
        return decoded

    return structure


def _structure_union(declared: Any, converter: Converter) -> Callable[[Any, Any], object]:
    native, literals, tagged = members(declared)

    def structure(value: Any, _: Any) -> object:
        if is_document(value) and value.get(TAG) in tagged:
            return converter.structure(value[VALUE], tagged[value[TAG]])
        if value is None and types.NoneType in native:
            return None
        for member in native:
            if _is_stored(member, value):
                return converter.get_structure_hook(member)(value, member)
        if same_literal(literals, plain := decode_dynamic(value)):
            return plain
        raise ValueError(f"{shown(value)} is none of {declared}")

    return structure


def _is_stored(native: type, value: object) -> bool:
    return isinstance(value, native) and isinstance(value, bool) is (native is bool)


def _structure_literal(declared: Any) -> Callable[[Any, Any], object]:
    choices = get_args(declared)

    def structure(value: Any, _: Any) -> object:
        for choice in choices:
            if isinstance(choice, Enum):
                stored: object = choice.name if is_stored_by_name(type(choice)) else choice.value
            else:
                stored = choice
            if same_literal((stored,), decode_dynamic(value)):
                return choice
        raise ValueError(f"{shown(value)} is none of {declared}")

    return structure


_CONCRETE: Final[Mapping[Any, type]] = {
    Sequence: tuple,
    MutableSequence: list,
    AbstractSet: frozenset,
    MutableSet: set,
}


def _is_vague(declared: Any) -> bool:
    """Tell whether a collection does not say what it is, or nothing about what it holds."""
    origin, arguments = get_origin(declared) or declared, get_args(declared)
    if origin in _CONCRETE:
        return True
    return (origin is tuple or origin in COLLECTIONS) and (not arguments or Any in arguments)


def _structure_vague(declared: Any, converter: Converter) -> Callable[[Any, Any], object]:
    # cattrs takes what holds Any for decoded already; `object` says that it is not.
    given: Any = get_origin(declared) or declared
    origin: Any = _CONCRETE.get(given, given)
    arguments = tuple(object if item is Any else item for item in get_args(declared))
    if given is Sequence or (given is tuple and not arguments):
        arguments = (*(arguments or (object,)), ...)
    precise: Any = origin[arguments or (object,)]
    hook = converter.get_structure_hook(precise)
    return lambda value, _: hook(value, precise)


_DECODERS: Final[dict[type, Callable[[Any, Any], object]]] = {
    bool: _strict(bool),
    int: _strict(int),
    float: _strict(float, int),
    str: _strict(str),
    bytes: _strict(bytes),
    UUID: _strict(UUID),
    ObjectId: _strict(ObjectId),
    date: _from(str, date.fromisoformat),
    datetime: _structure_datetime,
    time: _from(str, time.fromisoformat),
    timedelta: _from(int, decode_timedelta),
    Decimal: _from(str, decode_decimal),
    Enum: _decode_enum,
}


def _structure_secret(declared: Any, converter: Converter) -> Callable[[Any, Any], object]:
    plain = revealed(declared)
    hook = converter.get_structure_hook(plain)

    def structure(value: Any, _: Any) -> object:
        try:
            return hook(value, plain)
        except Exception:  # noqa: BLE001 - whatever it says may say too much
            raise ValueError("its secret value does not fit its type") from None

    return structure


def _make_converter() -> Converter:
    made = Converter(detailed_validation=True)
    for cls, decode in _DECODERS.items():
        made.register_structure_hook(cls, decode)
    made.register_structure_hook_func(is_dynamic, lambda value, _: decode_dynamic(value))
    made.register_structure_hook_factory(_is_vague, _structure_vague)
    made.register_structure_hook_factory(is_mapping, _structure_mapping)
    made.register_structure_hook_factory(is_literal, _structure_literal)
    made.register_structure_hook_factory(is_union, _structure_union)
    made.register_structure_hook_factory(is_secret, _structure_secret)
    return made


converter: Final = _make_converter()
"""Reads every type that may be declared for a field of a saga or of a message."""


def cannot_decode(path: str, error: Exception) -> SerializationError:
    """Return the error for a stored value that cannot be read, with the path of each fault.

    :param path: where the value stands.
    """
    faults = [
        (place, reason)
        for fault in transform_error(error, path=path, format_exception=_describe)
        for reason, _, place in (fault.rpartition(" @ "),)
    ]
    if len(faults) == 1:
        return SerializationError(*faults[0])
    return SerializationError(path, "; ".join(f"{reason} at {place}" for place, reason in faults))


def _describe(error: BaseException, _: type | None) -> str:
    if isinstance(error, KeyError):
        return "required field missing"
    return str(error) or type(error).__name__
