"""A trip: book the flight, the hotel and the car; or undo all of it.

Run it from a checkout; it takes the events in ``travel.jsonl``, one a line, and prints what became
of each. `read_events` is the program:

    python examples/travel.py
    python examples/travel.py my-events.jsonl --runtime trio
    python examples/travel.py --mongodb "mongodb://localhost:27017"
"""

from __future__ import annotations

import sys
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path

from attrs import field, frozen
from attrs.validators import gt, optional

from sagaflow import Context, Saga, State, compensates, during, during_any, initially

# What messages and sagas are made of: plain attrs classes, stored and read back as they are.

POSITIVE = gt(Decimal(0))


class Item(Enum):
    """What a trip is made of."""

    FLIGHT = "flight"
    HOTEL = "hotel"
    CAR = "car"


class CarClass(Enum):
    """The cars there are."""

    SMALL = "small"
    ESTATE = "estate"
    VAN = "van"


@frozen
class Traveller:
    """Who travels."""

    name: str
    email: str | None = None


@frozen
class Stay:
    """The nights in a hotel."""

    hotel: str
    arrival: date
    nights: int = field(validator=gt(0))


@frozen
class Note:
    """What somebody said about a trip, and when."""

    at: datetime
    text: str


# Events: what has happened. A validator refuses what must never reach the saga.


@frozen
class TripRequested:
    booking: str
    traveller: Traveller
    flight: str
    departure: date
    budget: Decimal = field(validator=POSITIVE)
    hotel: Stay | None = None
    car: CarClass | None = None
    miles: int | None = field(default=None, validator=optional(gt(0)))


@frozen
class FlightBooked:
    booking: str
    ticket: str
    price: Decimal = field(validator=POSITIVE)


@frozen
class FlightRefused:
    booking: str
    reason: str


@frozen
class HotelBooked:
    guest_reference: str  # the hotels' name for the booking
    reservation: str
    price: Decimal = field(validator=POSITIVE)


@frozen
class HotelRefused:
    guest_reference: str
    reason: str


@frozen
class CarBooked:
    booking: str
    rental: str
    price: Decimal = field(validator=POSITIVE)


@frozen
class CarRefused:
    booking: str
    reason: str


@frozen
class PriceChanged:
    booking: str
    item: Item
    price: Decimal = field(validator=POSITIVE)


@frozen
class NoteAdded:
    booking: str
    note: Note


@frozen
class TripCancelled:
    booking: str
    reason: str


@frozen
class TripEnded:
    booking: str


# Commands: what shall be done.


@frozen
class RedeemMiles:
    booking: str
    miles: int


@frozen
class ReturnMiles:
    booking: str
    miles: int


@frozen
class BookFlight:
    booking: str
    flight: str
    departure: date
    at_most: Decimal


@frozen
class CancelFlight:
    booking: str
    ticket: str


@frozen
class BookHotel:
    booking: str
    stay: Stay
    at_most: Decimal


@frozen
class CancelHotel:
    booking: str
    reservation: str


@frozen
class BookCar:
    booking: str
    car: CarClass
    at_most: Decimal


@frozen
class CancelCar:
    booking: str
    rental: str


@frozen
class WithdrawRequests:
    """Drop what has not been confirmed yet: a confirmation after this one binds nobody."""

    booking: str


@frozen
class TripBooked:
    """An event of the saga's own, for whoever is interested."""

    booking: str
    total: Decimal


# The saga.

# A state made outside of a class has a name and may be shared: every saga of this travel agency
# that a customer calls off ends here.
CANCELLED = State("cancelled", final=True)


def is_booked(saga: TravelSaga, event: PriceChanged) -> bool:
    """Tell whether the trip has that item. A guard looks at the saga and changes nothing."""
    return event.item in saga.prices


def is_affordable(saga: TravelSaga, event: PriceChanged) -> bool:
    """Tell whether the trip stays within its budget at the new price."""
    return event.price <= saga.left + saga.prices.get(event.item, Decimal(0))


class TravelSaga(Saga, correlate_by="booking"):
    """Book the flight, then what else is wanted; if anything fails, cancel what was booked.

    ``correlate_by`` names the attribute by which an event finds its saga.
    """

    awaiting_flight = State()
    awaiting_hotel = State()
    awaiting_car = State()
    booked = State()
    completed = State(final=True)
    failed = State(final=True)

    # Annotated attributes are the saga's persisted data.
    booking: str = ""
    traveller: Traveller | None = None
    stay: Stay | None = None
    car: CarClass | None = None
    budget: Decimal = Decimal(0)
    prices: dict[Item, Decimal] = field(factory=dict)
    notes: list[Note] = field(factory=list)
    reason: str | None = None

    @property
    def total(self) -> Decimal:
        """What the trip costs so far."""
        return sum(self.prices.values(), Decimal(0))

    @property
    def left(self) -> Decimal:
        """What is left of the budget."""
        return self.budget - self.total

    # Forwards. A handler changes `self` and asks the context for the rest. Nothing leaves before
    # the new state is stored, and a handler that raises has done nothing.

    @initially.on(TripRequested).goto(awaiting_flight)
    async def request(self, event: TripRequested, ctx: Context) -> None:
        self.booking, self.traveller = event.booking, event.traveller
        self.stay, self.car, self.budget = event.hotel, event.car, event.budget
        if event.miles is not None:
            ctx.send(RedeemMiles(event.booking, event.miles))
            # Only some trips have this to undo: it is recorded here, with what it will need.
            ctx.add_compensation(self.return_miles, event.miles)
        ctx.send(BookFlight(event.booking, event.flight, event.departure, at_most=self.left))

    # `branch`: the handler returns one of these states. Not every trip has a hotel or a car.
    @during(awaiting_flight).on(FlightBooked).branch(awaiting_hotel, awaiting_car, booked)
    async def take_flight(self, event: FlightBooked, ctx: Context) -> State:
        self.prices[Item.FLIGHT] = event.price
        return self.book_next(ctx)

    # `by`: this event calls its booking something else.
    @during(awaiting_hotel).on(HotelBooked, by="guest_reference").branch(awaiting_car, booked)
    async def take_hotel(self, event: HotelBooked, ctx: Context) -> State:
        self.prices[Item.HOTEL] = event.price
        return self.book_next(ctx)

    @during(awaiting_car).on(CarBooked).goto(booked)
    async def take_car(self, event: CarBooked, ctx: Context) -> None:
        self.prices[Item.CAR] = event.price
        ctx.publish(TripBooked(self.booking, self.total))

    def book_next(self, ctx: Context) -> State:
        """Ask for what is wanted and not booked yet, and tell which state waits for it."""
        if self.stay is not None and Item.HOTEL not in self.prices:
            ctx.send(BookHotel(self.booking, self.stay, at_most=self.left))
            return self.awaiting_hotel
        if self.car is not None and Item.CAR not in self.prices:
            ctx.send(BookCar(self.booking, self.car, at_most=self.left))
            return self.awaiting_car
        ctx.publish(TripBooked(self.booking, self.total))
        return self.booked

    # No code to run? Give the transition a name instead of a handler.
    end = during(booked).on(TripEnded).goto(completed)

    # Backwards. Each gets the event that its step handled, however long ago that was.

    @compensates(take_flight)
    async def cancel_flight(self, event: FlightBooked, ctx: Context) -> None:
        ctx.send(CancelFlight(self.booking, event.ticket))

    @compensates(take_hotel)
    async def cancel_hotel(self, event: HotelBooked, ctx: Context) -> None:
        ctx.send(CancelHotel(self.booking, event.reservation))

    @compensates(take_car)
    async def cancel_car(self, event: CarBooked, ctx: Context) -> None:
        ctx.send(CancelCar(self.booking, event.rental))

    async def return_miles(self, miles: int, ctx: Context) -> None:
        """Undo what `request` did for some trips; see there."""
        ctx.send(ReturnMiles(self.booking, miles))

    # What makes it turn round. `compensate` undoes the completed steps, last first, and then
    # enters the state. One handler may serve several transitions.

    @during(awaiting_flight).on(FlightRefused).compensate().goto(failed)
    @during(awaiting_hotel).on(HotelRefused, by="guest_reference").compensate().goto(failed)
    @during(awaiting_car).on(CarRefused).compensate().goto(failed)
    def give_up(self, event: FlightRefused | HotelRefused | CarRefused, ctx: Context) -> None:
        self.reason = event.reason

    # `during_any` is every state that is not final.
    @during_any.on(TripCancelled).compensate().goto(CANCELLED)
    def cancel(self, event: TripCancelled, ctx: Context) -> None:
        self.reason = event.reason
        self.withdraw(ctx)

    def withdraw(self, ctx: Context) -> None:
        """Take back the request that has not been answered, if there is one."""
        if ctx.state != self.booked:
            ctx.send(WithdrawRequests(self.booking))

    # What may happen at any time. Of several transitions for one event the first whose guard
    # holds is taken; if none holds, the event is out of place.

    @during_any.on(PriceChanged).when(is_booked).when(is_affordable).stay()
    def accept_price(self, event: PriceChanged, ctx: Context) -> None:
        self.prices[event.item] = event.price

    @during_any.on(PriceChanged).when(is_booked).compensate().goto(failed)
    def refuse_price(self, event: PriceChanged, ctx: Context) -> None:
        self.reason = f"the {event.item.value} became too expensive"
        self.withdraw(ctx)

    @during_any.on(NoteAdded).stay()
    def keep_note(self, event: NoteAdded, ctx: Context) -> None:
        self.notes.append(event.note)

    # A confirmation that crossed with a cancellation is no mistake of anybody's.
    late = during(failed, CANCELLED).on(FlightBooked, HotelBooked, CarBooked).ignore()


# What a file may name, and what the saga sends.

EVENTS = (
    TripRequested,
    FlightBooked,
    FlightRefused,
    HotelBooked,
    HotelRefused,
    CarBooked,
    CarRefused,
    PriceChanged,
    NoteAdded,
    TripCancelled,
    TripEnded,
)
MESSAGES = (
    RedeemMiles,
    ReturnMiles,
    BookFlight,
    CancelFlight,
    BookHotel,
    CancelHotel,
    BookCar,
    CancelCar,
    WithdrawRequests,
    TripBooked,
)
FILE = Path(__file__).with_suffix(".jsonl")


if __name__ == "__main__":
    from read_events import main  # type: ignore[import-not-found] # beside this file

    sys.exit(main(TravelSaga, EVENTS, MESSAGES, FILE))
