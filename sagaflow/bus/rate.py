"""How often, and how many at once, a handler is called at most. Pure."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Final

from attrs import Attribute, define, field, frozen

from sagaflow._model.errors import BusError

_MOST: Final = 100_000
_SHORTEST: Final = timedelta(milliseconds=1)
_NO_WAIT: Final = timedelta(0)


def _check_count(_: object, __: Attribute[int], count: object) -> None:
    if type(count) is not int or not 1 <= count <= _MOST:
        raise BusError(
            f"Rate(count, per=...) lets a handler begin count times: a whole number from 1 to "
            f"{_MOST:,}, not {count!r}; for fewer than one, have per= be longer"
        )


def _check_per(_: object, __: Attribute[timedelta], per: object) -> None:
    if not isinstance(per, timedelta) or per < _SHORTEST:
        raise BusError(
            f"Rate(count, per=...) takes a timedelta of a millisecond or more, such as "
            f"timedelta(seconds=1), not {per!r}"
        )


@frozen
class Rate:
    """How often a handler is called: at most *count* times in any span as long as *per*.

    After a pause it may be called *count* times at once; then each further call waits until the one
    that was *count* calls before it is *per* ago. Spans are measured by the clock of the bus, in
    milliseconds. Calls that try a message again count.

    :ivar count: how many calls, from 1 to 100,000.
    :ivar per: in which span of time, a millisecond or more.
    :raises BusError: if one of them is something else.
    """

    count: int = field(validator=_check_count)
    per: timedelta = field(kw_only=True, validator=_check_per)


@frozen(kw_only=True)
class Terms:
    """What a subscription allows.

    :ivar rate: how often its handler begins; None for as often as messages come.
    :ivar concurrency: how many calls there are at the same time; None for as many as the bus has.
    """

    rate: Rate | None
    concurrency: int | None

    @classmethod
    def of(cls, where: str, rate: object, concurrency: object) -> Terms | None:
        """Return what a subscription allows; None if it has no limits.

        :param where: the subscription, for errors.
        :raises BusError: if *rate* is no `Rate`, or *concurrency* no whole number of 1 or more.
        """
        if rate is not None and not isinstance(rate, Rate):
            raise BusError(
                f"{where}: rate= takes a Rate, such as Rate(50, per=timedelta(seconds=1)), not "
                f"{rate!r}"
            )
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise BusError(
                f"{where}: concurrency= is how many messages the handler has at the same time, a "
                f"whole number of 1 or more, not {concurrency!r}; leave it out for no limit"
            )
        if rate is None and concurrency is None:
            return None
        return cls(rate=rate, concurrency=concurrency)


@define
class StartLog:
    """When the last calls began, as many as a rate counts: a sliding log.

    The other known way is the generic cell rate algorithm (GCRA, ITU-T I.371), which keeps one
    instant instead of *count*. It has either no bursts at all, so that ``Rate(1000, per=1 day)``
    is one call in 86 seconds, or lets nearly twice *count* calls begin within *per*.
    """

    rate: Rate
    _starts: deque[datetime] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._starts = deque(maxlen=self.rate.count)

    def wait(self, now: datetime) -> timedelta:
        """Return after how long another call may begin; never longer than the span of the rate."""
        if len(self._starts) < self.rate.count:
            return _NO_WAIT
        if self._starts[0] > now:  # the clock was set back; what it said before means nothing now
            self._starts.extend([now] * self.rate.count)
        return max(self._starts[0] + self.rate.per - now, _NO_WAIT)

    def note(self, now: datetime) -> None:
        """Note that a call begins."""
        self._starts.append(now)
