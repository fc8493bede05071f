"""What the demo was asked to do, and an interface for those who watch its progress."""

from __future__ import annotations

from attrs import field, frozen

from sagaflow.demo.brokers import MEMORY, Broker
from sagaflow.demo.plan import Order, plan
from sagaflow.demo.server import Server


@frozen(kw_only=True)
class Settings:
    """What the demo was asked to do.

    :ivar orders: how many orders.
    :ivar failures: the share of them that somebody refuses, from 0 to 1.
    :ivar concurrency: how many are placed at a time.
    :ivar seed: decides which orders are refused where, and how much they cost.
    :ivar mongodb: the URI of a server; without one, a server is started. May hold credentials.
    :ivar database: the database there; a new one if missing.
    :ivar resume: go on with the demo that is in the database. The database says what was ordered;
        settings that are among `given` must agree with it.
    :ivar given: the names of the settings that were given, rather than left at their defaults.
    :ivar crash: do the work in a process that is killed several times.
    :ivar runtime: ``asyncio`` or ``trio``.
    :ivar bus: what carries the messages: ``memory``, and all work is done in one process; otherwise
        one of `sagaflow.demo.brokers.BUSES`, or a URL. May hold credentials.
    """

    orders: int = 200
    failures: float = 0.2
    concurrency: int = 50
    seed: int = 0
    mongodb: str | None = field(default=None, repr=False)
    database: str | None = None
    resume: bool = False
    given: frozenset[str] = frozenset()
    crash: bool = False
    runtime: str = "asyncio"
    bus: str = field(default=MEMORY, repr=False)

    @property
    def planned(self) -> tuple[Order, ...]:
        """All orders of this demo."""
        return plan(self.orders, self.failures, self.seed)


class Watcher:
    """Is told about the progress of a run. This one ignores it; others override its methods."""

    def begun(self, settings: Settings, server: Server, placed: int) -> None:
        """Note that the server answers.

        :param settings: the settings of the run; those of a continued demo come from its database.
        :param placed: how many orders have been placed before.
        """

    def carried_by(self, broker: Broker) -> None:
        """Note what carries the messages between processes."""

    def order_done(self) -> None:
        """Note that one more order has been dealt with."""

    def killed(self) -> None:
        """Note that the process that does the work was killed, or one of them, or the broker."""
