"""Deals with one delivery: reads it, calls its handlers, and says what becomes of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import random
from typing import Any, Final

import anyio
from attrs import define, field

from sagaflow._concurrency.cancellation import failure
from sagaflow._engine.outcome import UNUSED
from sagaflow._model.clock import Clock
from sagaflow._model.envelope import Envelope, current_envelope
from sagaflow._model.errors import BusError, WireError
from sagaflow._model.log import about, get_logger
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.verdict import ACCEPTED, RetryLater, Undeliverable, Verdict
from sagaflow.bus.admission import Admission, NoTurnError
from sagaflow.bus.causation import current_handling, id_by_place
from sagaflow.bus.delivery_verdicts import verdict_on_failure, verdict_on_results
from sagaflow.bus.replies import reply_of
from sagaflow.bus.subscriptions import Subscription, Subscriptions
from sagaflow.bus.transport import Delivery
from sagaflow.bus.wire import Wire

logger = get_logger("sagaflow.bus")


@define(eq=False)
class BrokerHandling:
    """A message that a handler is dealing with, and how many messages it has published.

    :ivar published: those without an id of their own.
    """

    envelope: Envelope[object]
    service: str
    handler: str
    published: int = 0

    def id_of_next(self) -> str:
        """Return the id of the next message that the handler publishes without one."""
        self.published += 1
        return id_by_place(self.envelope.id, self.service, self.handler, self.published)


_UNUSED: Final = frozenset(kind.value for kind in UNUSED)
"""Reasons which say that no saga has a use for a message; what they mean is a setting."""


@define(kw_only=True)
class Dispatcher:
    """Deals with deliveries.

    :ivar service: whose deliveries they are.
    :ivar publish: publishes a handler's reply.
    :ivar timeout: how long one handler may take for one message.
    :ivar accepts_unhandled: whether a message that no saga has a use for counts as dealt with.
    :ivar admission: where messages wait for handlers that have limits.
    """

    service: str
    wire: Wire
    subscriptions: Subscriptions
    publish: Callable[[object], Awaitable[None]]
    retry: RetryPolicy
    clock: Clock
    timeout: timedelta
    accepts_unhandled: bool
    admission: Admission
    random: Callable[[], float] = field(default=random)

    async def handle(self, delivery: Delivery) -> Verdict:
        """Have a message handled by all its handlers, and return what becomes of it.

        Every handler is called, even if another fails. If any fails, all are called again later:
        they recognise by its id what they have done.
        """
        try:
            envelope: Envelope[object] = self.wire.decode(delivery.headers, delivery.body)
        except WireError as exc:
            message = "%s: a message cannot be read and is a dead letter: %s"
            logger.warning(message, self.service, exc, extra=about())
            return Undeliverable(exc.reason, exc.detail)
        takers = self.subscriptions.takers(type(envelope.body)).subscriptions
        try:
            verdict = await self._judged(delivery, envelope, takers)
        except NoTurnError as exc:
            return RetryLater(exc.after, "it waits for its turn", failed=False)
        return self._told(verdict, envelope)

    async def _judged(
        self, delivery: Delivery, envelope: Envelope[object], takers: tuple[Subscription, ...]
    ) -> Verdict:
        """Have a message handled by its handlers, and return what becomes of it.

        :raises NoTurnError: if one of them has too many other messages.
        """
        verdicts, errors = list[Verdict](), list[Exception]()
        since = delivery.since
        if not takers:
            name = type(envelope.body).__name__
            errors.append(BusError(f"{self.service} has no handler for {name}"))
        with self.admission.visit(takers) as visit:
            for subscription in takers:
                try:
                    async with visit.turn(subscription):
                        if not delivery.attempts and not verdicts and not errors:
                            since = self.clock.now()  # that it has waited is no failure
                        verdicts.append(await self._call(subscription, envelope))
                except NoTurnError:
                    raise
                except BaseException as exc:  # noqa: BLE001 - the delivery is tried again
                    errors.append(failure(exc))
        now = self.clock.now()
        if not errors:
            return verdict_on_results(verdicts, since, now, self.retry)
        error = errors[0] if len(errors) == 1 else ExceptionGroup("several handlers failed", errors)
        return verdict_on_failure(error, delivery.attempts, since, now, self.retry, self.random())

    async def _call(self, subscription: Subscription, envelope: Envelope[object]) -> Verdict:
        """Have one handler deal with a message, and publish its reply.

        :raises BusError: if it takes too long, or returns what is no reply.
        :raises Exception: what the handler raises, or the publication of its reply.
        """
        handling = BrokerHandling(envelope, self.service, subscription.name)
        envelope_token, token = current_envelope.set(envelope), current_handling.set(handling)
        try:
            with anyio.move_on_after(self.timeout.total_seconds()) as limit:
                given: Any = envelope if subscription.envelope else envelope.body
                result = subscription.handler(given)
                if inspect.isawaitable(result):
                    result = await result
                if result is None:
                    return ACCEPTED
                reply = reply_of(result, subscription)
                if reply is None:
                    verdict: Verdict = result
                    return verdict
                await self.publish(reply)
                return ACCEPTED
        finally:
            current_handling.reset(token)
            current_envelope.reset(envelope_token)
        assert limit.cancelled_caught  # noqa: S101 - all else has returned or raised
        raise BusError(
            f"{subscription.name} took longer than {self.timeout} and was cancelled: give it more "
            "time with handler_timeout=, or have it do less"
        )

    def _told(self, verdict: Verdict, envelope: Envelope[object]) -> Verdict:
        """Log a verdict that somebody should know of, and return it."""
        name = type(envelope.body).__name__
        fields = about(None, envelope.correlation_id, event=name, message_id=envelope.id)
        if isinstance(verdict, RetryLater):
            logger.info(
                "%s: %s %r is tried again in %s: %s",
                self.service,
                name,
                envelope.id,
                verdict.after,
                verdict.error,
                extra=fields,
            )
        elif isinstance(verdict, Undeliverable):
            if self.accepts_unhandled and verdict.reason in _UNUSED:
                return ACCEPTED
            message = "%s: %s %r is a dead letter: %s"
            logger.warning(message, self.service, name, envelope.id, verdict.reason, extra=fields)
        return verdict
