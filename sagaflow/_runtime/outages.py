"""What keeps the background from its work, each told once: outages, sagas left alone, bugs."""

from __future__ import annotations

from datetime import datetime

from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import LeftAloneError, RepositoryError
from sagaflow._model.log import about, get_logger
from sagaflow._runtime.left_alone import LeftAlone
from sagaflow._runtime.trace import SILENT, Trace

logger = get_logger(__name__)


@define(kw_only=True)
class Outages:
    """Tells of an outage of the store when it begins and when it is over.

    :ivar left_alone: the sagas that this process leaves alone: what is wrong with them says
        nothing about the store.
    :ivar since: since when the store is known to fail; None if it does not.
    """

    clock: Clock
    trace: Trace = SILENT
    left_alone: LeftAlone = field(factory=LeftAlone)
    since: datetime | None = field(default=None, init=False)
    _bugs: set[tuple[str, type]] = field(factory=set[tuple[str, type]], init=False)

    def report(self, error: RepositoryError) -> None:
        """Log that the store fails, once for each outage, or leave the saga at fault alone.

        :param error: what the store, or the reading of a document, has raised.
        """
        if isinstance(error, LeftAloneError):
            self.left_alone.add(error, self.clock.now())
        elif self.since is None:
            self.since = self.clock.now()
            self.trace.store_fails(error)
            logger.error(
                "the store fails; work is tried again until it is back: %s", error, extra=about()
            )

    def report_recovery(self) -> None:
        """Log that the store answers again, if it was known to fail."""
        if self.since is not None:
            self.since = None
            self.trace.store_is_back()
            logger.warning("the store is back: work goes on", extra=about())

    def report_bug(self, saga: str, error: Exception) -> None:
        """Log an error that should not happen, once for each saga class and type of error."""
        if (saga, type(error)) not in self._bugs:
            self._bugs.add((saga, type(error)))
            logger.error(
                "%s: looking for its due work failed; it is tried again, and further failures of "
                "this kind are not logged",
                saga,
                exc_info=error,
                extra=about(saga),
            )
