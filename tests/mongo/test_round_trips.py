"""How often the server is asked: counted, per scenario, with each driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    Saga,
    State,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.writes import AT_ONCE, MOST
from sagaflow.testing import ManualClock
from tests.mongo.support import Commands, repository_of
from tests.semantics.support import lingering

pytestmark = pytest.mark.anyio

EXPECTED: Final[dict[str, list[str]]] = {
    "start": ["insert"],
    "event on a saga that this process has just stored": ["update"],
    "event on a saga that this process has not seen": ["find", "update"],
    "start and three events, each with a message that is sent and removed": [
        *("find", "insert", "update"),  # that event may start a saga or not: the store knows
        *("update", "update"),
        *("update", "update"),
        *("update", "update"),
    ],
    "the same while the orchestrator runs, until all is removed": [
        *("find", "insert"),
        *("update", "update", "update"),  # each removes what the one before has sent
        "update",
    ],
    "duplicate": ["find"],
    "event for a saga that is not there": ["find"],
    "event for a saga that is finished": ["find"],
    "timer that is due": ["find", "find", "update"],
    "message of a dead process, after its saga was claimed": ["find", "find", "update"],
    "compensation of two steps": ["update", "update", "update"],
    "sweep that finds nothing": ["find"],
}
"""The commands of each scenario, in their order. A change that makes them fewer changes them here;
one that makes them more needs a reason."""

MANY: Final = 100
BATCHES: Final = -(-MANY // MOST)
"""What it takes to write for so many sagas at once."""


@frozen
class Placed:
    order: str


@frozen
class Paid:
    order: str


@frozen
class Reserved:
    order: str


@frozen
class Weighed:
    order: str


@frozen
class Failed:
    order: str


@frozen
class Task:
    order: str


class Order(Saga, correlate_by="order"):
    """An order that sends a task with each weighing."""

    placed = State()
    paid = State()
    reserved = State()
    late = State(final=True)
    undone = State(final=True)

    weighings: int = 0

    place = initially.on(Placed).goto(placed)

    @initially.on(Weighed).goto(placed)
    @during_any.on(Weighed).stay()
    def weigh(self, event: Weighed, ctx: Context) -> None:
        self.weighings += 1
        ctx.send(Task(event.order))

    @during(placed).on(Paid).goto(paid)
    def pay(self, event: Paid, ctx: Context) -> None:
        """Pay."""

    @compensates(pay)
    def refund(self, event: Paid, ctx: Context) -> None:
        """Pay back."""

    @during(paid).on(Reserved).goto(reserved)
    def reserve(self, event: Reserved, ctx: Context) -> None:
        """Reserve."""

    @compensates(reserve)
    def release(self, event: Reserved, ctx: Context) -> None:
        """Release."""

    fail = during_any.on(Failed).compensate().goto(undone)

    expire = during(placed).after(timedelta(hours=1)).goto(late)


@pytest.fixture
async def repository(
    anyio_backend: str,
    store: str,
    mongodb_uri: str,
    database: str,
    commands: Commands,
    clock: ManualClock,
) -> AsyncIterator[MongoRepository]:
    """A repository with each driver, whose commands are noted."""
    async with repository_of(
        store, mongodb_uri, database, clock=clock, event_listeners=[commands]
    ) as made:
        yield made


@pytest.fixture
def orchestrator(repository: MongoRepository, clock: ManualClock) -> Orchestrator:
    """One that works only when it is told to, and whose messages are accepted."""
    return another(repository, clock)


def another(repository: MongoRepository, clock: ManualClock) -> Orchestrator:
    """Return an orchestrator that knows nothing of what the others have stored."""
    bus = MemoryBus()
    bus.subscribe(Task, lambda _: None)
    return Orchestrator([Order], repository, bus=bus, clock=clock, background=False)


async def test_start(orchestrator: Orchestrator, commands: Commands) -> None:
    await orchestrator.handle(Placed("o"))
    assert commands.names == EXPECTED["start"]


async def test_event_on_a_saga_that_this_process_has_just_stored(
    orchestrator: Orchestrator, commands: Commands
) -> None:
    await orchestrator.handle(Placed("o"))
    commands.sent.clear()
    await orchestrator.handle(Paid("o"))
    assert commands.names == EXPECTED["event on a saga that this process has just stored"]


async def test_event_on_a_saga_that_this_process_has_not_seen(
    orchestrator: Orchestrator,
    repository: MongoRepository,
    commands: Commands,
    clock: ManualClock,
) -> None:
    await orchestrator.handle(Placed("o"))
    commands.sent.clear()
    await another(repository, clock).handle(Paid("o"))
    assert commands.names == EXPECTED["event on a saga that this process has not seen"]


async def test_start_and_three_events_with_messages(
    orchestrator: Orchestrator, commands: Commands
) -> None:
    for _ in range(4):
        await orchestrator.handle(Weighed("o"))
    scenario = "start and three events, each with a message that is sent and removed"
    assert commands.names == EXPECTED[scenario]
    found = await orchestrator.find(Order, "o")
    assert found is not None
    assert (found.version, found.outbox) == (4, ())


async def test_start_and_three_events_with_messages_while_the_orchestrator_runs(
    orchestrator: Orchestrator,
    repository: MongoRepository,
    commands: Commands,
) -> None:
    async with lingering(orchestrator):
        for _ in range(4):
            await orchestrator.handle(Weighed("o"))
    scenario = "the same while the orchestrator runs, until all is removed"
    assert commands.names == EXPECTED[scenario]
    found = await repository.find(Order, "o")
    assert found is not None
    assert (found.version, found.outbox) == (4, ())


async def test_removals_of_many_sagas_share_their_writes(
    orchestrator: Orchestrator,
    repository: MongoRepository,
    commands: Commands,
) -> None:
    async with lingering(orchestrator):
        for number in range(20):
            await orchestrator.handle(Weighed(f"o-{number}"))
        commands.sent.clear()
        assert [one.outbox async for one in repository.find_by_state(Order, Order.placed)] == [
            ()
        ] * 20
    updates = [command for command in commands.sent if "update" in command]
    assert sum(len(command["updates"]) for command in updates) == 20
    assert len(updates) <= AT_ONCE


async def test_duplicate(orchestrator: Orchestrator, commands: Commands) -> None:
    await orchestrator.handle(Placed("o"))
    await orchestrator.handle(Paid("o"), message_id="m-1")
    commands.sent.clear()
    again = await orchestrator.handle(Paid("o"), message_id="m-1")
    assert again.kind is OutcomeKind.DUPLICATE
    assert commands.names == EXPECTED["duplicate"]


async def test_event_for_a_saga_that_is_not_there(
    orchestrator: Orchestrator, commands: Commands
) -> None:
    outcome = await orchestrator.handle(Paid("nobody"))
    assert outcome.kind is OutcomeKind.NOT_FOUND
    assert commands.names == EXPECTED["event for a saga that is not there"]


async def test_event_for_a_saga_that_is_finished(
    orchestrator: Orchestrator, commands: Commands
) -> None:
    await orchestrator.handle(Placed("o"))
    await orchestrator.handle(Failed("o"))
    commands.sent.clear()
    outcome = await orchestrator.handle(Paid("o"))
    assert outcome.kind is OutcomeKind.FINISHED
    assert commands.names == EXPECTED["event for a saga that is finished"]


async def test_timer_that_is_due(
    orchestrator: Orchestrator, commands: Commands, clock: ManualClock
) -> None:
    await orchestrator.handle(Placed("o"))
    clock.advance(timedelta(hours=2))
    commands.sent.clear()
    await orchestrator.run_due()
    assert commands.names == EXPECTED["timer that is due"]
    found = await orchestrator.find(Order, "o")
    assert found is not None
    assert found.state == Order.late


async def test_message_of_a_dead_process(
    orchestrator: Orchestrator,
    repository: MongoRepository,
    commands: Commands,
    clock: ManualClock,
) -> None:
    dead = Orchestrator([Order], repository, clock=clock)  # it has no bus, so it sends nothing
    await dead.handle(Weighed("o"))
    commands.sent.clear()
    assert await orchestrator.run_due() == 1
    scenario = "message of a dead process, after its saga was claimed"
    assert commands.names == EXPECTED[scenario]
    found = await orchestrator.find(Order, "o")
    assert found is not None
    assert found.outbox == ()


async def test_compensation_of_two_steps(orchestrator: Orchestrator, commands: Commands) -> None:
    for event in (Placed("o"), Paid("o"), Reserved("o")):
        await orchestrator.handle(event)
    commands.sent.clear()
    outcome = await orchestrator.handle(Failed("o"))
    assert outcome.state == Order.undone
    assert commands.names == EXPECTED["compensation of two steps"]


async def test_sweep_that_finds_nothing(orchestrator: Orchestrator, commands: Commands) -> None:
    await orchestrator.handle(Placed("o"))
    commands.sent.clear()
    await orchestrator.run_due()
    assert commands.names == EXPECTED["sweep that finds nothing"]


async def test_sagas_at_once_share_their_writes(
    orchestrator: Orchestrator, commands: Commands
) -> None:
    async def all_of(event_type: type[Placed | Paid | Reserved]) -> Counter[str]:
        commands.sent.clear()
        async with anyio.create_task_group() as tasks:
            for number in range(MANY):
                tasks.start_soon(orchestrator.handle, event_type(f"o-{number}"))
        return Counter(commands.names)

    started = await all_of(Placed)
    paid = await all_of(Paid)
    assert started == {"insert": BATCHES}
    assert paid == {"update": BATCHES}


async def test_writes_at_once_are_as_few_as_fit(
    repository: MongoRepository, commands: Commands
) -> None:
    """Without reads in between, the number is exact."""

    async def insert(number: int) -> None:
        assert await repository.insert_document("Order", {"_id": number})

    async with anyio.create_task_group() as tasks:
        for number in range(MANY):
            tasks.start_soon(insert, number)
    assert commands.names == ["insert"] * BATCHES
    assert max(len(command["documents"]) for command in commands.sent) == MOST
    assert BATCHES <= AT_ONCE
