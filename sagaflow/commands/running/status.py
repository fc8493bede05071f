"""How a worker is: whether it lives, whether it is ready, and what is amiss."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

import anyio
from attrs import define, field, frozen

from sagaflow.bus.broker import BrokerBus
from sagaflow.orchestrator import Orchestrator

_FRESH: Final = 1.0
"""For how many seconds a report is repeated: many questions are no load for the database."""
_WITHIN: Final = timedelta(seconds=2)


@frozen
class Report:
    """How a worker is.

    :ivar live: whether it does its rounds; if not, it has to be started again.
    :ivar ready: whether it takes messages, and its database and bus answer.
    :ivar problems: what is amiss, a sentence each.
    """

    live: bool
    ready: bool
    problems: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the report as one line."""
        return json.dumps({"live": self.live, "ready": self.ready, "problems": self.problems})

    @classmethod
    def of_json(cls, line: bytes) -> Report:
        """Return the report that *line* says."""
        given: dict[str, Any] = json.loads(line)
        return cls(given["live"], given["ready"], tuple(given["problems"]))


@define
class Progress:
    """How far a worker has come.

    :ivar waits_for: what keeps it from working, in words; None while it works.
    """

    waits_for: str | None = "it is starting"
    bus: BrokerBus | None = None
    orchestrator: Orchestrator | None = None
    _last: tuple[float, Report] | None = field(default=None, init=False)
    _changed: anyio.Event = field(factory=anyio.Event, init=False)
    _asking: anyio.Lock = field(factory=anyio.Lock, init=False)

    def note(self, waits_for: str | None) -> None:
        """Note what keeps the worker from working; None once it works."""
        self.waits_for = waits_for
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for_change(self) -> None:
        """Wait until `note` is called."""
        await self._changed.wait()

    async def report(self) -> Report:
        """Say how the worker is; the store is asked at most once a second."""
        async with self._asking:
            now = anyio.current_time()
            if self._last is None or now - self._last[0] >= _FRESH:
                self._last = anyio.current_time(), await self._asked()
            found = self._last[1]
        if self.waits_for is not None:
            return Report(found.live, ready=False, problems=(self.waits_for, *found.problems))
        return found

    async def _asked(self) -> Report:
        if self.orchestrator is not None:
            health = await self.orchestrator.health(within=_WITHIN)
            return Report(health.workers_alive is not False, health.ok, health.warnings)
        if self.bus is not None and self.bus.down_since is not None:
            return Report(live=True, ready=False, problems=("the bus is down",))
        return Report(live=True, ready=True)
