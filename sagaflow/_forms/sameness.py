"""Closer than ``==``: to Python 1, True and 1.0 are equal, and so are dicts in any order."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, cast

from sagaflow._forms.instances import field_names
from sagaflow._forms.size import encoded


def same_value(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types, all the way down."""
    if type(one) is not type(other):
        return False
    mine, yours = _parts(one), _parts(other)
    if mine is None or yours is None:
        return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)
    return len(mine) == len(yours) and all(map(same_value, mine, yours))


def _parts(value: Any) -> list[Any] | None:
    """Return what *value* consists of, in order; None if it has no parts."""
    cls = cast("Any", type(value))
    if issubclass(cls, Mapping):
        return [part for item in value.items() for part in item]
    if issubclass(cls, list | tuple | deque):
        return list(value)
    if issubclass(cls, AbstractSet):  # in an order that does not depend on how the set was built
        return sorted(value, key=lambda item: (hash(item), repr(item)))
    names = field_names(cls)
    return [getattr(value, name, None) for name in names] if names else None


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that are new, or whose stored form BSON tells from the old.

    Values that Python calls equal may still differ in a type within, in the order of keys or in the
    sign of a zero. Such values are compared as BSON, all at once, since mostly none differs.

    :raises SerializationError: if BSON cannot hold a field.
    """
    found: list[str] = []
    equal: list[str] = []
    for name, new in after.items():
        if name not in before:
            found.append(name)
            continue
        old = before[name]
        if old is new:
            continue
        if old != new:
            found.append(name)
        elif type(new) is not type(old) or type(new) not in (
            _WITHOUT_PARTS if new else _THE_SAME_IF_EMPTY
        ):
            equal.append(name)
    if equal and _bson(before, equal) != _bson(after, equal):
        found += [name for name in equal if _bson(before, [name]) != _bson(after, [name])]
    return found


def _bson(fields: Mapping[str, Any], names: list[str]) -> bytes:
    return encoded({name: fields[name] for name in names})


_WITHOUT_PARTS: Final = frozenset({str, bytes, bool, int})
"""Types whose values are the same if they are equal and both of the type."""
_THE_SAME_IF_EMPTY: Final = _WITHOUT_PARTS | {list, dict}
