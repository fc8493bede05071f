"""A lane of an inbox that this process owns for a while: its consumer, and what it has in hand.

The consumer is the ownership. A stream that is a work queue has one consumer at most for the
subjects of a lane: who has made it owns the lane, and whoever deletes it has ended that, whatever
its owner believes. A new consumer begins with the oldest message that is not acknowledged, so that
each owner finds the messages in their order.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, field, frozen

PULLED: Final = 100
"""How many messages are asked for at once."""
IN_HAND: Final = 1000
"""How many messages of one lane a process has in its memory, at most. A message that fails holds
up other sagas of its lane only when so many of its own saga wait behind it."""


@frozen
class Waiting:
    """A message in hand.

    :ivar number: its place in the stream.
    :ivar reply: where it is acknowledged.
    """

    number: int
    reply: str
    subject: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen
class Failures:
    """How often handling a message has failed, and since when."""

    attempts: int
    since: datetime


@define(eq=False, kw_only=True)
class Lane:
    """A lane that this process owns.

    :ivar consumer: the name of the consumer, which no other lane or owner ever has.
    :ivar until: when the ownership is given up, on anyio's clock, unless the server is heard of.
    :ivar expected: how many of those asked for have not come yet.
    :ivar delivered: the number of the message that came last, as the consumer counts.
    :ivar keys: the messages in hand, by their key, in order.
    :ivar failing: how messages have failed, by their number.
    :ivar ending: set when nothing more is to be begun.
    """

    number: int
    consumer: str
    until: float
    asked: float = 0.0
    expected: int = 0
    delivered: int = 0
    last_reply: str | None = None
    is_lost: bool = False
    in_hand: set[int] = field(factory=set[int])
    keys: dict[str, deque[Waiting]] = field(factory=dict[str, deque[Waiting]])
    failing: dict[int, Failures] = field(factory=dict[int, Failures])
    ending: anyio.Event = field(factory=anyio.Event)
    tasks: TaskGroup | None = None

    def lose(self) -> None:
        """Break off what is being handled: another process may own the lane by now."""
        self.is_lost = True
        self.ending.set()
        if self.tasks is not None:
            self.tasks.cancel_scope.cancel()


@frozen
class Place:
    """What the reply subject of a message says.

    :ivar number: its place in the stream.
    :ivar delivery: the number of this delivery, as the consumer counts.
    """

    consumer: str
    number: int
    delivery: int


def place_of(reply: str) -> Place | None:
    """Return what a reply subject says; None if it is none of JetStream."""
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:  # noqa: PLR2004 - the first form has nine
        return None
    own = tokens[2:] if len(tokens) == 9 else tokens[4:]  # noqa: PLR2004 - domain and account
    try:
        return Place(consumer=own[1], number=int(own[3]), delivery=int(own[4]))
    except (IndexError, ValueError):
        return None


def write_failing(failing: Mapping[int, Failures]) -> bytes:
    """Return how messages of a lane have failed, as it is stored for the next owner."""
    told = {str(number): [f.attempts, f.since.isoformat()] for number, f in failing.items()}
    return json.dumps(told).encode()


def read_failing(data: bytes) -> dict[int, Failures]:
    """Return what was stored; nothing if it is damaged: then the messages have all their time."""
    try:
        told: Any = json.loads(data)
        return {
            int(number): Failures(int(attempts), _aware(datetime.fromisoformat(since)))
            for number, (attempts, since) in told.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return instant
