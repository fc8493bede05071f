"""What the parts of one orchestrator have in common: its name, its clock, its chance, its ids."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final
from uuid import uuid4

from attrs import define, field

from sagaflow._definition.saga import Saga, definition_of
from sagaflow._engine.backoff import delays
from sagaflow._engine.work import Machine
from sagaflow._engine.writing import Write
from sagaflow._model.clock import Clock
from sagaflow._model.ids import Unique
from sagaflow._model.record import Lease, SagaRecord

_FIRST_RETRY: Final = timedelta(milliseconds=2)
_LONGEST_RETRY: Final = timedelta(milliseconds=250)


def _nothing(name: str) -> None:
    """Find no class: no message classes were given."""


@define(kw_only=True)
class Process:
    """What the parts of one orchestrator have in common.

    :ivar clock: where the time comes from.
    :ivar owner: the name that stands in the leases of this orchestrator.
    :ivar lease: for how long other processes leave a saga to this one, once it has a lease on it.
    :ivar sends: whether this one sends messages: it has a bus.
    :ivar random: makes up numbers from 0 to 1, which spread retries.
    :ivar new_id: makes up ids that no other process makes up.
    :ivar class_of: finds the class of a message by the name under which it is stored.
    """

    clock: Clock
    owner: str = field(factory=lambda: uuid4().hex)
    lease: timedelta
    sends: bool = True
    random: Callable[[], float] = field(factory=lambda: random.Random().random)  # noqa: S311
    new_id: Callable[[], str] = field(factory=Unique)
    class_of: Callable[[str], type | None] = _nothing
    _machines: dict[type[Saga], Machine] = field(factory=dict[type[Saga], Machine], init=False)

    def machine(self, saga_type: type[Saga]) -> Machine:
        """Return what the engine needs to know of a saga class."""
        found = self._machines.get(saga_type)
        if found is None:
            definition = definition_of(saga_type)
            found = Machine(definition.table, definition.options, self.class_of)
            self._machines[saga_type] = found
        return found

    def write(self, *, leaves: bool = False) -> Write:
        """Return the token, instant and lease of the next write.

        :param leaves: whether this process leaves what is due after the write to others.
        """
        return Write(
            token=self.new_id(),
            now=self.clock.now(),
            owner=self.owner,
            lease=None if leaves else self.lease,
            sends=self.sends,
        )

    def write_of(self, record: SagaRecord) -> Write:
        """Return the write that is to store *record*, which has been decided on already."""
        now, wake = record.updated_at, record.wake
        leaves = record.lease is None and wake is not None and wake <= now
        return Write(
            token=record.token,
            now=now,
            owner=self.owner,
            lease=None if leaves else self.lease,
            sends=self.sends,
        )

    def own_lease(self) -> Lease:
        """Return a lease of this process that begins now."""
        return Lease(owner=self.owner, until=self.clock.now() + self.lease)

    def conflict_delays(self) -> Iterator[timedelta]:
        """Yield how long to wait after each lost race."""
        return delays(_FIRST_RETRY, _LONGEST_RETRY, self.random)
