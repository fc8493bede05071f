"""Batches by themselves; what they are good for is in `tests/semantics/test_group_commit.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import define, field

from sagaflow import Saga
from sagaflow._concurrency.generators import closing
from sagaflow._model.ids import saga_key
from sagaflow._model.record import SagaRecord
from sagaflow._runtime.following import Follower
from sagaflow._runtime.group_commit import Fate, Folded, GroupCommit
from sagaflow._runtime.lanes import Lane
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
    lost = await group.fold(turn, 0, Parcel, before, after, follower=Follower.CALLER)
    assert (lost, len(writes.made)) == (Folded(Fate.LOST, wrote=True), 1)
    writes.made.clear()
    return turn


async def test_event_that_rests_on_a_lost_batch_is_not_folded_into_another(
    turn: Turn, group: GroupCommit, writes: Writes
) -> None:
    before, after = record(version=1), record(version=2)
    folded = await group.fold(turn, 0, Parcel, before, after, follower=Follower.CALLER)
    assert (folded, group.head_of(turn.mailbox)) == (Folded(Fate.LOST), None)
    assert writes.made == []


async def test_event_that_rests_on_a_lost_batch_writes_nothing(
    turn: Turn, group: GroupCommit, writes: Writes
) -> None:
    assert not await group.flush(turn, 0)
    assert await group.flush(turn, turn.mailbox.epoch)
    assert writes.made == []


async def test_handler_that_takes_too_long_holds_up_the_next_event_no_longer(
    anyio_backend: str,
) -> None:
    mailboxes = Mailboxes(timedelta(0))
    slow, other = mailboxes.enter(Parcel, "p"), mailboxes.enter(Parcel, "p")
    await other.wait()
    assert other.mailbox.holder is other
    slow.leave()  # it has no turn any more, and takes none from the other
    assert other.mailbox.holder is other


def test_line_is_kept_as_long_as_something_of_it_is_to_be_written() -> None:
    mailboxes = Mailboxes(timedelta(seconds=1))
    first = mailboxes.enter(Parcel, "p")
    first.mailbox.has_batch = True
    first.leave()
    second = mailboxes.enter(Parcel, "p")
    assert (second.mailbox, second.mailbox.holder) == (first.mailbox, second)
    first.mailbox.has_batch = False
    second.mailbox.go_on()
    assert mailboxes.enter(Parcel, "p").mailbox is not first.mailbox


async def test_lane_lets_those_go_who_have_waited_for_long_enough(anyio_backend: str) -> None:
    life = (saga_key("Parcel", "p"), "i-1")
    lanes: dict[Any, Lane] = {}
    lane = lanes[life] = Lane(lanes, life, record(version=1), last=0, accepted=0)
    gone: list[str] = []

    async def wait(which: str) -> None:
        await (lane.wait_long_enough() if which == "enough" else lane.wait_until_idle())
        gone.append(which)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "enough")
        tasks.start_soon(wait, "idle")
        await anyio.wait_all_tasks_blocked()
        lane.release()
        await anyio.wait_all_tasks_blocked()
        assert gone == ["enough"]
        lane.end()
    assert gone == ["enough", "idle"]
    await lane.wait_until_idle()
    await lane.wait_long_enough()


async def test_what_cannot_be_closed_is_only_gone_through(anyio_backend: str) -> None:
    class Numbers:
        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            raise StopAsyncIteration

    numbers: AsyncIterator[int] = Numbers()
    async with closing(numbers) as gone_through:
        assert [number async for number in gone_through] == []
        assert gone_through is numbers
