"""The forms for JSON, where they differ from those for documents.

A document has instants, ids, bytes and all ints and floats as they are; JSON has not. Where the
declaration says which of them a text is, it is a plain text. Where it does not, as in a union or in
plain data, the text has a tag: ``{"@type": "UUID", "value": "..."}``.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import NoneType
from typing import Any, Final, cast
from uuid import UUID

from attrs import frozen
from bson import ObjectId

from sagaflow._forms.declared import members, plain
from sagaflow._forms.form import Form, FormOf
from sagaflow._forms.instances import declared_fields, instance
from sagaflow._forms.scalars import primitive
from sagaflow._forms.unions import union
from sagaflow._forms.values import (
    NATIVE,
    TAG,
    VALUE,
    MisfitError,
    decode_timedelta,
    encode_datetime,
    encode_timedelta,
    expected,
    is_document,
)
from sagaflow._model.ids import INT64_MAX, INT64_MIN

_MOST_EXACT: Final = 2**53 - 1
"""The greatest int that every reader of JSON keeps exactly; a larger one is written as a text."""
_INT: Final = re.compile(r"-?[1-9][0-9]{0,18}|0")
_NOT_FINITE: Final[Mapping[str, float]] = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise expected("a text", value)
    return value


def _write_int(value: int) -> object:
    return value if -_MOST_EXACT <= value <= _MOST_EXACT else str(value)


def read_int(value: object) -> int:
    """Return the int that a JSON number or a text of digits says.

    :raises ValueError: if it is neither, or needs more than 64 bits.
    """
    if isinstance(value, str) and _INT.fullmatch(value):
        value = int(value)
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        raise expected("int of 64 bits", value)
    return value


def _write_float(value: float) -> object:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _read_float(value: object) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise expected("float", value)
    try:
        return float(value)
    except OverflowError:
        raise expected("float", value) from None


def _write_datetime(value: datetime) -> str:
    return f"{value.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _read_datetime(value: object) -> datetime:
    return encode_datetime(datetime.fromisoformat(_text(value)))


def _write_bytes(value: bytes) -> str:
    return b64encode(value).decode()


def _read_bytes(value: object) -> bytes:
    return b64decode(_text(value), validate=True)


def read_uuid(value: object) -> UUID:
    """Return the UUID that a text in the usual form says.

    :raises ValueError: if it is no such text.
    """
    found = UUID(_text(value))
    if str(found) != _text(value).lower():
        raise expected("UUID", value)
    return found


def read_object_id(value: object) -> ObjectId:
    """Return the ObjectId that 24 hexadecimal digits say.

    :raises ValueError: if it is no such text.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{24}", _text(value)):
        raise expected("ObjectId", value)
    return ObjectId(_text(value))


@frozen
class _Written:
    """How JSON writes a value that a document has as it is."""

    write: Callable[[Any], object]
    read: Callable[[object], object]


_WRITTEN: Final[Mapping[type, _Written]] = {
    int: _Written(_write_int, read_int),
    float: _Written(_write_float, _read_float),
    bytes: _Written(_write_bytes, _read_bytes),
    plain(datetime): _Written(_write_datetime, _read_datetime),
    UUID: _Written(str, read_uuid),
    ObjectId: _Written(str, read_object_id),
}
_TAGS: Final = {cls.__name__: way.read for cls, way in _WRITTEN.items()}


def json_primitive(declared: Any, form_of: FormOf) -> Form:
    """Return the JSON form of a type whose values have no parts."""
    form = primitive(declared, form_of)
    if declared is timedelta:
        return Form(
            lambda value: _write_int(encode_timedelta(value)),
            lambda stored: decode_timedelta(read_int(stored)),
        )
    way = _WRITTEN.get(declared)
    if way is None:
        return form
    encode, write = form.encode, way.write
    return Form(lambda value: write(encode(value)), way.read)


# Where the type does not say what a text is


def tagged(form: Form) -> Form:
    """Return a form whose JSON says of each part what a text is, since the declaration does not."""
    encode, decode = form.encode, form.decode
    return Form(lambda value: _tag_all(encode(value)), lambda stored: decode(_untag_all(stored)))


def _tag(stored: Any) -> object:
    way = _WRITTEN.get(plain(type(stored)))
    if way is None:
        return stored
    written = way.write(stored)
    return {TAG: plain(type(stored)).__name__, VALUE: written} if type(written) is str else written


def _tag_all(stored: Any) -> object:
    if isinstance(stored, list):
        return [_tag_all(item) for item in cast("list[object]", stored)]
    if is_document(stored):
        return {key: _tag_all(item) for key, item in stored.items()}
    return _tag(stored)


def _untag(value: Any) -> object:
    if is_document(value) and len(value) == 2 and TAG in value and VALUE in value:  # noqa: PLR2004
        tag = value[TAG]
        read = _TAGS.get(tag) if isinstance(tag, str) else None
        if read is not None:
            return read(value[VALUE])
    return value


def _untag_all(value: Any) -> object:
    if isinstance(value, list):
        return [_untag_all(item) for item in cast("list[object]", value)]
    found = _untag(value)
    if is_document(found):
        return {key: _untag_all(item) for key, item in found.items()}
    return read_int(found) if type(found) is int else found


def json_union(declared: Any, form_of: FormOf, document_form_of: FormOf) -> Form:
    """Return the JSON form of a union.

    :param document_form_of: returns the form that a part has in documents.
    :raises TypeError: if its members cannot be told apart.
    """
    found = members(declared)
    if len([member for member in found if member is not NoneType]) == 1:
        return union(declared, form_of)  # a type or None: the declaration says what a text is
    for member in found:
        name = getattr(member, "__name__", None)
        if name in _TAGS and member not in NATIVE:
            raise TypeError(f"{declared} has a member called {name}, which is a tag of JSON")
    form = union(declared, lambda one: (document_form_of if one in NATIVE else form_of)(one))
    encode, decode = form.encode, form.decode
    only_floats = float in found and int not in found

    def read(stored: object) -> object:
        value = _untag(stored)
        if type(value) is int:  # other languages write the float 1.0 as 1
            value = _read_float(value) if only_floats else read_int(value)
        return decode(value)

    return Form(lambda value: _tag(encode(value)), read)


def json_instance(declared: Any, form_of: FormOf) -> Form:
    """Return the JSON form of an attrs class or a dataclass: it has no fields but those declared.

    :raises TypeError: naming a field that cannot be written.
    """
    form = instance(declared, form_of)
    names = {field.name for field in declared_fields(declared)}
    decode = form.decode

    def read(stored: Any) -> object:
        if is_document(stored):
            foreign = [key for key in stored if key not in names]
            if foreign:
                raise MisfitError([(f".{key}", "unknown field") for key in foreign])
        return decode(stored)

    return Form(form.encode, read)
