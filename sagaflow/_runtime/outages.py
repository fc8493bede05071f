"""Since when the store fails, and which sagas are left alone: each is told once."""

from __future__ import annotations

from datetime import datetime

from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import LeftAloneError, RepositoryError
from sagaflow._model.log import about, get_logger
from sagaflow._runtime.aside import Aside
from sagaflow._runtime.trace import SILENT, Trace

logger = get_logger(__name__)


@define(kw_only=True)
class Outages:
    """Tells of an outage of the store when it begins and when it is over.

    :ivar aside: the sagas that are left alone; that they cannot be read says nothing of the store.
    :ivar since: since when the store is known to fail; None if it does not.
    """

    clock: Clock
    trace: Trace = SILENT
    aside: Aside = field(factory=Aside)
    since: datetime | None = field(default=None, init=False)

    def report(self, error: RepositoryError) -> None:
        """Log that the store fails, once for each outage, or set aside the saga that is at fault.

        :param error: what the store, or the reading of a document, has raised.
        """
        if isinstance(error, LeftAloneError):
            self.aside.add(error, self.clock.now())
        elif self.since is None:
            self.since = self.clock.now()
            self.trace.store_fails(error)
            logger.error(
                "the store fails; work is tried again until it is back: %s", error, extra=about()
            )

    def report_recovery(self) -> None:
        """Log that the store answers again, if it did not."""
        if self.since is not None:
            self.since = None
            self.trace.store_is_back()
            logger.warning("the store is back: work goes on", extra=about())
