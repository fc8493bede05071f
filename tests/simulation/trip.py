"""The saga of the simulation: book a flight and a hotel, confirm both; or undo all of it.

It keeps in its data what was done to it, in the same write: what the checks compare with.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from attrs import field, frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially


class Chaos(Protocol):
    """What may happen within a handler."""

    async def within(self, handler: str) -> None:
        """Take a while, and perhaps raise."""
        ...


# Events


@frozen
class TripRequested:
    trip: str


@frozen
class FlightBooked:
    trip: str


@frozen
class HotelOffered:
    trip: str


@frozen
class HotelBooked:
    trip: str


@frozen
class HotelFull:
    trip: str


@frozen
class Confirmed:
    trip: str


@frozen
class TripCancelled:
    trip: str


@frozen
class Reminded:
    trip: str


# Commands


@frozen
class BookFlight:
    trip: str


@frozen
class CancelFlight:
    trip: str


@frozen
class BookHotel:
    trip: str


@frozen
class CancelHotel:
    trip: str


@frozen
class Confirm:
    trip: str


@frozen
class Nudge:
    trip: str


class TripSaga(Saga, correlate_by="trip", retain=timedelta(days=36_500)):
    """Book a flight and a hotel, confirm both; or undo all of it."""

    booking_flight = State()
    booking_hotel = State()
    confirming = State()
    booked = State(final=True)
    failed = State(final=True)
    expired = State(final=True)

    trip: str = ""
    applied: list[str] = field(factory=list[str])
    undone: list[str] = field(factory=list[str])

    @initially.on(TripRequested).goto(booking_flight)
    async def request(self, event: TripRequested, ctx: Context) -> None:
        await self._note(ctx, "request")
        self.trip = event.trip
        ctx.send(BookFlight(event.trip))
        ctx.schedule(Reminded(event.trip), after=timedelta(seconds=2), name="reminder")

    early_offer = initially.on(HotelOffered).defer()
    offer_before_flight = during(booking_flight).on(HotelOffered).defer()

    @during(booking_flight).on(FlightBooked).goto(booking_hotel)
    async def book_hotel(self, event: FlightBooked, ctx: Context) -> None:
        await self._note(ctx, "book_hotel")
        ctx.send(BookHotel(event.trip))
        ctx.send(Nudge(event.trip))

    @compensates(book_hotel)
    async def cancel_flight(self, event: FlightBooked, ctx: Context) -> None:
        await ctx.services.get_abstract(Chaos).within("cancel_flight")
        self.undone.append("book_hotel")
        ctx.send(CancelFlight(event.trip))

    @during(booking_hotel, confirming).on(HotelOffered).stay()
    async def consider(self, event: HotelOffered, ctx: Context) -> None:
        await self._note(ctx, "consider")
        ctx.send(Nudge(event.trip))

    @during(booking_hotel).on(HotelBooked).goto(confirming)
    async def confirm(self, event: HotelBooked, ctx: Context) -> None:
        await self._note(ctx, "confirm")
        ctx.send(Confirm(event.trip))
        ctx.cancel("reminder")

    @compensates(confirm)
    async def cancel_hotel(self, event: HotelBooked, ctx: Context) -> None:
        await ctx.services.get_abstract(Chaos).within("cancel_hotel")
        self.undone.append("confirm")
        ctx.send(CancelHotel(event.trip))

    @during(confirming).on(Confirmed).goto(booked)
    async def finish(self, event: Confirmed, ctx: Context) -> None:
        await self._note(ctx, "finish")

    @during(booking_hotel).on(HotelFull).compensate().goto(failed)
    @during_any.on(TripCancelled).compensate().goto(failed)
    async def give_up(self, event: HotelFull | TripCancelled, ctx: Context) -> None:
        await self._note(ctx, "give_up")

    @during_any.on(Reminded).stay()
    async def remind(self, event: Reminded, ctx: Context) -> None:
        await self._note(ctx, "remind")
        ctx.send(Nudge(event.trip))

    @during(booking_flight).after(timedelta(seconds=30)).goto(expired)
    async def expire(self, ctx: Context) -> None:
        await self._note(ctx, "expire")
        ctx.send(CancelFlight(self.trip))

    @during(booking_hotel, confirming).after(timedelta(seconds=40)).compensate().goto(failed)
    async def stop_waiting(self, ctx: Context) -> None:
        await self._note(ctx, "stop_waiting")

    async def _note(self, ctx: Context, handler: str) -> None:
        await ctx.services.get_abstract(Chaos).within(handler)
        self.applied.append(str(ctx.message_id))
