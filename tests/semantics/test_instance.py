"""What find() shows of a stored saga, and what a handler is told about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve, field, frozen
from attrs.exceptions import FrozenAttributeError, FrozenInstanceError

from sagaflow import (
    CompensationStatus,
    Context,
    HistoryEntry,
    Instance,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaRepository,
    State,
    Status,
    compensates,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.sagas import Account, Closed, Deposited, Opened
from tests.semantics.support import stored_bytes

pytestmark = pytest.mark.anyio


@frozen
class Planted:
    tree: str


@frozen
class Watered:
    tree: str


@frozen
class Felled:
    tree: str


@frozen
class Log:
    tree: str


@frozen
class Facts:
    """What a handler was told."""

    correlation_id: object
    message_id: object
    version: int
    state: State | None
    now: datetime
    key: str


_facts: list[Facts] = []


class Tree(Saga, correlate_by="tree"):
    growing = State()
    felled = State(final=True)

    waterings: int = 0
    notes: list[str] = field(factory=list[str])

    def _note(self, ctx: Context) -> None:
        key = ctx.idempotency_key("note")
        _facts.append(
            Facts(ctx.correlation_id, ctx.message_id, ctx.version, ctx.state, ctx.now, key)
        )

    @initially.on(Planted).goto(growing)
    def plant(self, event: Planted, ctx: Context) -> None:
        self._note(ctx)
        ctx.publish(Log(event.tree))

    @compensates(plant)
    def uproot(self, event: Planted, ctx: Context) -> None: ...

    @during(growing).on(Watered).stay()
    async def water(self, event: Watered, ctx: Context) -> None:
        self._note(ctx)
        self.waterings += 1

    @during(growing).on(Felled).goto(felled)
    def fell(self, event: Felled, ctx: Context) -> None:
        self._note(ctx)


@pytest.fixture(autouse=True)
def _no_facts() -> None:
    _facts.clear()


async def found(orchestrator: Orchestrator) -> Instance[Tree]:
    """Return the tree as it is stored."""
    instance = await orchestrator.find(Tree, "t")
    assert instance is not None
    return instance


async def test_instance_tells_everything(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = Orchestrator([Tree], repository, clock=clock)
    planted = clock.now()
    await orchestrator.handle(Planted("t"), message_id="m-1")
    clock.advance(timedelta(days=1))
    watered = clock.now()
    await orchestrator.handle(Watered("t"), message_id=2)
    instance = await found(orchestrator)
    assert type(instance.saga) is Tree
    assert instance.saga == Tree(waterings=1, notes=[])
    assert (instance.correlation_id, instance.version) == ("t", 2)
    assert (instance.state, instance.status) == (Tree.growing, Status.ACTIVE)
    assert instance.state is Tree.growing
    assert (instance.created_at, instance.updated_at) == (planted, watered)
    assert instance.finished_at is None
    assert [(m.sequence, m.message.type) for m in instance.outbox] == [(1, "Log")]
    assert [(c.step, c.status) for c in instance.compensations] == [
        ("plant", CompensationStatus.PENDING)
    ]
    clock.advance(timedelta(days=1))
    await orchestrator.handle(Felled("t"), message_id="m-3")
    instance = await found(orchestrator)
    assert (instance.state, instance.status) == (Tree.felled, Status.FINISHED)
    assert (instance.created_at, instance.finished_at) == (planted, clock.now())
    assert instance.updated_at == clock.now()
    assert instance.created_at.tzinfo is not None


async def test_instance_is_frozen_and_its_saga_a_copy(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Tree], repository, clock=clock)
    await orchestrator.handle(Planted("t"))
    before = await stored_bytes(repository, Tree, "t")
    instance = await found(orchestrator)
    instance.saga.waterings = 99
    instance.saga.notes.append("mine")
    with pytest.raises((FrozenInstanceError, FrozenAttributeError)):
        instance.version = 5  # type: ignore[misc]
    assert await stored_bytes(repository, Tree, "t") == before
    again = await found(orchestrator)
    assert again.saga == Tree()
    await orchestrator.handle(Watered("t"))
    assert (await found(orchestrator)).saga == Tree(waterings=1)


async def test_unknown_saga_is_none(repository: SagaRepository, clock: ManualClock) -> None:
    assert await Orchestrator([Tree], repository, clock=clock).find(Tree, "nowhere") is None


async def test_history_tells_every_write(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = Orchestrator([Tree], repository, clock=clock)
    times: list[datetime] = []
    for event, message_id in ((Planted("t"), "m-1"), (Watered("t"), 2), (Felled("t"), "m-3")):
        times.append(clock.now())
        await orchestrator.handle(event, message_id=message_id)
        clock.advance(timedelta(minutes=1))
    history = (await found(orchestrator)).history
    assert len({entry.token for entry in history}) == 3
    assert [evolve(entry, token="") for entry in history] == [
        HistoryEntry(
            at=times[version - 1],
            event=event,
            step=step,
            source=source,
            target=target,
            message_id=message_id,
            version=version,
            token="",
        )
        for version, event, step, source, target, message_id in (
            (1, "Planted", "plant", None, "growing", "m-1"),
            (2, "Watered", "water", "growing", "growing", 2),
            (3, "Felled", "fell", "growing", "felled", "m-3"),
        )
    ]


async def test_history_holds_the_last_64_writes(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    for _ in range(65):
        await orchestrator.handle(Deposited("a", 1))
    instance = await orchestrator.find(Account, "a")
    assert instance is not None
    assert [entry.version for entry in instance.history] == list(range(3, 67))


async def test_nothing_that_wrote_nothing_is_in_the_history(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Account], memory, clock=clock)
    await orchestrator.handle(Opened("a"), message_id="m-1")
    await orchestrator.handle(Opened("a"), message_id="m-1")
    await orchestrator.handle(Opened("a"))
    await orchestrator.handle(Closed("a"))
    await orchestrator.handle(Closed("a"))
    instance = await orchestrator.find(Account, "a")
    assert instance is not None
    assert [entry.version for entry in instance.history] == [1, 2]


async def test_handler_is_told_the_facts(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = Orchestrator([Tree], repository, clock=clock)
    await orchestrator.handle(Planted("t"), message_id="m-1")
    clock.advance(timedelta(hours=1))
    await orchestrator.handle(Watered("t"))
    planted, watered = _facts
    assert (planted.correlation_id, planted.message_id) == ("t", "m-1")
    assert (planted.version, planted.state) == (0, None)
    assert (watered.version, watered.state) == (1, Tree.growing)
    assert isinstance(watered.message_id, str)  # made up, so that keys and causes have one
    assert watered.now == planted.now + timedelta(hours=1) == clock.now()
    assert watered.now.tzinfo is UTC


async def test_now_is_cut_to_what_the_database_keeps(memory: SagaRepository) -> None:
    clock = ManualClock(datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=UTC))
    await Orchestrator([Tree], memory, clock=clock).handle(Planted("t"))
    assert _facts[0].now.microsecond == 123_000


async def test_idempotency_key_is_the_same_for_the_same_event_only(
    clock: ManualClock, memory: SagaRepository
) -> None:
    class Failing(Tree):
        async def water(self, event: Watered, ctx: Context) -> None:
            await super().water(event, ctx)
            if fails:
                raise ZeroDivisionError

    fails = True
    orchestrator = Orchestrator([Failing], memory, clock=clock)
    await orchestrator.handle(Planted("t"), message_id="m-1")
    with pytest.raises(ZeroDivisionError):
        await orchestrator.handle(Watered("t"), message_id="m-2")
    fails = False
    await orchestrator.handle(Watered("t"), message_id="m-2")
    await orchestrator.handle(Watered("t"), message_id="m-3")
    await orchestrator.handle(Planted("u"), message_id="m-1")
    planted, failed, again, other, elsewhere = (facts.key for facts in _facts)
    assert failed == again
    assert len({planted, failed, other, elsewhere}) == 4
    assert len(failed) == 36


async def test_keys_of_one_handler_differ_by_their_names(
    clock: ManualClock, memory: SagaRepository
) -> None:
    keys: list[str] = []

    class Keyed(Saga, correlate_by="tree"):
        grown = State(final=True)

        @initially.on(Planted).goto(grown)
        def plant(self, event: Planted, ctx: Context) -> None:
            keys.extend(ctx.idempotency_key(name) for name in ("", "a", "b", "a"))
            keys.append(ctx.idempotency_key())

    outcome = await Orchestrator([Keyed], memory, clock=clock).handle(Planted("t"))
    assert outcome.kind is OutcomeKind.STARTED
    unnamed, a, b, a_again, unnamed_again = keys
    assert (a, unnamed) == (a_again, unnamed_again)
    assert len({unnamed, a, b}) == 3
