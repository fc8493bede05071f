"""Given, when, then: what a user would write about the sagas of the examples, and about others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest
import svcs
from attrs import frozen

from examples.orders import (
    CancelPayment,
    CreateShipment,
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
from examples.travel import (
    CANCELLED,
    BookFlight,
    BookHotel,
    CancelFlight,
    CancelHotel,
    FlightBooked,
    HotelBooked,
    Item,
    ReturnMiles,
    Stay,
    Traveller,
    TravelSaga,
    TripBooked,
    TripCancelled,
    TripRequested,
)
from sagaflow import (
    Context,
    MemoryRepository,
    OperationError,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaflowError,
    State,
    Status,
    during,
    initially,
    migrates,
)
from sagaflow.testing import AsyncSagaTest, ManualClock, SagaTest, containing, in_any_order
from tests.testing.sagas import (
    Asked,
    Broken,
    CalledOff,
    Dismiss,
    Early,
    Echo,
    Finished,
    Hired,
    Job,
    Patient,
    Remind,
    Reminded,
    Welcomed,
)

PLACED = OrderPlaced("o-1", Decimal(99))
PAID = PaymentProcessed("o-1", "t-1")
RESERVED = InventoryReserved("o-1", "r-1")
DAY = timedelta(days=1)


@pytest.fixture
def order() -> SagaTest[OrderSaga]:
    return SagaTest(OrderSaga)


# The sagas of the examples


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_order_without_stock_is_refunded(runtime: Literal["asyncio", "trio"]) -> None:
    order = SagaTest(OrderSaga, runtime=runtime)
    order.given(PLACED, PAID)
    order.when(InventoryFailed("o-1", "sold out"))
    order.then(
        lambda saga: saga.total == 99,
        exists=True,
        state=OrderSaga.failed,
        status=Status.FINISHED,
        outcome=OutcomeKind.TRANSITIONED,
        data={"notes": ["sold out"], "transaction_id": "t-1"},
        sent=[RefundPayment("o-1", "t-1")],
        published=[],
        messages=[RefundPayment],
        unanswered=[RefundPayment],
        scheduled=[],
        timers={},
        parked=[],
        compensated=[OrderSaga.reserve],
    )


@pytest.mark.anyio
async def test_asynchronous_tests_read_the_same(anyio_backend: str) -> None:
    order = AsyncSagaTest(OrderSaga)
    await order.given(PLACED, PAID, RESERVED)
    await order.when(ShipmentFailed("o-1", "lost"))
    order.then(
        state=OrderSaga.failed,
        sent=[ReleaseInventory("o-1", "r-1"), RefundPayment("o-1", "t-1")],
        compensated=[OrderSaga.ship, OrderSaga.reserve],
    )


@pytest.mark.anyio
async def test_every_call_has_its_asynchronous_form(anyio_backend: str) -> None:
    order = AsyncSagaTest(OrderSaga, "o-1")
    await order.given_state(OrderSaga.awaiting_payment, OrderSaga(order_id="o-1"))
    await order.advance(timedelta(minutes=29))
    order.then(state=OrderSaga.awaiting_payment, messages=[])
    await order.cancel(state=OrderSaga.failed)
    order.then(state=OrderSaga.failed, messages=[])
    with pytest.raises(OperationError, match="cannot retry"):
        await order.retry()
    with pytest.raises(OperationError, match="cannot skip"):
        await order.skip()


def test_order_can_be_put_into_a_state_with_data_and_steps_to_undo() -> None:
    order = SagaTest(OrderSaga, "o-1")
    order.given_state(
        OrderSaga.awaiting_shipment,
        OrderSaga(order_id="o-1", notes=["fragile"]),
        completed=[(OrderSaga.reserve, PAID), (OrderSaga.ship, RESERVED)],
    )
    order.then(state=OrderSaga.awaiting_shipment, messages=[], compensated=[])
    order.when(OrderCancelled("o-1", "regret"))
    order.then(
        state=OrderSaga.failed,
        data=OrderSaga(order_id="o-1", notes=["fragile", "regret"]),
        sent=[ReleaseInventory("o-1", "r-1"), RefundPayment("o-1", "t-1")],
        compensated=[OrderSaga.ship, OrderSaga.refund],
    )


def test_timeout_fires_when_time_goes_by(order: SagaTest[OrderSaga]) -> None:
    order.given(PLACED)
    order.then(timers={"give_up": timedelta(minutes=30)})
    order.advance(timedelta(minutes=29, seconds=59))
    order.then(timers={"give_up": timedelta(seconds=1)}, messages=[])
    order.advance(timedelta(days=365))
    order.then(state=OrderSaga.expired, sent=[CancelPayment("o-1")], timers={})


def test_timeout_fires_in_a_state_that_a_saga_was_put_into() -> None:
    order = SagaTest(OrderSaga, "o-1")
    order.given_state(OrderSaga.awaiting_payment, OrderSaga(order_id="o-1"))
    order.then(timers={"give_up": timedelta(minutes=30)})
    order.advance(timedelta(minutes=30))
    order.then(state=OrderSaga.expired, sent=[CancelPayment("o-1")])


def test_trip_is_booked_and_called_off() -> None:
    stay = Stay("Seaview", datetime(2026, 8, 1, tzinfo=UTC).date(), nights=3)
    trip = SagaTest(TravelSaga)
    trip.on(BookFlight).reply(lambda c: FlightBooked(c.booking, "F-1", c.at_most / 2))
    trip.when(
        TripRequested(
            "T-1", Traveller("Ada"), "SF 1", stay.arrival, Decimal(900), hotel=stay, miles=100
        )
    )
    trip.then(
        lambda saga: saga.left == 450,
        state=TravelSaga.awaiting_hotel,
        sent=containing(BookFlight, BookHotel("T-1", stay, at_most=Decimal(450))),
    )
    trip.when(HotelBooked("T-1", "H-1", Decimal(300)))
    trip.then(
        state=TravelSaga.booked,
        data={"prices": {Item.FLIGHT: Decimal(450), Item.HOTEL: Decimal(300)}},
        published=[TripBooked("T-1", Decimal(750))],
        sent=[],
    )
    trip.when(TripCancelled("T-1", "ill"))
    trip.then(
        state=CANCELLED,
        sent=in_any_order(CancelFlight("T-1", "F-1"), ReturnMiles, CancelHotel),
        compensated=[TravelSaga.take_hotel, TravelSaga.cancel_flight, TravelSaga.return_miles],
    )


# What has happened


def test_results_can_be_looked_at_without_then(order: SagaTest[OrderSaga]) -> None:
    order.when(PLACED)
    assert order.saga.total == 99
    assert order.state == OrderSaga.awaiting_payment
    assert order.sent == [ProcessPayment("o-1", Decimal(99))]
    assert order.published == []
    assert order.unanswered == order.sent
    assert order.outcome is not None
    assert order.outcome.kind is OutcomeKind.STARTED
    assert order.instance.version == 1
    assert order.clock.now() == order.instance.created_at


def test_what_was_given_is_past(order: SagaTest[OrderSaga]) -> None:
    order.given(PLACED)
    order.then(messages=[], compensated=[])
    assert order.outcome is None


def test_calls_can_be_strung_together(order: SagaTest[OrderSaga]) -> None:
    order.given(PLACED).when(PAID).advance(DAY).then(sent=[ReserveInventory("o-1")])


def test_events_count_together_until_they_are_asserted_on(order: SagaTest[OrderSaga]) -> None:
    order.when(PLACED).when(PAID)
    order.then(sent=[ProcessPayment, ReserveInventory])
    order.then(sent=[ProcessPayment, ReserveInventory])
    order.when(RESERVED)
    order.then(sent=[CreateShipment("o-1")])
    order.advance(DAY)
    order.then(messages=[])


def test_second_delivery_is_a_duplicate(order: SagaTest[OrderSaga]) -> None:
    order.given(PLACED)
    order.when(PAID, message_id="m-1").when(PAID, message_id="m-1")
    order.then(outcome=OutcomeKind.DUPLICATE, sent=[ReserveInventory])


def test_event_for_nobody_starts_nothing(order: SagaTest[OrderSaga]) -> None:
    order.when(PAID)
    order.then(outcome=OutcomeKind.NOT_FOUND, exists=False, messages=[], compensated=[])


def test_event_without_an_id_goes_to_the_saga_under_test() -> None:
    job = SagaTest(Job).given(Hired("j-1"))
    job.when(Asked("why"))
    job.then(outcome=OutcomeKind.STAYED, data={"heard": ["why"]})
    job.when(Asked("who"), correlation_id="j-2")
    job.then(outcome=OutcomeKind.NOT_FOUND, data={"heard": ["why"]})


def test_event_without_an_id_goes_nowhere_if_there_is_no_saga_yet() -> None:
    job = SagaTest(Job)
    job.when(Asked("why"))
    job.then(outcome=OutcomeKind.UNCORRELATED, exists=False)


def test_what_the_saga_says_to_itself_comes_back() -> None:
    job = SagaTest(Job).given(Hired("j-1"))
    job.when(Asked("echo"))
    job.then(data={"heard": ["echo", "echo heard"]}, published=[Echo("j-1")])


def test_timers_fire_in_order() -> None:
    job = SagaTest(Job)
    job.when(Hired("j-1"))
    job.then(
        scheduled=[Reminded("j-1", 1)],
        timers={"Reminded": DAY, "rest": 2 * DAY},
        published=[Welcomed("j-1")],
    )
    job.advance(2 * DAY)
    job.then(
        lambda saga: saga.heard[0] == "reminded 1",
        lambda saga: {*saga.heard[1:]} == {"tired", "reminded 2"},
        state=Job.resting,
        sent=[Remind("j-1"), Remind("j-1")],
        timers={"Reminded": DAY},
    )
    job.advance(30 * DAY)
    job.then(sent=[Remind("j-1")], timers={}, scheduled=[])
    assert job.clock.now() - job.instance.created_at == 32 * DAY


def test_event_that_is_deferred_is_parked() -> None:
    job = SagaTest(Job).given(Hired("j-1"))
    job.when(Early("j-1"))
    job.then(outcome=OutcomeKind.DEFERRED, parked=[Early("j-1")])
    job.advance(2 * DAY)
    job.then(state=Job.working, parked=[])


def test_default_timeout_is_armed_in_a_state_that_a_saga_was_put_into() -> None:
    patient = SagaTest(Patient, "j-1").given_state(Patient.waiting)
    patient.then(timers={"timeout": timedelta(hours=1)})
    patient.advance(timedelta(hours=1))
    patient.then(status=Status.SUSPENDED)


# What goes wrong


def test_expected_error_changes_nothing() -> None:
    job = SagaTest(Job).given(Hired("j-1"))
    job.when(Broken("j-1", "no hammer"), raises=ValueError, match="hammer$")
    job.then(data={"heard": []}, messages=[], state=Job.working)
    assert job.outcome is None


def test_error_that_nobody_expects_is_raised() -> None:
    job = SagaTest(Job).given(Hired("j-1"))
    with pytest.raises(ValueError, match="no hammer"):
        job.when(Broken("j-1", "no hammer"))
    with pytest.raises(ValueError, match="no hammer"):
        job.when(Broken("j-1", "no hammer"), raises=KeyError)


def test_expected_error_that_does_not_come_is_a_failure() -> None:
    job = SagaTest(Job).given(Hired("j-1"))
    with pytest.raises(AssertionError, match="ValueError was expected, and nothing was raised"):
        job.when(Asked("why"), raises=ValueError)
    with pytest.raises(AssertionError, match="says 'no hammer', in which 'nail' is not found"):
        job.when(Broken("j-1", "no hammer"), raises=ValueError, match="nail")


def test_compensation_that_fails_is_tried_again_until_an_operator_helps() -> None:
    job = SagaTest(Job, retry=RetryPolicy(max_age=timedelta(minutes=5)))
    job.given(Hired("j-1"), Broken("j-1", ""))
    job.when(CalledOff("j-1"))
    job.then(outcome=OutcomeKind.COMPENSATING, status=Status.COMPENSATING, compensated=[])
    job.advance(timedelta(hours=1))
    job.then(status=Status.SUSPENDED, compensated=[])
    job.retry()
    job.then(status=Status.COMPENSATING)
    job.advance(timedelta(hours=1))
    job.skip()
    job.then(state=Job.gone, compensated=[Job.dismiss], sent=[Dismiss("j-1")])


def test_saga_that_is_put_into_a_state_has_the_schema_of_its_class() -> None:
    class Later(Saga, correlate_by="job", schema=2):
        here = State()
        over = State(final=True)

        start = initially.on(Hired).goto(here)
        end = during(here).on(Finished).goto(over)

        @migrates(1, 2)
        @staticmethod
        def never(data: dict[str, object]) -> None:
            raise AssertionError(data)

    later = SagaTest(Later, "j-1").given_state(Later.here)
    later.when(Finished("j-1")).then(state=Later.over)


def test_operator_can_cancel() -> None:
    job = SagaTest(Job).given(Hired("j-1"))
    job.cancel(state=Job.gone)
    job.then(state=Job.gone, compensated=[Job.apologise, "hire"], sent=[Dismiss])


def test_operator_needs_a_saga() -> None:
    with pytest.raises(SagaflowError, match="there is no saga yet"):
        SagaTest(Job).cancel()


@pytest.mark.parametrize("event", [PAID, OrderCancelled("o-1", "why")])
def test_what_cannot_be_given_is_refused(order: SagaTest[OrderSaga], event: object) -> None:
    with pytest.raises(SagaflowError, match=r"given\(\w+\) cannot be: .* not_found to it"):
        order.given(event)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (OrderSaga.failed, "is final: a saga gets there by an event only"),
        (State("lost"), r"OrderSaga has no State\('lost'\); it has: awaiting_payment"),
    ],
)
def test_state_that_a_saga_cannot_be_put_into_is_refused(state: State, says: str) -> None:
    with pytest.raises(SagaflowError, match=says):
        SagaTest(OrderSaga, "o-1").given_state(state)


def test_saga_that_is_put_somewhere_needs_an_id_of_its_own(order: SagaTest[OrderSaga]) -> None:
    with pytest.raises(SagaflowError, match=r"which saga: SagaTest\(OrderSaga, id\)"):
        order.given_state(OrderSaga.awaiting_payment)
    order.given(PLACED)
    with pytest.raises(SagaflowError, match="there is a saga 'o-1' already"):
        order.given_state(OrderSaga.awaiting_payment)


def test_step_that_nothing_undoes_is_refused() -> None:
    order = SagaTest(OrderSaga, "o-1")
    with pytest.raises(SagaflowError, match=r"nothing undoes 'place'; .*: reserve, ship"):
        order.given_state(OrderSaga.awaiting_payment, completed=[(OrderSaga.place, PLACED)])
    with pytest.raises(SagaflowError, match="OrderSaga has no step <function"):
        order.given_state(OrderSaga.awaiting_payment, completed=[(Job.hire, Hired("j-1"))])


def test_time_does_not_go_back(order: SagaTest[OrderSaga]) -> None:
    with pytest.raises(SagaflowError, match="a clock does not go back"):
        order.advance(-DAY)


@pytest.mark.anyio
async def test_plain_form_in_an_asynchronous_test_says_what_to_use(anyio_backend: str) -> None:
    with pytest.raises(SagaflowError, match="use AsyncSagaTest in asynchronous tests"):
        SagaTest(OrderSaga).when(PLACED)


def test_error_of_a_handler_that_is_like_that_of_a_loop_is_its_own() -> None:
    class Loops(Saga, correlate_by="job"):
        here = State(final=True)

        @initially.on(Hired).goto(here)
        def start(self, event: Hired, ctx: Context) -> None:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        SagaTest(Loops).when(Hired("j-1"))


# What it is made of


@frozen
class Prices:
    total: Decimal


class Shop(Saga, correlate_by="job"):
    open = State()
    closed = State(final=True)

    total: Decimal = Decimal(0)

    @initially.on(Hired).goto(open)
    async def start(self, event: Hired, ctx: Context) -> None:
        self.total = (await ctx.services.aget(Prices)).total

    end = during(open).on(Finished).goto(closed)


def make_prices() -> Prices:
    return Prices(Decimal(7))


def test_services_clock_and_repository_may_be_given() -> None:
    clock = ManualClock(datetime(2030, 2, 28, tzinfo=UTC))
    registry: Any = svcs.Registry()
    repository = MemoryRepository(clock=clock)
    registry.register_factory(Prices, make_prices)
    shop = SagaTest(Shop, clock=clock, repository=repository, services=registry)
    shop.when(Hired("j-1"))
    shop.then(data=Shop(total=Decimal(7)))
    assert shop.instance.created_at == datetime(2030, 2, 28, tzinfo=UTC)
    again = SagaTest(Shop, "j-1", clock=clock, repository=repository)
    again.when(Finished("j-1"))
    again.then(state=Shop.closed)
