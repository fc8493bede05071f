"""The work of one saga is done in the order in which it arose."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    HistoryKind,
    MemoryBus,
    MessageId,
    Orchestrator,
    Outcome,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaId,
    SagaRepository,
    State,
    Status,
    during,
    during_any,
    initially,
)
from sagaflow._codec.documents import DocumentChange
from sagaflow._codec.elements import Document
from sagaflow.testing import ManualClock
from tests.semantics.support import Interrupted, Passing

pytestmark = pytest.mark.anyio
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
PATIENT = RetryPolicy(initial_delay=20 * MINUTE, max_delay=20 * MINUTE, max_age=600 * MINUTE)


@frozen
class Placed:
    order: str


@frozen
class Paid:
    order: str


@frozen
class Packed:
    order: str


@frozen
class Asked:
    order: str


@frozen
class AskForMoney:
    order: str


@frozen
class Apologise:
    order: str


class Remote:
    """What the handlers below call."""

    def __init__(self) -> None:
        self.down = set[str]()

    def call(self, who: str) -> None:
        if who in self.down:
            raise ConnectionError("no answer")


REMOTE = Remote()


class Order(Saga, correlate_by="order"):
    """An order is paid within two hours, or too late; what was packed too early waits."""

    awaiting = State()
    paid = State()
    late = State()
    expired = State(final=True)

    notes: list[str] = field(factory=list[str])

    @initially.on(Placed).goto(awaiting)
    async def place(self, event: Placed, ctx: Context) -> None:
        ctx.send(AskForMoney(event.order))

    @during(awaiting, late).on(Paid).goto(paid)
    async def pay(self, event: Paid, ctx: Context) -> None:
        REMOTE.call("ledger")
        self.notes.append("paid")

    @during(awaiting).after(120 * MINUTE).goto(late)
    async def remind(self, ctx: Context) -> None:
        REMOTE.call("post")
        self.notes.append("late")
        ctx.send(Apologise("o"))

    wait = during(awaiting).on(Packed).defer()

    @during_any.on(Packed).stay()
    async def pack(self, event: Packed, ctx: Context) -> None:
        self.notes.append("packed")

    @during_any.on(Asked).stay()
    async def ask(self, event: Asked, ctx: Context) -> None:
        self.notes.append("asked")

    expire = during(late).after(120 * MINUTE).goto(expired)
    again = during(paid).on(Placed).goto(expired)


@pytest.fixture(autouse=True)
def _everything_is_up() -> None:
    REMOTE.down.clear()


def shop(
    repository: SagaRepository,
    clock: ManualClock,
    *,
    bus: MemoryBus | None = None,
    hot_sagas: int = 5_000,
) -> Orchestrator:
    return Orchestrator(
        [Order],
        repository,
        clock=clock,
        bus=bus,
        retry=PATIENT,
        background=False,
        hot_sagas=hot_sagas,
    )


async def notes_of(runner: Orchestrator) -> list[str]:
    found = await runner.find(Order, "o")
    assert found is not None
    return found.saga.notes


async def run_for(runner: Orchestrator, clock: ManualClock, minutes: int) -> None:
    """Let time pass, and whatever is due be done every few minutes."""
    for _ in range(minutes // 5):
        clock.advance(5 * MINUTE)
        await runner.run_due()


# What is parked


async def test_event_accepted_while_suspended_comes_before_a_later_timer(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()  # nobody takes AskForMoney: it is refused
    async with Orchestrator(
        [Order], repository, bus=bus, clock=clock, background=False
    ) as orchestrator:
        await orchestrator.handle(Placed("o"))
        await run_for(orchestrator, clock, 70)
        assert (await orchestrator.handle(Paid("o"))).kind is OutcomeKind.SUSPENDED
        clock.advance(110 * MINUTE)
        bus.subscribe(AskForMoney, lambda _: None)
        await orchestrator.resume(Order, "o")
        await orchestrator.run_due()
        await orchestrator.run_due()
        assert await notes_of(orchestrator) == ["paid"]


async def test_event_that_failed_once_comes_before_a_later_timer(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()
    bus.subscribe(AskForMoney, lambda _: None)
    async with shop(repository, clock, bus=bus) as runner:
        await runner.handle(Placed("o"))
        clock.advance(120 * MINUTE - SECOND)
        REMOTE.down.add("ledger")
        await bus.publish(Paid("o"), message_id="pay")
        REMOTE.down.clear()
        await run_for(runner, clock, 45)
        assert await notes_of(runner) == ["paid"]


@pytest.mark.parametrize("goes_on", ["retry", "skip"])
async def test_operator_has_done_first_what_suspended_the_saga(
    repository: SagaRepository, clock: ManualClock, goes_on: str
) -> None:
    bus = MemoryBus()
    bus.subscribe(AskForMoney, lambda _: None)
    bus.subscribe(Apologise, lambda _: None)
    async with shop(repository, clock, bus=bus) as runner:
        await runner.handle(Placed("o"))
        clock.advance(120 * MINUTE + SECOND)
        REMOTE.down.add("post")
        for order in ("pay", "ask"):  # both wait for the timer that fails
            event = Paid("o") if order == "pay" else Asked("o")
            outcome = await runner.handle(event, message_id=order)
            assert outcome.kind is OutcomeKind.DEFERRED
        await run_for(runner, clock, 800)
        found = await runner.find(Order, "o")
        assert found is not None and found.status is Status.SUSPENDED
        (armed,) = found.timers
        assert armed.due == found.created_at + 120 * MINUTE
        REMOTE.down.clear()
        await getattr(runner, goes_on)(Order, "o")
        late = ["late"] if goes_on == "retry" else []
        assert await notes_of(runner) == [*late, "paid", "asked"]


async def test_scheduled_event_that_is_deferred_keeps_its_place(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It was due while the saga was suspended, and another event came after that."""

    class Planned(Saga, correlate_by="order"):
        early = State()
        ready = State()
        over = State(final=True)
        seen: list[str] = field(factory=list[str])

        @initially.on(Placed).goto(early)
        async def place(self, event: Placed, ctx: Context) -> None:
            ctx.schedule(Asked(event.order), after=MINUTE)

        wait = during(early).on(Packed, Asked).defer()

        @during(early).on(Paid).goto(ready)
        async def pay(self, event: Paid, ctx: Context) -> None:
            REMOTE.call("ledger")

        @during(ready).on(Packed, Asked).stay()
        async def note(self, event: Packed | Asked, ctx: Context) -> None:
            self.seen.append(type(event).__name__)

        end = during(ready).on(Placed).goto(over)

    bus = MemoryBus()
    retry = RetryPolicy(initial_delay=SECOND, max_delay=SECOND, max_age=SECOND)
    runner = Orchestrator(
        [Planned], repository, clock=clock, bus=bus, retry=retry, background=False
    )
    async with runner:
        await runner.handle(Placed("o"))
        REMOTE.down.add("ledger")
        await bus.publish(Paid("o"), message_id="pay")
        clock.advance(30 * SECOND)
        await runner.run_due()  # suspended
        clock.advance(MINUTE)
        assert (await runner.handle(Packed("o"))).kind is OutcomeKind.SUSPENDED
        await runner.skip(Planned, "o")
        found = await runner.find(Planned, "o")
        assert found is not None
        assert [event.message.type for event in found.parked] == ["Asked", "Packed"]
        assert found.parked[0].parked_at == found.created_at + MINUTE
        REMOTE.down.clear()
        await runner.handle(Paid("o"))
        found = await runner.find(Planned, "o")
        assert found is not None and found.saga.seen == ["Asked", "Packed"]


async def test_deferred_event_counts_from_its_acceptance_however_often_it_is_offered(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Picky(Saga, correlate_by="order"):
        waiting = State()
        over = State(final=True)
        asked: int = 0
        start = initially.on(Placed).goto(waiting)
        hold = during(waiting).on(Packed).when(lambda saga, _: saga.asked < 3).defer()
        pack = during(waiting).on(Packed).goto(over)

        @during(waiting).on(Asked).stay()
        async def ask(self, event: Asked, ctx: Context) -> None:
            self.asked += 1

    runner = Orchestrator([Picky], repository, clock=clock)
    await runner.handle(Placed("o"))
    accepted = clock.now()
    for number in range(2):
        await runner.handle(Packed("o"), message_id=f"p{number}")
    for _ in range(2):
        clock.advance(MINUTE)
        await runner.handle(Asked("o"))
    found = await runner.find(Picky, "o")
    assert found is not None
    assert [event.parked_at for event in found.parked] == [accepted, accepted]
    # One write accepts each event; only a change has both of them asked again.
    assert found.version == 1 + 2 + 2 * (1 + 2)
    await runner.handle(Asked("o"))
    found = await runner.find(Picky, "o")
    assert found is not None and found.state == Picky.over


# Events that come while a timer is due


@pytest.mark.parametrize("hot_sagas", [0, 5_000])
@pytest.mark.parametrize("restarted", [False, True])
async def test_timer_that_is_due_is_done_before_the_event_that_comes_after_it(
    repository: SagaRepository, clock: ManualClock, hot_sagas: int, restarted: bool
) -> None:
    runner = shop(repository, clock, hot_sagas=hot_sagas)
    await runner.handle(Placed("o"))
    clock.advance(120 * MINUTE + SECOND)
    if restarted:
        runner = shop(repository, clock, hot_sagas=hot_sagas)
    outcome = await runner.handle(Paid("o"), message_id="pay")
    assert (outcome.kind, outcome.state) == (OutcomeKind.TRANSITIONED, Order.paid)
    assert await notes_of(runner) == ["late", "paid"]
    assert (await runner.handle(Paid("o"), message_id="pay")).kind is OutcomeKind.DUPLICATE


async def test_event_meets_the_state_that_the_timer_has_entered(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = shop(repository, clock)
    await runner.handle(Placed("o"))
    clock.advance(120 * MINUTE + SECOND)
    await runner.handle(Asked("o"))
    clock.advance(120 * MINUTE + SECOND)
    outcome = await runner.handle(Paid("o"))
    assert (outcome.kind, outcome.state) == (OutcomeKind.FINISHED, Order.expired)


async def test_what_the_timer_says_is_sent_though_the_event_comes_to_nothing(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, told = MemoryBus(), list[object]()
    bus.subscribe(AskForMoney, lambda _: None)
    bus.subscribe(Apologise, told.append)
    async with shop(repository, clock, bus=bus) as runner:
        await runner.handle(Placed("o"))
        clock.advance(120 * MINUTE + SECOND)
        assert (await runner.handle(Placed("o"))).kind is OutcomeKind.UNHANDLED
        assert told == [Apologise("o")]
        found = await runner.find(Order, "o")
        assert found is not None and found.state == Order.late


async def test_several_events_at_once_come_after_a_timer_that_is_due(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = shop(repository, clock)
    await runner.handle(Placed("o"))
    clock.advance(120 * MINUTE + SECOND)
    kinds = list[OutcomeKind]()

    async def ask() -> None:
        kinds.append((await runner.handle(Asked("o"))).kind)

    async with anyio.create_task_group() as tasks:
        for _ in range(9):
            tasks.start_soon(ask)
    assert set(kinds) == {OutcomeKind.STAYED}
    assert await notes_of(runner) == ["late", *["asked"] * 9]


async def take_time_for_timers(change: DocumentChange) -> None:
    """Take time to store what a timer has done, as a server may."""
    history = change.push.get("history")
    if history is not None and any(entry["kind"] == "timeout" for entry in history.items):
        for _ in range(20):
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("slow", [False, True])
async def test_timer_that_falls_due_while_events_wait_in_line_comes_before_them(
    repository: SagaRepository, clock: ManualClock, slow: bool
) -> None:
    class Busy(Saga, correlate_by="order"):
        waiting = State()
        over = State(final=True)
        notes: list[str] = field(factory=list[str])
        start = initially.on(Placed).goto(waiting)

        @during(waiting).on(Asked).stay()
        async def ask(self, event: Asked, ctx: Context) -> None:
            await anyio.lowlevel.checkpoint()  # the others are handed in
            self.notes.append("asked")
            if len(self.notes) == 3:
                clock.advance(MINUTE)

        @during(waiting).after(MINUTE).stay()
        async def remind(self, ctx: Context) -> None:
            self.notes.append("reminded")

        @during(waiting).on(Paid).stay()
        async def pay(self, event: Paid, ctx: Context) -> None:
            self.notes.append("paid")

        end = during(waiting).on(Packed).goto(over)

    if slow:
        repository = Interrupted(repository, update=take_time_for_timers)
    runner = Orchestrator([Busy], repository, clock=clock)
    await runner.handle(Placed("o"))
    outcomes = list[Outcome]()

    async def say(event: object) -> None:
        outcomes.append(await runner.handle(event))

    clock.advance(SECOND)
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(say, Asked("o"))
    await runner.handle(Paid("o"))
    found = await runner.find(Busy, "o")
    assert found is not None
    # What waits for its turn is not accepted yet.
    assert found.saga.notes == [*["asked"] * 3, "reminded", *["asked"] * 3, "paid"]


async def test_event_waits_behind_a_due_timer_that_fails(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = shop(repository, clock)
    await runner.handle(Placed("o"))
    clock.advance(120 * MINUTE + SECOND)
    REMOTE.down.add("post")
    assert (await runner.handle(Paid("o"))).kind is OutcomeKind.DEFERRED
    found = await runner.find(Order, "o")
    assert found is not None
    assert [event.message.type for event in found.parked] == ["Paid"]
    (armed,) = found.timers
    assert armed.due == found.created_at + 120 * MINUTE  # as it was
    assert armed.failing is not None and armed.failing.due > clock.now()
    REMOTE.down.clear()
    await run_for(runner, clock, 20)
    assert await notes_of(runner) == ["late", "paid"]


async def test_saga_that_waited_too_long_is_suspended_before_the_next_event(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Watched(Saga, correlate_by="order", timeout=MINUTE):
        waiting = State()
        over = State(final=True)
        start = initially.on(Placed).goto(waiting)
        end = during(waiting).on(Paid).goto(over)

    runner = Orchestrator([Watched], repository, clock=clock)
    await runner.handle(Placed("o"))
    clock.advance(MINUTE + SECOND)
    assert (await runner.handle(Paid("o"))).kind is OutcomeKind.SUSPENDED
    await runner.retry(Watched, "o")
    found = await runner.find(Watched, "o")
    assert found is not None and found.state == Watched.over


@pytest.mark.parametrize("by_a_worker", [False, True])
async def test_handler_of_a_due_timer_may_hand_an_event_to_its_own_saga(
    repository: SagaRepository, clock: ManualClock, by_a_worker: bool
) -> None:
    """That goes past the line, where the event waits that brought the timer on."""
    runners = list[Orchestrator]()

    class Chatty(Saga, correlate_by="order"):
        waiting = State()
        over = State(final=True)
        notes: list[str] = field(factory=list[str])
        start = initially.on(Placed).goto(waiting)

        @during(waiting).on(Asked, Paid).stay()
        async def note(self, event: Asked | Paid, ctx: Context) -> None:
            self.notes.append(type(event).__name__)

        @during(waiting).after(MINUTE).goto(over)
        async def remind(self, ctx: Context) -> None:
            if not self.notes:
                await runners[0].handle(Asked("o"), message_id="a")

    runners.append(Orchestrator([Chatty], repository, clock=clock))
    await runners[0].handle(Placed("o"))
    clock.advance(MINUTE + SECOND)
    if by_a_worker:
        await runners[0].run_due()
    with anyio.fail_after(0.9):
        outcome = await runners[0].handle(Paid("o"))
    assert outcome.kind is OutcomeKind.FINISHED
    found = await runners[0].find(Chatty, "o")
    assert found is not None
    # What it hands in was accepted after the timer was due, and comes after it.
    assert [(entry.event, entry.kind) for entry in found.history] == [
        ("Placed", HistoryKind.EVENT),
        ("Asked", HistoryKind.PARKED),
        ("Asked", HistoryKind.DROPPED),
        ("timeout", HistoryKind.TIMEOUT),
    ]


async def test_event_is_not_held_up_by_a_timer_that_another_process_has_fired(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """What this process knows of the saga is out of date; the handler does not run in vain."""
    runner, other = shop(repository, clock), shop(repository, clock)
    await runner.handle(Placed("o"))
    clock.advance(120 * MINUTE + SECOND)
    await other.run_due()
    REMOTE.down.add("post")
    assert (await runner.handle(Paid("o"))).kind is OutcomeKind.TRANSITIONED
    assert await notes_of(runner) == ["late", "paid"]


class Counting(Passing):
    """Counts what is read and written."""

    reads = 0
    writes = 0

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        self.reads += 1
        return await super().load_document(saga, correlation_id, message_id=message_id)

    async def load_recent(self, saga: str, correlation_id: SagaId) -> Document | None:
        self.reads += 1
        return await super().load_recent(saga, correlation_id)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.writes += 1
        return await super().update_document(saga, change)


@pytest.mark.parametrize("hot_sagas", [0, 5_000])
async def test_timer_that_is_not_due_costs_nothing(
    memory: SagaRepository, clock: ManualClock, hot_sagas: int
) -> None:
    counting = Counting(memory)
    runner = shop(counting, clock, hot_sagas=hot_sagas)
    await runner.handle(Placed("o"))
    counting.reads = counting.writes = 0
    await runner.handle(Asked("o"))
    assert (counting.reads, counting.writes) == (0 if hot_sagas else 1, 1)
