"""What the log says of events that change nothing, or of which something has failed."""

from __future__ import annotations

from sagaflow._engine.outcome import OutcomeKind
from sagaflow._model.errors import ConcurrencyError, RepositoryError, WireError
from sagaflow._model.ids import SagaId
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import SagaRecord, Status
from sagaflow._model.texts import name_of
from sagaflow._runtime.invoke import Event

logger = get_logger("sagaflow.delivery")


def report_uncorrelated(saga: str, event: object) -> None:
    """Log that an event says nowhere which saga it belongs to."""
    logger.warning(
        "%s: %s says nowhere which saga it belongs to; it was dropped. Declare by= or "
        "correlate_by=, give it a correlation_id attribute, or pass correlation_id=",
        saga,
        type(event).__name__,
        extra=about(saga, event=type(event).__name__),
    )


def report_not_on_bus(event_type: type, error: WireError) -> None:
    """Log that a class of events does not come by the bus, but by `Orchestrator.handle` only."""
    name = name_of(event_type)
    message = "%s comes by handle() only, not by the bus: %s"
    logger.info(message, name, error, extra=about(event=name))


def report_unchanged(saga: str, event: Event, kind: OutcomeKind, record: SagaRecord | None) -> None:
    """Log that an event has changed nothing, where its sender may not expect that.

    :param record: the saga as it is stored; None if there is none.
    """
    if kind in (OutcomeKind.UNHANDLED, OutcomeKind.NOT_FOUND):
        logger.warning(
            "%s %r: %s %r is %s in state %s; nothing was stored",
            saga,
            event.correlation_id,
            type(event.body).__name__,
            event.message_id,
            kind.value,
            None if record is None else record.state,
            extra=about_event(saga, event, record),
        )
    elif kind is OutcomeKind.FINISHED:
        logger.info(
            "%s %r: %s %r came after the end of the saga; nothing was stored",
            saga,
            event.correlation_id,
            type(event.body).__name__,
            event.message_id,
            extra=about_event(saga, event, record),
        )


def report_failed(saga: str, event: Event, record: SagaRecord, error: Exception) -> None:
    """Log that the handler of an event failed, and that the event is kept."""
    logger.error(
        "%s %r: the handler of %s %r failed; the event is kept and tried again: %s",
        saga,
        event.correlation_id,
        type(event.body).__name__,
        event.message_id,
        error,
        exc_info=error,
        extra=about_event(saga, event, record),
    )


def report_expired(saga: str, expired: SagaRecord) -> None:
    """Log which early events have waited in vain, where they are found still stored.

    :param expired: what is stored and counts as gone.
    """
    if expired.status is not Status.EMBRYO:
        return
    key = expired.correlation_id
    for early in expired.parked:
        logger.warning(
            "%s %r: %s %r came early and was kept, but the saga has not started within "
            "early_events=; it has no effect",
            saga,
            key,
            early.message.type,
            early.id,
            extra=about(
                saga, expired.correlation_id, event=early.message.type, message_id=early.id
            ),
        )


def report_left_to_workers(saga: str, event: Event, error: RepositoryError) -> None:
    """Log that the store failed after it had taken *event*, which has not failed."""
    logger.info(
        "%s %r: %s %r is stored, but the store failed on what follows; that is left to the "
        "background or the next run_due(): %s",
        saga,
        event.correlation_id,
        type(event.body).__name__,
        event.message_id,
        error,
        extra=about_event(saga, event, None),
    )


def report_overtaken(saga: str, correlation_id: SagaId, error: ConcurrencyError) -> None:
    """Log that others were faster with each write of what was due, and that it stays due."""
    logger.warning(
        "%s %r: %d attempts to store what is due were each overtaken by another writer, the last "
        "%.3g s after the first; it is left to the background or the next run_due()",
        saga,
        correlation_id,
        error.attempts,
        error.seconds,
        extra=about(saga, correlation_id),
    )


def about_event(saga: str, event: Event, record: SagaRecord | None) -> dict[str, object]:
    """Return the fields of a log record about an event that a saga takes."""
    return about(
        saga,
        event.correlation_id,
        event=type(event.body).__name__,
        message_id=event.message_id,
        version=None if record is None else record.version,
    )
