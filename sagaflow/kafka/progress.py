"""How far a partition was dealt with: what is committed, and what is told beside it. Pure.

Kafka keeps one offset for each partition: all before it is done. A message that is tried again
keeps the offset where it is, while those behind it are dealt with. Which of them are done, and how
often others have failed, is written into the text that Kafka keeps with a committed offset, for
whoever has the partition next.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Self

from attrs import define, field, frozen

MOST_AHEAD: Final = 50_000
"""How far a process goes on behind a message that is not done."""
_MOST_TEXT: Final = 1_400
_MOST_FAILURES: Final = 40
"""Kafka keeps 4096 bytes with an offset by default; all of it takes some 3,500."""
_BYTE: Final = 8


@define
class Marks:
    """Offsets, as bits from a first one on.

    :ivar first: the offset of the first bit.
    """

    first: int = 0
    bits: bytearray = field(factory=bytearray)

    @classmethod
    def of(cls, offsets: Iterable[int]) -> Self:
        """Return marks on these offsets."""
        ordered = sorted(offsets)
        marks = cls(ordered[0] if ordered else 0)
        for offset in ordered:
            marks.add(offset)
        return marks

    def __contains__(self, offset: int) -> bool:
        place, bit = divmod(offset - self.first, _BYTE)
        return 0 <= place < len(self.bits) and self.bits[place] >> bit & 1 == 1

    def add(self, offset: int) -> None:
        """Mark an offset."""
        if offset < self.first:
            missing = -(-(self.first - offset) // _BYTE)
            self.bits[:0] = bytes(missing)
            self.first -= missing * _BYTE
        place, bit = divmod(offset - self.first, _BYTE)
        self.bits.extend(bytes(max(place + 1 - len(self.bits), 0)))
        self.bits[place] |= 1 << bit

    def forget(self, before: int) -> None:
        """Forget the marks before an offset; it may be marked next."""
        place, bit = divmod(before - self.first, _BYTE)
        if place >= len(self.bits):
            self.bits.clear()
            self.first = before
        elif place >= 0:
            del self.bits[:place]
            self.first += place * _BYTE
            self.bits[0] &= 0xFF << bit & 0xFF

    def told(self) -> str:
        """Return the marks as a text; of what is too long, what comes first."""
        bits = self.bits.rstrip(b"\0")
        while bits:
            text = b64encode(zlib.compress(bits)).decode()
            if len(text) <= _MOST_TEXT:
                return text
            del bits[len(bits) // 2 :]
        return ""


@frozen
class Failure:
    """How often handling a message has failed, and since when."""

    attempts: int
    since: datetime


@frozen
class Start:
    """Where a process goes on with a partition.

    :ivar offset: the committed offset; negative if there is none.
    :ivar done: offsets behind it that are done.
    :ivar failing: what is known of others, by their offset.
    """

    partition: int
    offset: int
    done: Marks = field(factory=Marks)
    failing: Mapping[int, Failure] = field(factory=dict[int, Failure])


@frozen
class Reached:
    """What is committed for a partition.

    :ivar told: the text that goes with the offset.
    """

    partition: int
    offset: int
    told: str


@define(eq=False)
class Progress:
    """What was taken of a partition, and what of it is done. The lowest that is not holds all up.

    :ivar failing: what is known of messages that have failed, by their offset.
    :ivar in_hand: how many messages are taken and not done.
    """

    start: Start
    failing: dict[int, Failure] = field(init=False)
    in_hand: int = field(default=0, init=False)
    _open: deque[int] = field(factory=deque[int], init=False)
    _done: Marks = field(init=False)
    _next: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.failing = dict(self.start.failing)
        self._done = Marks(self.start.done.first, bytearray(self.start.done.bits))
        self._next = self.start.offset

    @property
    def ahead(self) -> int:
        """How many messages were taken since the first that is not done."""
        return len(self._open)

    def take(self, offset: int) -> bool:
        """Note that a message was taken; tell whether there is something to do with it."""
        if offset < self._next:
            return False
        self._next = offset + 1
        self._open.append(offset)
        self.in_hand += 1
        if offset not in self._done:
            return True
        self.finish(offset)
        return False

    def finish(self, offset: int) -> None:
        """Note that a message is done."""
        self.failing.pop(offset, None)
        self.in_hand -= 1
        if not self._done.bits:
            self._done.first = self._open[0]
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._open.popleft()
        self._done.forget(self._lowest)

    @property
    def _lowest(self) -> int:
        """The first offset that is not done, or not taken yet."""
        return self._open[0] if self._open else self._next

    def reached(self) -> Reached | None:
        """Return what to commit; None if nothing was ever taken."""
        offset = self._lowest
        if offset < 0:
            return None
        return Reached(self.start.partition, offset, write_told(offset, self._done, self.failing))


def write_told(offset: int, done: Marks, failing: Mapping[int, Failure]) -> str:
    """Return what is told beside an offset."""
    kept, marks = sorted(failing.items())[:_MOST_FAILURES], done.told()
    if not marks and not kept:
        return ""
    told: dict[str, Any] = {
        "first": done.first - offset,
        "done": marks,
        "failing": {
            str(one - offset): [failure.attempts, failure.since.isoformat()]
            for one, failure in kept
        },
    }
    return json.dumps(told, separators=(",", ":"))


def read_start(partition: int, offset: int, told: str | None) -> Start:
    """Return where to go on; if what is told is damaged, all behind the offset is done again."""
    if not told or offset < 0:
        return Start(partition, offset)
    try:
        found: Any = json.loads(told)
        done = Marks(offset + int(found["first"]), _bits(found["done"]))
        failing = {
            offset + int(place): Failure(int(attempts), _aware(datetime.fromisoformat(since)))
            for place, (attempts, since) in found["failing"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
        return Start(partition, offset)
    done.forget(offset)
    return Start(partition, offset, done, failing)


def _bits(text: str) -> bytearray:
    packed = b64decode(text, validate=True)
    return bytearray(zlib.decompressobj().decompress(packed, MOST_AHEAD) if packed else b"")


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return instant
