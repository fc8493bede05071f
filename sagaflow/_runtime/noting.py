"""Stores what the bus has accepted of a saga's messages, and how it has refused the first."""

from __future__ import annotations

from typing import Final

from anyio.abc import TaskGroup
from attrs import define

from sagaflow._definition.saga import Saga
from sagaflow._engine.backoff import is_too_old
from sagaflow._engine.failure import undeliverable
from sagaflow._engine.work import earliest, has_work
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import LeftAloneError, RepositoryError
from sagaflow._model.log import about, get_logger
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import Failing, SagaRecord, Status, evolve
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.process import Process
from sagaflow._runtime.progress import Progress
from sagaflow._runtime.refusal_log import about_message
from sagaflow._runtime.removals import Removal, Removals
from sagaflow._runtime.store import Store

logger = get_logger("sagaflow.outbox")

_TIMES: Final = 4
"""How often a refusal is noted, where other writes that do not know of it keep coming first."""


@define(kw_only=True)
class Noting:
    """Removes accepted messages from their sagas, and notes refusals there.

    :ivar retry: for how long a message may be refused until its saga is suspended.
    """

    process: Process
    store: Store
    outages: Outages
    retry: RetryPolicy
    progress: Progress
    removals: Removals

    def leave(self, saga_type: type[Saga], lane: Lane, tasks: TaskGroup, *, goes_on: bool) -> bool:
        """Leave the removal of accepted messages to the next write of their saga.

        Most sagas are spared a write of their own by this.

        :param tasks: where the messages are removed if no such write comes.
        :param goes_on: whether more messages of the lane are sent after this.
        :return: False if the removal cannot be left, and `note` is needed.
        """
        record = lane.latest
        if record.sending is not None:
            return False  # a past refusal is to be taken out of the saga as well
        if not (self.store.hot.most or goes_on):
            return False  # the next write would not know what to remove
        accepted = lane.accepted_ids()
        if goes_on:
            record = evolve(_without(record, accepted), lease=self.process.own_lease())
        try:
            self.removals.add(Removal(lane.life[0], saga_type, record, accepted, tasks, goes_on))
        except RuntimeError:  # the task group was closed meanwhile
            return False
        lane.latest, lane.unnoted = record, ()
        if not goes_on and (len(accepted) < len(record.outbox) or has_work(record)):
            # What is due later must not wait for the removal.
            after = evolve(_without(record, accepted), lease=None)
            wake = earliest(after, self.process.machine(saga_type))
            if wake is not None:
                self.store.on_stored(saga_type, evolve(after, wake=wake))
        return True

    async def note(
        self, saga_type: type[Saga], lane: Lane, failing: Failing | None, *, goes_on: bool = False
    ) -> None:
        """Store at once what was accepted and how the first message that waits has failed.

        If others turn out to have changed the saga meanwhile, its new messages join the lane.

        :param failing: how the first message has failed; None if it has not.
        :param goes_on: whether more messages of the lane are sent after this.
        """
        newer = await self._note(saga_type, lane, failing, goes_on=goes_on)
        if failing is None:
            if newer is not None:
                self._take_over(lane, newer)
            return
        for _ in range(_TIMES - 1):
            if newer is None or not _is_first_in(lane, newer):
                break
            lane.latest = newer
            newer = await self._note(saga_type, lane, failing, goes_on=goes_on)
        if newer is not None and newer.outbox:
            # The refusal is not noted in the saga: this process alone knows when to offer again.
            self.store.on_stored(saga_type, evolve(newer, wake=failing.due, lease=None))

    async def _note(
        self, saga_type: type[Saga], lane: Lane, failing: Failing | None, *, goes_on: bool
    ) -> SagaRecord | None:
        """Note it once; return the saga as it is stored if another write came first."""
        record, store = lane.latest, self.store
        try:
            async with self.removals.alone(saga_type, record.correlation_id):
                after = await self._note_now(saga_type, lane, failing, goes_on=goes_on)
            if after is not None:
                store.on_stored(saga_type, after)
                if failing is not None and is_too_old(
                    failing, self.process.clock.now(), self.retry
                ):
                    await self._suspend(saga_type, lane, after, failing)
                return None
            if goes_on:
                return None  # what others have stored is looked at when all is sent
            newer = await store.load(saga_type, record.correlation_id, None)
        except RepositoryError as exc:
            self._report_unnoted(saga_type, record, lane.unnoted, exc)
            return None
        return None if newer is None or newer.incarnation != record.incarnation else newer

    async def _note_now(
        self, saga_type: type[Saga], lane: Lane, failing: Failing | None, *, goes_on: bool
    ) -> SagaRecord | None:
        """Store it, while nothing else is noted of the saga; return the saga as it is after that.

        :return: None if others have changed it: then the messages were removed, and no more.
        """
        record, process = lane.latest, self.process
        waiting = self.removals.of(saga_type, record)
        accepted = tuple(dict.fromkeys((*lane.accepted_ids(), *waiting)))
        lease = process.own_lease() if goes_on else None
        after = evolve(_without(record, accepted), sending=failing, lease=lease)
        wake = earliest(after, process.machine(saga_type))
        after = lane.latest = evolve(after, wake=wake)
        lane.unnoted = accepted
        if failing is not None and after.outbox:
            self.progress.refuse(lane.life, after.outbox[0], failing)
        noted = await self.store.bookkeep(
            saga_type, record, sent=accepted, sending=failing, wake=wake, lease=lease
        )
        self.removals.forget(saga_type, record, accepted)
        lane.unnoted = ()
        return after if noted else None

    def _take_over(self, lane: Lane, newer: SagaRecord) -> None:
        """Send what others have stored while this lane was sending, as its lease says."""
        now = self.process.clock.now()
        if newer.outbox and not is_leased_to_others(newer, self.process.owner, now):
            lane.extend(newer)
        elif newer.version > lane.latest.version:
            lane.latest = newer

    async def _suspend(
        self, saga_type: type[Saga], lane: Lane, record: SagaRecord, failing: Failing
    ) -> None:
        """Suspend a saga whose first message the bus has refused for too long."""
        if record.status is Status.SUSPENDED or not record.outbox:
            return
        self.progress.forget_refusal(lane.life)
        machine, write = self.process.machine(saga_type), self.process.write()
        after = undeliverable(record, failing, machine, write)
        if await self.store.update(saga_type, record, after):
            logger.error(
                "%s %r: suspended, since the bus has refused %s %r for too long",
                saga_type.table.saga,
                record.correlation_id,
                record.outbox[0].message.type,
                record.outbox[0].id,
                extra=about_message(saga_type.table.saga, after, record.outbox[0]),
            )

    def _report_unnoted(
        self,
        saga_type: type[Saga],
        record: SagaRecord,
        accepted: tuple[str, ...],
        error: RepositoryError,
    ) -> None:
        """Report that the store has failed; the lane keeps what could not be removed."""
        self.outages.report(error)
        if not isinstance(error, LeftAloneError):  # that saga's messages are for other code to send
            logger.info(
                "%s %r: %d sent messages could not be removed; should this process end before they "
                "are, they are sent again: %s",
                saga_type.table.saga,
                record.correlation_id,
                len(accepted),
                error,
                extra=about(saga_type.table.saga, record.correlation_id, version=record.version),
            )


def _without(record: SagaRecord, accepted: tuple[str, ...]) -> SagaRecord:
    """Return a saga without those messages in its outbox."""
    return evolve(record, outbox=tuple(m for m in record.outbox if m.id not in accepted))


def _is_first_in(lane: Lane, record: SagaRecord) -> bool:
    """Tell whether the first message that waits in the lane is the first of the saga as well."""
    return bool(lane.waiting and record.outbox and record.outbox[0].id == lane.waiting[0].id)
