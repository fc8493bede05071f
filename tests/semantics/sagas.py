"""Sagas that the tests of the semantics share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define, field, frozen
from svcs import Registry

from sagaflow import (
    Bus,
    Clock,
    Context,
    Orchestrator,
    Saga,
    SagaRepository,
    State,
    compensates,
    during,
    during_any,
    initially,
)

# An account: takes deposits until it is closed.


@frozen
class Opened:
    account: str
    owner: str = ""


@frozen
class Deposited:
    account: str
    amount: int


@frozen
class Locked:
    account: str


@frozen
class Unlocked:
    account: str


@frozen
class Reminded:
    account: str


@frozen
class Closed:
    account: str


class Account(Saga, correlate_by="account"):
    """Takes deposits until it is closed."""

    active = State()
    locked = State()
    closed = State(final=True)

    owner: str = ""
    balance: int = 0
    entries: list[int] = field(factory=list[int])

    @initially.on(Opened).goto(active)
    def open(self, event: Opened, ctx: Context) -> None:
        self.owner = event.owner

    @during(active).on(Deposited).stay()
    async def deposit(self, event: Deposited, ctx: Context) -> None:
        self.balance += event.amount
        self.entries.append(event.amount)

    lock = during(active).on(Locked).goto(locked)
    unlock = during(locked).on(Unlocked).goto(active)
    close = during_any.on(Closed).goto(closed)
    reminder = during(active, closed).on(Reminded).ignore()


# A trip: books a flight, a hotel and a car, or undoes what was booked.


@frozen
class Planned:
    trip: str


@frozen
class FlightBooked:
    trip: str
    flight: str = "f-1"


@frozen
class HotelBooked:
    trip: str
    hotel: str = "h-1"


@frozen
class CarBooked:
    trip: str


@frozen
class GivenUp:
    trip: str


@frozen
class BookFlight:
    trip: str


@frozen
class BookHotel:
    trip: str


@frozen
class BookCar:
    trip: str


@frozen
class CancelFlight:
    flight: str


@frozen
class CancelHotel:
    hotel: str


@frozen
class Apologise:
    trip: str


@define
class Probe:
    """What a test wants to happen in a saga's methods, by their names; and which were called."""

    actions: dict[str, Callable[[], Awaitable[object]]] = field(
        factory=dict[str, Callable[[], Awaitable[object]]]
    )
    calls: list[str] = field(factory=list[str])

    async def reached(self, name: str) -> None:
        """Note that *name* runs, and do what the test wants there."""
        self.calls.append(name)
        if name in self.actions:
            await self.actions[name]()


class Trip(Saga, correlate_by="trip"):
    """Books a flight, a hotel and a car, or undoes what was booked."""

    booking_flight = State()
    booking_hotel = State()
    booking_car = State()
    booked = State(final=True)
    given_up = State(final=True)

    undone: list[str] = field(factory=list[str])

    @initially.on(Planned).goto(booking_flight)
    async def plan(self, event: Planned, ctx: Context) -> None:
        ctx.send(BookFlight(event.trip))

    @during(booking_flight).on(FlightBooked).goto(booking_hotel)
    async def book_hotel(self, event: FlightBooked, ctx: Context) -> None:
        ctx.send(BookHotel(event.trip))

    @compensates(book_hotel)
    async def cancel_flight(self, event: FlightBooked, ctx: Context) -> None:
        await ctx.services.get(Probe).reached("cancel_flight")
        self.undone.append(event.flight)
        ctx.send(CancelFlight(event.flight))

    @during(booking_hotel).on(HotelBooked).goto(booking_car)
    async def book_car(self, event: HotelBooked, ctx: Context) -> None:
        ctx.send(BookCar(event.trip))

    @compensates(book_car)
    async def cancel_hotel(self, event: HotelBooked, ctx: Context) -> None:
        await ctx.services.get(Probe).reached("cancel_hotel")
        self.undone.append(event.hotel)
        ctx.send(CancelHotel(event.hotel))

    @during(booking_car).on(CarBooked).goto(booked)
    async def finish(self, event: CarBooked, ctx: Context) -> None:
        await ctx.services.get(Probe).reached("finish")

    @during_any.on(GivenUp).compensate().goto(given_up)
    async def give_up(self, event: GivenUp, ctx: Context) -> None:
        ctx.send(Apologise(event.trip))


BEFORE_THE_CAR = (Planned("t"), FlightBooked("t"), HotelBooked("t"))
"""What brings the trip ``t`` to the point where the flight and the hotel would be undone."""


def agency(
    repository: SagaRepository,
    clock: Clock,
    probe: Probe | None = None,
    *,
    bus: Bus | None = None,
    saga: type[Saga] = Trip,
) -> Orchestrator:
    """Return a process of its own that runs trips; it shares nothing but the repository."""
    registry = Registry()
    registry.register_value(Probe, probe or Probe())  # pyright: ignore[reportUnknownMemberType]
    return Orchestrator([saga], repository, bus=bus, services=registry, clock=clock)
