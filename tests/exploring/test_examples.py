"""The shipped examples: what is right passes, and what is broken is caught."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache

import pytest

from examples.broken_orders import ForgetfulOrderSaga, HastyOrderSaga
from examples.orders import OrderSaga, OrderShipped
from examples.travel import (
    BookCar,
    BookFlight,
    BookHotel,
    CarBooked,
    CarClass,
    CarRefused,
    FlightBooked,
    FlightRefused,
    HotelBooked,
    HotelRefused,
    Item,
    PriceChanged,
    Stay,
    Traveller,
    TravelSaga,
    TripBooked,
    TripCancelled,
    TripEnded,
    TripRequested,
)
from sagaflow.testing import Deliver, Exploration, FindingKind, explore
from tests.exploring.support import CANCELLED, PAID, PLACED, RESERVED, SHOP, run


@cache
def explored(saga: type[OrderSaga], backend: str = "asyncio") -> Exploration:
    return explore(saga, events=[PLACED], optional=[CANCELLED], participants=SHOP, backend=backend)


def test_order_saga_passes_from_its_table_alone() -> None:
    report = explore(OrderSaga)
    report.check()
    assert report.is_complete
    assert report.paths > 500
    assert len(report.made_up) == len(OrderSaga.table.events)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_order_saga_passes_with_participants(backend: str) -> None:
    report = explored(OrderSaga, backend)
    report.check()
    assert report.is_complete
    assert report.too_long == 0
    assert report.made_up == ()


def test_exploring_is_deterministic() -> None:
    assert explored(HastyOrderSaga) == explored(HastyOrderSaga, "trio")
    again = explore(HastyOrderSaga, events=[PLACED], optional=[CANCELLED], participants=SHOP)
    assert str(again) == str(explored(HastyOrderSaga))


def test_travel_saga_passes() -> None:
    price = Decimal(90)
    report = explore(
        TravelSaga,
        events=[
            TripRequested(
                "b-1",
                Traveller("Ada"),
                "F1",
                date(2026, 5, 1),
                Decimal(500),
                hotel=Stay("Inn", date(2026, 5, 1), 2),
                car=CarClass.SMALL,
                miles=100,
            ),
        ],
        optional=[
            TripCancelled("b-1", "ill"),
            PriceChanged("b-1", Item.FLIGHT, Decimal(1000)),
        ],
        participants={
            BookFlight: lambda _: [FlightBooked("b-1", "k-1", price), FlightRefused("b-1", "full")],
            BookHotel: lambda _: [HotelBooked("b-1", "h-1", price), HotelRefused("b-1", "full")],
            BookCar: lambda _: [CarBooked("b-1", "c-1", price), CarRefused("b-1", "none left")],
            TripBooked: lambda _: TripEnded("b-1"),
        },
    )
    report.check()
    assert report.is_complete


def test_examples_may_be_given_for_some_events() -> None:
    report = explore(OrderSaga, events=[PLACED, PAID, RESERVED], faults=0)
    report.check()
    assert {event.order_id for event in report.made_up if isinstance(event, OrderShipped)} == {
        "o-1"
    }


def test_forgotten_compensation_is_caught_with_its_shortest_path() -> None:
    (finding,) = explored(ForgetfulOrderSaga).findings
    assert finding.kind is FindingKind.COMPENSATION
    assert finding.problem.startswith("dispatch was completed, and nothing undoes it")
    assert finding.path == (
        Deliver(PLACED, "OrderPlaced-1"),
        Deliver(PAID, "ProcessPayment-1/PaymentProcessed"),
        Deliver(RESERVED, "ReserveInventory-1/InventoryReserved"),
        Deliver(CANCELLED, "OrderCancelled-1"),
    )


def test_forgotten_compensation_is_caught_from_the_table_alone() -> None:
    (finding,) = explore(ForgetfulOrderSaga).findings
    assert finding.kind is FindingKind.COMPENSATION
    assert [
        step.event.__class__.__name__ for step in finding.path if isinstance(step, Deliver)
    ] == [
        "OrderPlaced",
        "PaymentProcessed",
        "InventoryReserved",
        "ShipmentFailed",
    ]


def test_state_without_a_way_out_is_caught_with_its_shortest_path() -> None:
    (finding,) = explored(HastyOrderSaga).findings
    assert finding.kind is FindingKind.STUCK
    assert finding.problem == (
        "HastyOrderSaga waits in awaiting_inventory and nothing that comes leads on; it takes "
        "InventoryReserved, InventoryFailed, OrderCancelled there; InventoryReserved came before "
        "and was unhandled"
    )
    assert finding.path == (
        Deliver(PLACED, "OrderPlaced-1"),
        Deliver(RESERVED, "ReserveInventory-1/InventoryReserved"),
        Deliver(PAID, "ProcessPayment-1/PaymentProcessed"),
    )


@pytest.mark.parametrize("saga", [ForgetfulOrderSaga, HastyOrderSaga])
def test_pasted_snippet_reproduces_the_finding(saga: type[OrderSaga]) -> None:
    (finding,) = explored(saga).findings
    with pytest.raises(AssertionError) as caught:
        run(finding.snippet)
    assert finding.problem in str(caught.value)


@pytest.mark.parametrize(
    ("saga", "module", "mended"),
    [
        (ForgetfulOrderSaga, "examples.orders", "OrderSaga"),
        (HastyOrderSaga, "tests.exploring.support", "PatientOrderSaga"),
    ],
)
def test_pasted_snippet_passes_once_the_mistake_is_gone(
    saga: type[OrderSaga], module: str, mended: str
) -> None:
    (finding,) = explored(saga).findings
    snippet = finding.snippet.replace("examples.broken_orders", module)
    run(snippet.replace(f" {saga.__name__}", f" {mended}"))


def test_finding_is_told_in_numbered_steps() -> None:
    (finding,) = explored(HastyOrderSaga).findings
    text = str(explored(HastyOrderSaga))
    assert (
        "    2. deliver InventoryReserved(order_id='o-1', reservation_id='r-1') -> unhandled"
        in text
    )
    assert (
        "'o-1' version 2: PaymentProcessed took reserve, awaiting_payment -> awaiting_inv" in text
    )
    assert "    ReserveInventory(order_id='o-1')\n" in text
    assert finding.snippet in text
    assert finding.paths > 1
