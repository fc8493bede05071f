"""How failing work is tried again, and how large a saga may become."""

from __future__ import annotations

from datetime import timedelta

from attrs import field, frozen
from attrs.validators import gt

_NOTHING = timedelta(0)


@frozen(kw_only=True)
class RetryPolicy:
    """How failing work is tried again: handlers run by workers, compensations, outgoing messages.

    :ivar initial_delay: the bound of the first delay; each failure doubles it.
    :ivar max_delay: the largest bound. The delay is anything up to the bound, at random.
    :ivar max_age: for how long work may fail before its saga is suspended.
    """

    initial_delay: timedelta = field(default=timedelta(seconds=1), validator=gt(_NOTHING))
    max_delay: timedelta = field(default=timedelta(minutes=5), validator=gt(_NOTHING))
    max_age: timedelta = field(default=timedelta(hours=1), validator=gt(_NOTHING))


@frozen(kw_only=True)
class Limits:
    """How large a saga may become. What would exceed a limit is refused before it is stored.

    :ivar max_outbox: how many messages may wait for the bus.
    :ivar max_parked: how many events may wait for the saga.
    :ivar max_timers: how many timers may be armed.
    :ivar max_compensations: how many steps may be recorded.
    :ivar warn_bytes: a stored saga larger than this is logged as a warning.
    :ivar max_bytes: how large a stored saga may become, without its inbox and history, which are
        bounded by themselves. Undoing a step may take 1 MiB more; a failure and an operator's
        decision are always stored. MongoDB's own limit is 16 MiB.
    """

    max_outbox: int = field(default=1_000, validator=gt(0))
    max_parked: int = field(default=1_000, validator=gt(0))
    max_timers: int = field(default=100, validator=gt(0))
    max_compensations: int = field(default=1_000, validator=gt(0))
    warn_bytes: int = field(default=1024 * 1024, validator=gt(0))
    max_bytes: int = field(default=8 * 1024 * 1024, validator=gt(0))
