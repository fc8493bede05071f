"""How an element is stored: one description of its fields, for both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import Enum
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

from attrs import evolve, frozen

from sagaflow._codec.reading import (
    flag_in,
    id_in,
    instant_in,
    mapping_in,
    number_in,
    parts_in,
    text_in,
)

T = TypeVar("T")

Read: TypeAlias = Callable[[Mapping[str, Any], str], Any]

_MICROSECOND: Final = timedelta(microseconds=1)


@frozen
class Stored:
    """A field of an element as it is stored.

    :ivar attribute: the attribute of the element that holds the value.
    :ivar name: the name under which the value is stored.
    :ivar read: returns the value from a document, by that name.
    :ivar encode: returns the stored form of the value; None for a value that is stored as it is.
    :ivar may_lack: whether a document may lack the field: it has the default of its class then.
    :ivar sparse: whether the field is left out where its stored form is None.
    :ivar within: the fields of a part that has no document of its own.
    """

    attribute: str
    name: str
    read: Read
    encode: Callable[[Any], object] | None = None
    may_lack: bool = False
    sparse: bool = False
    within: tuple[Stored, ...] = ()


class Layout(Generic[T]):
    """How the instances of one class are stored.

    :ivar fields: the fields of the class, in the order in which they are stored.
    :ivar encode: returns the stored form of an instance.
    """

    def __init__(self, cls: Callable[..., T], *fields: Stored) -> None:
        self.fields = fields
        self.encode: Callable[[T], dict[str, Any]] = _encoder(fields)
        self._cls = cls
        self._readers = tuple((f.attribute, f.name, f.read, f.may_lack) for f in fields)

    def encode_any(self, element: T | None) -> dict[str, Any] | None:
        """Return the stored form of an element; None if there is no element."""
        return None if element is None else self.encode(element)

    def decode(self, document: Mapping[str, Any]) -> T:
        """Return an element from its stored form.

        :raises KeyError: naming a field that is missing.
        :raises TypeError: if a field is of another type.
        :raises ValueError: if a field holds a value that it cannot have.
        """
        values: dict[str, Any] = {}
        for attribute, name, read, may_lack in self._readers:
            if not (may_lack and document.get(name) is None):
                values[attribute] = read(document, name)
        return self._cls(**values)


def _encoder(fields: Iterable[Stored]) -> Callable[[Any], dict[str, Any]]:
    """Return a function that makes the document of an element.

    The function is written out, as attrs writes out ``__init__``: a loop over the fields takes
    three times as long, and each event stores several elements.
    """
    places: list[str] = []
    sparse: list[str] = []
    names: dict[str, Any] = {}
    for number, (path, stored) in enumerate(row for field in fields for row in _flat(field)):
        value = f"element.{path}"
        if stored.encode is not None:
            names[f"encode_{number}"] = stored.encode
            value = f"None if (value := {value}) is None else encode_{number}(value)"
        places.append(f"{stored.name!r}: {value},")
        if stored.sparse:
            sparse.append(f"if document[{stored.name!r}] is None: del document[{stored.name!r}]")
    body = ["document = {", *places, "}", *sparse, "return document"]
    exec("def encode(element):\n " + "\n ".join(body), names)  # noqa: S102 - fields of our own
    encode: Callable[[Any], dict[str, Any]] = names["encode"]
    return encode


def _flat(field: Stored, path: str = "") -> list[tuple[str, Stored]]:
    """Return the fields of a document for one field of an element, each with its path."""
    path += field.attribute
    if not field.within:
        return [(path, field)]
    return [row for part in field.within for row in _flat(part, f"{path}.")]


# Kinds of fields


def field(attribute: str, read: Read, encode: Callable[[Any], object] | None = None) -> Stored:
    """Return a field that is stored under its own name."""
    return Stored(attribute, attribute, read, encode)


def text(attribute: str) -> Stored:
    """Return a field that holds a text."""
    return field(attribute, text_in)


def number(attribute: str) -> Stored:
    """Return a field that holds a whole number."""
    return field(attribute, number_in)


def flag(attribute: str) -> Stored:
    """Return a field that holds whether something is so; only True is stored."""
    return optional(field(attribute, flag_in, {True: True}.get))


def instant(attribute: str) -> Stored:
    """Return a field that holds an instant."""
    return field(attribute, instant_in)


def span(attribute: str) -> Stored:
    """Return a field that holds a span of time; it is stored as a number of microseconds."""
    return field(
        attribute,
        lambda document, name: number_in(document, name) * _MICROSECOND,
        lambda span: span // _MICROSECOND,
    )


def identity(attribute: str) -> Stored:
    """Return a field that holds the id of a message."""
    return field(attribute, id_in)


def one_of(attribute: str, members: type[Enum]) -> Stored:
    """Return a field that holds a member of an enum; its value is stored."""
    return field(attribute, lambda document, name: members(document[name]), value_of)


value_of: Final[Callable[[Enum], Any]] = attrgetter("_value_")
"""Returns the value of a member of an enum, in less time than its property takes."""


def mapping(attribute: str) -> Stored:
    """Return a field that holds data in stored form."""
    return field(attribute, mapping_in)


def filled(attribute: str) -> Stored:
    """Return a field that holds data in stored form; empty data is not stored."""
    return optional(field(attribute, mapping_in, lambda data: data or None))


def part(attribute: str, layout: Layout[Any]) -> Stored:
    """Return a field that holds another element, in a document of its own."""
    decode = layout.decode
    return field(
        attribute, lambda document, name: decode(mapping_in(document, name)), layout.encode
    )


def among(attribute: str, layout: Layout[Any]) -> Stored:
    """Return a field that holds another element, whose fields lie in the same document."""
    decode = layout.decode
    return evolve(field(attribute, lambda document, _: decode(document)), within=layout.fields)


def array(attribute: str, layout: Layout[Any]) -> Stored:
    """Return a field that holds elements, in their order; no elements if it was not read."""
    encode, decode = layout.encode, layout.decode
    return field(
        attribute,
        lambda document, name: parts_in(document, name, decode),
        lambda elements: [encode(element) for element in elements],
    )


def named(name: str, stored: Stored) -> Stored:
    """Return a field that is stored under another name."""
    return evolve(stored, name=name)


def optional(stored: Stored) -> Stored:
    """Return a field that is left out of the document where its stored form is None."""
    return evolve(stored, may_lack=True, sparse=True)


def lenient(stored: Stored) -> Stored:
    """Return a field that is always written, though not every earlier release wrote it."""
    return evolve(stored, may_lack=True)
