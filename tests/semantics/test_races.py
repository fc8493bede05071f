"""Several events on one saga at once: each is applied once, on a state that it has seen."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
from attrs import field, frozen

from sagaflow import (
    ConcurrencyError,
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
from sagaflow.testing import ManualClock
from tests.semantics.support import Passing, PausesAfterRead, RecordingBus, stored_bytes

pytestmark = pytest.mark.anyio


@frozen
class Begun:
    game: str


@frozen
class Scored:
    game: str
    player: str


@frozen
class Whistled:
    game: str


@frozen
class Announce:
    player: str
    score: int


@frozen
class Attempt:
    """What a handler saw when it began."""

    player: str
    version: int
    scores: tuple[str, ...]
    key: str
    message_id: object
    guesses: int


attempts: list[Attempt] = []


class Game(Saga, correlate_by="game"):
    running = State()
    over = State(final=True)

    scores: list[str] = field(factory=list[str])
    guesses: int = 0

    begin = initially.on(Begun).goto(running)

    @during(running).on(Scored).stay()
    async def score(self, event: Scored, ctx: Context) -> None:
        key = ctx.idempotency_key("board")
        seen = tuple(self.scores)
        attempts.append(Attempt(event.player, ctx.version, seen, key, ctx.message_id, self.guesses))
        self.scores.append(event.player)
        self.guesses += 1
        ctx.send(Announce(event.player, len(self.scores)))

    whistle = during(running).on(Whistled).goto(over)


@pytest.fixture(autouse=True)
def _no_attempts() -> None:
    attempts.clear()


async def test_loser_of_a_race_is_applied_on_a_fresh_copy(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    winner = Orchestrator([Game], repository, clock=clock, bus=bus)
    await winner.handle(Begun("g"))
    slow = PausesAfterRead(repository)
    loser = Orchestrator([Game], slow, clock=clock, bus=bus)
    outcomes: list[Outcome] = []

    async def lose() -> None:
        outcomes.append(await loser.handle(Scored("g", "loser"), message_id="m-1"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        await slow.has_read.wait()
        outcomes.append(await winner.handle(Scored("g", "winner"), message_id="m-2"))
        slow.go_on.set()
    assert [outcome.version for outcome in outcomes] == [2, 3]
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.STAYED] * 2
    instance = await winner.find(Game, "g")
    assert instance is not None
    assert instance.saga.scores == ["winner", "loser"]
    # The lost attempt has left nothing behind: neither in the saga nor in the outbox.
    assert [(a.player, a.version, a.scores, a.guesses) for a in attempts] == [
        ("winner", 1, (), 0),
        ("loser", 1, (), 0),
        ("loser", 2, ("winner",), 1),
    ]
    assert bus.bodies == [Announce("winner", 1), Announce("loser", 2)]
    _, first, second = attempts
    assert (first.key, first.message_id) == (second.key, second.message_id)


async def test_retried_event_without_an_id_keeps_the_one_made_up_for_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    winner = Orchestrator([Game], repository, clock=clock)
    await winner.handle(Begun("g"))
    slow = PausesAfterRead(repository)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Orchestrator([Game], slow, clock=clock).handle, Scored("g", "loser"))
        await slow.has_read.wait()
        await winner.handle(Scored("g", "winner"))
        slow.go_on.set()
    _, first, second = attempts
    assert first.message_id is not None
    assert (first.key, first.message_id) == (second.key, second.message_id)


async def test_loser_decides_again_what_the_event_means(
    repository: SagaRepository, clock: ManualClock
) -> None:
    winner = Orchestrator([Game], repository, clock=clock)
    await winner.handle(Begun("g"))
    slow = PausesAfterRead(repository)
    outcomes: list[Outcome] = []

    async def lose() -> None:
        orchestrator = Orchestrator([Game], slow, clock=clock)
        outcomes.append(await orchestrator.handle(Scored("g", "loser")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        await slow.has_read.wait()
        await winner.handle(Whistled("g"))
        slow.go_on.set()
    assert outcomes == [Outcome(OutcomeKind.FINISHED, Game, "g", Game.over, 2)]


async def test_same_message_delivered_twice_at_once_is_applied_once(
    repository: SagaRepository, clock: ManualClock
) -> None:
    other = Orchestrator([Game], repository, clock=clock)
    await other.handle(Begun("g"))
    slow = PausesAfterRead(repository)
    outcomes: list[Outcome] = []

    async def lose() -> None:
        orchestrator = Orchestrator([Game], slow, clock=clock)
        outcomes.append(await orchestrator.handle(Scored("g", "p"), message_id="m-1"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        await slow.has_read.wait()
        await other.handle(Scored("g", "p"), message_id="m-1")
        slow.go_on.set()
    assert outcomes == [Outcome(OutcomeKind.DUPLICATE, Game, "g", Game.running, 2)]
    instance = await other.find(Game, "g")
    assert instance is not None
    assert instance.saga.scores == ["p"]


async def test_loser_of_a_race_to_a_deleted_saga_finds_nothing(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """The deleted saga's successor under the same id is another one: it has its own version 1."""
    other = Orchestrator([Game], repository, clock=clock)
    await other.handle(Begun("g"))
    slow = PausesAfterRead(repository)
    outcomes: list[Outcome] = []

    async def lose() -> None:
        orchestrator = Orchestrator([Game], slow, clock=clock)
        outcomes.append(await orchestrator.handle(Scored("g", "p")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        await slow.has_read.wait()
        await repository.delete(Game, "g")
        await other.handle(Begun("g"))
        slow.go_on.set()
    assert [outcome.version for outcome in outcomes] == [2]
    assert [attempt.version for attempt in attempts] == [1, 1]  # the first was not stored
    instance = await other.find(Game, "g")
    assert instance is not None
    assert instance.saga.scores == ["p"]


class Overtakes(Passing):
    """Somebody else always comes first."""

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        return False


async def test_event_that_always_loses_gives_up_at_its_deadline(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    await Orchestrator([Game], repository, clock=clock).handle(Begun("g"))
    before = await stored_bytes(repository, Game, "g")
    orchestrator = Orchestrator(
        [Game],
        Overtakes(repository),
        clock=clock,
        bus=bus,
        conflict_deadline=timedelta(milliseconds=30),
    )
    with pytest.raises(ConcurrencyError, match=r"Game 'g': \d+ attempts were each") as caught:
        await orchestrator.handle(Scored("g", "p"), message_id="m-1")
    error = caught.value
    assert (error.saga, error.correlation_id) == ("Game", "g")
    assert error.attempts == len(attempts) > 1
    assert await stored_bytes(repository, Game, "g") == before
    assert bus.attempts == []
    # It can be delivered again.
    outcome = await Orchestrator([Game], repository, clock=clock).handle(
        Scored("g", "p"), message_id="m-1"
    )
    assert outcome.kind is OutcomeKind.STAYED


@pytest.mark.parametrize("processes", [1, 3])
async def test_many_events_at_once_are_each_applied_once(
    processes: int, repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrators = [
        Orchestrator([Game], repository, clock=clock, bus=bus) for _ in range(processes)
    ]
    await orchestrators[0].handle(Begun("g"))
    versions: list[int] = []

    async def score(number: int) -> None:
        orchestrator = orchestrators[number % processes]
        outcome = await orchestrator.handle(Scored("g", f"p-{number}"), message_id=number)
        versions.append(outcome.version)

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(score, number)
    assert sorted(versions) == list(range(2, 32))
    instance = await repository.find(Game, "g")
    assert instance is not None
    assert sorted(instance.saga.scores) == sorted(f"p-{number}" for number in range(30))
    assert instance.saga.guesses == 30
    # What the last of them read may still have held a message that another one was sending.
    await orchestrators[0].run_due()
    announced = {body for body in bus.bodies if isinstance(body, Announce)}
    assert announced == {Announce(p, i) for i, p in enumerate(instance.saga.scores, 1)}
