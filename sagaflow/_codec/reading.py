"""Parts of stored documents, each of the type that it has to be of.

A document may come from anyone: each part is checked here, where it is read, so that no other code
has to expect a text in the place of an instant.
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
    """Return a text.

    :raises KeyError: if the field is missing.
    :raises TypeError: if the field holds something else.
    """
    value: object = document[name]
    if type(value) is not str:  # BSON code is a str as well
        raise _wrong(name, value)
    return value


def number_in(document: Mapping[str, Any], name: str) -> int:
    """Return a whole number; the driver returns a subclass for long numbers.

    :raises KeyError: if the field is missing.
    :raises TypeError: if the field holds something else.
    """
    value: object = document[name]
    if not isinstance(value, int):
        raise _wrong(name, value)
    return value


def flag_in(document: Mapping[str, Any], name: str) -> bool:
    """Return whether something is so.

    :raises KeyError: if the field is missing.
    :raises TypeError: if the field holds something else.
    """
    return bool(number_in(document, name))


def instant_in(document: Mapping[str, Any], name: str) -> datetime:
    """Return an instant; the driver returns something else for an instant beyond `datetime`.

    :raises KeyError: if the field is missing.
    :raises TypeError: if the field holds something else.
    """
    value: object = document[name]
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _wrong(name, value)
    return value


def id_in(document: Mapping[str, Any], name: str) -> MessageId:
    """Return the id of a message.

    :raises KeyError: if the field is missing.
    :raises TypeError: if the field holds something else.
    """
    return check_message_id(document[name])


def check_message_id(value: object) -> MessageId:
    """Return *value*, if it can be the id of a message.

    :raises TypeError: if *value* cannot be one.
    """
    if not is_id(value):
        raise TypeError(f"{shown(value)} is no id of a message")
    return value


def is_id(value: object) -> TypeGuard[SagaId]:
    """Tell whether a stored value is of a type that ids have: code is a str, and True an int."""
    return isinstance(value, _IDS) and not isinstance(value, Code | bool)


def own_id_in(document: Mapping[str, Any], name: str = "_id") -> SagaId:
    """Return the id of a document.

    :raises KeyError: if the field is missing.
    :raises TypeError: if the field holds something else.
    :raises CorrelationError: if the id is not allowed.
    """
    value: object = document[name]
    if not is_id(value):
        raise TypeError(f"its {name} is a {type(value).__name__}")
    return check_id(value)


def mapping_in(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part with parts of its own. Errors do not show it: it may hold a secret.

    :raises KeyError: if the field is missing.
    :raises TypeError: if the field holds something else.
    """
    value: object = document[name]
    if not isinstance(value, Mapping):
        raise TypeError(f"its {name} is a {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def elements_in(
    document: Mapping[str, Any], name: str, decode: Callable[[Any], T]
) -> tuple[T, ...]:
    """Return the elements of an array; no elements if the array was not read.

    :raises TypeError: if the field holds no array.
    """
    value: object = document.get(name, ())
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise TypeError(f"its {name} is a {type(value).__name__}")
    return tuple([decode(element) for element in cast("list[object]", value)])


def parts_in(
    document: Mapping[str, Any], name: str, decode: Callable[[Mapping[str, Any]], T]
) -> tuple[T, ...]:
    """Return the elements of an array that holds parts with parts of their own.

    :raises TypeError: if the field holds no array, or an element is of another type.
    """

    def decoded(element: object) -> T:
        if not isinstance(element, Mapping):
            raise TypeError(f"an element of its {name} is a {type(element).__name__}")
        return decode(cast("Mapping[str, Any]", element))

    return elements_in(document, name, decoded)


def perhaps(
    read: Callable[[Mapping[str, Any], str], T], document: Mapping[str, Any], name: str
) -> T | None:
    """Return a part that need not be there; None if it is not."""
    return None if document.get(name) is None else read(document, name)


def _wrong(name: str, value: object) -> TypeError:
    return TypeError(f"its {name} is {shown(value)}")
