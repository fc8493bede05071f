"""How a saga comes into being, and what other events find before that."""

from __future__ import annotations

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    Orchestrator,
    Outcome,
    OutcomeKind,
    Saga,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow._codec.documents import DocumentChange
from sagaflow._codec.elements import Document
from sagaflow.testing import ManualClock
from tests.semantics.sagas import Account, Closed, Deposited, Opened, Reminded
from tests.semantics.support import InsertsTogether, Passing, ReadsTogether, stored

pytestmark = pytest.mark.anyio


class CountsWrites(Passing):
    """Keeps what was inserted and what was changed."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.inserted: list[Document] = []
        self.changes: list[DocumentChange] = []

    async def insert_document(self, saga: str, document: Document) -> bool:
        self.inserted.append(document)
        return await super().insert_document(saga, document)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.changes.append(change)
        return await super().update_document(saga, change)


async def test_start_is_one_insert_in_the_target_state(
    repository: SagaRepository, clock: ManualClock
) -> None:
    counting = CountsWrites(repository)
    orchestrator = Orchestrator([Account], counting, clock=clock)
    outcome = await orchestrator.handle(Opened("a", "Ada"), message_id="m-1")
    assert outcome == Outcome(OutcomeKind.STARTED, Account, "a", Account.active, 1)
    assert counting.changes == []
    (document,) = counting.inserted
    assert (document["_id"], document["state"], document["version"]) == ("a", "active", 1)
    assert document["data"] == {"owner": "Ada", "balance": 0, "entries": []}
    assert document["inbox"] == ["m-1"]
    assert await stored(repository, Account, "a") == document


async def test_later_event_is_one_update(repository: SagaRepository, clock: ManualClock) -> None:
    counting = CountsWrites(repository)
    orchestrator = Orchestrator([Account], counting, clock=clock)
    await orchestrator.handle(Opened("a"))
    outcome = await orchestrator.handle(Deposited("a", 5))
    assert outcome == Outcome(OutcomeKind.STAYED, Account, "a", Account.active, 2)
    outcome = await orchestrator.handle(Closed("a"))
    assert outcome == Outcome(OutcomeKind.TRANSITIONED, Account, "a", Account.closed, 3)
    assert len(counting.inserted) == 1
    assert [change.version for change in counting.changes] == [1, 2]
    assert "data.owner" not in counting.changes[0].set  # only what has changed is written


@pytest.mark.parametrize("processes", [1, 2])
async def test_two_starts_at_once_make_one_saga(
    processes: int, repository: SagaRepository, clock: ManualClock
) -> None:
    """Both believe that there is no saga; one inserts it, the other goes on with what it is."""
    together = InsertsTogether(repository, 2)
    orchestrators = [Orchestrator([Account], together, clock=clock) for _ in range(processes)]
    outcomes: list[Outcome] = []

    async def start(number: int) -> None:
        orchestrator = orchestrators[number % processes]
        outcomes.append(await orchestrator.handle(Opened("a", f"owner {number}")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start, 0)
        tasks.start_soon(start, 1)
    outcomes.sort(key=lambda outcome: outcome.kind.value)
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.STARTED, OutcomeKind.UNHANDLED]
    assert {(outcome.state, outcome.version) for outcome in outcomes} == {(Account.active, 1)}
    assert await repository.count_states("Account") == {"active": 1}


@frozen
class Joined:
    room: str
    guest: str


class Room(Saga, correlate_by="room"):
    """The first guest opens it, every other one enters."""

    used = State()
    full = State(final=True)

    guests: list[str] | None = None

    @initially.on(Joined).goto(used)
    def first(self, event: Joined, ctx: Context) -> None:
        self.guests = [event.guest]

    @during(used).on(Joined).when(lambda saga, _: len(saga.guests) < 2).stay()
    @during(used).on(Joined).goto(full)
    def another(self, event: Joined, ctx: Context) -> None:
        assert self.guests is not None
        self.guests.append(event.guest)


@pytest.mark.parametrize("processes", [1, 2])
async def test_other_start_continues_with_its_transition_in_the_new_state(
    processes: int, repository: SagaRepository, clock: ManualClock
) -> None:
    together = ReadsTogether(repository, 2)
    orchestrators = [Orchestrator([Room], together, clock=clock) for _ in range(processes)]
    outcomes: dict[OutcomeKind, Outcome] = {}
    guests: dict[OutcomeKind, str] = {}

    async def join(number: int) -> None:
        outcome = await orchestrators[number % processes].handle(Joined("r", str(number)))
        outcomes[outcome.kind] = outcome
        guests[outcome.kind] = str(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(join, 0)
        tasks.start_soon(join, 1)
    assert outcomes[OutcomeKind.STARTED].version == 1
    assert outcomes[OutcomeKind.STAYED].version == 2
    instance = await repository.find(Room, "r")
    assert instance is not None
    assert instance.saga.guests == [guests[OutcomeKind.STARTED], guests[OutcomeKind.STAYED]]


async def test_same_start_delivered_twice_at_once_starts_once(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Room], ReadsTogether(repository, 2), clock=clock)
    kinds: list[str] = []

    async def deliver() -> None:
        outcome = await orchestrator.handle(Joined("r", "g"), message_id="m-1")
        kinds.append(outcome.kind.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver)
        tasks.start_soon(deliver)
    assert sorted(kinds) == ["duplicate", "started"]
    instance = await repository.find(Room, "r")
    assert instance is not None
    assert instance.saga.guests == ["g"]


async def test_other_event_for_an_unknown_saga_is_not_found(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    outcome = await orchestrator.handle(Deposited("ghost", 5), message_id="m-1")
    assert outcome == Outcome(OutcomeKind.NOT_FOUND, Account, "ghost", None, 0)
    assert await orchestrator.handle(Reminded("ghost")) == outcome
    assert await stored(repository, Account, "ghost") is None
    assert await repository.count_states("Account") == {}
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "Account 'ghost': Deposited 'm-1' is not_found" in caplog.records[0].message


async def test_event_ignored_before_the_start_makes_no_saga(
    clock: ManualClock, memory: SagaRepository, caplog: pytest.LogCaptureFixture
) -> None:
    class Patient(Account):
        early = initially.on(Deposited).ignore()

    orchestrator = Orchestrator([Patient], memory, clock=clock)
    outcome = await orchestrator.handle(Deposited("a", 1))
    assert outcome == Outcome(OutcomeKind.IGNORED, Patient, "a", None, 0)
    assert await memory.count_states("Patient") == {}
    assert caplog.records == []


async def test_start_that_its_guard_refuses_makes_no_saga(
    clock: ManualClock, memory: SagaRepository, caplog: pytest.LogCaptureFixture
) -> None:
    class Guarded(Saga, correlate_by="account"):
        active = State()
        closed = State(final=True)
        start = initially.on(Opened).when(lambda _, event: event.owner != "").goto(active)
        close = during(active).on(Closed).goto(closed)

    orchestrator = Orchestrator([Guarded], memory, clock=clock)
    assert (await orchestrator.handle(Opened("a"))).kind is OutcomeKind.UNHANDLED
    assert await memory.count_states("Guarded") == {}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (await orchestrator.handle(Opened("a", "Ada"))).kind is OutcomeKind.STARTED
