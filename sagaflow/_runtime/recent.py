"""A dictionary of bounded size."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Recent(dict[KeyT, ValueT]):
    """Remembers a bounded number of entries: the one used longest ago makes room for a new one.

    An entry is used when `keep` stores it and when `used` finds it; what is read otherwise, as from
    any dictionary, does not count.

    :param most: how many entries are kept.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def used(self, key: KeyT) -> ValueT | None:
        """Return what is remembered under *key*, and keep it for longer."""
        value = self.pop(key, None)
        if value is not None:
            self[key] = value
        return value

    def keep(self, key: KeyT, value: ValueT) -> None:
        """Remember *value* under *key*."""
        self.pop(key, None)
        self[key] = value
        if len(self) > self._most:
            del self[next(iter(self))]
