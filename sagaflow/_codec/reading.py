"""Parts of stored documents, each of the type that it has to be of.

A document may come from anyone: what is read of it is checked here, so that nothing else has to
expect that an instant is a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeGuard, TypeVar, cast
from uuid import UUID

from bson import Code, ObjectId

from sagaflow._model.ids import MessageId, SagaId, check_id
from sagaflow._model.shown import shown

T = TypeVar("T")
_IDS = (str, int, UUID, ObjectId)


def text_in(document: Mapping[str, Any], name: str) -> str:
    """Return a text."""
    value: object = document[name]
    if type(value) is not str:  # code in a document is a str as well
        raise _wrong(name, value)
    return value


def number_in(document: Mapping[str, Any], name: str) -> int:
    """Return a whole number; the driver has a subclass for long ones."""
    value: object = document[name]
    if not isinstance(value, int):
        raise _wrong(name, value)
    return value


def flag_in(document: Mapping[str, Any], name: str) -> bool:
    """Return whether something is so."""
    return bool(number_in(document, name))


def instant_in(document: Mapping[str, Any], name: str) -> datetime:
    """Return an instant; the driver has something else for what no `datetime` can hold."""
    value: object = document[name]
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _wrong(name, value)
    return value


def id_in(document: Mapping[str, Any], name: str) -> MessageId:
    """Return the id of a message."""
    return check_message_id(document[name])


def check_message_id(value: object) -> MessageId:
    """Return the id of a message."""
    if not is_id(value):
        raise TypeError(f"{shown(value)} is no id of a message")
    return value


def is_id(value: object) -> TypeGuard[SagaId]:
    """Tell whether a stored value is of a type that ids have: code is a str, and True an int."""
    return isinstance(value, _IDS) and not isinstance(value, Code | bool)


def own_id_in(document: Mapping[str, Any], name: str = "_id") -> SagaId:
    """Return the id of a document."""
    value: object = document[name]
    if not is_id(value):
        raise TypeError(f"its {name} is a {type(value).__name__}")
    return check_id(value)


def mapping_in(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part with parts of its own, which is not shown: it may hold a secret."""
    value: object = document[name]
    if not isinstance(value, Mapping):
        raise TypeError(f"its {name} is a {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def elements_in(
    document: Mapping[str, Any], name: str, decode: Callable[[Any], T]
) -> tuple[T, ...]:
    """Return the elements of an array; none if it was not read."""
    value: object = document.get(name, ())
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise TypeError(f"its {name} is a {type(value).__name__}")
    return tuple([decode(element) for element in cast("list[object]", value)])


def parts_in(
    document: Mapping[str, Any], name: str, decode: Callable[[Mapping[str, Any]], T]
) -> tuple[T, ...]:
    """Return the elements of an array that holds parts with parts of their own."""

    def decoded(element: object) -> T:
        if not isinstance(element, Mapping):
            raise TypeError(f"an element of its {name} is a {type(element).__name__}")
        return decode(cast("Mapping[str, Any]", element))

    return elements_in(document, name, decoded)


def perhaps(
    read: Callable[[Mapping[str, Any], str], T], document: Mapping[str, Any], name: str
) -> T | None:
    """Return a part that need not be there."""
    return None if document.get(name) is None else read(document, name)


def _wrong(name: str, value: object) -> TypeError:
    return TypeError(f"its {name} is {shown(value)}")
