"""Removing accepted messages where the store fails meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from attrs import define

from sagaflow import MemoryRepository, RetryPolicy, ServerUnavailableError
from sagaflow._codec.documents import Bookkeeping, encode_record
from sagaflow._model.ids import saga_key
from sagaflow._model.record import evolve
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.noting import Noting
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.progress import Progress
from sagaflow._runtime.removals import Removal, Removals
from sagaflow._runtime.store import Store
from sagaflow._runtime.transitions import Transitions
from tests.processes import process_at
from tests.semantics.support import Interrupted
from tests.test_relay import Notes, record

pytestmark = pytest.mark.anyio


@define
class World:
    """Removals from a store that is away; something happens before it says so."""

    removals: Removals
    tasks: TaskGroup
    before: Callable[[], None] = lambda: None

    def add(self, sequence: int, *, goes_on: bool) -> None:
        """Add the removal of one message."""
        key, accepted = saga_key("Notes", "n"), (f"life-{sequence}",)
        self.removals.add(Removal(key, Notes, record(1, 2), accepted, self.tasks, goes_on))

    async def fail(self) -> tuple[str, ...]:
        """Remove what is known of the saga; return the ids that are to be removed after that."""
        await self.removals.settle(Notes, "n")
        return self.removals.of(Notes, record(1, 2))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async def fail(_: object) -> None:
        made.before()
        raise ServerUnavailableError("the server is away")

    process = process_at()
    repository = Interrupted(MemoryRepository(), note=fail)
    store = Store(process=process, repository=repository)
    async with anyio.create_task_group() as tasks:
        made = World(Removals(process, store, Outages(clock=process.clock)), tasks)
        yield made
        tasks.cancel_scope.cancel()


async def test_last_removal_that_fails_is_left_to_the_sweep(world: World) -> None:
    world.add(1, goes_on=False)
    assert await world.fail() == ()


async def test_removal_that_fails_while_more_is_sent_is_tried_again(world: World) -> None:
    world.add(1, goes_on=True)
    assert await world.fail() == ("life-1",)


async def test_removal_that_fails_while_another_is_added_is_tried_again_with_it(
    world: World,
) -> None:
    """The saga's next write removes them all: none of them is forgotten."""
    world.add(1, goes_on=False)
    world.before = lambda: world.add(2, goes_on=False)
    assert await world.fail() == ("life-1", "life-2")


async def test_removal_that_closing_interrupts_is_made_when_it_is_closed(
    anyio_backend: str,
) -> None:
    waits = anyio.Event()

    async def hang(_: object) -> None:
        waits.set()
        await anyio.sleep_forever()

    process = process_at()
    repository = Interrupted(MemoryRepository(), note=hang)
    removals = Removals(
        process,
        Store(process=process, repository=repository),
        Outages(clock=process.clock),
    )
    key = saga_key("Notes", "n")
    async with anyio.create_task_group() as tasks:
        removals.add(Removal(key, Notes, record(1, 2), ("life-1",), tasks, goes_on=False))
        tasks.start_soon(removals.settle, Notes, "n")
        await waits.wait()
        tasks.cancel_scope.cancel()
    assert removals.of(Notes, record(1, 2)) == ("life-1",)


async def test_messages_that_others_have_removed_are_not_put_back_by_a_saga_that_is_not_known(
    anyio_backend: str,
) -> None:
    """A write of the whole outbox would send them again."""
    process, repository = process_at(), MemoryRepository()
    store = Store(process=process, repository=repository)  # which knows no saga from before
    transitions = Transitions(
        process, store, Removals(process, store, Outages(clock=process.clock))
    )
    before = evolve(record(1, 2), sequence=2)
    await repository.insert_document("Notes", encode_record(before))
    await store.bookkeep(Notes, before, sent=tuple(m.id for m in before.outbox), wake=None)
    after = evolve(
        before, version=before.version + 1, token="next", outbox=before.outbox[1:], history=()
    )
    stored = await transitions.commit(Notes, before, after)
    assert stored is not None
    document = await repository.load_document("Notes", "n", message_id=None)
    assert document is not None
    assert document["outbox"] == []


@pytest.mark.parametrize("earlier", ["removal", "note"])
async def test_saga_is_not_due_any_more_when_two_notes_of_it_would_overtake_each_other(
    earlier: str, anyio_backend: str
) -> None:
    """One of them says that more is being sent; stored last, it would leave the saga due."""

    async def be_overtaken(note: Bookkeeping) -> None:
        if "lease" in note.set:
            await anyio.wait_all_tasks_blocked()
        for _ in range(5):  # so that the other begins before this is stored
            await anyio.lowlevel.checkpoint()

    process, stored = process_at(), MemoryRepository()
    store = Store(process=process, repository=Interrupted(stored, note=be_overtaken))
    outages = Outages(clock=process.clock)
    removals = Removals(process, store, outages)
    noting = Noting(
        process=process,
        store=store,
        outages=outages,
        retry=RetryPolicy(),
        progress=Progress(process.clock),
        removals=removals,
    )
    before = record(1, 2)
    await stored.insert_document("Notes", encode_record(before))
    lane = Lane({}, (saga_key("Notes", "n"), before.incarnation), before, last=2, accepted=1)

    async def remove() -> None:
        await removals.settle(Notes, "n")

    async def note() -> None:
        lane.accepted = 2
        await noting.note(Notes, lane, None)

    async with anyio.create_task_group() as tasks:
        assert noting.leave(Notes, lane, tasks, goes_on=True)
        for do in (remove, note) if earlier == "removal" else (note, remove):
            tasks.start_soon(do)
            await anyio.lowlevel.checkpoint()
    document = await stored.load_document("Notes", "n", message_id=None)
    assert document is not None
    assert document["outbox"] == []
    assert document.keys().isdisjoint({"wake", "lease"})
    assert removals.of(Notes, before) == ()
