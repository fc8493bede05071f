"""Values of a declared type as BSON can hold them.

A value of another type is refused: it would be stored and could never be read back.
"""

from __future__ import annotations

import dataclasses
import threading
import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from bson import ObjectId

from sagaflow._codec.values import (
    COLLECTIONS,
    TAG,
    VALUE,
    TooDeepError,
    UnfitValueError,
    encode_datetime,
    encode_dynamic,
    encode_each,
    encode_int,
    encode_items,
    encode_str,
    encode_timedelta,
    expected,
    is_class,
    is_dynamic,
    is_literal,
    is_mapping,
    is_stored_by_name,
    is_union,
    mapping_types,
    members,
    same_literal,
    stripped,
)
from sagaflow._definition.messages import is_message_class
from sagaflow._shown import shown
from sagaflow.redaction import is_secret, revealed

Encoder: TypeAlias = Callable[[Any], object]

_known: dict[Any, Encoder] = {}

_MOST_WITHIN: Final = 30
"""How often an instance of a class may be within another of it: each takes up to three levels of
documents and arrays, of which MongoDB allows 100."""


class _Nesting(threading.local):
    """How deep a value is that is being encoded, of a class that holds instances of itself."""

    depth = 0


_nesting = _Nesting()


def encoder_for(declared: Any) -> Encoder:
    """Return what encodes the values of a declared type.

    It raises `UnfitValueError` for a value that is of another type or cannot be stored.

    :raises TypeError: if the type cannot be stored.
    :raises NameError: if an annotation within it cannot be resolved.
    """
    if type(declared) is type:  # nothing has to be looked for within a plain class
        known = _known.get(declared)
        if known is not None:
            return known
    if is_secret(declared):
        return _guarded(encoder_for(revealed(declared)))
    declared = stripped(declared)
    found = _known.get(declared)
    if found is None:

        def later(value: object) -> object:
            if _nesting.depth >= _MOST_WITHIN:
                raise TooDeepError
            _nesting.depth += 1
            try:
                return _known[declared](value)
            finally:
                _nesting.depth -= 1

        # A class may hold instances of itself, so it is known before it is complete.
        _known[declared] = later
        try:
            found = _known[declared] = _encoder(declared)
        except BaseException:
            del _known[declared]
            raise
    return found


def _guarded(encode: Encoder) -> Encoder:
    """Keep a secret out of the errors about it."""

    def encode_secret(value: object) -> object:
        try:
            return encode(value)
        except Exception:  # noqa: BLE001 - whatever it says may say too much
            raise UnfitValueError("its secret value does not fit its type") from None

    return encode_secret


def _encoder(declared: Any) -> Encoder:
    if is_dynamic(declared):
        return encode_dynamic
    primitive = _PRIMITIVES.get(declared)
    if primitive is not None:
        return primitive
    for fits, make in _MAKERS:
        if fits(declared):
            return make(declared)
    raise TypeError(
        f"{declared} is not among the types that can be stored; "
        "declare an attrs class of such types, or keep it outside of the saga"
    )


def _same(cls: type) -> Encoder:
    def encode(value: object) -> object:
        if not isinstance(value, cls):
            raise expected(cls.__name__, value)
        return value

    return encode


def _encode_float(value: object) -> float:
    if not isinstance(value, float | int):
        raise expected("float", value)
    return float(value)


def _encode_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise expected("bytes", value)
    return bytes(value)


def _encode_date(value: object) -> str:
    if not isinstance(value, date) or isinstance(value, datetime):  # which would lose its time
        raise expected("date", value)
    return value.isoformat()


def _encode_time(value: object) -> str:
    if not isinstance(value, time):
        raise expected("time", value)
    return value.isoformat()


def _encode_decimal(value: object) -> str:
    if not isinstance(value, Decimal | int):
        raise expected("Decimal", value)
    return str(Decimal(value))


def _encode_path(value: object) -> str:
    if not isinstance(value, Path):
        raise expected("Path", value)
    return encode_str(str(value))


_PRIMITIVES: Final[dict[Any, Encoder]] = {
    None: _same(types.NoneType),
    types.NoneType: _same(types.NoneType),
    bool: _same(bool),
    int: encode_int,
    float: _encode_float,
    str: encode_str,
    bytes: _encode_bytes,
    date: _encode_date,
    datetime: encode_datetime,
    time: _encode_time,
    timedelta: encode_timedelta,
    Decimal: _encode_decimal,
    UUID: _same(UUID),
    ObjectId: _same(ObjectId),
    Path: _encode_path,
}


def _of_enum(cls: type[Enum]) -> Encoder:
    if is_stored_by_name(cls):
        return lambda value: _checked(cls, value).name
    # A value that has no place in BSON is refused as one that is declared so.
    return lambda value: encode_dynamic(_checked(cls, value).value)


def _checked(cls: type[Enum], value: object) -> Enum:
    if not isinstance(value, cls):
        raise expected(cls.__name__, value)
    return value


def _of_literal(declared: Any) -> Encoder:
    choices = get_args(declared)

    def encode(value: Any) -> object:
        if not same_literal(choices, value):
            raise UnfitValueError(f"{shown(value)} is none of {declared}")
        return encoder_for(type(value))(value)

    return encode


def _of_optional(declared: Any) -> Encoder:
    (member,) = (member for member in get_args(declared) if member is not types.NoneType)
    encode = encoder_for(member)
    return lambda value: None if value is None else encode(value)


def _of_union(declared: Any) -> Encoder:
    native, literals, tagged = members(declared)
    if any(isinstance(literal, Enum) for literal in literals):
        raise TypeError(f"{declared} mixes a Literal of enum members with other types")
    as_it_is = {member: encoder_for(member) for member in native}
    with_tag = [
        (get_origin(member) or member, _tagging(tag, encoder_for(member)))
        for tag, member in tagged.items()
    ]

    def encode(value: object) -> object:
        cls = type(value)
        if cls in as_it_is:
            return as_it_is[cls](value)
        if same_literal(literals, value):
            return value
        fitting = [encode_it for member, encode_it in with_tag if member is cls] or [
            encode_it for member, encode_it in with_tag if isinstance(value, member)
        ]
        fitting += [
            encode_it
            for member, encode_it in as_it_is.items()
            if isinstance(value, (float, int) if member is float else member)
        ]
        return _first(fitting, declared, value)

    return encode


def _tagging(tag: str, encode: Encoder) -> Encoder:
    return lambda value: {TAG: tag, VALUE: encode(value)}


def _first(fitting: list[Encoder], declared: Any, value: object) -> object:
    """Return what the first of *fitting* that takes *value* makes of it."""
    problem = UnfitValueError(f"{shown(value)} is none of {declared}")
    for encode in fitting:
        try:
            return encode(value)
        except UnfitValueError as exc:  # there may be another collection of that kind
            problem = exc
    raise problem


def _check(value: object, name: str, *accepted: type) -> None:
    if not isinstance(value, accepted):
        raise expected(name, value)


def _of_mapping(declared: Any) -> Encoder:
    key_type, value_type = mapping_types(declared)
    encode_key, encode_value = encoder_for(key_type), encoder_for(value_type)
    kind = get_origin(declared) or declared

    def encode(value: Any) -> object:
        _check(value, kind.__name__, Mapping)
        return encode_items(encode_key, encode_value, value)

    return encode


def _of_collection(declared: Any) -> Encoder:
    kind: Any = get_origin(declared) or declared
    accepted = COLLECTIONS[kind]
    (item_type,) = get_args(declared) or (object,)
    encode_item = encoder_for(item_type)

    def encode(value: Any) -> object:
        _check(value, kind.__name__, *accepted)
        return encode_each(encode_item, value)

    return encode


def _of_tuple(declared: Any) -> Encoder:
    arguments = get_args(declared) or (object, ...)
    if arguments[-1] is Ellipsis:
        encode_item = encoder_for(arguments[0])

        def encode_any(value: Any) -> object:
            _check(value, "tuple", tuple)
            return encode_each(encode_item, value)

        return encode_any
    encoders = [encoder_for(argument) for argument in arguments]

    def encode(value: Any) -> object:
        _check(value, "tuple", tuple)
        if len(value) != len(encoders):
            raise expected(f"a tuple of {len(encoders)}", value)
        return [
            item
            for number, encode_item in enumerate(encoders)
            for item in encode_each(encode_item, value[number : number + 1], number)
        ]

    return encode


def _of_class(declared: Any) -> Encoder:
    cls: Any = get_origin(declared) or declared
    arguments = dict(zip(getattr(cls, "__parameters__", ()), get_args(declared), strict=False))
    encoders: list[tuple[str, Encoder]] = []
    for name, field_type in _fields_of(cls):
        try:
            encoders.append((name, encoder_for(_bound(field_type, arguments))))
        except TypeError as exc:
            raise TypeError(f"the field {cls.__name__}.{name}: {exc}") from exc

    def encode(value: Any) -> object:
        if type(value) is not cls:  # of a subclass, some fields would be lost
            raise expected(cls.__name__, value)
        document: dict[str, object] = {}
        for name, encode_field in encoders:
            try:
                document[name] = encode_field(getattr(value, name))
            except UnfitValueError as exc:
                raise exc.within(f".{name}") from exc.__cause__
        return document

    return encode


def _fields_of(cls: Any) -> list[tuple[str, Any]]:
    """Return the fields that the class is made with; the others follow from them."""
    if attrs.has(cls):
        attrs.resolve_types(cls)
        fields = [(field.name, field.type) for field in attrs.fields(cls) if field.init]
    else:
        hints = get_type_hints(cls, include_extras=True)
        fields = [
            (field.name, hints[field.name]) for field in dataclasses.fields(cls) if field.init
        ]
    for name, field_type in fields:
        if field_type is None:
            raise TypeError(f"the field {name!r} of {cls.__name__} has no annotation")
    return fields


def _bound(declared: Any, arguments: Mapping[Any, Any]) -> Any:
    """Put what a generic class is made for in the place of its type variables."""
    if isinstance(declared, TypeVar):
        return arguments.get(declared, object)
    parameters = getattr(declared, "__parameters__", ())
    if isinstance(declared, type) or not parameters:
        return declared
    return declared[tuple(arguments.get(parameter, object) for parameter in parameters)]


_MAKERS: Final[tuple[tuple[Callable[[Any], bool], Callable[[Any], Encoder]], ...]] = (
    (is_union, _of_union),
    (lambda declared: get_origin(declared) in (Union, types.UnionType), _of_optional),
    (is_literal, _of_literal),
    (lambda declared: is_class(declared, Enum), _of_enum),
    (is_mapping, _of_mapping),
    (lambda declared: (get_origin(declared) or declared) in COLLECTIONS, _of_collection),
    (lambda declared: (get_origin(declared) or declared) is tuple, _of_tuple),
    (lambda declared: is_message_class(get_origin(declared) or declared), _of_class),
)
