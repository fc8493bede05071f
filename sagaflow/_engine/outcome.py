"""What became of an event."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._model.ids import SagaId


class OutcomeKind(Enum):
    """What became of an event. There is no silent drop."""

    STARTED = "started"
    """A new saga was stored."""
    TRANSITIONED = "transitioned"
    """The saga entered a state; its compensation, if there was one, is done."""
    STAYED = "stayed"
    """The handler ran and the saga stayed where it was."""
    COMPENSATING = "compensating"
    """The compensation began: a step waits for its retry, or the call did not wait for it."""
    DEFERRED = "deferred"
    """The saga keeps the event and handles it later."""
    SUSPENDED = "suspended"
    """The saga stands still until an operator decides; it keeps the event."""
    DUPLICATE = "duplicate"
    """A message with this id was handled before. Nothing ran."""
    IGNORED = "ignored"
    """The saga says that this event means nothing in its state."""
    UNHANDLED = "unhandled"
    """No transition takes this event in the saga's state. Nothing was written."""
    FINISHED = "finished"
    """The saga has ended. Nothing ran."""
    NOT_FOUND = "not_found"
    """There is no such saga and the event starts none."""
    UNCORRELATED = "uncorrelated"
    """The event says nowhere which saga it belongs to."""


UNUSED: Final = frozenset({OutcomeKind.UNHANDLED, OutcomeKind.NOT_FOUND, OutcomeKind.UNCORRELATED})
"""What becomes of an event that a saga has no use for. That of a saga that has ended is none: it
may be the second delivery of one that was used."""


@frozen
class Outcome:
    """What became of one event.

    :ivar kind: what happened.
    :ivar saga_type: the class of the saga.
    :ivar correlation_id: the id of the saga; None if the event names none.
    :ivar state: the state the saga is in now; None if there is no saga.
    :ivar version: the version of the saga now; 0 if there is no saga.
    """

    kind: OutcomeKind
    saga_type: type[Saga]
    correlation_id: SagaId | None = None
    state: State | None = None
    version: int = 0
