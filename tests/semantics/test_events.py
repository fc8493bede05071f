"""What becomes of an event: taken, ignored, unhandled, too late, or seen before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    Orchestrator,
    Outcome,
    OutcomeKind,
    Saga,
    SagaRepository,
    State,
    Status,
    UnknownEventError,
    during,
    during_any,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.sagas import Account, Closed, Deposited, Locked, Opened, Reminded, Unlocked
from tests.semantics.support import stored, stored_bytes

pytestmark = pytest.mark.anyio


async def test_event_without_transition_is_unhandled_and_writes_nothing(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    before = await stored_bytes(repository, Account, "a")
    clock.advance(timedelta(seconds=1))
    outcome = await orchestrator.handle(Unlocked("a"), message_id="m-2")
    assert outcome == Outcome(OutcomeKind.UNHANDLED, Account, "a", Account.active, 1)
    assert await stored_bytes(repository, Account, "a") == before
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("sagaflow.delivery", "WARNING")
    assert record.message == (
        "Account 'a': Unlocked 'm-2' is unhandled in state active; nothing was stored"
    )


async def test_unhandled_event_is_taken_when_it_comes_again_in_another_state(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It was not handled, so its id is not remembered."""
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    await orchestrator.handle(Unlocked("a"), message_id="m-2")
    await orchestrator.handle(Locked("a"))
    outcome = await orchestrator.handle(Unlocked("a"), message_id="m-2")
    assert outcome.kind is OutcomeKind.TRANSITIONED


async def test_ignored_event_writes_nothing_and_warns_of_nothing(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    before = await stored_bytes(repository, Account, "a")
    outcome = await orchestrator.handle(Reminded("a"))
    assert outcome == Outcome(OutcomeKind.IGNORED, Account, "a", Account.active, 1)
    assert await stored_bytes(repository, Account, "a") == before
    assert caplog.records == []


async def test_event_that_no_saga_declares_is_an_error(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Account], memory, clock=clock)
    with pytest.raises(
        UnknownEventError, match="no saga takes int; this orchestrator runs Account"
    ):
        await orchestrator.handle(7)


async def test_finished_saga_runs_nothing_whatever_is_declared(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"), message_id="m-1")
    await orchestrator.handle(Closed("a"))
    before = await stored_bytes(repository, Account, "a")
    for event in (Closed("a"), Deposited("a", 1), Unlocked("a"), Opened("a")):
        outcome = await orchestrator.handle(event)
        assert outcome == Outcome(OutcomeKind.FINISHED, Account, "a", Account.closed, 2)
    outcome = await orchestrator.handle(Reminded("a"))
    assert outcome == Outcome(OutcomeKind.IGNORED, Account, "a", Account.closed, 2)
    assert await stored_bytes(repository, Account, "a") == before
    assert caplog.records == []


async def test_finished_saga_keeps_when_it_finished(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    clock.advance(timedelta(hours=1))
    await orchestrator.handle(Closed("a"))
    instance = await orchestrator.find(Account, "a")
    assert instance is not None
    assert (instance.status, instance.finished_at) == (Status.FINISHED, clock.now())
    document = await stored(repository, Account, "a")
    assert document is not None
    assert "expire_at" not in document


async def test_late_duplicate_of_the_start_does_not_start_the_saga_again(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"), message_id="m-1")
    await orchestrator.handle(Closed("a"))
    fresh = Orchestrator([Account], repository, clock=clock)
    assert (await fresh.handle(Opened("a"), message_id="m-1")).kind is OutcomeKind.DUPLICATE
    assert (await fresh.handle(Opened("a"), message_id="m-9")).kind is OutcomeKind.FINISHED
    assert await repository.count_states("Account") == {"closed": 1}


class Brief(Account, retain=timedelta(days=30)):
    """Is forgotten some time after its end."""


async def test_retained_saga_says_when_the_database_may_remove_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Brief], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    document = await stored(repository, Brief, "a")
    assert document is not None
    assert "expire_at" not in document  # not before its end
    await orchestrator.handle(Closed("a"))
    document = await stored(repository, Brief, "a")
    assert document is not None
    assert document["expire_at"] == clock.now() + timedelta(days=30)


async def test_saga_may_start_again_after_its_tombstone_is_gone(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Brief], memory, clock=clock)
    await orchestrator.handle(Opened("a"), message_id="m-1")
    await orchestrator.handle(Closed("a"))
    clock.advance(timedelta(days=29, hours=23))
    assert (await orchestrator.handle(Opened("a"))).kind is OutcomeKind.FINISHED
    clock.advance(timedelta(hours=1))
    assert await orchestrator.find(Brief, "a") is None
    assert (await orchestrator.handle(Opened("a"), message_id="m-1")).kind is OutcomeKind.STARTED


async def test_duplicate_runs_nothing(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"), message_id="m-1")
    await orchestrator.handle(Deposited("a", 5), message_id="m-2")
    before = await stored_bytes(repository, Account, "a")
    for process in (orchestrator, Orchestrator([Account], repository, clock=clock)):
        outcome = await process.handle(Deposited("a", 5), message_id="m-2")
        assert outcome == Outcome(OutcomeKind.DUPLICATE, Account, "a", Account.active, 2)
    # The id alone decides: a body that differs is the same message still.
    outcome = await orchestrator.handle(Closed("a"), message_id="m-2")
    assert outcome.kind is OutcomeKind.DUPLICATE
    assert await stored_bytes(repository, Account, "a") == before
    assert caplog.records == []


async def test_message_ids_of_two_types_are_two_messages(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"), message_id=1)
    assert (await orchestrator.handle(Deposited("a", 5), message_id="1")).kind is OutcomeKind.STAYED
    outcome = await orchestrator.handle(Deposited("a", 5), message_id="1")
    assert outcome.kind is OutcomeKind.DUPLICATE
    assert (await orchestrator.handle(Opened("a"), message_id=1)).kind is OutcomeKind.DUPLICATE


async def test_same_message_id_is_no_duplicate_for_another_saga(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    for account in "ab":
        outcome = await orchestrator.handle(Opened(account), message_id="m-1")
        assert outcome.kind is OutcomeKind.STARTED


async def test_event_without_message_id_is_never_a_duplicate(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    for _ in range(3):
        assert (await orchestrator.handle(Deposited("a", 1))).kind is OutcomeKind.STAYED
    instance = await orchestrator.find(Account, "a")
    assert instance is not None
    assert instance.saga.balance == 3


class Forgetful(Account, inbox_size=3):
    """Remembers three messages."""


async def test_remembered_messages_are_bounded_and_the_oldest_go_first(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Forgetful], repository, clock=clock)
    await orchestrator.handle(Opened("a"), message_id="m-0")
    for number in range(1, 5):
        await orchestrator.handle(Deposited("a", 1), message_id=f"m-{number}")
    document = await stored(repository, Forgetful, "a")
    assert document is not None
    assert document["inbox"] == ["m-2", "m-3", "m-4"]
    again = await orchestrator.handle(Deposited("a", 1), message_id="m-2")
    assert again.kind is OutcomeKind.DUPLICATE
    forgotten = await orchestrator.handle(Deposited("a", 1), message_id="m-1")
    assert forgotten.kind is OutcomeKind.STAYED


async def test_128_messages_are_remembered_by_default(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Account], memory, clock=clock)
    await orchestrator.handle(Opened("a"), message_id=0)
    for number in range(1, 129):
        await orchestrator.handle(Deposited("a", 1), message_id=number)
    document = await stored(memory, Account, "a")
    assert document is not None
    assert document["inbox"] == list(range(1, 129))


async def test_duplicate_is_recognised_after_the_end(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Account], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    await orchestrator.handle(Closed("a"), message_id="m-2")
    outcome = await orchestrator.handle(Closed("a"), message_id="m-2")
    assert outcome == Outcome(OutcomeKind.DUPLICATE, Account, "a", Account.closed, 2)


# Guards and the choice between transitions


@frozen
class Bid:
    auction: str
    amount: int


@frozen
class HighBid(Bid):
    """A kind of bid."""


@frozen
class LastBid(HighBid):
    """A kind of high bid that nothing is declared for."""


_asked: list[str] = []


def answers(name: str, test: Callable[[int], bool]) -> Callable[[Saga, Bid], bool]:
    def guard(_: Saga, event: Bid) -> bool:
        _asked.append(name)
        return test(event.amount)

    return guard


class Auction(Saga, correlate_by="auction"):
    running = State()
    sold = State(final=True)

    took: list[str] = field(factory=list[str])

    start = initially.on(Bid).goto(running)

    @during(running).on(Bid).when(answers("over 10", lambda amount: amount > 10)).stay()
    def first(self, event: Bid, ctx: Context) -> None:
        self.took.append("first")

    @during(running).on(Bid).when(answers("even", lambda amount: amount % 2 == 0)).stay()
    def second(self, event: Bid, ctx: Context) -> None:
        self.took.append("second")

    @(
        during(running)
        .on(Bid)
        .when(answers("odd", lambda amount: amount % 2 == 1))
        .when(answers("over 2", lambda amount: amount > 2))
        .stay()
    )
    def third(self, event: Bid, ctx: Context) -> None:
        self.took.append("third")

    @during(running).on(HighBid).when(answers("high", lambda amount: amount > 5)).stay()
    def high(self, event: HighBid, ctx: Context) -> None:
        self.took.append("high")

    @during_any.on(Bid).when(answers("anywhere", lambda amount: amount == 0)).goto(sold)
    def anywhere(self, event: Bid, ctx: Context) -> None:
        self.took.append("anywhere")


@pytest.mark.parametrize(
    ("event", "asked", "took"),
    [
        (Bid("x", 12), ["over 10"], "first"),  # the second would hold as well
        (Bid("x", 4), ["over 10", "even"], "second"),
        (Bid("x", 7), ["over 10", "even", "odd", "over 2"], "third"),
        (HighBid("x", 12), ["high"], "high"),
        (HighBid("x", 4), ["high", "over 10", "even"], "second"),
        (LastBid("x", 6), ["high"], "high"),
        (Bid("x", 1), ["over 10", "even", "odd", "over 2", "anywhere"], None),
    ],
    ids=repr,
)
async def test_first_transition_whose_guards_hold_is_taken_and_each_is_asked_once(
    event: Bid, asked: list[str], took: str | None, clock: ManualClock, memory: SagaRepository
) -> None:
    """Most specific class first, then the order of declaration, `during_any` last."""
    orchestrator = Orchestrator([Auction], memory, clock=clock)
    await orchestrator.handle(Bid("x", 0))
    _asked.clear()
    outcome = await orchestrator.handle(event)
    assert _asked == asked
    assert outcome.kind is (OutcomeKind.UNHANDLED if took is None else OutcomeKind.STAYED)
    instance = await orchestrator.find(Auction, "x")
    assert instance is not None
    assert instance.saga.took == ([] if took is None else [took])


async def test_event_of_a_subclass_starts_a_saga_too(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Auction], memory, clock=clock)
    assert (await orchestrator.handle(LastBid("x", 1))).kind is OutcomeKind.STARTED


async def test_guard_sees_the_stored_saga(repository: SagaRepository, clock: ManualClock) -> None:
    class Capped(Saga, correlate_by="account"):
        active = State()
        closed = State(final=True)
        balance: int = 0

        start = initially.on(Opened).goto(active)

        @during(active).on(Deposited).when(lambda saga, _: saga.balance < 2).stay()
        async def deposit(self, event: Deposited, ctx: Context) -> None:
            self.balance += event.amount

        overflow = during(active).on(Deposited).goto(closed)

    orchestrator = Orchestrator([Capped], repository, clock=clock)
    await orchestrator.handle(Opened("a"))
    kinds = [(await orchestrator.handle(Deposited("a", 1))).kind for _ in range(3)]
    assert kinds == [OutcomeKind.STAYED, OutcomeKind.STAYED, OutcomeKind.TRANSITIONED]
