"""What is special to the repository in memory; the rest is in `tests/contract`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from types import FrameType

import anyio
import pytest
from attrs import evolve

from sagaflow import (
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    SagaDefinitionError,
    SagaId,
    SagaRepository,
)
from sagaflow._codec.documents import Bookkeeping, encode_change, encode_record
from sagaflow._codec.selection import Selection
from sagaflow._model.record import Lease, Status
from sagaflow.testing import ManualClock
from tests.codec.test_messages import saga_with
from tests.contract.records import (
    NOW,
    PARCEL,
    SECOND,
    Arrived,
    Parcel,
    Sent,
    document,
    load,
    outgoing,
    past,
    plain_change,
    record,
    store,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def memory(clock: ManualClock) -> MemoryRepository:
    return MemoryRepository(clock=clock)


async def test_tombstone_is_gone_once_the_clock_has_passed_its_end(
    memory: MemoryRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Parcel], memory, clock=clock)
    await orchestrator.handle(Sent("p-1"))
    await orchestrator.handle(Arrived("p-1"))
    clock.advance(timedelta(days=30) - timedelta(milliseconds=1))
    late = await orchestrator.handle(Sent("p-1"))
    assert late.kind is OutcomeKind.FINISHED
    assert await memory.count_states(PARCEL) == {"delivered": 1}
    clock.advance(timedelta(milliseconds=1))
    assert await memory.find(Parcel, "p-1") is None
    again = await orchestrator.handle(Sent("p-1"))
    assert again.kind is OutcomeKind.STARTED


async def test_expired_tombstone_takes_part_in_nothing(
    memory: MemoryRepository, clock: ManualClock
) -> None:
    expiring = document(
        expire_at=NOW + SECOND, wake=NOW, outbox=(outgoing(1),), status=Status.FINISHED
    )
    await store(memory, expiring, document("p-2", wake=NOW))
    clock.advance(SECOND)
    assert [found async for found in memory.due(PARCEL, clock.now(), unclaimed=True)] == ["p-2"]
    assert [found["_id"] async for found in memory.scan_documents(PARCEL)] == ["p-2"]
    assert await memory.count_states(PARCEL) == {"moving": 1}
    assert not await memory.claim(PARCEL, "p-1", Lease(owner="me", until=NOW), clock.now())
    note = Bookkeeping(correlation_id="p-1", incarnation="i-1", version=1, sent=("i-1-1",))
    assert not await memory.bookkeep(PARCEL, note)
    assert not await memory.update_document(PARCEL, plain_change("p-1", 1))
    assert await memory.load_document(PARCEL, "p-1", message_id=None) is None
    assert not await memory.delete_document(PARCEL, "p-1")


async def test_tombstone_without_end_is_kept_for_ever(
    memory: MemoryRepository, clock: ManualClock
) -> None:
    await store(memory, document(status=Status.FINISHED))
    clock.advance(timedelta(days=36_500))
    assert await load(memory) == record(status=Status.FINISHED)


async def test_two_repositories_share_nothing(memory: MemoryRepository) -> None:
    await store(memory, document())
    assert await MemoryRepository().count_states(PARCEL) == {}


async def test_making_indexes_checks_that_the_class_can_be_stored(
    memory: MemoryRepository,
) -> None:
    await memory.create_indexes(Parcel)
    with pytest.raises(SagaDefinitionError, match="cannot be stored"):
        await memory.create_indexes(saga_with("complex"))


def test_what_it_holds_outlives_an_event_loop() -> None:
    memory = MemoryRepository()
    anyio.run(store, memory, document())
    for backend in ("asyncio", "trio"):
        assert anyio.run(load, memory, backend=backend) == record()


def test_subclass_may_wait_though_the_repository_itself_never_does(
    memory: MemoryRepository,
) -> None:
    """So that its writes are shielded from cancellation."""

    class Slow(MemoryRepository):
        """Overrides something, perhaps."""

    assert (memory.may_wait, Slow().may_wait) == (False, True)


async def test_lists_are_those_that_any_repository_has(
    memory: MemoryRepository, clock: ManualClock
) -> None:
    """It makes them without copies; the kit knows only what comes out of it."""
    orchestrator = Orchestrator([Parcel], memory, clock=clock)
    for number in range(3):
        await orchestrator.handle(Sent(f"p-{number}"))
        clock.advance(SECOND)
    await orchestrator.handle(Arrived("p-1"))
    due = Selection(due_before=clock.now() + timedelta(days=365))
    for selection, count in ((Selection(), 2), (Selection(statuses=tuple(Status)), 3), (due, 0)):
        own = [found async for found in memory.summaries(Parcel, selection)]
        usual = [found async for found in SagaRepository.summaries(memory, Parcel, selection)]
        assert own == usual
        assert len(own) == count


@pytest.mark.parametrize("limit", [10, None], ids=["some", "all"])
async def test_look_for_due_work_takes_no_longer_with_more_that_is_not_due(
    limit: int | None,
) -> None:
    """The number of calls tells how many documents are looked at."""
    looks: dict[tuple[int, int], int] = {}
    for idle, pending in ((10, 100), (500, 100), (10, 2_000)):
        memory = MemoryRepository()
        for number in range(idle):
            await store(memory, document(f"idle {number}"))
        for number in range(pending):
            await store(memory, document(f"pending {number}", wake=NOW + (number + 1) * SECOND))
        await store(memory, *(document(number, wake=NOW - number * SECOND) for number in range(10)))
        await store(memory, document("gone", wake=NOW))
        await memory.delete_document(PARCEL, "gone")
        found, _ = await _looked(memory, limit)  # the first look puts in order what was written
        assert found == [*reversed(range(10))]
        again, looks[idle, pending] = await _looked(memory, limit)
        assert again == found
    assert max(looks.values()) <= min(looks.values()) * 1.05, looks


async def test_look_is_paid_for_what_was_written_since_the_last_one() -> None:
    memory = MemoryRepository()
    for number in range(1_000):
        await store(memory, document(number, wake=NOW + (number + 1) * SECOND))
    _, first = await _looked(memory)
    _, idle = await _looked(memory)
    await store(memory, document("late", wake=NOW))
    found, later = await _looked(memory)
    assert found == ["late"]
    assert idle < later < idle + 30 < first


async def test_sagas_that_wake_at_ever_new_instants_leave_little_behind() -> None:
    """However often that changed, what is kept is bounded by the number of sagas with work."""

    class Instant(datetime):
        """One that can be counted."""

    memory, moment = MemoryRepository(), Instant.fromtimestamp(NOW.timestamp(), UTC)
    await store(memory, document(wake=NOW))
    for version in range(1, 1_001):
        later = plain_change("p-1", version, wake=moment + version * SECOND)
        assert await memory.update_document(PARCEL, later)
        assert (await _looked(memory))[0] == []
    gc.collect()
    assert 1 <= sum(type(one) is Instant for one in gc.get_objects()) <= 100


@pytest.mark.parametrize(("is_held", "most"), [(False, 2), (True, 20)], ids=["first", "behind"])
async def test_look_does_not_pass_what_no_longer_holds_again_and_again(
    is_held: bool, most: int
) -> None:
    """Not even behind a saga that stays due."""
    memory = MemoryRepository()
    for number in range(400):
        await store(memory, document(f"pending {number}", wake=NOW + SECOND))
    await store(memory, document(wake=NOW))
    if is_held:
        lease = Lease(owner="me", until=NOW + SECOND)
        await store(memory, document("held", wake=NOW - SECOND, lease=lease))
    await _looked(memory)  # puts all of them in order
    _, usual = await _looked(memory)
    for version in range(1, 401):
        wake = NOW if version % 2 == 0 else NOW + SECOND
        assert await memory.update_document(PARCEL, plain_change("p-1", version, wake=wake))
        found, calls = await _looked(memory)
        assert found == ["p-1"] * (version % 2 == 0)
        assert calls < most * usual


async def test_saga_whose_wake_changes_is_due_once_and_at_the_last_one() -> None:
    memory = MemoryRepository()
    await store(memory, document(wake=NOW), document("p-2", wake=NOW + SECOND))
    assert (await _looked(memory))[0] == ["p-1"]
    for version, seconds in enumerate((9, 0, 3, 0), 1):
        wake = NOW + seconds * SECOND
        assert await memory.update_document(PARCEL, plain_change("p-1", version, wake=wake))
        assert (await _looked(memory))[0] == ["p-1"][: seconds == 0]
    found = memory.due(PARCEL, NOW + 10 * SECOND, unclaimed=True)
    assert [one async for one in found] == ["p-1", "p-2"]


async def test_instant_without_a_time_zone_is_none() -> None:
    memory = MemoryRepository()
    await store(memory, document(), document("p-2", wake=NOW))
    naive = plain_change("p-1", 1, wake=NOW.replace(tzinfo=None))
    assert await memory.update_document(PARCEL, naive)
    assert (await _looked(memory))[0] == ["p-2"]
    assert not await memory.claim(PARCEL, "p-1", Lease(owner="me", until=NOW), NOW)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="comprehensions are calls there")
async def test_write_takes_few_calls() -> None:
    """As it is of an event in its usual case: fields, a message id, a message, its history."""
    memory = MemoryRepository()
    before = record(wake=NOW, lease=Lease(owner="me", until=NOW))
    after = evolve(
        before,
        version=2,
        data={"weight": 2},
        sequence=1,
        inbox=("m-2",),
        outbox=(outgoing(1, headers={"trace": "x"}),),
        history=(past(2),),
        wake=NOW + SECOND,
    )
    change = encode_change(before, after, inbox_size=128)
    sent = ("i-1-1",)
    note = Bookkeeping(
        correlation_id="p-1", incarnation="i-1", version=2, sent=sent, unset=("wake",)
    )
    await store(memory, document("another"))
    assert await _called(memory.insert_document(PARCEL, encode_record(before))) <= 4
    assert await _called(memory.update_document(PARCEL, change)) <= 6
    assert await _called(memory.bookkeep(PARCEL, note)) <= 4
    stored = await load(memory)
    assert stored == evolve(after, outbox=(), wake=None)


async def _looked(memory: MemoryRepository, limit: int | None = None) -> tuple[list[SagaId], int]:
    """Look for due work; return the ids that were found, and how many calls that took."""
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    due = memory.due(PARCEL, NOW, unclaimed=True, limit=limit)
    sys.setprofile(count)
    try:
        found = [one async for one in due]
    finally:
        sys.setprofile(None)
    return found, calls


async def _called(writing: Awaitable[bool]) -> int:
    """Return how many functions of Python a write calls, which must take place."""
    calls = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        done = await writing
    finally:
        sys.setprofile(None)
    assert done
    return calls
