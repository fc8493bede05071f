"""The sagas that this process has written or read last, so that their next event needs no read."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from attrs import define, field, frozen, setters
from attrs.validators import ge

from sagaflow._model.ids import SagaId, SagaKey
from sagaflow._model.record import Failing, Lease, SagaRecord, evolve

_MOST_BYTES: Final = 64 * 1024 * 1024
"""How much all of them may take in stored form; those used longest ago make room."""


@frozen
class HotSaga:
    """A saga as this process knows it: perhaps no longer as it is stored.

    :ivar record: with its whole inbox, and without its history.
    :ivar size: no fewer bytes than the record takes; None if they were not counted yet.
    """

    record: SagaRecord
    size: int | None


@define(on_setattr=setters.NO_OP)  # a look at validators with each event would take its time
class HotSagas:
    """Keeps a bounded number of sagas, those used last.

    What is kept may be out of date at any time, since other processes write as well. So it is only
    good for a conditional write, which fails then; whoever comes to the conclusion that nothing is
    to be written looks at what is stored first.

    :ivar most: how many are kept; 0 for none.
    """

    most: int = field(validator=ge(0))
    _kept: dict[SagaKey, HotSaga] = field(factory=dict[SagaKey, HotSaga], init=False)
    _bytes: int = field(default=0, init=False)

    def get(self, saga: str, correlation_id: SagaId) -> HotSaga | None:
        """Return what is known of a saga."""
        return self._kept.get((saga, type(correlation_id), correlation_id))

    def version_of(self, saga: str, record: SagaRecord) -> HotSaga | None:
        """Return what is known of exactly this version of a saga."""
        known = self._kept.get((saga, type(record.correlation_id), record.correlation_id))
        if known is None or known.record is record:
            return known
        return known if is_same(known.record, record) else None

    def keep(self, saga: str, record: SagaRecord, size: int | None) -> None:
        """Remember a saga as it is stored now, with its whole inbox and without its history."""
        if not self.most:
            return
        key = (saga, type(record.correlation_id), record.correlation_id)
        if key in self._kept:
            self._forget(key)
        if record.fault is not None:
            return  # whether its migration still fails is decided on what is stored
        self._kept[key] = HotSaga(record, size)
        self._bytes += size or 0
        while len(self._kept) > self.most or self._bytes > _MOST_BYTES:
            self._bytes -= self._kept.pop(next(iter(self._kept))).size or 0

    def drop(self, saga: str, correlation_id: SagaId) -> None:
        """Forget a saga."""
        self._forget((saga, type(correlation_id), correlation_id))

    def take(self, saga: str, record: SagaRecord) -> HotSaga | None:
        """Forget a saga, and return what was known of exactly this version of it."""
        known = self._forget((saga, type(record.correlation_id), record.correlation_id))
        if known is None or known.record is record:
            return known
        return known if is_same(known.record, record) else None

    def _forget(self, key: SagaKey) -> HotSaga | None:
        known = self._kept.pop(key, None)
        if known is not None:
            self._bytes -= known.size or 0
        return known

    def note_sent(self, saga: str, record: SagaRecord, sent: tuple[str, ...]) -> None:
        """Note that messages of a saga were removed from its outbox."""
        known = self.get(saga, record.correlation_id)
        if known is None or known.record.incarnation != record.incarnation:
            return
        left = tuple(message for message in known.record.outbox if message.id not in sent)
        if len(left) != len(known.record.outbox):
            self.keep(saga, evolve(known.record, outbox=left), known.size)

    def note_work(
        self,
        saga: str,
        record: SagaRecord,
        sent: tuple[str, ...],
        *,
        sending: Failing | None,
        wake: datetime | None,
        lease: Lease | None,
        expire_at: datetime | None,
    ) -> None:
        """Note what bookkeeping says of this version of a saga: what was sent, and its work."""
        known = self.version_of(saga, record)
        if known is not None:
            left = tuple(message for message in known.record.outbox if message.id not in sent)
            after = evolve(
                known.record,
                outbox=left,
                sending=sending,
                wake=wake,
                lease=lease,
                expire_at=expire_at,
            )
            self.keep(saga, after, known.size)


def is_same(record: SagaRecord | None, other: SagaRecord | None) -> bool:
    """Tell whether two records are of one version of one saga, whatever bookkeeping did since."""
    if record is None or other is None:
        return record is other
    return record.version == other.version and record.incarnation == other.incarnation


def removed(before: SagaRecord, after: SagaRecord) -> frozenset[str]:
    """Return the ids of the messages that are in the outbox of *before* only."""
    if before.outbox is after.outbox:
        return frozenset()
    left = {message.id for message in after.outbox}
    return frozenset(message.id for message in before.outbox if message.id not in left)
