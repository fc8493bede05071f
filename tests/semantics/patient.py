"""A saga that waits, is reminded, loses patience, fails and is undone."""

from __future__ import annotations

from datetime import timedelta

from attrs import field, frozen

from sagaflow import (
    Context,
    MemoryBus,
    Orchestrator,
    RetryPolicy,
    Saga,
    SagaRepository,
    State,
    SuspensionReason,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow.abc import Bus
from sagaflow.testing import ManualClock

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SOON = RetryPolicy(max_age=MINUTE)
"""What fails for a minute suspends its saga."""


@frozen
class Opened:
    key: str


@frozen
class Reserved:
    key: str


@frozen
class Paid:
    key: str


@frozen
class Noted:
    key: str
    text: str = ""


@frozen
class Failed:
    key: str


@frozen
class Reminder:
    key: str
    number: int = 1


@frozen
class Release:
    key: str


class Faults:
    """What the handlers below raise, until it is mended."""

    def __init__(self) -> None:
        self.noted: Exception | None = None
        self.release: Exception | None = None
        self.timeout: Exception | None = None
        self.ran: list[str] = []


FAULTS = Faults()


class Booking(Saga, correlate_by="key", early_events=HOUR):
    """A booking that is reserved, paid and noted, or expires."""

    opened = State()
    reserved = State()
    paid = State()
    closed = State(final=True)
    expired = State(final=True)
    failed = State(final=True)

    log: list[str] = field(factory=list[str])

    too_early = initially.on(Noted).defer()

    @initially.on(Opened).goto(opened)
    def open(self, event: Opened, ctx: Context) -> None:
        self.log.append("opened")

    @during(opened).on(Reserved).goto(reserved)
    def reserve(self, event: Reserved, ctx: Context) -> None:
        self.log.append("reserved")
        ctx.schedule(Reminder(event.key), after=10 * MINUTE)

    @compensates(reserve)
    def release(self, event: Reserved, ctx: Context) -> None:
        FAULTS.ran.append("release")
        if FAULTS.release is not None:
            raise type(FAULTS.release)(*FAULTS.release.args)
        self.log.append("released")
        ctx.send(Release(event.key))

    @during(opened, reserved).after(HOUR).compensate().goto(expired)
    def expire(self, ctx: Context) -> None:
        FAULTS.ran.append("timeout")
        if FAULTS.timeout is not None:
            raise type(FAULTS.timeout)(*FAULTS.timeout.args)
        self.log.append("expired")

    @during_any.on(Reminder).stay()
    def remind(self, event: Reminder, ctx: Context) -> None:
        self.log.append(f"reminded {event.number}")
        if event.number < 3:
            ctx.schedule(Reminder(event.key, event.number + 1), after=10 * MINUTE)

    @during(reserved).on(Paid).goto(paid)
    def pay(self, event: Paid, ctx: Context) -> None:
        self.log.append("paid")
        ctx.cancel("Reminder")

    wait = during(opened, reserved).on(Noted).defer()

    @during(paid).on(Noted).stay()
    def note(self, event: Noted, ctx: Context) -> None:
        FAULTS.ran.append(f"note {event.text}")
        if FAULTS.noted is not None:
            raise type(FAULTS.noted)(*FAULTS.noted.args)
        self.log.append(f"noted {event.text}")

    fail = during_any.on(Failed).compensate().goto(failed)
    close = during(paid).on(Opened).goto(closed)


def orchestrator(
    repository: SagaRepository,
    clock: ManualClock,
    *,
    bus: Bus | None = None,
    retry: RetryPolicy | None = None,
) -> Orchestrator:
    """Return one that works only when it is told to."""
    return Orchestrator([Booking], repository, bus=bus, clock=clock, retry=retry, background=False)


async def log_of(runner: Orchestrator, key: str = "b") -> list[str]:
    """Return what a booking has noted."""
    found = await runner.find(Booking, key)
    assert found is not None
    return found.saga.log


async def until_suspended(runner: Orchestrator, clock: ManualClock) -> SuspensionReason:
    """Do what is due until the booking is suspended, and return why it is."""
    for _ in range(5):
        clock.advance(MINUTE)
        await runner.run_due()
    found = await runner.find(Booking, "b")
    assert found is not None and found.suspension is not None
    return found.suspension.reason


async def suspended_by_a_note(
    runner: Orchestrator, bus: MemoryBus, clock: ManualClock, faults: Faults
) -> None:
    """Suspend a booking by a first note that fails; a second one waits behind it."""
    for event in (Opened("b"), Reserved("b"), Paid("b")):
        await runner.handle(event)
    faults.noted = ValueError("no paper")
    await bus.publish(Noted("b", "1"))
    assert await until_suspended(runner, clock) is SuspensionReason.HANDLER
    await runner.handle(Noted("b", "2"))
    faults.noted = None
