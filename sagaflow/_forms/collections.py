"""The forms of collections. What they hold is of a declared type, too."""

from __future__ import annotations

import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, MutableSet
from collections.abc import Sequence as AbstractSequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Final, get_args, get_origin

from attrs import frozen

from sagaflow._forms.declared import is_class, is_dynamic, plain
from sagaflow._forms.form import Decoder, Encoder, Form, FormOf
from sagaflow._forms.values import (
    TAG,
    VALUE,
    MisfitError,
    UnfitValueError,
    check,
    decode_items,
    encode_each,
    encode_items,
    expected,
    faults_of,
    is_document,
)
from sagaflow._model.shown import shown


def _kind(declared: Any) -> Any:
    return get_origin(declared) or declared


# Lists, tuples, sets


@frozen
class _Kind:
    """A kind of collection that may be declared.

    :ivar made: the class whose values are stored as plain arrays, and made of these.
    :ivar tagged: further classes, whose values are stored with the name of the class.
    """

    made: type
    tagged: tuple[type, ...] = ()


_KINDS: Final[Mapping[Any, _Kind]] = {
    list: _Kind(list),
    deque: _Kind(deque),
    set: _Kind(set),
    frozenset: _Kind(frozenset),
    AbstractSequence: _Kind(tuple, (list,)),
    MutableSequence: _Kind(list),
    AbstractSet: _Kind(frozenset, (set,)),
    MutableSet: _Kind(set),
}
"""The collections that may be declared, beside tuples."""


def is_collection(declared: Any) -> bool:
    """Tell whether *declared* is a list, a tuple, a set or another collection of this module."""
    return _kind(declared) is tuple or _kind(declared) in _KINDS


def collection(declared: Any, form_of: FormOf) -> Form:
    """Return the form of a collection: an array.

    :raises TypeError: if the type of an item cannot be stored, or is not said.
    """
    cls = _kind(declared)
    arguments: tuple[Any, ...] = get_args(declared)
    if cls is tuple:
        if declared in (tuple, typing.Tuple):  # noqa: UP006 - but tuple[()] is of no items
            arguments = (object, ...)
        if any(getattr(argument, "__unpacked__", False) for argument in arguments):
            raise TypeError(f"{declared} says of no item which type it has: write tuple[T, ...]")
        if not arguments or arguments[-1] is not Ellipsis:
            return _fixed([form_of(argument) for argument in arguments])
        return _array(tuple, _Kind(tuple), form_of(arguments[0]))
    (item,) = arguments or (object,)
    if cls is deque:
        return _deque(form_of(item))
    return _array(cls, _KINDS[cls], form_of(item))


def _array(cls: Any, kind: _Kind, item: Form) -> Form:
    accepted = (kind.made, *kind.tagged)
    encode_item, make = item.encode, kind.made
    tagged = {of.__name__: of for of in kind.tagged}

    def encode(value: Any) -> object:
        if not isinstance(value, accepted):
            raise expected(cls.__name__, value)
        items: Any = value
        encoded = encode_each(encode_item, items) if len(items) else []
        for name, of in tagged.items():
            if isinstance(value, of):
                return {TAG: name, VALUE: encoded}
        return encoded

    read = _reading(item)

    def decode(stored: Any) -> object:
        if tagged and is_document(stored) and stored.get(TAG) in tagged:
            return tagged[stored[TAG]](read(stored[VALUE]))
        found = read(stored)
        return found if make is list else make(found)

    return Form(encode, decode)


def _reading(form: Form) -> Callable[[Any], list[Any]]:
    decode_item, as_is = form.decode, form.read_as_is

    def read(stored: Any) -> list[Any]:
        if not isinstance(stored, list):
            raise expected("a stored list", stored)
        items: Any = stored  # pyright: ignore[reportUnknownVariableType]
        found: list[Any] = []
        faults: list[tuple[str, str]] = []
        for item in items:
            try:
                found.append(item if type(item) in as_is else decode_item(item))
            except Exception as exc:  # noqa: BLE001 - each fault is told
                faults += faults_of(exc, f"[{len(found)}]")
                found.append(None)
        if faults:
            raise MisfitError(faults)
        return found

    return read


def _fixed(forms: list[Form]) -> Form:
    """Return the form of a tuple whose items have a declared type each."""
    encoders = [form.encode for form in forms]
    decoders = [form.decode for form in forms]

    def encode(value: Any) -> object:
        check(value, "tuple", tuple)
        if len(value) != len(encoders):
            raise expected(f"a tuple of {len(encoders)}", value)
        return [
            item
            for number, encode_item in enumerate(encoders)
            for item in encode_each(encode_item, value[number : number + 1], number)
        ]

    def decode(stored: Any) -> object:
        check(stored, "a stored list", list)
        if len(stored) != len(decoders):
            raise expected(f"a stored list of {len(decoders)}", stored)
        found: list[Any] = []
        faults: list[tuple[str, str]] = []
        for number, (decode_item, item) in enumerate(zip(decoders, stored, strict=True)):
            try:
                found.append(decode_item(item))
            except Exception as exc:  # noqa: BLE001 - each fault is told
                faults += faults_of(exc, f"[{number}]")
        if faults:
            raise MisfitError(faults)
        return tuple(found)

    return Form(encode, decode)


def _deque(item: Form) -> Form:
    """Return the form of a deque, which is stored with its greatest length, if it has one."""
    encode_item, read = item.encode, _reading(item)

    def encode(value: Any) -> object:
        check(value, "deque", deque)
        encoded = encode_each(encode_item, value)
        return (
            encoded if value.maxlen is None else {TAG: _MOST, _MOST: value.maxlen, VALUE: encoded}
        )

    def decode(stored: Any) -> object:
        if is_document(stored) and stored.get(TAG) == _MOST:
            return deque(read(stored[VALUE]), int(stored[_MOST]))
        return deque(read(stored))

    return Form(encode, decode)


_MOST: Final = "maxlen"


# Mappings

_MAPPINGS: Final[Mapping[Any, type]] = {
    dict: dict,
    Mapping: dict,
    MutableMapping: dict,
    OrderedDict: OrderedDict,
    defaultdict: defaultdict,
    Counter: Counter,
}
"""The mappings that may be declared, with the class of the mapping that is read."""


def is_mapping(declared: Any) -> bool:
    """Tell whether *declared* is a mapping of this module."""
    return _kind(declared) in _MAPPINGS


def is_defaultdict(declared: Any) -> bool:
    """Tell whether *declared* is a defaultdict."""
    return is_class(declared, defaultdict)


def mapping(declared: Any, form_of: FormOf) -> Form:
    """Return the form of a mapping: a document, or an array of pairs."""
    _, value_type = _types(declared)
    made = _kind(plain(value_type))
    is_made = isinstance(made, type) and not is_dynamic(made)
    return mapping_with(declared, form_of, made if is_made else None)


def mapping_with(declared: Any, form_of: FormOf, factory: Callable[[], Any] | None) -> Form:
    """Return the form of a mapping.

    :param factory: makes the values of new keys, if the mapping is a defaultdict.
    :raises TypeError: if the type of its keys or values cannot be stored.
    """
    cls = _kind(declared)
    key, value = (form_of(part) for part in _types(declared))
    make: Callable[[Any], Any] = _MAPPINGS[cls]
    if make is defaultdict:
        make = partial(defaultdict[Any, Any], factory)
    return Form(
        _mapping_encoder(cls, key.encode, value.encode, factory),
        _mapping_decoder(make, key.decode, value.decode),
    )


def _types(declared: Any) -> tuple[Any, Any]:
    """Return the types of keys and values of a mapping."""
    arguments = get_args(declared)
    if not arguments:
        return object, int if is_class(declared, Counter) else object
    return arguments[0], arguments[1] if len(arguments) > 1 else int  # of a Counter


def _mapping_encoder(
    cls: Any, encode_key: Encoder, encode_value: Encoder, factory: Callable[[], Any] | None
) -> Encoder:
    def encode(value: Any) -> object:
        if value.__class__ is not dict:
            check(value, cls.__name__, Mapping)
            _check_missing(cls, value, factory)
        return encode_items(encode_key, encode_value, value)

    return encode


def _check_missing(cls: Any, value: Any, factory: Callable[[], Any] | None) -> None:
    """Refuse a mapping that makes values for missing keys, but would not once it was stored."""
    if cls is defaultdict and is_defaultdict(type(value)):
        given = value.default_factory
        if not _same_factory(given, factory):
            raise UnfitValueError(
                f"a new key of this defaultdict begins with what {shown(given)} makes, which "
                "cannot be stored: let its field start with such a defaultdict, "
                "field(factory=lambda: defaultdict(...))"
            )
    elif cls is not Counter and hasattr(value, "__missing__"):
        raise UnfitValueError(
            f"expected {cls.__name__}, found a {type(value).__name__}, which makes values for new "
            "keys: declare it so"
        )


def _same_factory(one: object, other: object) -> bool:
    """Tell whether two factories are one, or were made by one piece of code."""
    return one is other or getattr(one, "__code__", one) is getattr(other, "__code__", other)


def _mapping_decoder(make: Any, decode_key: Decoder, decode_value: Decoder) -> Decoder:
    def decode(stored: Any) -> object:
        if not is_document(stored):
            raise expected("a stored mapping", stored)
        found: dict[Any, Any] = {}
        faults: list[tuple[str, str]] = []
        for key, value in decode_items(stored):
            try:
                found[decode_key(key)] = decode_value(value)
            except Exception as exc:  # noqa: BLE001 - each fault is told
                faults += faults_of(exc, f"[{shown(key)}]")
        if faults:
            raise MisfitError(faults)
        return found if make is dict else make(found)

    return decode
