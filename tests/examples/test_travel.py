"""The travel example: what it says about the file beside it, and the saga itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pymongo
import pytest

from examples import travel
from examples.travel import (
    CANCELLED,
    BookCar,
    BookFlight,
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
    CarBooked,
    CarClass,
    CarRefused,
    FlightBooked,
    HotelBooked,
    HotelRefused,
    Item,
    Note,
    NoteAdded,
    PriceChanged,
    RedeemMiles,
    ReturnMiles,
    Stay,
    Traveller,
    TravelSaga,
    TripBooked,
    TripCancelled,
    TripEnded,
    TripRequested,
    WithdrawRequests,
)
from sagaflow import (
    Envelope,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    SagaRepository,
    Status,
)
from sagaflow.mongo import MongoRepository
from tests.examples.support import Program, Report

REFUSED = {
    7: "it is not JSON: Unterminated string starting at (character 50)",
    11: "line: expected an object, found ['m-09', 'CarBooked', 'T-1001']",
    16: "FlightBooked: 'price' must be > 0: -412.50",
    17: 'FlightBooked.price: expected an amount such as "129.90", found nan',
    18: 'FlightBooked.price: expected an amount such as "129.90", found 412.5',
    20: "TripCancelled.booking: expected a text, found {'$gt': ''}",
    27: "there is no event 'TripCanceled'",
    32: "FlightBooked.ticket: it is missing",
    33: "FlightBooked: it has no 'seat'",
    36: "it is not UTF-8 from byte 128 on",
    37: "it is longer than 4096 bytes",
}
NOTHING_DONE = {
    4: "handled before",
    10: "ignored when failed",
    15: "out of place when awaiting_flight",
    22: "it has ended, cancelled",
    29: "ignored when cancelled",
    30: "unknown id",
    44: "it has ended, completed",
}
DONE = {
    1: "T-1001 TripRequested started: awaiting_flight",
    2: "T-1001 FlightBooked now awaiting_hotel",
    3: "T-1002 TripRequested started: awaiting_flight",
    5: "T-1001 HotelBooked now awaiting_car",
    6: "T-1002 FlightBooked now awaiting_hotel",
    8: "T-1001 NoteAdded still awaiting_car",
    9: "T-1002 HotelRefused now failed",
    12: "T-1001 CarBooked now booked",
    13: "T-1001 PriceChanged still booked",
    14: "T-1003 TripRequested started: awaiting_flight",
    19: "T-1003 FlightBooked now booked",
    21: "T-1003 TripCancelled now cancelled",
    24: "T-1004 TripRequested started: awaiting_flight",
    25: "T-1004 FlightBooked now awaiting_hotel",
    26: "T-1004 HotelBooked now awaiting_car",
    28: "T-1004 TripCancelled now cancelled",
    31: "T-1005 TripRequested started: awaiting_flight",
    34: "T-1005 FlightBooked now awaiting_car",
    35: "T-1005 CarBooked now booked",
    38: "T-1005 PriceChanged now failed",
    39: "T-1006 TripRequested started: awaiting_flight",
    40: "T-1006 FlightRefused now failed",
    41: "T-1007 TripRequested started: awaiting_flight",
    42: "T-1007 FlightBooked now awaiting_hotel",
    43: "T-1001 TripEnded now completed",
}
SUMMARY = """\
id       state            messages sent, steps undone
T-1001   completed        sent    RedeemMiles, BookFlight, BookHotel, BookCar, TripBooked
T-1002   failed           sent    RedeemMiles, BookFlight, BookHotel, CancelFlight, ReturnMiles
                          undone  cancel_flight, return_miles
T-1003   cancelled        sent    BookFlight, TripBooked, CancelFlight
                          undone  cancel_flight
T-1004   cancelled        sent    BookFlight, BookHotel, BookCar, WithdrawRequests, CancelHotel,
                                  CancelFlight
                          undone  cancel_hotel, cancel_flight
T-1005   failed           sent    BookFlight, BookCar, TripBooked, CancelCar, CancelFlight
                          undone  cancel_car, cancel_flight
T-1006   failed           sent    RedeemMiles, BookFlight, ReturnMiles
                          undone  return_miles
T-1007   awaiting_hotel   sent    BookFlight, BookHotel

lines: 44 (duplicate=1, empty=1, finished=2, ignored=2, not_found=1, refused=11, started=7,
          stayed=2, transitioned=16, unhandled=1)
refused lines: 7, 11, 16, 17, 18, 20, 27, 32, 33, 36, 37
"""


@pytest.fixture(params=["asyncio-memory", "trio-memory", "asyncio-mongodb", "trio-mongodb"])
def stored_program(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], database_name: str
) -> Iterator[Program]:
    """The program on each runtime, in memory and on a database of its own."""
    runtime, _, store = request.param.partition("-")
    options = ["--runtime", runtime]
    if store == "memory":
        yield Program(capsys, options)
        return
    uri: str = request.getfixturevalue("mongodb_uri")
    admin: pymongo.MongoClient[dict[str, Any]] = request.getfixturevalue("mongodb_client")
    yield Program(capsys, [*options, "--mongodb", uri, "--database", database_name])
    admin.drop_database(database_name)


def test_every_line_of_the_shipped_file_is_reported(stored_program: Program) -> None:
    report = stored_program.run()
    assert report.refused == REFUSED
    assert report.lines[23] == "skipped: it is empty"
    found = {
        number: said.partition("nothing done: ")[2]
        for number, said in report.lines.items()
        if "nothing done" in said
    }
    assert found == NOTHING_DONE
    others = {23, *REFUSED, *NOTHING_DONE}
    assert {n: said for n, said in report.lines.items() if n not in others} == DONE
    assert list(report.lines) == list(range(1, 45))
    assert (report.status, report.err) == (1, "")


def test_summary_tells_states_messages_and_what_was_undone(stored_program: Program) -> None:
    assert stored_program.run().summary == SUMMARY


def test_second_run_on_the_same_database_does_nothing(
    program: Program,
    mongodb_uri: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
) -> None:
    """Message ids are stored with the saga: another process recognises them."""
    place = ("--mongodb", mongodb_uri, "--database", database_name)
    try:
        assert program.run(*place).sent != []
        stored = list(mongodb_client[database_name]["TravelSaga"].find())
        assert len(stored) == 7
        again = program.run(*place)
        assert {n for n, said in again.lines.items() if said.endswith("handled before")} == {
            4,
            *DONE,
        }
        assert again.sent == []
        assert list(mongodb_client[database_name]["TravelSaga"].find()) == stored
    finally:
        mongodb_client.drop_database(database_name)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_message_that_an_earlier_run_left_is_sent(
    program: Program,
    mongodb_uri: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
    runtime: str,
    tmp_path: Path,
) -> None:
    async def stop_before_sending() -> None:
        async with MongoRepository.connect(mongodb_uri, database=database_name) as repository:
            await Orchestrator([TravelSaga], repository).handle(REQUESTED)

    empty = tmp_path / "empty.jsonl"
    empty.touch()
    place = ("--mongodb", mongodb_uri, "--database", database_name, "--runtime", runtime)
    try:
        anyio.run(stop_before_sending)
        said = program.run(empty, *place).out
        assert said.startswith("left by an earlier run: sent RedeemMiles, BookFlight\n")
        assert program.run(empty, *place).out == "\nlines: 0 (none)\n"
    finally:
        mongodb_client.drop_database(database_name)


def test_database_has_the_indexes_of_the_saga(
    program: Program,
    mongodb_uri: str,
    mongodb_client: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
) -> None:
    try:
        program.run("--mongodb", mongodb_uri, "--database", database_name)
        found = mongodb_client[database_name]["TravelSaga"].index_information()
        assert "sagaflow_wake" in found
    finally:
        mongodb_client.drop_database(database_name)


def test_shipped_script_runs_with_the_file_beside_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, travel.FILE.with_suffix(".py"), "--runtime", "trio"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert Report(done.returncode, done.stdout, done.stderr).summary == SUMMARY
    assert (done.returncode, done.stderr) == (1, "")


# The saga itself

STAY = Stay("Sea", date(2026, 8, 1), 3)
REQUESTED = TripRequested(
    "T-1", Traveller("Zoë"), "SF 1", date(2026, 8, 1), Decimal(900), STAY, CarClass.VAN, 40
)
FLIGHT = FlightBooked("T-1", "F-1", Decimal("300.10"))
HOTEL = HotelBooked("T-1", "H-1", Decimal(400))
CAR = CarBooked("T-1", "C-1", Decimal(100))
FORWARDS: tuple[object, ...] = (REQUESTED, FLIGHT, HOTEL, CAR)


class Journey:
    """Hands events to one saga and keeps what it sends."""

    def __init__(self, repository: SagaRepository) -> None:
        bus = MemoryBus()
        self.received: list[object] = []
        for message in travel.MESSAGES:
            bus.subscribe(message, self._receive, envelope=True)
        self.orchestrator = Orchestrator([TravelSaga], repository, bus=bus)

    def _receive(self, envelope: Envelope[Any]) -> None:
        self.received.append(envelope.body)

    async def take(self, *events: object) -> OutcomeKind:
        """Hand over events and return what became of the last; forget what was sent before."""
        kind = OutcomeKind.NOT_FOUND
        for event in events:
            self.received.clear()
            kind = (await self.orchestrator.handle(event)).kind
        return kind

    async def state(self) -> str:
        """Return the state the saga is in."""
        instance = await self.orchestrator.find(TravelSaga, "T-1")
        assert instance is not None
        return instance.state.name


@pytest.fixture
def journey(repository: SagaRepository) -> Journey:
    """A journey that has not begun."""
    return Journey(repository)


@pytest.mark.anyio
async def test_each_booking_gets_what_is_left_of_the_budget(journey: Journey) -> None:
    await journey.take(REQUESTED)
    flight = BookFlight("T-1", "SF 1", date(2026, 8, 1), Decimal(900))
    assert journey.received == [RedeemMiles("T-1", 40), flight]
    await journey.take(FLIGHT)
    assert journey.received == [BookHotel("T-1", STAY, Decimal("599.90"))]
    await journey.take(HOTEL)
    assert journey.received == [BookCar("T-1", CarClass.VAN, Decimal("199.90"))]
    await journey.take(CAR)
    assert journey.received == [TripBooked("T-1", Decimal("800.10"))]
    assert await journey.take(TripEnded("T-1")) is OutcomeKind.TRANSITIONED
    assert (await journey.state(), journey.received) == ("completed", [])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wanted", "states"),
    [
        ((None, None), ["booked"]),
        ((None, CarClass.SMALL), ["awaiting_car", "booked"]),
        ((STAY, None), ["awaiting_hotel", "booked"]),
        ((STAY, CarClass.SMALL), ["awaiting_hotel", "awaiting_car", "booked"]),
    ],
    ids=["flight", "car", "hotel", "both"],
)
async def test_only_what_is_wanted_is_booked(
    anyio_backend: str,
    journey_in_memory: Journey,
    wanted: tuple[Stay | None, CarClass | None],
    states: list[str],
) -> None:
    journey = journey_in_memory
    stay, car = wanted
    await journey.take(
        TripRequested(
            "T-1", Traveller("Zoë"), "SF 1", date(2026, 8, 1), Decimal(900), hotel=stay, car=car
        )
    )
    found = [
        await journey.state()
        for event in (FLIGHT, HOTEL, CAR)
        if await journey.take(event) is OutcomeKind.TRANSITIONED
    ]
    assert found == states


@pytest.fixture
def journey_in_memory() -> Journey:
    """A journey that has not begun, in memory on whatever runtime."""
    return Journey(MemoryRepository())


CANCELS = [
    (1, [WithdrawRequests("T-1"), ReturnMiles("T-1", 40)]),
    (2, [WithdrawRequests("T-1"), CancelFlight("T-1", "F-1"), ReturnMiles("T-1", 40)]),
    (
        3,
        [
            WithdrawRequests("T-1"),
            CancelHotel("T-1", "H-1"),
            CancelFlight("T-1", "F-1"),
            ReturnMiles("T-1", 40),
        ],
    ),
    (
        4,
        [
            CancelCar("T-1", "C-1"),
            CancelHotel("T-1", "H-1"),
            CancelFlight("T-1", "F-1"),
            ReturnMiles("T-1", 40),
        ],
    ),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("events", "sent"), CANCELS, ids=["flight", "hotel", "car", "booked"])
async def test_cancellation_undoes_what_was_booked_last_first(
    journey: Journey, events: int, sent: list[object]
) -> None:
    await journey.take(*FORWARDS[:events])
    assert await journey.take(TripCancelled("T-1", "ill")) is OutcomeKind.TRANSITIONED
    assert journey.received == sent
    instance = await journey.orchestrator.find(TravelSaga, "T-1")
    assert instance is not None
    assert (instance.state, instance.status) == (CANCELLED, Status.FINISHED)
    assert instance.saga.reason == "ill"


@pytest.mark.anyio
async def test_refused_hotel_gives_back_flight_and_miles(journey: Journey) -> None:
    await journey.take(REQUESTED, FLIGHT, HotelRefused("T-1", "full"))
    assert journey.received == [CancelFlight("T-1", "F-1"), ReturnMiles("T-1", 40)]
    assert await journey.state() == "failed"


@pytest.mark.anyio
async def test_refused_car_gives_back_hotel_flight_and_miles(journey: Journey) -> None:
    await journey.take(REQUESTED, FLIGHT, HOTEL, CarRefused("T-1", "none left"))
    assert journey.received == [
        CancelHotel("T-1", "H-1"),
        CancelFlight("T-1", "F-1"),
        ReturnMiles("T-1", 40),
    ]
    assert await journey.state() == "failed"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("price", "kind", "state", "sent"),
    [
        ("400.00", OutcomeKind.STAYED, "awaiting_hotel", 0),
        ("900.00", OutcomeKind.STAYED, "awaiting_hotel", 0),
        ("900.01", OutcomeKind.TRANSITIONED, "failed", 3),
    ],
)
async def test_new_price_is_accepted_within_the_budget_only(
    journey: Journey, price: str, kind: OutcomeKind, state: str, sent: int
) -> None:
    await journey.take(REQUESTED, FLIGHT)
    assert await journey.take(PriceChanged("T-1", Item.FLIGHT, Decimal(price))) is kind
    assert await journey.state() == state
    undone = [WithdrawRequests("T-1"), CancelFlight("T-1", "F-1"), ReturnMiles("T-1", 40)]
    assert journey.received == undone[:sent]
    instance = await journey.orchestrator.find(TravelSaga, "T-1")
    assert instance is not None
    expected = Decimal(price) if sent == 0 else FLIGHT.price
    assert instance.saga.prices == {Item.FLIGHT: expected}


@pytest.mark.anyio
async def test_new_price_of_what_is_not_booked_is_out_of_place(journey: Journey) -> None:
    await journey.take(REQUESTED, FLIGHT)
    assert await journey.take(PriceChanged("T-1", Item.CAR, Decimal(1))) is OutcomeKind.UNHANDLED


@pytest.mark.anyio
@pytest.mark.parametrize("end", [HotelRefused("T-1", "full"), TripCancelled("T-1", "ill")])
async def test_confirmation_after_the_end_is_ignored(journey: Journey, end: object) -> None:
    await journey.take(REQUESTED, FLIGHT, end)
    for late in (FLIGHT, HOTEL, CAR):
        assert await journey.take(late) is OutcomeKind.IGNORED
    assert await journey.take(TripEnded("T-1")) is OutcomeKind.FINISHED
    assert journey.received == []


@pytest.mark.anyio
async def test_data_is_stored_with_its_types(journey: Journey) -> None:
    note = Note(datetime(2026, 7, 1, 9, 30, tzinfo=UTC), "A quiet room, $please.")
    await journey.take(REQUESTED, FLIGHT, NoteAdded("T-1", note))
    instance = await journey.orchestrator.find(TravelSaga, "T-1")
    assert instance is not None
    assert instance.saga == TravelSaga(
        booking="T-1",
        traveller=Traveller("Zoë"),
        stay=STAY,
        car=CarClass.VAN,
        budget=Decimal(900),
        prices={Item.FLIGHT: Decimal("300.10")},
        notes=[note],
    )
