"""How the bus of an orchestrator is: for health probes and for observers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import anyio
from attrs import define

from sagaflow._model.log import about, get_logger
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.process import Process
from sagaflow.abc import Bus
from sagaflow.observing import BusCondition, Observers

logger = get_logger(__name__)

_NONE: Final = timedelta(0)
_TOLD_EVERY: Final = timedelta(seconds=15)


@define(kw_only=True)
class BusWatch:
    """Knows how the bus is, which costs no look at it.

    :ivar bus: None for an orchestrator without one.
    """

    bus: Bus | None
    process: Process
    outbox: Outbox

    def silent_since(self) -> datetime | None:
        """Return since when the bus neither accepts nor refuses some messages; None if it does."""
        return self.outbox.silent_since()

    def down_since(self) -> datetime | None:
        """Return since when the broker cannot be reached; None if it can, or nobody tells."""
        return getattr(self.bus, "down_since", None)

    def condition(self) -> BusCondition:
        """Return how the bus is now; there has to be one."""
        return BusCondition(
            bus=str(getattr(self.bus, "service", type(self.bus).__name__)),
            down_for=self._passed(self.down_since()),
            silent_for=self._passed(self.silent_since()),
        )

    async def tell(self, observers: Observers) -> None:
        """Tell observers every 15 seconds how the bus is, until cancelled; there has to be one."""
        while True:
            try:
                observers.note(self.condition())
            except Exception as exc:  # noqa: BLE001 - what is only told of must not end anything
                logger.debug("the bus did not say how it is: %s", exc, extra=about())
            await anyio.sleep(_TOLD_EVERY.total_seconds())

    def _passed(self, since: datetime | None) -> timedelta:
        """Return how long ago that was; the clock of the bus may be ahead of that of the sagas."""
        return _NONE if since is None else max(self.process.clock.now() - since, _NONE)
