"""Batches by themselves; what they are good for is in `tests/semantics/test_group_commit.py`."""

from __future__ import annotations

from datetime import timedelta

import pytest
from attrs import define, field

from sagaflow import Saga
from sagaflow._model.record import SagaRecord
from sagaflow._runtime.group_commit import Fate, Folded, GroupCommit
from sagaflow._runtime.mailbox import Mailboxes, Turn
from tests.contract.records import Parcel
from tests.engine.support import record

pytestmark = pytest.mark.anyio


@define
class Writes:
    """Loses every race."""

    made: list[SagaRecord] = field(factory=list[SagaRecord])

    async def commit(self, _: type[Saga], __: SagaRecord, after: SagaRecord) -> SagaRecord | None:
        self.made.append(after)
        return None


@pytest.fixture
def writes() -> Writes:
    return Writes()


@pytest.fixture
def group(writes: Writes) -> GroupCommit:
    return GroupCommit(commit=writes.commit, patience=timedelta(0))


@pytest.fixture
async def turn(group: GroupCommit, writes: Writes, anyio_backend: str) -> Turn:
    """An event whose turn it is, after a batch that was not stored."""
    mailboxes = Mailboxes(timedelta(seconds=1))
    turn = mailboxes.enter(Parcel, "p")
    before, after = record(version=1), record(version=2)
    lost = await group.fold(turn, 0, Parcel, before, after, waits=True)
    assert (lost, len(writes.made)) == (Folded(Fate.LOST, wrote=True), 1)
    writes.made.clear()
    return turn


async def test_event_that_rests_on_a_lost_batch_is_not_folded_into_another(
    turn: Turn, group: GroupCommit, writes: Writes
) -> None:
    before, after = record(version=1), record(version=2)
    folded = await group.fold(turn, 0, Parcel, before, after, waits=True)
    assert (folded, group.head_of(turn.mailbox)) == (Folded(Fate.LOST), None)
    assert writes.made == []


async def test_event_that_rests_on_a_lost_batch_writes_nothing(
    turn: Turn, group: GroupCommit, writes: Writes
) -> None:
    assert not await group.flush(turn, 0)
    assert await group.flush(turn, turn.mailbox.epoch)
    assert writes.made == []
