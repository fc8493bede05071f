"""An order with all that there is to observe, and an observer that writes down what it is told."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from attrs import define, field, frozen

from sagaflow import (
    Context,
    MemoryBus,
    Saga,
    Secret,
    State,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow.observing import Activity, Fact, Observer


@frozen
class Placed:
    order: str
    card: Secret[str] = "4111-1111"
    gift: str = "a ring"


@frozen
class Paid:
    order: str
    fails: bool = False


@frozen
class SoldOut:
    order: str


@frozen
class Reminded:
    order: str


@frozen
class Rated:
    order: str


@frozen
class Checked:
    order: str


@frozen
class Shipped:
    order: str


@frozen
class Pay:
    order: str


@frozen
class Refund:
    order: str


@frozen
class Reserve:
    order: str


@frozen
class Remind:
    order: str


class Order(Saga, correlate_by="order"):
    """Takes the money and reserves the goods, or gives the money back."""

    paying = State()
    reserving = State()
    done = State(final=True)
    failed = State(final=True)
    refunds: int = 0

    @initially.on(Placed).goto(paying)
    async def place(self, event: Placed, ctx: Context) -> None:
        ctx.send(Pay(event.order))
        ctx.schedule(Reminded(event.order), after=timedelta(minutes=5))

    @during(paying).on(Paid).goto(reserving)
    async def reserve(self, event: Paid, ctx: Context) -> None:
        if event.fails:
            raise RuntimeError(f"card of {event.order} was refused")
        ctx.send(Reserve(event.order))
        ctx.schedule(Checked(event.order), after=timedelta(minutes=30))

    @compensates(reserve)
    async def refund(self, event: Paid, ctx: Context) -> None:
        self.refunds += 1
        ctx.send(Refund(event.order))

    @during(reserving).on(SoldOut).compensate().goto(failed)
    async def sold_out(self, event: SoldOut, ctx: Context) -> None: ...

    @during_any.on(Reminded).stay()
    async def remind(self, event: Reminded, ctx: Context) -> None:
        ctx.send(Remind(event.order))

    late = during(paying).on(Rated).defer()
    rated = during(reserving).on(Rated).stay()
    checked = during(paying).on(Checked).ignore()
    shipped = during(reserving).on(Shipped).goto(done)

    @during(paying, reserving).after(timedelta(hours=1)).goto(failed)
    async def give_up(self, ctx: Context) -> None:
        ctx.send(Refund(str(ctx.correlation_id)))


def shop(*, sold_out: bool = True) -> MemoryBus:
    """Return a bus whose participants answer: paid, and then sold out."""
    bus = MemoryBus()

    @bus.subscribe(Pay)
    async def pay(command: Pay) -> None:
        await bus.publish(Paid(command.order))

    @bus.subscribe(Reserve)
    async def reserve(command: Reserve) -> None:
        if sold_out:
            await bus.publish(SoldOut(command.order))

    for other in (Refund, Remind):
        bus.subscribe(other, lambda _: None)
    return bus


@define
class Told(Observer):
    """Writes down what it is told, when it ends.

    :ivar lines: one for each activity: what, of what, with which outcome.
    :ivar added: what it adds to headers.
    """

    lines: list[str] = field(factory=list[str])
    activities: list[Activity] = field(factory=list[Activity])
    facts: list[Fact] = field(factory=list[Fact])
    added: dict[str, str] = field(factory=dict[str, str])

    @contextmanager
    def observe(self, activity: Activity) -> Generator[None]:
        yield
        self.activities.append(activity)
        self.lines.append(f"{activity.kind.value} {activity.name} {activity.outcome}")

    def note(self, fact: Fact) -> None:
        self.facts.append(fact)

    def headers(self) -> Mapping[str, str]:
        return self.added

    def named(self, name: str) -> list[Activity]:
        """Return the activities of that name."""
        return [activity for activity in self.activities if activity.name == name]
