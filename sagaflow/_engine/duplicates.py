"""Duplicates: messages that a saga has taken already, recognised by their ids."""

from __future__ import annotations

from sagaflow._model.record import SagaRecord


def is_duplicate(record: SagaRecord, message_id: object) -> bool:
    """Tell whether a saga has handled a message, or keeps it for later.

    The inbox names the messages that were taken. It is bounded: a duplicate that comes after
    ``inbox_size`` other messages is taken anew.
    """
    if message_id in record.inbox:
        return True
    return bool(record.parked) and any(event.id == message_id for event in record.parked)
