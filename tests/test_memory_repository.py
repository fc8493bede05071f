"""What is special to the repository in memory; the rest is in `tests/contract`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from sagaflow import (
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    SagaDefinitionError,
    SagaRepository,
)
from sagaflow import memory as module
from sagaflow._codec.documents import Bookkeeping
from sagaflow._codec.elements import Document
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


async def test_sweep_looks_at_no_saga_without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    is_due = module._is_due  # pyright: ignore[reportPrivateUsage]

    def looking(document: Document, *args: Any, **options: Any) -> bool:
        looked.append(document["_id"])
        return is_due(document, *args, **options)

    monkeypatch.setattr(module, "_is_due", looking)
    repository = MemoryRepository()
    for number in range(100):
        await store(repository, document(number))
    await store(repository, document("due", wake=NOW), document("gone", wake=NOW))
    await repository.delete_document(PARCEL, "gone")
    assert [one async for one in repository.due(PARCEL, NOW, unclaimed=True)] == ["due"]
    assert looked == ["due"]
