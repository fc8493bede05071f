"""Hands one stored message to the bus, and says how that has failed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from attrs import define

from sagaflow._codec.messages import MessageTypes
from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._engine.backoff import failed_again
from sagaflow._forms.values import decode_dynamic
from sagaflow._model.envelope import CAUSATION_ID, MESSAGE_KIND
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import Failing, OutgoingMessage
from sagaflow._model.texts import line_of
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.offers import Offers
from sagaflow._runtime.process import Process
from sagaflow._runtime.progress import Progress
from sagaflow._runtime.refusal_log import RefusalLog
from sagaflow._runtime.trace import Trace


@define(kw_only=True)
class Publisher:
    """Hands stored messages to the bus: each as it was stored, with its id and its headers.

    :ivar retry: when a message that was refused is offered again.
    """

    process: Process
    messages: MessageTypes
    offers: Offers
    retry: RetryPolicy
    progress: Progress
    log: RefusalLog
    trace: Trace

    def are_answered_at_once(self, lane: Lane) -> bool:
        """Tell whether the bus waits for nothing before it accepts or refuses what is in a lane."""
        for waiting in lane.waiting:
            cls = self.messages.find(waiting.message.type)
            if cls is None:
                return False
            if not self.offers.is_answered_at_once(cls, lane.latest.correlation_id):
                return False
        return True

    def silent_since(self) -> datetime | None:
        """Return since when the bus neither accepts nor refuses some messages; None if it does."""
        return self.offers.silent_since()

    async def publish(self, saga_type: type[Saga], lane: Lane) -> Failing | None:
        """Offer the first message that waits in a lane to the bus.

        :return: how the message has failed so far; None if the bus has accepted it.
        """
        trace, message = self.trace, lane.waiting[0]
        if trace.observers is None:
            return await self._offer(saga_type, lane, message, message.headers)
        with trace.publication(saga_type, lane.latest, message, self.process.clock) as telling:
            headers = trace.carried(message.headers)
            failing = await self._offer(saga_type, lane, message, headers)
            telling.ended(failing)
            return failing

    async def _offer(
        self, saga_type: type[Saga], lane: Lane, message: OutgoingMessage, headers: object
    ) -> Failing | None:
        record = lane.latest
        saga, stored = saga_type.table.saga, message.message
        try:
            body = self.messages.decode(stored, f"{saga} {record.correlation_id!r}: outbox")
            passed_on: Any = decode_dynamic(headers) if headers else {}
            await self.offers.offer(
                body,
                stored.type,
                correlation_id=record.correlation_id,
                message_id=message.id,
                headers={
                    **passed_on,
                    CAUSATION_ID: message.causation_id,
                    MESSAGE_KIND: message.kind,
                },
            )
        except BaseException as caught:  # noqa: BLE001 - the bus and its handlers are users' code
            exc = failure(caught)
            self.trace.failed(exc)
            self.log.report(saga, record, message, exc)
            now, random = self.process.clock.now(), self.process.random()
            before = self.progress.failed_before(lane.life, record, message)
            return failed_again(before, line_of(exc), now, self.retry, random)
        if self.log.refused:
            self.log.report_acceptance(saga, record, message)
        return None
