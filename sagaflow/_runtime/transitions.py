"""Writes what events make of a saga, and takes messages out that the bus has accepted meanwhile.

So a message costs no write of its own for being removed, where the saga goes on soon enough.
"""

from __future__ import annotations

from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._engine.writing import scheduled_for_work, without_sent
from sagaflow._model.record import SagaRecord, evolve
from sagaflow._runtime.hot_sagas import removed
from sagaflow._runtime.process import Process
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.store import Store


@frozen
class Transitions:
    """Stores the transitions of sagas, and removes accepted messages with the same writes."""

    process: Process
    store: Store
    removals: Removals

    def before(self, saga_type: type[Saga], record: SagaRecord) -> SagaRecord:
        """Return *record* without the messages that the write of an event would remove.

        What is decided on it needs no second look at what is to be done next.
        """
        if not record.outbox:
            return record
        accepted = self.removals.of(saga_type, record)
        if not accepted:
            return record
        left = tuple([message for message in record.outbox if message.id not in accepted])
        return evolve(record, outbox=left)

    async def commit(
        self, saga_type: type[Saga], before: SagaRecord, after: SagaRecord
    ) -> SagaRecord | None:
        """Write what events make of a saga; return how it is stored, None if it is not.

        :param before: the saga as it was known to be stored when the first event was decided on.
        :param after: the saga after the events, perhaps without messages of *before*.
        :raises LimitExceededError: if the saga became too large; nothing was stored.
        :raises RepositoryError: if the store failed.
        """
        known = self.store.hot.version_of(saga_type.table.saga, before)
        if known is None:
            # Other messages of *before* may have been removed since: the write of a shorter outbox
            # would put them back.
            after = self._with_all(saga_type, before, after)
            return after if await self.store.update(saga_type, before, after) else None
        gone = {*removed(before, known.record), *self.removals.of(saga_type, before)}
        if gone:
            for message in after.outbox:
                if message.id in gone:
                    machine = self.process.machine(saga_type)
                    after = without_sent(after, gone, machine, self.process.write_of(after))
                    break
        if not await self.store.update(saga_type, before, after):
            return None
        if gone:
            self.removals.forget(saga_type, before, gone)
        return after

    def _with_all(self, saga_type: type[Saga], before: SagaRecord, after: SagaRecord) -> SagaRecord:
        """Return *after* with all the messages of *before*."""
        added = tuple(m for m in after.outbox if m.sequence > before.sequence)
        if len(after.outbox) - len(added) == len(before.outbox):
            return after
        machine = self.process.machine(saga_type)
        whole = evolve(after, outbox=(*before.outbox, *added))
        return scheduled_for_work(whole, machine, self.process.write_of(after))
