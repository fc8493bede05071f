"""The saga of the chaos runner, in two versions of its code, and the messages that it lives by.

It keeps in its data what was done to it and what it has said, in the same write: what the books are
compared with.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final, TypeAlias

from attrs import field, frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially

TIMEOUT: Final = timedelta(seconds=1)
_STUMBLES: Final = 0.02

# Events


@frozen
class Placed:
    errand: str
    notes: int


@frozen
class Noted:
    errand: str


@frozen
class Charged:
    errand: str
    charge: str


@frozen
class Reserved:
    errand: str
    reservation: str


@frozen
class Refused:
    errand: str


@frozen
class Delivered:
    errand: str


@frozen
class Cancelled:
    errand: str


@frozen
class Reminded:
    errand: str


# Commands, numbered from 1 by the saga that sends them


@frozen
class Stamp:
    errand: str
    number: int


@frozen
class Charge:
    errand: str
    number: int


@frozen
class Reserve:
    errand: str
    number: int


@frozen
class Deliver:
    errand: str
    number: int


@frozen
class Refund:
    errand: str
    number: int
    charge: str


@frozen
class Release:
    errand: str
    number: int
    reservation: str


Event: TypeAlias = Placed | Noted | Charged | Reserved | Refused | Delivered | Cancelled | Reminded
EVENTS: Final[dict[str, type[Event]]] = {
    cls.__name__: cls
    for cls in (Placed, Noted, Charged, Reserved, Refused, Delivered, Cancelled, Reminded)
}


class StumbleError(Exception):
    """A handler fails for no good reason; the next attempt may succeed."""


_chance = random.Random()


def stumble_like(seed: str) -> None:
    """Decide from now on by *seed* which handlers fail."""
    _chance.seed(seed)


def _may_stumble() -> None:
    if _chance.random() < _STUMBLES:
        raise StumbleError


class Errand(Saga, name="Errand", correlate_by="errand", inbox_size=256):
    """Charge, reserve, take notes until there are enough, deliver; or undo all of it."""

    paying = State()
    reserving = State()
    collecting = State()
    delivering = State()
    done = State(final=True)
    failed = State(final=True)
    expired = State(final=True)

    errand: str = ""
    wanted: int = 0
    notes: int = 0
    reminded: bool = False
    applied: list[str] = field(factory=list[str])
    said: list[str] = field(factory=list[str])
    undone: list[str] = field(factory=list[str])

    def apply(self, ctx: Context) -> None:
        """Note that an event or a timer has been handled."""
        self.applied.append(str(ctx.message_id))
        _may_stumble()

    def number(self, command: type) -> int:
        """Note that a command is sent next, and return its number."""
        self.said.append(command.__name__)
        return len(self.said)

    def go_on(self, ctx: Context) -> State:
        """Deliver, if nothing more is waited for."""
        if self.notes < self.wanted or not self.reminded:
            return Errand.collecting
        ctx.send(Deliver(self.errand, self.number(Deliver)))
        return Errand.delivering

    early = initially.on(Noted).defer()

    @initially.on(Placed).goto(paying)
    async def place(self, event: Placed, ctx: Context) -> None:
        self.errand, self.wanted = event.errand, event.notes
        self.apply(ctx)
        ctx.send(Stamp(self.errand, self.number(Stamp)))
        ctx.send(Charge(self.errand, self.number(Charge)))
        ctx.schedule(Reminded(self.errand), after=timedelta(milliseconds=200), name="remind")

    @during(paying).on(Charged).goto(reserving)
    async def charged(self, event: Charged, ctx: Context) -> None:
        self.apply(ctx)
        ctx.send(Reserve(self.errand, self.number(Reserve)))

    @compensates(charged)
    async def refund(self, event: Charged, ctx: Context) -> None:
        self.undone.append("charged")
        _may_stumble()
        ctx.send(Refund(self.errand, self.number(Refund), event.charge))

    @during(reserving).on(Reserved).branch(collecting, delivering)
    async def reserved(self, event: Reserved, ctx: Context) -> State:
        self.apply(ctx)
        return self.go_on(ctx)

    @compensates(reserved)
    async def release(self, event: Reserved, ctx: Context) -> None:
        self.undone.append("reserved")
        _may_stumble()
        ctx.send(Release(self.errand, self.number(Release), event.reservation))

    @during(reserving).on(Refused).compensate().goto(failed)
    async def refused(self, event: Refused, ctx: Context) -> None:
        self.apply(ctx)

    @during_any.on(Noted).stay()
    async def note(self, event: Noted, ctx: Context) -> None:
        self.apply(ctx)
        self.notes += 1
        ctx.send(Stamp(self.errand, self.number(Stamp)))

    @during(collecting).on(Noted).branch(collecting, delivering)
    async def note_wanted(self, event: Noted, ctx: Context) -> State:
        await self.note(event, ctx)
        return self.go_on(ctx)

    @during_any.on(Reminded).stay()
    async def remind(self, event: Reminded, ctx: Context) -> None:
        self.apply(ctx)
        self.reminded = True
        ctx.send(Stamp(self.errand, self.number(Stamp)))

    @during(collecting).on(Reminded).branch(collecting, delivering)
    async def remind_waiting(self, event: Reminded, ctx: Context) -> State:
        await self.remind(event, ctx)
        return self.go_on(ctx)

    too_early = during(paying, reserving).on(Cancelled).defer()

    @during(collecting, delivering).on(Cancelled).compensate().goto(failed)
    async def cancel(self, event: Cancelled, ctx: Context) -> None:
        self.apply(ctx)

    @during(collecting).after(timedelta(hours=1)).compensate().goto(expired)
    async def forgotten(self, ctx: Context) -> None:
        self.apply(ctx)

    @during(delivering).after(TIMEOUT).compensate().goto(expired)
    async def overdue(self, ctx: Context) -> None:
        self.apply(ctx)

    @during(delivering).on(Delivered).goto(done)
    async def delivered(self, event: Delivered, ctx: Context) -> None:
        self.apply(ctx)


class NewErrand(Errand, name="Errand", correlate_by="errand"):
    """The next version of the code: what was reserved is inspected for a moment."""

    inspecting = State()

    inspected: bool = False

    @during(Errand.reserving).on(Reserved).goto(inspecting)
    async def reserved(self, event: Reserved, ctx: Context) -> None:  # type: ignore[override]
        self.apply(ctx)

    too_early_still = during(inspecting).on(Cancelled).defer()

    @(
        during(inspecting)
        .after(timedelta(milliseconds=100))
        .branch(Errand.collecting, Errand.delivering)
    )
    async def inspect(self, ctx: Context) -> State:
        self.apply(ctx)
        self.inspected = True
        return self.go_on(ctx)


RUNS: Final = frozenset(
    {
        "place",
        "charged",
        "reserved",
        "refused",
        "note",
        "note_wanted",
        "remind",
        "remind_waiting",
        "cancel",
        "forgotten",
        "overdue",
        "delivered",
        "inspect",
    }
)
"""The steps that run a handler, as the history names them."""
TIMERS: Final = frozenset({"remind", "remind_waiting", "forgotten", "overdue", "inspect"})
"""Those of them that a timer takes."""
