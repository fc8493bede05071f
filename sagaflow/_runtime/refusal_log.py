"""What the log says of messages that the bus refuses: enough to know, and no more."""

from __future__ import annotations

from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError, SerializationError
from sagaflow._model.log import Repeats, about, get_logger
from sagaflow._model.record import OutgoingMessage, SagaRecord
from sagaflow._model.texts import name_of

logger = get_logger("sagaflow.outbox")


@define
class RefusalLog:
    """Logs refusals by the class of the message and of the error, each class now and then.

    The text of the error may differ each time, by the id of the message for example, and a message
    may be refused for one saga and accepted for the next: neither may fill the log.

    :ivar refused: by the name of a class of messages, what was left out of the log about it.
    """

    _clock: Clock
    refused: dict[str, Repeats] = field(factory=dict[str, Repeats], init=False)
    _accepted: Repeats = field(factory=Repeats, init=False)

    def report(
        self, saga: str, record: SagaRecord, message: OutgoingMessage, error: Exception
    ) -> None:
        """Log that the bus did not accept *message*, or count that if it was logged lately."""
        name, kind = message.message.type, name_of(type(error))
        refused = self.refused.setdefault(name, Repeats())
        left_out = refused.left_out(kind, self._clock.now())
        if left_out is None:
            return
        expected = isinstance(error, BusError | SerializationError)
        logger.error(
            "%s %r: the bus did not accept %s %r; it stays in the outbox and is offered again. "
            "Further refusals of %s with %s are counted, and one is logged after %s (%d were left "
            "out before this one): %s",
            saga,
            record.correlation_id,
            name,
            message.id,
            name,
            kind,
            refused.every,
            left_out,
            error,
            exc_info=None if expected else error,
            extra=about_message(saga, record, message),
        )

    def report_acceptance(self, saga: str, record: SagaRecord, message: OutgoingMessage) -> None:
        """Log that the bus accepts messages of this class again, if it has refused some."""
        name = message.message.type
        refused = self.refused.get(name)
        if refused is None or self._accepted.left_out(name, self._clock.now()) is None:
            return
        del self.refused[name]
        logger.warning(
            "the bus accepts %s again; %d refusals were left out",
            name,
            refused.count,
            extra=about_message(saga, record, message),
        )


def about_message(saga: str, record: SagaRecord, message: OutgoingMessage) -> dict[str, object]:
    """Return the fields of a log record about a message that a saga sends."""
    return about(
        saga,
        record.correlation_id,
        event=message.message.type,
        message_id=message.id,
        version=record.version,
    )
