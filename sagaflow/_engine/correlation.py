"""Which saga an event belongs to."""

from __future__ import annotations

from sagaflow._definition.table import Correlator, TransitionTable
from sagaflow._strangers import failure
from sagaflow._texts import line_of
from sagaflow.exceptions import SagaflowError
from sagaflow.ids import SagaId, check_id


def correlate(
    table: TransitionTable, event: object, given: object, envelope: object = None
) -> SagaId | None:
    """Return the correlation id of *event*, or None if it says nowhere.

    In this order: what the caller gave; ``by=`` of the event; ``correlate_by=`` of the saga; an
    attribute ``correlation_id``; what the message's envelope says.

    :raises CorrelationError: if what is found cannot be an id.
    :raises SagaflowError: if a correlator itself raises.
    """
    if given is not None:
        return check_id(given)
    by = table.correlator(type(event))
    found = _asked(table, by, event)
    if found is None and by != table.correlate_by:
        found = _asked(table, table.correlate_by, event)
    if found is None:
        found = getattr(event, "correlation_id", None)
    if found is None:
        found = envelope
    return None if found is None else check_id(found)


def _asked(table: TransitionTable, by: Correlator | None, event: object) -> object:
    if not callable(by):
        return None if by is None else getattr(event, by, None)
    try:
        return by(event)
    except BaseException as exc:
        raise SagaflowError(
            f"{table.saga}: the by= callable of {type(event).__name__} raised "
            f"{line_of(failure(exc))}"
        ) from exc
