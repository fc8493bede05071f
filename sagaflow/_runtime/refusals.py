"""What the log says of messages that the bus refuses: enough to know, and no more."""

from __future__ import annotations

from logging import Logger

from attrs import define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError, SerializationError
from sagaflow._model.log import Repeats, about
from sagaflow._model.record import OutgoingMessage, SagaRecord
from sagaflow._model.texts import name_of


@define
class Refusals:
    """Tells of refusals by the class of the message and of the error, each now and then.

    What the error says may differ each time, such as the id of the message, and a message may be
    refused for one saga and accepted for the next: neither may fill the log.
    """

    _clock: Clock
    _logger: Logger
    _refused: dict[str, Repeats] = field(factory=dict[str, Repeats], init=False)
    _accepted: Repeats = field(factory=Repeats, init=False)

    def report(
        self, saga: str, record: SagaRecord, message: OutgoingMessage, error: Exception
    ) -> None:
        """Log that the bus did not accept *message*, or count it."""
        name, kind = message.message.type, name_of(type(error))
        refused = self._refused.setdefault(name, Repeats())
        left_out = refused.left_out(kind, self._clock.now())
        if left_out is None:
            return
        expected = isinstance(error, BusError | SerializationError)
        self._logger.error(
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

    def end(self, saga: str, record: SagaRecord, message: OutgoingMessage) -> None:
        """Log that the bus accepts such messages again, if it did not."""
        name = message.message.type
        refused = self._refused.get(name)
        if refused is None or self._accepted.left_out(name, self._clock.now()) is None:
            return
        del self._refused[name]
        self._logger.warning(
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
