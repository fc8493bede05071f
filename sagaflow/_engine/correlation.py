"""Which saga an event belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.table import TransitionTable
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import SagaId, check_new_id
from sagaflow._model.texts import line_of


def correlate(
    table: TransitionTable, event: object, given: object, envelope: object = None
) -> SagaId | None:
    """Return the correlation id of *event*, or None if nothing names a saga.

    These places are asked in this order: the id that the caller gave; ``by=`` of the event;
    ``correlate_by=`` of the saga; an attribute ``correlation_id`` of the event. The envelope of a
    message names the saga that sent it. That counts only for an event which has no place for an
    id: an event whose place is empty belongs to no saga.

    :param given: the id that the caller gave, if any.
    :param envelope: the correlation id in the envelope of the message, if any.
    :raises CorrelationError: if the value that is found cannot be an id.
    :raises SagaflowError: if a correlator itself raises.
    """
    if given is not None:
        return check_new_id(given)
    by = table.correlator(type(event))
    if isinstance(by, str) and (found := getattr(event, by, None)) is not None:
        return check_new_id(found)  # the usual case: no further place is asked
    usual = None if by == table.correlate_by else table.correlate_by
    has_place = False
    for place in (by, usual, "correlation_id"):
        if place is None:
            continue
        has_place = has_place or callable(place) or hasattr(event, place)
        found = _asked(table, place, event) if callable(place) else getattr(event, place, None)
        if found is not None:
            return check_new_id(found)
    return None if has_place or envelope is None else check_new_id(envelope)


def _asked(table: TransitionTable, by: Callable[[Any], object], event: object) -> object:
    try:
        return by(event)
    except BaseException as exc:
        raise SagaflowError(
            f"{table.saga}: the by= callable of {type(event).__name__} raised "
            f"{line_of(failure(exc))}"
        ) from exc
