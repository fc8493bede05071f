"""Empties a lane: hands its messages to the bus in order, and has their saga know of it."""

from __future__ import annotations

from datetime import timedelta

import anyio
from anyio.abc import TaskGroup
from attrs import define

from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.saga import Saga
from sagaflow._model.envelope import current_envelope
from sagaflow._model.log import about, get_logger
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.noting import Noting
from sagaflow._runtime.progress import Progress
from sagaflow._runtime.publisher import Publisher
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.store import Store

logger = get_logger("sagaflow.outbox")


@define(kw_only=True)
class Drain:
    """Empties lanes.

    :ivar send_timeout: after how long nobody waits any longer for a lane of several messages.
    :ivar most_unnoted: how many accepted messages of a saga may be in its outbox while more of its
        messages are being sent.
    :ivar unnoted_for: how long an accepted message may be there meanwhile, where there is no task
        group in which `Removals` could see to it.
    """

    store: Store
    publisher: Publisher
    noting: Noting
    progress: Progress
    removals: Removals
    send_timeout: timedelta
    most_unnoted: int = 32
    unnoted_for: timedelta = timedelta(milliseconds=20)

    async def run(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup | None, *, lingers: bool
    ) -> None:
        """Publish what waits in a lane until it is empty or a message is refused; end the lane.

        :param tasks: where accepted messages are removed later; None if there is no such place.
        :param lingers: whether the removal is left to the next write of the saga, or to *tasks*.
        """
        # A saga sends on its own account, not for the message that the caller may be handling.
        handled = None if current_envelope.get() is None else current_envelope.set(None)
        try:
            while await self._publish_waiting(saga_type, lane, tasks, lingers=lingers):
                if not lane.waiting:
                    break
            # If a message was refused, those that have come meanwhile must not overtake it.
        except BaseException as exc:
            # One saga that cannot be sent for must not keep the others from it.
            saga, record = saga_type.table.saga, lane.latest
            logger.exception(
                "%s %r: sending failed",
                saga,
                record.correlation_id,
                exc_info=failure(exc),
                extra=about(saga, record.correlation_id, version=record.version),
            )
        finally:
            lane.end()
            if handled is not None:
                current_envelope.reset(handled)

    async def _publish_waiting(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup | None, *, lingers: bool
    ) -> bool:
        """Publish what waits in a lane and have it removed; tell whether all was accepted."""
        failing, is_left = lane.refused, False
        lingers = lingers and lane.latest.sending is None  # a past refusal is to be taken out
        try:
            while lane.waiting and failing is None:
                failing = await self.publisher.publish(saga_type, lane)
                if failing is not None:
                    break
                lane.accepted = lane.waiting.popleft().sequence
                self.progress.accept(lane.life, lane.accepted)
                if not lane.waiting:
                    break
                await self._note_meanwhile(saga_type, lane, tasks)
            if failing is None and lingers and tasks is not None:
                is_left = self.noting.leave(saga_type, lane, tasks, goes_on=False)
        finally:
            # Also when cancelled: what the bus has accepted should not be sent again.
            if not is_left:
                with self.store.shield():
                    await self.noting.note(saga_type, lane, failing)
        return failing is None

    async def _note_meanwhile(
        self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup | None
    ) -> None:
        """See to it that accepted messages are removed soon, though more are being sent."""
        now = anyio.current_time()
        if tasks is None or lane.latest.sending is not None:
            if self._is_time_to_note(lane, now):
                await self.noting.note(saga_type, lane, None, goes_on=True)
                lane.noted_at = now
            return
        lane.begun_at = lane.begun_at or now
        if now - lane.begun_at >= self.send_timeout.total_seconds():
            lane.release()
        if not self.noting.leave(saga_type, lane, tasks, goes_on=True):
            await self.noting.note(saga_type, lane, None, goes_on=True)
        elif len(self.removals.of(saga_type, lane.latest)) >= self.most_unnoted:
            await self.removals.settle(saga_type, lane.latest.correlation_id)

    def _is_time_to_note(self, lane: Lane, now: float) -> bool:
        """Tell whether so much was accepted, or so long ago, that it is to be removed now."""
        outbox, most = lane.latest.outbox, self.most_unnoted
        return (
            lane.latest.sending is not None
            or (len(outbox) > most and outbox[most - 1].sequence <= lane.accepted)
            or now - lane.noted_at >= self.unnoted_for.total_seconds()
        )
