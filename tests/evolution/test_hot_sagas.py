"""What a process keeps in memory: never in the way of an upgrade, and never the last word on it."""

from __future__ import annotations

from typing import ClassVar

import anyio
import pytest

from sagaflow import (
    Context,
    NewerSchemaError,
    Orchestrator,
    OutcomeKind,
    SagaRepository,
    SerializationError,
)
from sagaflow._codec.documents import DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._model.ids import MessageId, SagaId
from sagaflow.testing import ManualClock
from tests.evolution.sagas import MINUTE, NAME, Failed, New, Old, Paid, Placed, Shipped
from tests.evolution.test_old_workers import Charge, Charging
from tests.semantics.support import Passing, PausesAfterRead, RecordingBus, stored, stored_bytes

pytestmark = pytest.mark.anyio

UPGRADED = {"total": "7", "currency": "EUR", "seen": None}


class Noting(Passing):
    """Notes what is read and written."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.reads = 0
        self.changes: list[DocumentChange] = []

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        self.reads += 1
        return await super().load_document(saga, correlation_id, message_id=message_id)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.changes.append(change)
        return await super().update_document(saga, change)


@pytest.fixture
def old(repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    """What the old code runs with."""
    return Orchestrator([Old], repository, clock=clock)


@pytest.fixture
def noting(repository: SagaRepository) -> Noting:
    """What the new code reads and writes."""
    return Noting(repository)


@pytest.fixture
def new(noting: Noting, clock: ManualClock) -> Orchestrator:
    """What the new code runs with."""
    return Orchestrator([New], noting, clock=clock)


async def test_old_and_new_code_take_turns_on_one_store(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    """Each keeps in memory what the other has changed since."""
    ids = [f"o-{number}" for number in range(4)]
    for one in ids:
        await old.handle(Placed(one, 7))
        # Not taken in this state, so nothing is written, and the new code knows version 1.
        assert (await new.handle(Shipped(one))).kind is OutcomeKind.UNHANDLED
    for one in ids[::2]:
        await old.handle(Paid(one))
    for one in ids[1::2]:
        await new.handle(Paid(one))
    for one in ids[1::2]:
        before = await stored_bytes(repository, New, one)
        for _ in range(2):
            with pytest.raises(NewerSchemaError):
                await old.handle(Shipped(one))
        assert await stored_bytes(repository, New, one) == before
    for one in ids:
        assert (await new.handle(Shipped(one))).state == New.done
        document = await stored(repository, New, one)
        assert document is not None
        assert (document["schema"], document["version"]) == (3, 3)
        assert document["data"] == UPGRADED


@pytest.mark.parametrize("event", [Paid("o"), Shipped("o"), Placed("o", 7), Failed("o")])
async def test_that_newer_code_was_there_is_found_whatever_the_event_would_have_done(
    event: object, old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    await old.handle(Placed("o", 7), message_id="m-1")
    await new.handle(Paid("o"))
    before = await stored_bytes(repository, New, "o")
    for message_id in ("m-1", "m-2"):
        with pytest.raises(NewerSchemaError):
            await old.handle(event, message_id=message_id)
    assert await stored_bytes(repository, New, "o") == before


class Refusing(Old, name=NAME, correlate_by="order_id"):
    """The old code, with a handler that raises."""

    ran: ClassVar[list[str]] = []

    async def take_money(self, event: Paid, ctx: Context) -> None:
        self.ran.append(event.transaction)
        raise ValueError("no money")


async def test_no_handler_runs_again_on_what_newer_code_has_taken_over(
    new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    Refusing.ran.clear()
    old = Orchestrator([Refusing], repository, clock=clock)
    await old.handle(Placed("o", 7))
    await new.handle(Paid("o"))
    for transaction in ("t-1", "t-2"):
        with pytest.raises(NewerSchemaError):
            await old.handle(Paid("o", transaction))
    assert Refusing.ran == ["t-1"]


async def test_first_write_of_an_upgraded_saga_needs_no_read_and_the_next_is_small(
    old: Orchestrator, new: Orchestrator, noting: Noting
) -> None:
    await old.handle(Placed("o", 7))
    await new.handle(Shipped("o"))  # read and kept, not written
    assert (noting.reads, noting.changes) == (1, [])
    await new.handle(Paid("o"))
    await new.handle(Shipped("o"))
    assert noting.reads == 1
    first, second = noting.changes
    assert (first.set["schema"], first.set["state"]) == (3, "awaiting_shipment")
    assert first.set["data"] == UPGRADED
    assert not {"schema", "data"} & set(second.set)


async def test_messages_sent_before_the_first_write_are_not_sent_again(
    repository: SagaRepository, clock: ManualClock
) -> None:
    old = Orchestrator([Charging], repository, clock=clock)  # without a bus: it waits
    await old.handle(Placed("o", 7))
    bus = RecordingBus()
    new = Orchestrator([New], repository, clock=clock, bus=bus, messages=[Charge])
    assert (await new.handle(Shipped("o"))).kind is OutcomeKind.UNHANDLED
    assert await new.run_due() == 1
    await new.handle(Paid("o"))
    await new.handle(Shipped("o"))
    document = await stored(repository, New, "o")
    assert document is not None
    assert (document["schema"], document["outbox"]) == (3, [])
    assert bus.bodies == [Charge("o")]


async def test_failing_migration_is_found_in_the_store_each_time_and_so_is_its_repair(
    old: Orchestrator, new: Orchestrator, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old.handle(Placed("o", 7))
    monkeypatch.setattr(New, "fails", True)
    before = await stored_bytes(noting.inner, Old, "o")
    for reads in (1, 2):
        with pytest.raises(SerializationError, match="no such currency"):
            await new.handle(Paid("o"))
        assert noting.reads == reads
    assert await stored_bytes(noting.inner, Old, "o") == before
    monkeypatch.undo()
    assert (await new.handle(Paid("o"))).state == New.awaiting_shipment


async def pay_and_ship(
    orchestrator: Orchestrator, paused: PausesAfterRead, meanwhile: Orchestrator | None
) -> list[object]:
    """Hand over two events at once, and others between their read and their write."""
    ends: list[object] = []

    async def hand_over(event: object) -> None:
        try:
            ends.append((await orchestrator.handle(event)).version)
        except NewerSchemaError as exc:
            ends.append(type(exc))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hand_over, Paid("o"))
        await paused.has_read.wait()
        tasks.start_soon(hand_over, Shipped("o"))
        await anyio.wait_all_tasks_blocked()
        if meanwhile is not None:
            await meanwhile.handle(Paid("o"))
        paused.go_on.set()
    return ends


async def test_events_that_share_a_write_upgrade_the_saga_by_it(
    old: Orchestrator, noting: Noting, clock: ManualClock
) -> None:
    await old.handle(Placed("o", 7))
    paused = PausesAfterRead(noting)
    new = Orchestrator([New], paused, clock=clock)
    assert sorted(map(str, await pay_and_ship(new, paused, None))) == ["2", "3"]
    assert len(noting.changes) == 1
    document = await stored(noting.inner, New, "o")
    assert document is not None
    assert (document["schema"], document["state"], document["data"]) == (3, "done", UPGRADED)


async def test_events_that_share_a_write_are_all_refused_once_newer_code_was_there(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    await old.handle(Placed("o", 7))
    paused = PausesAfterRead(repository)
    other = Orchestrator([Old], paused, clock=clock)
    assert await pay_and_ship(other, paused, new) == [NewerSchemaError] * 2
    document = await stored(repository, New, "o")
    assert document is not None
    assert (document["schema"], document["version"]) == (3, 2)


async def test_timer_is_left_to_newer_code_whatever_is_kept(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    await old.handle(Placed("o", 7))
    await new.handle(Paid("o"))
    clock.advance(MINUTE)
    before = await stored_bytes(repository, New, "o")
    await old.run_due()
    assert await stored_bytes(repository, New, "o") == before
