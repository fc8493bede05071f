"""Fields that are marked as secret, and values that are shown without them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Annotated, Any, Final, NewType, TypeAlias, TypeVar, cast, get_args, get_origin
from typing import get_type_hints as _get_type_hints

import attrs

T = TypeVar("T")


class _Mark:
    """Marks a type as secret."""

    def __repr__(self) -> str:
        return "secret"


_MARK: Final = _Mark()

Secret: TypeAlias = Annotated[T, _MARK]
"""The type of a field whose value is stored and sent, but never shown: ``card: Secret[str]``.

Works in sagas, in attrs classes and in dataclasses, and for any type that can be stored.
"""

HIDDEN: Final = "<secret>"
"""What is shown in the place of a secret."""

_SHOWN: Final = 50
"""How many items of a collection are looked at: an error does not show more of them."""

_known: dict[type, frozenset[str]] = {}


def is_secret(declared: Any) -> bool:
    """Tell whether a type is marked as secret, or made of one that is."""
    return not isinstance(declared, type) and _is_secret(declared, ())


def _is_secret(declared: Any, around: tuple[Any, ...]) -> bool:
    """Tell whether a type is secret; *around* are the aliases that it stands in."""
    if isinstance(declared, type):
        return False
    origin = get_origin(declared)
    if origin is Annotated:
        return _MARK in declared.__metadata__ or _is_secret(declared.__origin__, around)
    if isinstance(declared, NewType):
        return _is_secret(declared.__supertype__, around)
    for alias in (declared, origin):
        if type(alias).__name__ == "TypeAliasType" and alias not in around:
            around = (*around, alias)
            if _is_secret(alias.__value__, around):
                return True
    return any(_is_secret(argument, around) for argument in get_args(declared))


def revealed(declared: Any) -> Any:
    """Return a type without marks."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": declared}
    return _get_type_hints(holder)["it"]


def has_fields(cls: type) -> bool:
    """Tell whether *cls* is an attrs class or a dataclass."""
    return attrs.has(cls) or dataclasses.is_dataclass(cls)


def secret_fields(cls: type) -> frozenset[str]:
    """Return the names of the fields of an attrs class or a dataclass that are marked as secret."""
    found = _known.get(cls)
    if found is None:
        try:
            hints = _get_type_hints(cls, include_extras=True)
        except Exception:  # noqa: BLE001 - rather hide too much than fail while an error is told
            return frozenset(name for name, declared, _ in _fields(cls) if _names_secret(declared))
        found = frozenset(name for name, _, _ in _fields(cls) if is_secret(hints.get(name)))
        _known[cls] = found
    return found


def redact(message: object) -> dict[str, object]:
    """Return the fields of a saga, an event or a command, with `HIDDEN` in the place of secrets.

    Fields that hold such objects are redacted likewise, and so are those within collections.

    :raises TypeError: if it is no instance of an attrs class or a dataclass.
    """
    if not has_fields(type(message)):
        raise TypeError(
            f"redact() takes an instance of an attrs class or a dataclass, not of "
            f"{type(message).__qualname__}"
        )
    hidden = secret_fields(type(message))
    return {
        name: HIDDEN if name in hidden else _redacted(getattr(message, name, None))
        for name, _, _ in _fields(type(message))
    }


def _redacted(value: object) -> object:
    if has_fields(type(value)):
        return redact(value)
    match value:
        case Mapping():
            items = cast("Mapping[object, object]", value)
            return {_redacted_key(key): _redacted(item) for key, item in items.items()}
        case str() | bytes() | bytearray():
            return value
        case Sequence() | AbstractSet():
            return [_redacted(item) for item in cast("Sequence[object]", value)]
        case _:
            return value


def _redacted_key(key: object) -> object:
    return safe_repr(key) if has_fields(type(key)) else key


def safe_repr(value: object) -> str:
    """Return what `repr` does, without secrets, and without much of a long collection."""
    cls: Any = type(value)
    name = cls.__qualname__.rpartition(">.")[2]
    if has_fields(cls):
        return _repr_of_fields(value, name)
    if isinstance(value, str | bytes | bytearray | range):
        return repr(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        parts = (f"{safe_repr(key)}: {safe_repr(item)}" for key, item in items)
        text = _braced("{", parts, "}")
        return text if cls is dict else f"{name}({text})"
    for kind, plain, begin, end in _COLLECTIONS:
        if isinstance(value, kind):
            given = cast("Sequence[object]", value)
            alone = len(given) == 1 and kind is tuple
            text = _braced(begin, map(safe_repr, given), f",{end}" if alone else end)
            if kind is AbstractSet and not given:
                return f"{name}()"
            return text if cls is plain else f"{name}({text})"
    return repr(value)


_COLLECTIONS: Final[tuple[tuple[type, type, str, str], ...]] = (
    (tuple, tuple, "(", ")"),
    (Sequence, list, "[", "]"),
    (AbstractSet, set, "{", "}"),
)


def _repr_of_fields(value: object, name: str) -> str:
    cls = type(value)
    hidden = secret_fields(cls)
    parts = (
        f"{field}={HIDDEN if field in hidden else safe_repr(getattr(value, field, None))}"
        for field, _, shown in _fields(cls)
        if shown
    )
    return f"{name}({', '.join(parts)})"


def _braced(begin: str, parts: Iterator[str], end: str) -> str:
    first = list(islice(parts, _SHOWN + 1))
    return begin + ", ".join(first[:_SHOWN]) + (", ..." if len(first) > _SHOWN else "") + end


def _fields(cls: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield the name and the type of each field, and whether `repr` shows it."""
    if attrs.has(cls):
        for attribute in attrs.fields(cls):
            yield attribute.name, attribute.type, attribute.repr is not False
    else:
        for field in dataclasses.fields(cls):
            yield field.name, field.type, field.repr


def _names_secret(declared: object) -> bool:
    return is_secret(declared) or re.search(r"\bSecret\b", str(declared)) is not None
