"""What has ended is kept for as long as its class says, from when nothing is left to send."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from attrs import evolve, frozen

from sagaflow import (
    Context,
    MemoryBus,
    OperationError,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaRepository,
    State,
    Status,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, decode_record, encode_change
from sagaflow._codec.selection import Selection
from sagaflow._model.record import SagaRecord
from sagaflow.testing import ManualClock
from tests.semantics.support import Passing, stored

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@frozen
class Placed:
    order: str


@frozen
class Failed:
    order: str
    refunds: int = 1


@frozen
class Refund:
    order: str
    number: int


@frozen
class Cancelled:
    """Comes too early, and is kept until its order starts."""

    order: str


class Order(Saga, correlate_by="order", retain=HOUR, early_events=HOUR):
    awaiting = State()
    failed = State(final=True)

    early = initially.on(Cancelled).defer()
    start = initially.on(Placed).goto(awaiting)
    cancel = during(awaiting).on(Cancelled).goto(failed)

    @during(awaiting).on(Failed).goto(failed)
    async def fail(self, event: Failed, ctx: Context) -> None:
        for number in range(event.refunds):
            ctx.send(Refund(event.order, number))


async def expiry(repository: SagaRepository) -> datetime | None:
    """Return when the database may remove the order."""
    document = await stored(repository, Order, "o")
    assert document is not None
    return document.get("expire_at")


def orchestrated(
    repository: SagaRepository, clock: ManualClock, bus: MemoryBus, minutes: int = 360
) -> Orchestrator:
    retry = RetryPolicy(max_age=minutes * MINUTE)
    return Orchestrator(
        [Order], repository, bus=bus, clock=clock, background=False, retry=retry, messages=[Refund]
    )


async def fail(orchestrator: Orchestrator, refunds: int = 1) -> None:
    await orchestrator.handle(Placed("o"))
    await orchestrator.handle(Failed("o", refunds))


async def test_ended_saga_stays_until_its_last_message_has_left(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, refunded = MemoryBus(), list[Refund]()
    async with orchestrated(repository, clock, bus) as orchestrator:
        await fail(orchestrator)
        for _ in range(24):
            clock.advance(5 * MINUTE)
            await orchestrator.run_due()
            assert await orchestrator.find(Order, "o") is not None
            assert await expiry(repository) is None
        bus.subscribe(Refund, refunded.append)
        clock.advance(10 * MINUTE)
        await orchestrator.run_due()
        assert refunded == [Refund("o", 0)]
        assert await expiry(repository) == clock.now() + HOUR
        clock.advance(59 * MINUTE)
        assert await orchestrator.run_due() == 0
        assert await orchestrator.find(Order, "o") is not None
        clock.advance(MINUTE)
        assert await orchestrator.find(Order, "o") is None


async def test_ended_saga_that_is_suspended_stays_until_somebody_decides(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, refunded = MemoryBus(), list[Refund]()
    async with orchestrated(repository, clock, bus, minutes=20) as orchestrator:
        await fail(orchestrator)
        for _ in range(36):
            clock.advance(5 * MINUTE)
            await orchestrator.run_due()
        order = await orchestrator.find(Order, "o")
        assert order is not None
        assert (order.status, await expiry(repository)) == (Status.SUSPENDED, None)
        bus.subscribe(Refund, refunded.append)
        await orchestrator.retry(Order, "o")
        assert refunded == [Refund("o", 0)]
        assert await expiry(repository) == clock.now() + HOUR


async def test_skipped_message_was_the_last_that_was_left_to_send(
    repository: SagaRepository, clock: ManualClock
) -> None:
    async with orchestrated(repository, clock, MemoryBus(), minutes=20) as orchestrator:
        await fail(orchestrator)
        for _ in range(6):
            clock.advance(5 * MINUTE)
            await orchestrator.run_due()
        assert await expiry(repository) is None
        await orchestrator.skip(Order, "o")
        assert await expiry(repository) == clock.now() + HOUR


@pytest.mark.parametrize("hot_sagas", [0, 5])
@pytest.mark.parametrize("refunds", [0, 1, 3])
async def test_time_of_a_tombstone_begins_when_all_was_sent_at_once(
    refunds: int, hot_sagas: int, repository: SagaRepository, clock: ManualClock
) -> None:
    bus, refunded = MemoryBus(), list[Refund]()
    bus.subscribe(Refund, refunded.append)
    async with Orchestrator(
        [Order], repository, bus=bus, clock=clock, background=False, hot_sagas=hot_sagas
    ) as orchestrator:
        await fail(orchestrator, refunds)
        assert len(refunded) == refunds
    assert await expiry(repository) == clock.now() + HOUR


class Overtaken(Passing):
    """Has somebody else write the saga just before a note about it."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.before: SagaRecord | None = None
        self.after: SagaRecord | None = None

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        if self.before is not None and self.after is not None:
            change = encode_change(self.before, self.after, inbox_size=128)
            assert await self.inner.update_document(saga, change)
            self.before = None
        return await super().bookkeep(saga, note)


async def test_who_removes_the_last_message_without_knowing_the_saga_begins_no_time(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Its removal takes place whatever the version, the rest only if nobody has written since."""
    overtaken = Overtaken(repository)
    bus = MemoryBus()
    async with orchestrated(overtaken, clock, bus) as orchestrator:
        await fail(orchestrator)
        document = await stored(repository, Order, "o")
        assert document is not None
        overtaken.before = before = decode_record(document)
        more = evolve(before.outbox[0], id="more", sequence=2)
        outbox = (*before.outbox, more)
        overtaken.after = evolve(before, version=3, outbox=outbox, sequence=2, history=(), inbox=())
        bus.subscribe(Refund, lambda _: None)
        clock.advance(10 * MINUTE)
        await orchestrator.run_due()
        while (document := await stored(repository, Order, "o")) and document["outbox"]:
            assert "expire_at" not in document
            clock.advance(10 * MINUTE)
            await orchestrator.run_due()
        clock.advance(MINUTE)
        await orchestrator.run_due()  # whoever finds nothing left to do says so
        assert await expiry(repository) is not None


async def test_instant_that_an_earlier_release_stored_too_early_is_taken_back(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It counted from the end, with messages still to be sent: the next write says otherwise."""
    bus = MemoryBus()
    async with orchestrated(repository, clock, bus) as orchestrator:
        await fail(orchestrator)
        document = await stored(repository, Order, "o")
        assert document is not None
        before = decode_record(document)
        early = evolve(before, version=3, history=(), inbox=(), expire_at=clock.now() + 5 * HOUR)
        change = encode_change(before, early, inbox_size=128)
        assert await repository.update_document("Order", change)
        assert await expiry(repository) is not None
        clock.advance(10 * MINUTE)
        await orchestrator.run_due()
        assert await expiry(repository) is None
        bus.subscribe(Refund, lambda _: None)
        clock.advance(10 * MINUTE)
        await orchestrator.run_due()
        assert await expiry(repository) == clock.now() + HOUR


# What has expired counts as gone, whether or not the database has removed it


@pytest.fixture
def ahead() -> ManualClock:
    """The clock of an orchestrator for which the hour is over."""
    return ManualClock()


async def ended(
    repository: SagaRepository, clock: ManualClock, ahead: ManualClock, after: timedelta = HOUR
) -> Orchestrator:
    """End an order, and return an orchestrator for which an hour has gone by since."""
    orchestrator = orchestrated(repository, clock, MemoryBus())
    await orchestrator.handle(Placed("o"), message_id="m-1")
    await orchestrator.handle(Failed("o", refunds=0))
    ahead.advance(clock.now() + after - ahead.now())
    assert await stored(repository, Order, "o") is not None
    return orchestrated(repository, ahead, MemoryBus())


async def test_expired_tombstone_does_not_keep_a_saga_from_starting(
    repository: SagaRepository, clock: ManualClock, ahead: ManualClock
) -> None:
    orchestrator = await ended(repository, clock, ahead)
    outcome = await orchestrator.handle(Placed("o"), message_id="m-1")
    assert (outcome.kind, outcome.version) == (OutcomeKind.STARTED, 1)
    document = await stored(repository, Order, "o")
    assert document is not None
    assert ("expire_at" in document, "finished_at" in document) == (False, False)


@pytest.mark.parametrize("hot", [False, True])
async def test_expired_tombstone_takes_no_events(
    hot: bool, repository: SagaRepository, clock: ManualClock, ahead: ManualClock
) -> None:
    orchestrator = await ended(repository, clock, ahead, after=HOUR - MINUTE)
    if hot:
        assert (await orchestrator.handle(Failed("o"))).kind is OutcomeKind.FINISHED
    ahead.advance(MINUTE)
    assert (await orchestrator.handle(Failed("o"))).kind is OutcomeKind.NOT_FOUND


async def test_expired_tombstone_is_found_by_nobody(
    repository: SagaRepository, clock: ManualClock, ahead: ManualClock
) -> None:
    orchestrator = await ended(repository, clock, ahead)
    assert await orchestrator.find(Order, "o") is None
    assert await repository.find(Order, "o", now=clock.now()) is not None
    for operate in (
        orchestrator.retry(Order, "o"),
        orchestrator.resume(Order, "o"),
        orchestrator.skip(Order, "o"),
        orchestrator.cancel(Order, "o"),
    ):
        with pytest.raises(OperationError, match="there is no such saga"):
            await operate


async def shown(repository: SagaRepository) -> Sequence[object]:
    """Return how many of the order every query shows."""
    selection = Selection(statuses=tuple(Status))
    return (
        await repository.find(Order, "o") is not None,
        len([one async for one in repository.find_by_state(Order, "failed")]),
        (await repository.count_by_state(Order))[Order.failed],
        len([one async for one in repository.summaries(Order, selection)]),
        sum([one.count async for one in repository.survey(Order, finished=True)]),
    )


async def test_queries_leave_out_what_has_expired(
    repository: SagaRepository, clock: ManualClock, ahead: ManualClock
) -> None:
    """By the clock of the repository, which they are asked of."""
    await ended(repository, clock, ahead)
    clock.advance(HOUR - timedelta(milliseconds=1))
    assert await shown(repository) == (True, 1, 1, 1, 1)
    clock.advance(timedelta(milliseconds=1))
    assert await shown(repository) == (False, 0, 0, 0, 0)


@pytest.mark.parametrize("knows", [False, True])
async def test_early_event_that_has_expired_is_not_taken(
    knows: bool, repository: SagaRepository, clock: ManualClock, ahead: ManualClock
) -> None:
    """Nor by the process that has kept it, and knows it still."""
    early = orchestrated(repository, ahead if knows else clock, MemoryBus())
    assert (await early.handle(Cancelled("o"))).kind is OutcomeKind.DEFERRED
    late = early if knows else orchestrated(repository, ahead, MemoryBus())
    ahead.advance(clock.now() + HOUR - ahead.now())
    outcome = await late.handle(Placed("o"))
    assert (outcome.kind, outcome.state) == (OutcomeKind.STARTED, Order.awaiting)
    await late.run_due()
    order = await late.find(Order, "o")
    assert order is not None
    assert (order.state, order.parked) == (Order.awaiting, ())


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        (Placed("o"), OutcomeKind.STARTED),
        (Cancelled("o"), OutcomeKind.DEFERRED),
        (Failed("o"), OutcomeKind.NOT_FOUND),
    ],
)
async def test_next_event_tells_which_early_events_have_expired(
    after: object,
    kind: OutcomeKind,
    repository: SagaRepository,
    clock: ManualClock,
    ahead: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whether or not anything is stored in their place; here the store still has them."""
    early = orchestrated(repository, clock, MemoryBus())
    for name in ("c-1", "c-2"):
        await early.handle(Cancelled("o"), message_id=name)
    ahead.advance(clock.now() + HOUR - ahead.now())
    late = orchestrated(repository, ahead, MemoryBus())
    assert (await late.handle(after, message_id="next")).kind is kind
    lines = [line for line in caplog.records if "came early" in line.message]
    assert [vars(line)["message_id"] for line in lines] == ["c-1", "c-2"]
    assert lines[0].message == (
        "Order 'o': Cancelled 'c-1' came early and was kept, but the saga has not started within "
        "early_events=; it has no effect"
    )
