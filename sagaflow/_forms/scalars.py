"""The forms of values without parts: primitives, members of enums, literals."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args
from uuid import UUID

from bson import ObjectId

from sagaflow._forms.declared import plain
from sagaflow._forms.form import Decoder, Form, FormOf
from sagaflow._forms.values import (
    UnfitValueError,
    decode_datetime,
    decode_decimal,
    decode_dynamic,
    decode_timedelta,
    encode_date,
    encode_datetime,
    encode_decimal,
    encode_dynamic,
    encode_int,
    encode_str,
    encode_time,
    encode_timedelta,
    encode_uuid,
    expected,
)
from sagaflow._model.shown import shown


def _as_it_is(cls: type) -> Form:
    def check(value: object) -> object:
        if not isinstance(value, cls):
            raise expected(cls.__name__, value)
        return value

    return Form(check, check, frozenset({cls}), frozenset({cls}))


def _reads(cls: type, *accepted: type) -> Decoder:
    """Read a primitive only from itself: a wrong type is an error, never converted."""
    accepted = accepted or (cls,)

    def decode(value: Any) -> object:
        if type(value) is cls:  # the usual case: nothing to convert
            return value
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise expected(cls.__name__, value)
        return cls(value)  # the driver returns subclasses of some primitives

    return decode


def _from(stored: type, decode: Callable[[Any], object]) -> Decoder:
    def decode_stored(value: object) -> object:
        if not isinstance(value, stored):
            raise expected(f"a stored {stored.__name__}", value)
        return decode(value)

    return decode_stored


def _encode_float(value: object) -> float:
    if not isinstance(value, float | int):
        raise expected("float", value)
    return float(value)


def _encode_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise expected("bytes", value)
    return bytes(value)


def _encode_path(value: object) -> str:
    if not isinstance(value, Path):
        raise expected("Path", value)
    return encode_str(str(value))


_PRIMITIVES: Final[Mapping[Any, Form]] = {
    None: _as_it_is(types.NoneType),
    types.NoneType: _as_it_is(types.NoneType),
    bool: _as_it_is(bool),
    int: Form(encode_int, _reads(int), read_as_is=frozenset({int})),
    float: Form(_encode_float, _reads(float, float, int), frozenset({float}), frozenset({float})),
    str: Form(encode_str, _reads(str), read_as_is=frozenset({str})),
    bytes: Form(_encode_bytes, _reads(bytes), frozenset({bytes}), frozenset({bytes})),
    plain(date): Form(encode_date, _from(str, date.fromisoformat)),
    plain(datetime): Form(encode_datetime, decode_datetime),
    time: Form(encode_time, _from(str, time.fromisoformat)),
    timedelta: Form(encode_timedelta, _from(int, decode_timedelta)),
    Decimal: Form(encode_decimal, decode_decimal),
    UUID: Form(encode_uuid, _reads(UUID), frozenset({UUID}), frozenset({UUID})),
    ObjectId: _as_it_is(ObjectId),
    Path: Form(_encode_path, _from(str, Path)),
}


def is_primitive(declared: Any) -> bool:
    """Tell whether *declared* is a type whose values have no parts."""
    return declared in _PRIMITIVES


def primitive(declared: Any, _: FormOf) -> Form:
    """Return the form of a type whose values have no parts."""
    return _PRIMITIVES[declared]


def dynamic(_declared: Any, _: FormOf) -> Form:
    """Return the form of plain data whose type is not declared."""
    return Form(encode_dynamic, decode_dynamic)


# Enums and literals


def enum(cls: Any, _: FormOf) -> Form:
    """Return the form of an enum: the values of its members, or the names if not all are plain."""
    by_name = _is_stored_by_name(cls)

    def encode(value: Any) -> object:
        if not isinstance(value, cls):
            raise expected(cls.__name__, value)
        if not by_name:
            return encode_dynamic(value.value)
        if value.name not in cls.__members__:
            raise UnfitValueError(f"{value!r} has no name of its own")
        return value.name

    def decode(stored: object) -> object:
        # In both ways: values stored before the class gained a member may be stored the other way.
        for way in (_by_name, _by_value) if by_name else (_by_value, _by_name):
            try:
                return way(cls, stored)
            except ValueError:
                continue
        raise ValueError(f"{cls.__name__} has no member {shown(stored)}")

    return Form(encode, decode)


def _by_value(cls: Any, stored: object) -> object:
    return cls(stored)


def _by_name(cls: Any, stored: object) -> object:
    if not isinstance(stored, str) or stored not in cls.__members__:
        raise ValueError(stored)
    return cls.__members__[stored]


def _is_stored_by_name(cls: type[Enum]) -> bool:
    """Tell whether an enum has a member whose value is not its own stored form."""
    for member in cls.__members__.values():
        value = member.value
        try:
            if type(value) not in (bool, int, float, str) or encode_dynamic(value) != value:
                return True
        except UnfitValueError:
            return True
    return False


def literal(declared: Any, form_of: FormOf) -> Form:
    """Return the form of values that are listed one by one.

    :raises TypeError: if one of them cannot be stored, or two are stored alike.
    """
    choices: list[tuple[object, object]] = []
    for choice in get_args(declared):
        try:
            stored = form_of(type(choice)).encode(choice)
        except UnfitValueError as exc:
            raise TypeError(f"{choice!r} of {declared} cannot be stored: {exc}") from exc
        if any(_is(stored, other) for _, other in choices):
            raise TypeError(f"two values of {declared} are stored alike, as {stored!r}")
        choices.append((choice, stored))

    def encode(value: object) -> object:
        for choice, stored in choices:
            if _is(choice, value):
                return stored
        raise UnfitValueError(f"{shown(value)} is none of {declared}")

    def decode(stored: object) -> object:
        found = decode_dynamic(stored)
        for choice, form in choices:
            if _is(form, found):
                return choice
        raise ValueError(f"{shown(found)} is none of {declared}")

    return Form(encode, decode)


def _is(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other
