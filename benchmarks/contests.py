"""What a contest is, and how much it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

NOW: Final = "sagaflow"
EARLIER: Final = "sagaflow, earlier commit"


@frozen
class Contestant:
    """One of those that are compared.

    :ivar name: what it is called in the tables.
    :ivar module: where it is, within this package.
    :ivar function: what to call there.
    :ivar options: with what.
    :ivar note: what to know about its figures.
    :ivar on_server: whether it gets the URI of a MongoDB-protocol server.
    :ivar broker: the name of the broker of which it gets the URI.
    :ivar keeps_database: whether it also gets the name of a database, the same in each run.
    :ivar earlier: whether it runs with sagaflow as it was in an earlier commit.
    :ivar absent: why it does not take part; it is listed all the same.
    """

    name: str
    module: str
    function: str
    options: Mapping[str, object] = field(factory=dict[str, object], kw_only=True)
    note: str = field(default="", kw_only=True)
    on_server: bool = field(default=False, kw_only=True)
    broker: str = field(default="", kw_only=True)
    keeps_database: bool = field(default=False, kw_only=True)
    earlier: bool = field(default=False, kw_only=True)
    absent: str = field(default="", kw_only=True)


@frozen
class Contest:
    """Contestants that take turns.

    :ivar most_runs: how often everybody is measured, if that is not to be more often.
    """

    suite: str
    scenario: str
    contestants: tuple[Contestant, ...]
    most_runs: int | None = None


@frozen(kw_only=True)
class Sizes:
    """How much each contest is about.

    :ivar scale: what the numbers of orders are multiplied by.
    :ivar stored: how many sagas, or timers, are stored beside those that are measured.
    :ivar idle: how many idle sagas, if more are asked for.
    :ivar unsent: how many messages the process that dies has not sent.
    """

    scale: float = 1.0
    stored: tuple[int, ...] = (1_000, 10_000, 100_000)
    idle: int | None = None
    unsent: int = 10_000

    def of(self, number: int) -> int:
        """Return *number* as it is here."""
        return max(int(number * self.scale), 5)


QUICK: Final = Sizes(scale=0.1, stored=(100, 1_000), unsent=200)
FULL_SIZES: Final = Sizes()
