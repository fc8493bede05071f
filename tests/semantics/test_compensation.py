"""Completed steps are undone last first, each once, whatever dies or fails in between."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from attrs import field, frozen

from examples.orders import (
    InventoryFailed,
    InventoryReserved,
    OrderCancelled,
    OrderPlaced,
    OrderSaga,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipmentFailed,
)
from sagaflow import (
    CompensationStatus,
    Context,
    HistoryKind,
    Instance,
    MemoryBus,
    Orchestrator,
    Outcome,
    OutcomeKind,
    RecordedCompensation,
    Saga,
    SagaRepository,
    State,
    Status,
    UnknownStateError,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.sagas import (
    BEFORE_THE_CAR,
    Apologise,
    BookCar,
    BookFlight,
    BookHotel,
    CancelFlight,
    CancelHotel,
    CarBooked,
    FlightBooked,
    GivenUp,
    Planned,
    Probe,
    Trip,
    agency,
)
from tests.semantics.support import (
    Crash,
    DiesAfterUpdate,
    RecordingBus,
    stored,
)

pytestmark = pytest.mark.anyio

BOOKINGS = [BookFlight("t"), BookHotel("t"), BookCar("t")]
UNDOING = [Apologise("t"), CancelHotel("h-1"), CancelFlight("f-1")]


async def trip(repository: SagaRepository) -> Instance[Trip]:
    """Return the trip as it is stored."""
    instance = await repository.find(Trip, "t")
    assert instance is not None
    return instance


async def prepared(repository: SagaRepository, clock: ManualClock) -> None:
    """Bring a trip to the point where the flight and the hotel would have to be undone."""
    orchestrator = agency(repository, clock, bus=RecordingBus())
    for event in BEFORE_THE_CAR:
        await orchestrator.handle(event, message_id=type(event).__name__)


def progress(instance: Instance[Any]) -> list[tuple[str, CompensationStatus]]:
    """Return how far each compensation is."""
    return [(entry.step, entry.status) for entry in instance.compensations]


async def test_steps_are_undone_last_first(repository: SagaRepository, clock: ManualClock) -> None:
    await prepared(repository, clock)
    bus, probe = RecordingBus(), Probe()
    outcome = await agency(repository, clock, probe, bus=bus).handle(GivenUp("t"))
    assert outcome == Outcome(OutcomeKind.TRANSITIONED, Trip, "t", Trip.given_up, 6)
    assert probe.calls == ["cancel_hotel", "cancel_flight"]
    assert bus.bodies == UNDOING
    instance = await trip(repository)
    assert instance.saga.undone == ["h-1", "f-1"]
    assert (instance.state, instance.status) == (Trip.given_up, Status.FINISHED)
    assert instance.finished_at == clock.now()
    assert [(entry.event, entry.step, entry.target) for entry in instance.history[3:]] == [
        ("GivenUp", "give_up", "booking_car"),
        ("compensation", "book_car", "booking_car"),
        ("compensation", "book_hotel", "given_up"),
    ]


async def test_step_is_recorded_with_what_undoes_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    first, second = (await trip(repository)).compensations
    assert isinstance(first, RecordedCompensation)
    assert (first.step, first.method, first.message_id) == (
        "book_hotel",
        "cancel_flight",
        "FlightBooked",
    )
    assert first.event is not None
    assert (first.event.type, first.event.body) == ("FlightBooked", {"trip": "t", "flight": "f-1"})
    assert (second.step, second.method, second.status) == (
        "book_car",
        "cancel_hotel",
        CompensationStatus.PENDING,
    )


async def test_steps_that_never_ran_are_not_undone(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, probe = RecordingBus(), Probe()
    orchestrator = agency(repository, clock, probe, bus=bus)
    await orchestrator.handle(Planned("t"))
    await orchestrator.handle(FlightBooked("t"))
    await orchestrator.handle(GivenUp("t"))
    assert probe.calls == ["cancel_flight"]
    assert bus.bodies == [*BOOKINGS[:2], Apologise("t"), CancelFlight("f-1")]


async def test_saga_without_completed_steps_enters_the_state_at_once(
    repository: SagaRepository, clock: ManualClock
) -> None:
    probe = Probe()
    orchestrator = agency(repository, clock, probe)
    await orchestrator.handle(Planned("t"))
    outcome = await orchestrator.handle(GivenUp("t"))
    assert outcome == Outcome(OutcomeKind.TRANSITIONED, Trip, "t", Trip.given_up, 2)
    assert probe.calls == []


async def test_nothing_is_undone_at_a_good_end(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    probe = Probe()
    orchestrator = agency(repository, clock, probe)
    await orchestrator.handle(CarBooked("t"))
    assert (await orchestrator.handle(GivenUp("t"))).kind is OutcomeKind.FINISHED
    assert probe.calls == ["finish"]


async def test_each_step_is_stored_with_what_it_sent_before_the_next_starts(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    bus, seen = RecordingBus(), list[Instance[Trip]]()

    async def look() -> None:
        seen.append(await trip(repository))

    probe = Probe({"cancel_hotel": look, "cancel_flight": look})
    await agency(repository, clock, probe, bus=bus).handle(GivenUp("t"))
    before_first, before_second = seen
    assert before_first.version == 4
    assert before_first.status is Status.COMPENSATING
    assert before_first.state == Trip.booking_car  # the goal is entered after the last step
    assert progress(before_first) == [
        ("book_hotel", CompensationStatus.PENDING),
        ("book_car", CompensationStatus.PENDING),
    ]
    assert [message.message.type for message in before_first.outbox] == ["Apologise"]
    assert before_second.version == 5
    assert before_second.saga.undone == ["h-1"]
    assert progress(before_second) == [
        ("book_hotel", CompensationStatus.PENDING),
        ("book_car", CompensationStatus.DONE),
    ]
    assert [m.message.type for m in before_second.outbox] == ["Apologise", "CancelHotel"]
    assert bus.bodies == UNDOING


# The order example


async def test_refund_is_sent_when_the_stock_runs_out(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Every event is handled by a process of its own, so nothing can be kept in memory."""
    bus = RecordingBus()
    for event in (
        OrderPlaced("o-1", Decimal("99.90")),
        PaymentProcessed("o-1", "tx-7"),
        InventoryFailed("o-1", "sold out"),
    ):
        async with Orchestrator([OrderSaga], repository, bus=bus, clock=clock) as orchestrator:
            await orchestrator.handle(event, message_id=type(event).__name__)
    assert bus.bodies == [
        ProcessPayment("o-1", Decimal("99.90")),
        ReserveInventory("o-1"),
        RefundPayment("o-1", "tx-7"),
    ]
    instance = await repository.find(OrderSaga, "o-1")
    assert instance is not None
    assert (instance.state, instance.saga.notes) == (OrderSaga.failed, ["sold out"])
    assert instance.outbox == ()


@pytest.mark.parametrize("event_type", [ShipmentFailed, OrderCancelled])
async def test_stock_is_released_and_then_the_money_returned(
    event_type: type[ShipmentFailed | OrderCancelled],
    repository: SagaRepository,
    clock: ManualClock,
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([OrderSaga], repository, bus=bus, clock=clock)
    await orchestrator.handle(OrderPlaced("o-1", Decimal(1)))
    await orchestrator.handle(PaymentProcessed("o-1", "tx-7"))
    await orchestrator.handle(InventoryReserved("o-1", "r-3"))
    await orchestrator.handle(event_type("o-1", "lost"))
    assert bus.bodies[-2:] == [ReleaseInventory("o-1", "r-3"), RefundPayment("o-1", "tx-7")]


async def test_whole_order_is_undone_over_the_bus(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()
    refunded: list[RefundPayment] = []

    @bus.subscribe(ProcessPayment)
    async def pay(command: ProcessPayment) -> None:
        await bus.publish(PaymentProcessed(command.order_id, "tx-7"))

    @bus.subscribe(ReserveInventory)
    async def reserve(command: ReserveInventory) -> None:
        await bus.publish(InventoryFailed(command.order_id, "sold out"))

    bus.subscribe(RefundPayment, refunded.append)
    async with Orchestrator([OrderSaga], repository, bus=bus, clock=clock) as orchestrator:
        await orchestrator.handle(OrderPlaced("o-1", Decimal(1)))
    instance = await repository.find(OrderSaga, "o-1")
    assert instance is not None
    assert (instance.state, instance.outbox) == (OrderSaga.failed, ())
    assert refunded == [RefundPayment("o-1", "tx-7")]


# Death in between


async def test_process_that_dies_between_two_steps_is_continued_at_the_right_one(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    dead = Probe()
    with pytest.raises(Crash):
        await agency(DiesAfterUpdate(repository, 2), clock, dead).handle(GivenUp("t"))
    assert dead.calls == ["cancel_hotel"]
    bus, probe = RecordingBus(), Probe()
    assert await agency(repository, clock, probe, bus=bus).run_due() == 1
    assert probe.calls == ["cancel_flight"]
    assert bus.bodies == UNDOING
    assert (await trip(repository)).state == Trip.given_up


async def test_process_that_dies_before_the_first_step_is_continued(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    with pytest.raises(Crash):
        await agency(DiesAfterUpdate(repository, 1), clock).handle(GivenUp("t"))
    bus, probe = RecordingBus(), Probe()
    assert await agency(repository, clock, probe, bus=bus).run_due() == 1
    assert probe.calls == ["cancel_hotel", "cancel_flight"]
    assert bus.bodies == UNDOING


async def test_process_that_dies_within_a_step_runs_that_step_again(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)

    async def die() -> None:
        raise Crash

    with pytest.raises(Crash):
        await agency(repository, clock, Probe({"cancel_flight": die})).handle(GivenUp("t"))
    instance = await trip(repository)
    assert progress(instance) == [
        ("book_hotel", CompensationStatus.PENDING),
        ("book_car", CompensationStatus.DONE),
    ]
    assert [entry.failing for entry in instance.compensations] == [None, None]
    bus, probe = RecordingBus(), Probe()
    assert await agency(repository, clock, probe, bus=bus).run_due() == 1
    assert probe.calls == ["cancel_flight"]
    assert bus.bodies == UNDOING
    assert await agency(repository, clock, probe, bus=bus).run_due() == 0


async def test_cancellation_within_a_step_propagates_and_can_be_continued(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    reached = anyio.Event()

    async def hang() -> None:
        reached.set()
        await anyio.sleep_forever()

    orchestrator = agency(repository, clock, Probe({"cancel_flight": hang}), bus=RecordingBus())
    returned: list[Outcome] = []
    async with anyio.create_task_group() as tasks:

        async def give_up() -> None:
            returned.append(await orchestrator.handle(GivenUp("t")))

        tasks.start_soon(give_up)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert returned == []
    pending, done = (await trip(repository)).compensations
    assert (pending.status, pending.failing) == (CompensationStatus.PENDING, None)
    assert done.status is CompensationStatus.DONE
    probe = Probe()
    assert await agency(repository, clock, probe).run_due() == 1
    assert probe.calls == ["cancel_flight"]
    assert (await trip(repository)).state == Trip.given_up


async def test_two_processes_that_undo_at_once_store_each_step_once(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    bus, reached, go_on = RecordingBus(), anyio.Event(), anyio.Event()

    async def pause() -> None:
        reached.set()
        await go_on.wait()

    slow = agency(repository, clock, Probe({"cancel_hotel": pause}), bus=bus)
    outcomes: list[Outcome] = []

    async def give_up() -> None:
        outcomes.append(await slow.handle(GivenUp("t")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_up)
        await reached.wait()
        await agency(repository, clock, bus=bus).run_due()
        go_on.set()
    assert outcomes == [Outcome(OutcomeKind.TRANSITIONED, Trip, "t", Trip.given_up, 6)]
    assert bus.bodies == UNDOING
    assert (await trip(repository)).saga.undone == ["h-1", "f-1"]


# Steps that fail


class UnreachableError(Exception):
    """What failing compensations raise."""


async def unreachable() -> None:
    raise UnreachableError("no answer from the airline")


async def test_failing_step_waits_for_its_retry(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await prepared(repository, clock)
    bus, probe = RecordingBus(), Probe({"cancel_flight": unreachable})
    orchestrator = agency(repository, clock, probe, bus=bus)
    outcome = await orchestrator.handle(GivenUp("t"))
    assert outcome == Outcome(OutcomeKind.COMPENSATING, Trip, "t", Trip.booking_car, 6)
    instance = await trip(repository)
    assert instance.status is Status.COMPENSATING
    entry = instance.compensations[0]
    assert (entry.step, entry.status) == ("book_hotel", CompensationStatus.PENDING)
    assert entry.failing is not None
    assert (entry.failing.attempts, entry.failing.since) == (1, clock.now())
    assert entry.failing.error.endswith("UnreachableError: no answer from the airline\n")
    assert clock.now() <= entry.failing.due <= clock.now() + timedelta(seconds=1)
    assert instance.saga.undone == ["h-1"]  # nothing of the failed attempt
    assert bus.bodies == UNDOING[:2]  # what the steps before it sent does not wait
    (record,) = caplog.records
    assert (record.levelname, record.exc_info is not None) == ("ERROR", True)
    assert "Trip 't': undoing 'book_hotel' failed (attempt 1)" in record.message


async def test_failing_step_is_retried_when_it_is_due_and_ever_later(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    bus, probe = RecordingBus(), Probe({"cancel_flight": unreachable})
    await agency(repository, clock, probe, bus=bus).handle(GivenUp("t"))
    for attempt in (1, 2, 3):
        fresh = agency(repository, clock, probe, bus=bus)
        failing = (await trip(repository)).compensations[0].failing
        assert failing is not None
        assert failing.attempts == attempt
        assert failing.due - clock.now() <= timedelta(seconds=2 ** (attempt - 1))
        if failing.due - clock.now() > timedelta(milliseconds=1):
            clock.advance(failing.due - clock.now() - timedelta(milliseconds=1))
            assert await fresh.run_due() == 0
        assert probe.calls == ["cancel_hotel", *["cancel_flight"] * attempt]
        if attempt == 3:
            del probe.actions["cancel_flight"]
        clock.advance(timedelta(milliseconds=1))
        assert await fresh.run_due() == 1
        assert probe.calls == ["cancel_hotel", *["cancel_flight"] * (attempt + 1)]
    instance = await trip(repository)
    assert (instance.state, instance.status) == (Trip.given_up, Status.FINISHED)
    entry = instance.compensations[0]
    assert (entry.status, entry.failing) == (CompensationStatus.DONE, None)
    assert bus.bodies == UNDOING
    assert (await agency(repository, clock).handle(CarBooked("t"))).kind is OutcomeKind.FINISHED
    assert [entry.event for entry in instance.history[3:]] == [
        "GivenUp",
        "compensation",
        "compensation failed",
        "compensation failed",
        "compensation failed",
        "compensation",
    ]


async def test_delay_between_attempts_has_a_limit(
    clock: ManualClock, memory: SagaRepository
) -> None:
    await prepared(memory, clock)
    probe = Probe({"cancel_flight": unreachable})
    orchestrator = agency(memory, clock, probe)
    await orchestrator.handle(GivenUp("t"))
    for _ in range(11):
        clock.advance(timedelta(minutes=5))
        assert await orchestrator.run_due() == 1
    failing = (await trip(memory)).compensations[0].failing
    assert failing is not None
    assert failing.attempts == 12
    assert clock.now() <= failing.due <= clock.now() + timedelta(minutes=5)


async def test_message_of_an_error_is_cut(clock: ManualClock, memory: SagaRepository) -> None:
    await prepared(memory, clock)

    async def ramble() -> None:
        raise UnreachableError("x" * 100_000)

    await agency(memory, clock, Probe({"cancel_flight": ramble})).handle(GivenUp("t"))
    failing = (await trip(memory)).compensations[0].failing
    assert failing is not None
    assert len(failing.error) == 4000


# Events that come meanwhile


@frozen
class Replanned:
    trip: str


class FlexibleTrip(Trip):
    """May be undone and begun again."""

    @during_any.on(Replanned).compensate().goto(Trip.booking_flight)
    async def replan(self, event: Replanned, ctx: Context) -> None:
        ctx.send(BookFlight(event.trip))


async def undoing(repository: SagaRepository, clock: ManualClock, probe: Probe) -> Orchestrator:
    """Bring a trip to the point where undoing the flight has failed once."""
    orchestrator = agency(repository, clock, probe, bus=RecordingBus(), saga=FlexibleTrip)
    for event in BEFORE_THE_CAR:
        await orchestrator.handle(event)
    probe.actions["cancel_flight"] = unreachable
    outcome = await orchestrator.handle(Replanned("t"), message_id="replanned")
    assert outcome.kind is OutcomeKind.COMPENSATING
    return orchestrator


async def test_event_that_finds_a_blocked_compensation_is_parked_and_handled_after_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    probe = Probe()
    orchestrator = await undoing(repository, clock, probe)
    outcome = await orchestrator.handle(FlightBooked("t", "f-2"), message_id="second flight")
    assert (outcome.kind, outcome.state) == (OutcomeKind.DEFERRED, FlexibleTrip.booking_car)
    assert probe.calls == ["cancel_hotel", "cancel_flight"]  # it is not due yet
    probe.actions.clear()
    clock.advance(timedelta(seconds=1))
    await orchestrator.run_due()
    instance = await repository.find(FlexibleTrip, "t")
    assert instance is not None
    assert (instance.state, instance.parked) == (Trip.booking_hotel, ())
    assert instance.saga.undone == ["h-1", "f-1"]


async def test_event_goes_on_with_a_compensation_that_is_due(
    repository: SagaRepository, clock: ManualClock
) -> None:
    probe = Probe()
    orchestrator = await undoing(repository, clock, probe)
    probe.actions.clear()
    clock.advance(timedelta(seconds=1))
    outcome = await orchestrator.handle(FlightBooked("t", "f-2"))
    assert outcome.kind is OutcomeKind.DEFERRED
    instance = await repository.find(FlexibleTrip, "t")
    assert instance is not None
    assert (instance.state, instance.parked) == (Trip.booking_hotel, ())
    assert instance.saga.undone == ["h-1", "f-1"]


async def test_event_leaves_the_compensation_to_the_holder_of_its_lease(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await prepared(repository, clock)
    with pytest.raises(Crash):
        await agency(DiesAfterUpdate(repository, 2), clock).handle(GivenUp("t"))
    bus, probe = RecordingBus(), Probe()
    orchestrator = agency(repository, clock, probe, bus=bus)
    outcome = await orchestrator.handle(CarBooked("t"))
    assert outcome.kind is OutcomeKind.DEFERRED
    assert probe.calls == []
    clock.advance(timedelta(seconds=10))  # whoever held it is dead
    await orchestrator.handle(CarBooked("t"))
    assert probe.calls == ["cancel_flight"]
    assert bus.bodies == UNDOING
    instance = await trip(repository)
    assert (instance.state, instance.parked) == (Trip.given_up, ())


async def test_duplicate_is_recognised_during_a_blocked_compensation(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = await undoing(repository, clock, Probe())
    outcome = await orchestrator.handle(Replanned("t"), message_id="replanned")
    assert outcome.kind is OutcomeKind.DUPLICATE


async def test_steps_that_are_undone_are_not_undone_again(
    repository: SagaRepository, clock: ManualClock
) -> None:
    probe = Probe()
    orchestrator = agency(repository, clock, probe, saga=FlexibleTrip)
    for event in (*BEFORE_THE_CAR, Replanned("t"), FlightBooked("t", "f-2"), Replanned("t")):
        await orchestrator.handle(event)
    assert probe.calls == ["cancel_hotel", "cancel_flight", "cancel_flight"]
    instance = await repository.find(FlexibleTrip, "t")
    assert instance is not None
    assert instance.saga.undone == ["h-1", "f-1", "f-2"]
    assert (instance.state, instance.status) == (Trip.booking_flight, Status.ACTIVE)


# Who asks for it, and what undoes


@frozen
class Rented:
    car: str
    days: int = 1


@frozen
class Damaged:
    car: str
    total: bool


@frozen
class Scratched:
    car: str
    deep: bool


class Rental(Saga, correlate_by="car"):
    rented = State()
    checked = State()
    returned = State(final=True)

    log: list[str] = field(factory=list[str])

    start = initially.on(Rented).goto(rented)

    @compensates(start)
    def free(self, event: Rented, ctx: Context) -> None:
        self.log.append(f"free after {event.days}")

    @during(rented).on(Damaged).goto(checked)
    def check(self, event: Damaged, ctx: Context) -> None:
        self.log.append("check")
        if event.total:
            ctx.compensate()

    @compensates(check)
    def uncheck(self, event: Damaged, ctx: Context) -> None:
        self.log.append("uncheck")

    @during(rented, checked).on(Scratched).stay()
    def note(self, event: Scratched, ctx: Context) -> None:
        self.log.append("note")
        if event.deep:
            ctx.compensate()

    @compensates(note)
    def unnote(self, event: Scratched, ctx: Context) -> None:
        self.log.append("unnote")

    finish = during(checked).on(Rented).goto(returned)


async def test_goto_handler_may_ask_for_compensation(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Its own step is undone as well: it is completed."""
    orchestrator = Orchestrator([Rental], repository, clock=clock)
    await orchestrator.handle(Rented("c", 3))
    outcome = await orchestrator.handle(Damaged("c", total=True))
    assert (outcome.kind, outcome.state) == (OutcomeKind.TRANSITIONED, Rental.checked)
    instance = await orchestrator.find(Rental, "c")
    assert instance is not None
    assert instance.saga.log == ["check", "uncheck", "free after 3"]
    assert instance.status is Status.ACTIVE


async def test_stay_handler_may_ask_for_compensation(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Rental], repository, clock=clock)
    await orchestrator.handle(Rented("c"))
    await orchestrator.handle(Scratched("c", deep=False))
    outcome = await orchestrator.handle(Scratched("c", deep=True))
    assert (outcome.kind, outcome.state) == (OutcomeKind.STAYED, Rental.rented)
    instance = await orchestrator.find(Rental, "c")
    assert instance is not None
    assert instance.saga.log == ["note", "note", "unnote", "unnote", "free after 1"]
    assert (instance.status, instance.state) == (Status.ACTIVE, Rental.rented)


class Recall(Saga, correlate_by="car"):
    """Says the same thing in its chain and at run time."""

    rented = State()
    returned = State(final=True)

    log: list[str] = field(factory=list[str])

    start = initially.on(Rented).goto(rented)

    @compensates(start)
    def free(self, event: Rented, ctx: Context) -> None:
        self.log.append("free")

    @during(rented).on(Damaged).compensate().goto(returned)
    def in_the_chain(self, event: Damaged, ctx: Context) -> None:
        self.log.append("taken")

    @during(rented).on(Scratched).goto(returned)
    def at_run_time(self, event: Scratched, ctx: Context) -> None:
        self.log.append("taken")
        ctx.compensate()

    @compensates(in_the_chain)
    def give_back(self, event: Damaged, ctx: Context) -> None:
        self.log.append("given back")

    @compensates(at_run_time)
    def give_back_too(self, event: Scratched, ctx: Context) -> None:
        self.log.append("given back")


@pytest.mark.parametrize("event", [Damaged("c", total=True), Scratched("c", deep=True)])
async def test_step_that_compensates_is_undone_first_whichever_way_it_says_so(
    event: object, repository: SagaRepository, clock: ManualClock
) -> None:
    """What it has acknowledged has happened, and is undone if the class says how."""
    orchestrator = Orchestrator([Recall], repository, clock=clock)
    await orchestrator.handle(Rented("c"))
    outcome = await orchestrator.handle(event)
    assert (outcome.kind, outcome.state) == (OutcomeKind.TRANSITIONED, Recall.returned)
    instance = await orchestrator.find(Recall, "c")
    assert instance is not None
    assert instance.saga.log == ["taken", "given back", "free"]
    assert [(e.kind, e.compensates) for e in instance.history] == [
        (HistoryKind.EVENT, False),
        (HistoryKind.EVENT, True),
        (HistoryKind.COMPENSATION, False),
        (HistoryKind.COMPENSATION, False),
    ]


async def test_start_without_code_can_be_undone(clock: ManualClock, memory: SagaRepository) -> None:
    orchestrator = Orchestrator([Rental], memory, clock=clock)
    await orchestrator.handle(Rented("c"))
    instance = await orchestrator.find(Rental, "c")
    assert instance is not None
    assert progress(instance) == [("start", CompensationStatus.PENDING)]


class CheapTrip(Trip):
    """A flight that is not refunded."""

    async def cancel_flight(self, event: FlightBooked, ctx: Context) -> None:
        self.undone.append(f"{event.flight} is lost")


async def test_subclass_overrides_a_compensation(
    repository: SagaRepository, clock: ManualClock
) -> None:
    probe = Probe()
    orchestrator = agency(repository, clock, probe, saga=CheapTrip)
    for event in (*BEFORE_THE_CAR, GivenUp("t")):
        await orchestrator.handle(event)
    instance = await orchestrator.find(CheapTrip, "t")
    assert instance is not None
    assert instance.saga.undone == ["h-1", "f-1 is lost"]
    assert probe.calls == ["cancel_hotel"]


@frozen
class Seen:
    """What a compensation was told."""

    message_id: object
    correlation_id: object
    version: int
    state: State | None
    key: str


_seen: list[Seen] = []


class Curious(Trip):
    async def cancel_flight(self, event: FlightBooked, ctx: Context) -> None:
        key = ctx.idempotency_key()
        _seen.append(Seen(ctx.message_id, ctx.correlation_id, ctx.version, ctx.state, key))
        if len(_seen) == 1:
            await unreachable()


async def test_compensation_is_told_which_message_it_undoes_and_keeps_its_key(
    repository: SagaRepository, clock: ManualClock
) -> None:
    _seen.clear()
    orchestrator = agency(repository, clock, saga=Curious)
    for event in (*BEFORE_THE_CAR, GivenUp("t")):
        await orchestrator.handle(event, message_id=type(event).__name__)
    clock.advance(timedelta(seconds=1))
    await orchestrator.run_due()
    first, second = _seen
    assert (first.message_id, first.correlation_id) == ("FlightBooked", "t")
    assert (first.version, second.version) == (5, 6)
    assert first.state == Trip.booking_car
    assert first.key == second.key


@pytest.mark.parametrize("asks", ["compensate", "add_compensation"])
async def test_compensation_cannot_ask_for_compensation(
    asks: str, clock: ManualClock, memory: SagaRepository
) -> None:
    class Confused(Trip):
        async def cancel_flight(self, event: FlightBooked, ctx: Context) -> None:
            if asks == "compensate":
                ctx.compensate()
            else:
                ctx.add_compensation(self.cancel_flight, event)

    orchestrator = agency(memory, clock, saga=Confused)
    for event in BEFORE_THE_CAR:
        await orchestrator.handle(event)
    assert (await orchestrator.handle(GivenUp("t"))).kind is OutcomeKind.COMPENSATING
    instance = await orchestrator.find(Confused, "t")
    assert instance is not None
    failing = instance.compensations[0].failing
    assert failing is not None
    assert "'cancel_flight' can send and publish, but not ask for compensation" in failing.error


def old_code() -> type[Saga]:
    class Parcel(Saga, correlate_by="car"):
        packed = State()
        lost = State()
        returned = State(final=True)

        log: list[str] = field(factory=list[str])

        @initially.on(Rented).goto(packed)
        def pack(self, event: Rented, ctx: Context) -> None: ...

        @compensates(pack)
        def unpack(self, event: Rented, ctx: Context) -> None:
            self.log.append("unpack")

        send_back = during(packed).on(Damaged).compensate().goto(lost)
        end = during(lost).on(Rented).goto(returned)

    return Parcel


def without_method() -> type[Saga]:
    class Parcel(Saga, correlate_by="car"):
        packed = State()
        lost = State()
        returned = State(final=True)

        log: list[str] = field(factory=list[str])

        pack = initially.on(Rented).goto(packed)
        send_back = during(packed).on(Damaged).compensate().goto(lost)
        end = during(lost).on(Rented).goto(returned)

    return Parcel


async def test_method_that_new_code_no_longer_has_is_a_recorded_error(
    repository: SagaRepository, clock: ManualClock
) -> None:
    old, new = old_code(), without_method()
    await Orchestrator([old], repository, clock=clock).handle(Rented("c"))
    orchestrator = Orchestrator([new], repository, clock=clock)
    outcome = await orchestrator.handle(Damaged("c", total=True))
    assert outcome.kind is OutcomeKind.COMPENSATING
    document = await stored(repository, new, "c")
    assert document is not None
    error = document["compensations"][0]["failing"]["error"]
    assert "Parcel 'c': undoing 'pack': the class no longer has the method 'unpack'" in error
    assert "put it back" in error
    # With the method back, the compensation goes on.
    clock.advance(timedelta(seconds=1))
    restored = Orchestrator([old], repository, clock=clock)
    assert await restored.run_due() == 1
    document = await stored(repository, old, "c")
    assert document is not None
    assert (document["state"], document["data"]["log"]) == ("lost", ["unpack"])


_in_vain: list[str] = []


def without_goal() -> type[Saga]:
    class Parcel(Saga, correlate_by="car"):
        packed = State()
        returned = State(final=True)

        log: list[str] = field(factory=list[str])

        @initially.on(Rented).goto(packed)
        def pack(self, event: Rented, ctx: Context) -> None: ...

        @compensates(pack)
        def unpack(self, event: Rented, ctx: Context) -> None:
            _in_vain.append(event.car)

        end = during(packed).on(Rented).goto(returned)

    return Parcel


async def test_goal_that_new_code_no_longer_has_undoes_nothing(
    clock: ManualClock, memory: SagaRepository
) -> None:
    """Code that knows the state where it leads does all of it, and nothing has failed meanwhile."""
    old, new = old_code(), without_goal()
    await Orchestrator([old], memory, clock=clock).handle(Rented("c"))
    with pytest.raises(Crash):
        dying = DiesAfterUpdate(memory, 1)
        await Orchestrator([old], dying, clock=clock).handle(Damaged("c", total=True))
    before = await stored(memory, old, "c")
    assert before is not None
    assert (before["status"], before["data"]["log"]) == ("compensating", [])
    assert await Orchestrator([new], memory, clock=clock).run_due() == 0
    assert await stored(memory, new, "c") == before
    assert _in_vain == []
    with pytest.raises(UnknownStateError, match=r"'lost'.* put the state back"):
        await Orchestrator([new], memory, clock=clock).handle(Rented("c"))
    clock.advance(timedelta(seconds=1))
    assert await Orchestrator([old], memory, clock=clock).run_due() == 1
    document = await stored(memory, old, "c")
    assert document is not None
    assert (document["state"], document["data"]["log"]) == ("lost", ["unpack"])
