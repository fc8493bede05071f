"""How far the bus has come with the messages of sagas, as this process remembers it.

What is read of a saga, or decided on, may be older than that.
"""

from __future__ import annotations

from datetime import datetime

from attrs import define, field, frozen

from sagaflow._model.clock import Clock
from sagaflow._model.record import Failing, OutgoingMessage, SagaRecord
from sagaflow._runtime.lanes import Life
from sagaflow._runtime.recent import Recent


@frozen
class Refusal:
    """That the bus has refused a message.

    :ivar noted_at: when that was noted in the saga; a write that was decided on later knows of it.
    """

    message_id: str
    failing: Failing
    noted_at: datetime


@define
class Progress:
    """Remembers what the bus has accepted and refused, of the sagas that were sent for last.

    :ivar most: of how many sagas.
    :ivar accepted: the number of the last message that the bus has accepted.
    :ivar refused: the first message that waits, if the bus has refused it.
    """

    clock: Clock
    most: int = 4096
    accepted: Recent[Life, int] = field(init=False)
    refused: Recent[Life, Refusal] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.accepted = Recent(self.most)
        self.refused = Recent(self.most)

    def accept(self, life: Life, sequence: int) -> None:
        """Note that the bus has accepted the messages of a saga up to this number."""
        self.accepted.keep(life, sequence)
        if self.refused:
            self.refused.pop(life, None)

    def refuse(self, life: Life, message: OutgoingMessage, failing: Failing) -> None:
        """Note that the bus has refused a message, and how often it has failed so far."""
        self.refused.keep(life, Refusal(message.id, failing, self.clock.now()))

    def forget_refusal(self, life: Life) -> None:
        """Note that the message of a saga that the bus has refused is no longer offered."""
        self.refused.pop(life, None)

    def failed_before(
        self, life: Life, record: SagaRecord, message: OutgoingMessage
    ) -> Failing | None:
        """Return how a message has failed so far, by what is stored or by what is remembered."""
        if record.outbox and message.id == record.outbox[0].id and record.sending is not None:
            return record.sending
        known = self.refused.used(life)
        return None if known is None or known.message_id != message.id else known.failing

    def not_before(
        self, life: Life, record: SagaRecord, message: OutgoingMessage, now: datetime
    ) -> Failing | None:
        """Return how a message has failed that is not to be offered yet, though *record* allows it.

        A write that was decided on before the refusal was noted has overwritten that.
        """
        known = self.refused.used(life)
        if known is None or known.message_id != message.id or known.failing.due <= now:
            return None
        return known.failing if record.updated_at <= known.noted_at else None
