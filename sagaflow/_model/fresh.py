"""Factories of empty collections for attrs fields.

``list[int]()`` takes some twenty times as long as ``list()``. For objects that are made anew with
each event, that is a noticeable part of the event's time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

new_list: Final[Callable[[], list[Any]]] = list
new_dict: Final[Callable[[], dict[str, Any]]] = dict
new_set: Final[Callable[[], set[Any]]] = set
new_deque: Final[Callable[[], deque[Any]]] = deque
