"""How an orchestrator is: whether its workers live, its store answers, its work is late."""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import frozen


@frozen(kw_only=True)
class Health:
    """How an orchestrator is.

    :ivar workers_alive: whether the background does its rounds; None if there is none, as in an
        orchestrator that was not entered.
    :ivar last_sweep: when it last looked successfully for due work that others have left.
    :ivar late: for how long the longest due work of any saga class has been due, by whomever it is
        to be done; None if the store did not say.
    :ivar store_reachable: whether the store answered just now.
    :ivar outage_since: since when the store is known to fail; None if it does not.
    :ivar bus_silent_since: since when the bus neither accepts nor refuses any message of some
        class, if that is for longer than half of what one may take (``send_timeout=``); else None.
    :ivar damaged: how many documents this process leaves alone, since they cannot be read;
        ``sagaflow ls --damaged`` lists them.
    :ivar newer: how many due sagas it leaves to other code, which has stored them with a later
        schema or in a state that the class here does not know.
    """

    workers_alive: bool | None
    last_sweep: datetime | None
    late: timedelta | None
    store_reachable: bool
    outage_since: datetime | None
    bus_silent_since: datetime | None = None
    damaged: int = 0
    newer: int = 0

    @property
    def ok(self) -> bool:
        """Whether store and bus answer and the background, if there is one, is alive.

        What is left alone does not count: a process that is started anew would do the same.
        """
        return (
            self.store_reachable
            and self.workers_alive is not False
            and self.bus_silent_since is None
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should look at, each in a sentence; also while all is ok."""
        newer = (
            f"{self.newer:,} due sagas are left to newer code, or are in a state that the class "
            "does not know: see sagaflow check --against"
        )
        damaged = f"{self.damaged:,} damaged documents are left alone: see sagaflow ls --damaged"
        said = (
            (not self.store_reachable, "the store does not answer"),
            (self.workers_alive is False, "the background has not done its rounds for long"),
            (self.bus_silent_since is not None, "the bus does not answer"),
            (self.damaged > 0, damaged),
            (self.newer > 0, newer),
        )
        return tuple(sentence for is_so, sentence in said if is_so)
