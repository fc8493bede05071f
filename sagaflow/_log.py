"""What every log record says about the saga that it is about."""

from __future__ import annotations

from sagaflow.ids import SagaId


def about(
    saga: str | None = None,
    correlation_id: SagaId | None = None,
    *,
    event: str | None = None,
    message_id: SagaId | None = None,
    version: int | None = None,
) -> dict[str, object]:
    """Return the fields of a log record: all of them on every record, None where unknown.

    :param saga: the name of the saga's class.
    :param correlation_id: which saga.
    :param event: the class of the event or message.
    :param message_id: its id.
    :param version: the version of the saga.
    """
    return {
        "saga": saga,
        "correlation_id": correlation_id,
        "event": event,
        "message_id": message_id,
        "version": version,
    }
