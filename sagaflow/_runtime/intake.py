"""Finds out whose event something is: which saga class, which saga, and under which message id."""

from __future__ import annotations

from collections.abc import Mapping

from anyio.abc import TaskGroup
from attrs import define, field

from sagaflow._concurrency.cancellation import failure, raise_all
from sagaflow._definition.saga import Saga
from sagaflow._engine.correlation import correlate
from sagaflow._engine.outcome import UNUSED, Outcome, OutcomeKind
from sagaflow._model.envelope import Envelope, current_envelope
from sagaflow._model.errors import AmbiguousSagaError, SagaflowError, UnknownEventError
from sagaflow._model.ids import MessageId, SagaId, check_new_id
from sagaflow._model.verdict import ACCEPTED, Undeliverable, Verdict
from sagaflow._runtime.delivery import Delivery
from sagaflow._runtime.following import Follower
from sagaflow._runtime.invoke import Event, stored_headers
from sagaflow._runtime.process import Process
from sagaflow._runtime.reports import report_uncorrelated
from sagaflow._runtime.trace import SILENT, Trace


@define(kw_only=True)
class Intake:
    """Takes events from callers and messages from the bus, and hands them to their sagas.

    :ivar sagas: the classes that take them.
    """

    sagas: tuple[type[Saga], ...]
    process: Process
    delivery: Delivery
    trace: Trace = SILENT
    _takers: dict[type, tuple[type[Saga], ...]] = field(
        factory=dict[type, tuple[type[Saga], ...]], init=False
    )

    async def handle(
        self,
        event: object,
        correlation_id: SagaId | None,
        message_id: MessageId | None,
        headers: Mapping[str, object] | None,
        saga_type: type[Saga] | None,
        tasks: TaskGroup | None,
        wait: bool,  # noqa: FBT001
    ) -> Outcome:
        """Have a saga take an event that a caller brings; see `Orchestrator.handle`."""
        takers = self._takers.get(type(event), ())
        only = saga_type is None and len(takers) == 1
        saga = takers[0] if only else self._taker_of(type(event), saga_type)
        found = correlate(saga.table, event, correlation_id)
        known = None if message_id is None else check_new_id(message_id, "message id")
        if found is None:
            return self._uncorrelated(saga, event)
        kept: object = stored_headers(headers or {})
        follower = Follower.CALLER
        if not wait or current_envelope.get() is not None:  # what it waits for may be itself
            follower = self.delivery.follow_up.follower_of_call(tasks, wait=wait)
        return await self.delivery.take(
            saga,
            Event(event, found, self.process.new_id() if known is None else known, kept),
            tasks,
            follower=follower,
            keep_failures=False,
        )

    async def receive(self, envelope: Envelope[object], tasks: TaskGroup | None) -> Verdict:
        """Have every saga that takes it take a message from the bus.

        :return: that the message is dealt with; or why no saga had a use for it.

        :raises ExceptionGroup: if several sagas failed; the error itself if one did.
        """
        event, errors = envelope.body, list[Exception]()
        unused: OutcomeKind | None = None
        is_used = False
        for saga in self._takers_of(type(event)):
            try:
                found = correlate(saga.table, event, None, envelope.correlation_id)
                message_id = check_new_id(envelope.id, "message id")
                if found is None:
                    unused = self._uncorrelated(saga, event).kind
                    continue
                headers = stored_headers(envelope.headers)
                outcome = await self.delivery.take(
                    saga,
                    Event(event, found, message_id, headers),
                    tasks,
                    follower=Follower.DELIVERY,
                    keep_failures=True,
                )
                if outcome.kind in UNUSED:
                    unused = outcome.kind
                else:
                    is_used = True
            except BaseException as exc:  # noqa: BLE001 - raised once every saga had its turn
                errors.append(failure(exc))
        raise_all(f"several sagas failed on {type(event).__name__}", errors)
        return ACCEPTED if is_used or unused is None else Undeliverable(unused.value)

    def _takers_of(self, event_type: type) -> tuple[type[Saga], ...]:
        takers = self._takers.get(event_type)
        if takers is None:
            takers = tuple(saga for saga in self.sagas if saga.table.takes(event_type))
            self._takers[event_type] = takers
        return takers

    def _taker_of(self, event_type: type, named: type[Saga] | None) -> type[Saga]:
        """Return the class that an event of this type is for.

        :param named: the one that the caller named.
        :raises SagaflowError: if it is none of them.
        :raises UnknownEventError: if none takes such events, or the named one does not.
        :raises AmbiguousSagaError: if several do and none was named.
        """
        takers = self._takers_of(event_type)
        if named is None:
            if len(takers) == 1:
                return takers[0]
            if takers:
                raise AmbiguousSagaError(event_type, tuple(saga.__name__ for saga in takers))
            raise UnknownEventError(event_type, tuple(saga.table.saga for saga in self.sagas))
        if named not in self.sagas:
            raise SagaflowError(
                f"{named!r} is not run by this orchestrator: pass it in Orchestrator([...], ...)"
            )
        if named not in takers:
            raise UnknownEventError(event_type, (named.table.saga,))
        return named

    def _uncorrelated(self, saga: type[Saga], event: object) -> Outcome:
        report_uncorrelated(saga.table.saga, event)
        outcome = Outcome(OutcomeKind.UNCORRELATED, saga)
        with self.trace.event(saga, None, event) as telling:
            telling.ended(outcome)
        return outcome
