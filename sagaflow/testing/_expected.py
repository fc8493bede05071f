"""What a test expects of messages, and whether it is so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from attrs import frozen


@frozen
class InAnyOrder:
    """Exactly these messages, whatever their order."""

    messages: tuple[object, ...]


@frozen
class Containing:
    """At least these messages, whatever their order and whatever else there is."""

    messages: tuple[object, ...]


Messages: TypeAlias = Sequence[object] | InAnyOrder | Containing
"""Messages as a test expects them: a sequence is exactly these, in this order. A class stands for
any instance of it."""


def in_any_order(*messages: object) -> InAnyOrder:
    """Expect exactly these messages, in whatever order.

    :param messages: messages, or classes of which any instance will do.
    """
    return InAnyOrder(messages)


def containing(*messages: object) -> Containing:
    """Expect at least these messages, in whatever order, and do not mind others.

    :param messages: messages, or classes of which any instance will do.
    """
    return Containing(messages)


def are_as_expected(expected: Messages, found: Sequence[object]) -> bool:
    """Tell whether the messages that were *found* are those that a test expects."""
    if isinstance(expected, InAnyOrder):
        return len(expected.messages) == len(found) and _missing(expected.messages, found) == []
    if isinstance(expected, Containing):
        return _missing(expected.messages, found) == []
    return len(expected) == len(found) and all(map(_is_like, expected, found))


def resolved(expected: Messages, found: Sequence[object]) -> list[object]:
    """Return the expected messages, each class replaced by an instance that was found."""
    items = expected.messages if isinstance(expected, InAnyOrder | Containing) else expected
    left = [*found]
    placed: list[object] = []
    for item in items:
        match = next((one for one in left if _is_like(item, one)), None)
        if match is not None:
            left.remove(match)
        placed.append(item if match is None else match)
    return placed


def _missing(expected: Sequence[object], found: Sequence[object]) -> list[object]:
    """Return the expected messages that were not found; instances are looked for before classes."""
    left = [*found]
    missing: list[object] = []
    for item in sorted(expected, key=lambda item: isinstance(item, type)):
        match = next((number for number, one in enumerate(left) if _is_like(item, one)), None)
        if match is None:
            missing.append(item)
        else:
            del left[match]
    return missing


def _is_like(expected: object, found: object) -> bool:
    if isinstance(expected, type):
        return isinstance(found, expected)
    return bool(expected == found)
