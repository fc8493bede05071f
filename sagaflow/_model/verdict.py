"""What is to become of a message that a bus has delivered."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from attrs import field, frozen
from attrs.validators import instance_of


@frozen
class Accepted:
    """The message has been dealt with: it is acknowledged, and not delivered again."""


@frozen
class RetryLater:
    """The message could not be dealt with now: it is delivered again.

    :ivar after: how long from now, at least; after the retry policy's ``max_age`` the message is
        put aside all the same.
    :ivar error: why, in words.
    :ivar failed: False where a bus gives a message back that no handler has had: it comes again
        and nothing counts as a failure. What a handler returns counts always.
    :raises TypeError: if *after* is no timedelta.
    """

    after: timedelta = field(validator=instance_of(timedelta))
    error: str
    failed: bool = field(default=True, kw_only=True)


@frozen
class Undeliverable:
    """The message cannot be dealt with: it is put aside as a dead letter.

    :ivar reason: why, in a few words that stay the same from message to message.
    :ivar detail: what is known beyond that, such as a traceback.
    """

    reason: str
    detail: str = ""


Verdict: TypeAlias = Accepted | RetryLater | Undeliverable
"""What a handler of a bus may return, and what becomes of each delivery."""

ACCEPTED = Accepted()
