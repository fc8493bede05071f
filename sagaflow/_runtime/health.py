"""How an orchestrator is: whether its workers live, its store answers, its work is late."""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import frozen


@frozen(kw_only=True)
class Health:
    """How an orchestrator is.

    :ivar workers_alive: whether the background does its rounds; None if there is none, as in an
        orchestrator that was not entered.
    :ivar last_sweep: when the background last looked successfully for due work that other processes
        have left.
    :ivar late: for how long the work that is due longest has been due, whichever process is to do
        it; None if the store did not say.
    :ivar store_reachable: whether the store answered just now.
    :ivar outage_since: since when the store is known to fail; None if it does not.
    :ivar bus_silent_since: since when the bus has neither accepted nor refused any message of some
        class, if that is longer than half of ``send_timeout=``; else None.
    :ivar bus_down_since: since when the broker of the bus cannot be reached for taking messages;
        None if it can, or if the bus does not tell.
    :ivar damaged: how many documents this process leaves alone, since they cannot be read;
        ``sagaflow ls --damaged`` lists them.
    :ivar newer: how many due sagas this process leaves to other code, which has stored them with a
        later schema or in a state that the class here does not know.
    """

    workers_alive: bool | None
    last_sweep: datetime | None
    late: timedelta | None
    store_reachable: bool
    outage_since: datetime | None
    bus_silent_since: datetime | None = None
    bus_down_since: datetime | None = None
    damaged: int = 0
    newer: int = 0

    @property
    def ok(self) -> bool:
        """Whether store and bus answer and the background, if there is one, is alive.

        Sagas that are left alone do not count: a restarted process would leave them alone, too.
        """
        return (
            self.store_reachable
            and self.workers_alive is not False
            and self.bus_silent_since is None
            and self.bus_down_since is None
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Conditions that somebody should look at, one sentence each; also while `ok` is true."""
        newer = (
            f"{self.newer:,} due sagas are left to newer code, or are in a state that the class "
            "does not know: see sagaflow check --against"
        )
        damaged = f"{self.damaged:,} damaged documents are left alone: see sagaflow ls --damaged"
        said = (
            (not self.store_reachable, "the store does not answer"),
            (self.workers_alive is False, "the background has not done its rounds for long"),
            (self.bus_silent_since is not None, "the bus does not answer"),
            (self.bus_down_since is not None, "the bus is down"),
            (self.damaged > 0, damaged),
            (self.newer > 0, newer),
        )
        return tuple(sentence for is_so, sentence in said if is_so)
