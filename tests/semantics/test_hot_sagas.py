"""Sagas that a process has used last: their next event is one write, and what is stored decides."""

from __future__ import annotations

from datetime import timedelta

import pytest
from attrs import frozen

from sagaflow import (
    Context,
    LimitExceededError,
    Limits,
    MessageId,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaId,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._runtime.hot_sagas import HotSagas
from sagaflow.testing import ManualClock
from tests.engine.support import record
from tests.semantics.support import Passing, RecordingBus

pytestmark = pytest.mark.anyio


@frozen
class Ordered:
    key: str


@frozen
class Paid:
    key: str


@frozen
class Shipped:
    key: str


@frozen
class Ship:
    key: str


ran: list[str] = []


class Order(Saga, correlate_by="key"):
    ordered = State()
    paid = State()
    shipped = State(final=True)

    text: str = ""

    @initially.on(Ordered).goto(ordered)
    def order(self, event: Ordered, ctx: Context) -> None:
        ran.append("order")

    @during(ordered).on(Paid).goto(paid)
    def pay(self, event: Paid, ctx: Context) -> None:
        ran.append("pay")
        ctx.send(Ship(event.key))

    @during(paid).on(Paid).stay()
    def pay_again(self, event: Paid, ctx: Context) -> None:
        ran.append("pay again")
        raise ValueError("it is paid")

    ship = during(paid).on(Shipped).goto(shipped)


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


class Counting(Passing):
    """Notes what is asked of the store."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.calls: list[str] = []

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        self.calls.append("read")
        return await super().load_document(saga, correlation_id, message_id=message_id)

    async def insert_document(self, saga: str, document: Document) -> bool:
        self.calls.append("insert")
        return await super().insert_document(saga, document)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.calls.append("update")
        return await super().update_document(saga, change)

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        self.calls.append("note")
        return await super().bookkeep(saga, note)

    def taken(self) -> list[str]:
        """Return what was noted since the last time."""
        calls, self.calls = self.calls, []
        return calls


async def test_event_is_one_write_and_no_read(
    repository: SagaRepository, clock: ManualClock
) -> None:
    store = Counting(repository)
    runner = Orchestrator([Order], store, clock=clock, bus=RecordingBus())
    await runner.handle(Ordered("o"))
    assert store.taken() == ["insert"]
    await runner.handle(Paid("o"))
    assert store.taken() == ["update", "note"]
    await runner.handle(Shipped("o"))
    assert store.taken() == ["update"]
    instance = await repository.find(Order, "o")
    assert instance is not None
    assert (instance.state, instance.version, instance.outbox) == (Order.shipped, 3, ())


async def test_without_them_each_event_is_a_read_and_a_write(
    repository: SagaRepository, clock: ManualClock
) -> None:
    store = Counting(repository)
    runner = Orchestrator([Order], store, clock=clock, hot_sagas=0)
    for event in (Ordered("o"), Paid("o"), Shipped("o")):
        await runner.handle(event)
    assert store.taken() == ["insert", "read", "update", "read", "update"]


async def test_only_those_used_last_are_kept(
    repository: SagaRepository, clock: ManualClock
) -> None:
    store = Counting(repository)
    runner = Orchestrator([Order], store, clock=clock, hot_sagas=2)
    for key in ("a", "b", "c"):
        await runner.handle(Ordered(key))
    store.taken()
    await runner.handle(Paid("c"))
    assert store.taken() == ["update"]
    await runner.handle(Paid("a"))
    assert store.taken() == ["read", "update"]


async def test_what_others_have_made_of_the_saga_is_noticed_by_the_write(
    repository: SagaRepository, clock: ManualClock
) -> None:
    store = Counting(repository)
    runner, other = (Orchestrator([Order], s, clock=clock) for s in (store, repository))
    await runner.handle(Ordered("o"))
    await other.handle(Paid("o"))
    store.taken()
    with pytest.raises(ValueError, match="it is paid"):
        await runner.handle(Paid("o"))
    assert store.taken() == ["update", "read"]
    assert ran == ["order", "pay", "pay", "pay again"]


async def test_that_nothing_is_written_is_decided_on_what_is_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner, other = (Orchestrator([Order], repository, clock=clock) for _ in range(2))
    await runner.handle(Ordered("o"))
    await other.handle(Paid("o"))
    # As far as the runner knows, the order is not paid, and does not take this.
    outcome = await runner.handle(Shipped("o"))
    assert outcome.kind is OutcomeKind.TRANSITIONED


async def test_error_of_a_handler_that_saw_what_is_out_of_date_is_not_raised(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner, other = (Orchestrator([Order], repository, clock=clock) for _ in range(2))
    await runner.handle(Ordered("o"))
    await runner.handle(Paid("o"))
    await repository.delete(Order, "o")
    await other.handle(Ordered("o"))
    outcome = await runner.handle(Paid("o"))  # which raises in the life that the runner knows
    assert outcome.kind is OutcomeKind.TRANSITIONED
    assert ran[-2:] == ["pay again", "pay"]


async def test_error_that_what_is_stored_confirms_is_raised_without_another_run(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = Orchestrator([Order], repository, clock=clock)
    await runner.handle(Ordered("o"))
    await runner.handle(Paid("o"))
    with pytest.raises(ValueError, match="it is paid"):
        await runner.handle(Paid("o"))
    assert ran == ["order", "pay", "pay again"]


async def test_start_of_a_saga_that_others_have_started_is_told_so(
    repository: SagaRepository, clock: ManualClock
) -> None:
    store = Counting(repository)
    runner, other = (Orchestrator([Order], s, clock=clock) for s in (store, repository))
    await other.handle(Ordered("o"), message_id="m")
    outcome = await runner.handle(Ordered("o"), message_id="m")
    assert outcome.kind is OutcomeKind.DUPLICATE
    assert store.taken() == ["insert", "read"]
    outcome = await runner.handle(Ordered("o"), message_id="m")
    assert outcome.kind is OutcomeKind.DUPLICATE
    assert ran == ["order", "order"]  # known by now: it does not run for another duplicate


async def test_deleted_saga_is_started_anew(repository: SagaRepository, clock: ManualClock) -> None:
    runner = Orchestrator([Order], repository, clock=clock)
    await runner.handle(Ordered("o"))
    await runner.handle(Paid("o"))
    await repository.delete(Order, "o")
    assert (await runner.handle(Shipped("o"))).kind is OutcomeKind.NOT_FOUND
    outcome = await runner.handle(Ordered("o"))
    assert (outcome.kind, outcome.version) == (OutcomeKind.STARTED, 1)


async def test_limit_that_only_what_is_out_of_date_exceeds_is_none(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """What others have sent meanwhile does not count."""
    bus = RecordingBus(refusal=ValueError("not now"))
    runner = Orchestrator([Order], repository, clock=clock, bus=bus, limits=Limits(max_outbox=1))
    await runner.handle(Ordered("o"))
    await runner.handle(Paid("o"))
    clock.advance(timedelta(minutes=10))
    other = Orchestrator([Order], repository, clock=clock, bus=RecordingBus())
    await other.run_due()
    outcome = await runner.handle(Shipped("o"))
    assert outcome.kind is OutcomeKind.TRANSITIONED


async def test_limit_is_still_kept(repository: SagaRepository, clock: ManualClock) -> None:
    runner = Orchestrator([Order], repository, clock=clock, limits=Limits(max_bytes=1000))
    await runner.handle(Ordered("o"))
    with pytest.raises(LimitExceededError):
        await runner.handle(Paid("o"), headers={"long": "x" * 2000})
    assert ran == ["order", "pay", "pay"]


async def test_operators_and_workers_read_what_is_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    store = Counting(repository)
    runner = Orchestrator([Order], store, clock=clock)
    await runner.handle(Ordered("o"))
    store.taken()
    await runner.cancel(Order, "o", state=Order.shipped)
    assert store.taken()[:2] == ["read", "update"]
    assert (await runner.handle(Paid("o"))).kind is OutcomeKind.FINISHED


def test_large_sagas_make_room() -> None:
    hot = HotSagas(10)
    for number in range(3):
        hot.keep("Order", record(correlation_id=str(number)), 30 * 1024 * 1024)
    assert hot.get("Order", "0") is None
    assert hot.get("Order", "2") is not None


def test_events_that_only_start_are_told_apart() -> None:
    assert Order.table.only_starts_with(Ordered)
    assert not Order.table.only_starts_with(Paid)


def test_fewer_than_none_are_refused() -> None:
    with pytest.raises(ValueError, match="most"):
        HotSagas(-1)
