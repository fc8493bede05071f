"""What an exception says may be any text: its failure is stored, and its saga suspended in time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import pytest
from attrs import frozen

from sagaflow import (
    Context,
    Instance,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    RetryPolicy,
    Saga,
    SagaRepository,
    State,
    Status,
    compensates,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.support import RecordingBus

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


class SilentError(ValueError):
    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__


ERRORS: dict[str, Callable[[], Exception]] = {
    "half a character": lambda: ValueError("cannot read caf\udce9.txt"),  # a name not in UTF-8
    "a control character": lambda: ValueError("cannot read caf\0\x1b"),
    "17 MB": lambda: ValueError("cannot read " * 1_500_000),
    "no text": SilentError,
}
SAID = {
    "half a character": "cannot read caf\\udce9.txt",
    "a control character": "cannot read caf\\x00\\x1b",
    "17 MB": "ValueError: cannot read cannot read",
    "no text": "SilentError: <",
}
_kind = ["half a character"]


def error() -> Exception:
    return ERRORS[_kind[0]]()


@pytest.fixture(params=ERRORS)
def said(request: pytest.FixtureRequest) -> str:
    """What is to be read of the error that is raised."""
    kind: str = request.param
    _kind[0] = kind
    return SAID[kind]


@frozen
class Begin:
    order: str


@frozen
class Go:
    order: str


@frozen
class Print:
    order: str


@frozen
class Stop:
    order: str


class Printing(Saga, correlate_by="order"):
    """Fails wherever it can."""

    open = State()
    printing = State()
    closed = State(final=True)

    @initially.on(Begin).goto(open)
    def begin(self, event: Begin, ctx: Context) -> None:
        ctx.schedule(Go(event.order), after=100 * MINUTE)

    @compensates(begin)
    def undo(self, event: Begin, ctx: Context) -> None:
        raise error()

    @during(open).on(Go).stay()
    def go(self, event: Go, ctx: Context) -> None:
        raise error()

    @during(open).on(Print).goto(printing)
    def send(self, event: Print, ctx: Context) -> None:
        ctx.send(Print(event.order))

    @during(open).after(50 * MINUTE).goto(closed)
    def expire(self, ctx: Context) -> None:
        raise error()

    stop = during(open, printing).on(Stop).compensate().goto(closed)


@frozen(kw_only=True)
class World:
    clock: ManualClock
    bus: MemoryBus
    orchestrator: Orchestrator

    async def suspended(self) -> Instance[Printing]:
        """Let time pass, and return the saga once it is suspended."""
        for _ in range(12):
            self.clock.advance(5 * MINUTE)
            await self.orchestrator.run_due()
            found = await self.orchestrator.find(Printing, "o")
            assert found is not None
            if found.status is Status.SUSPENDED:
                return found
        raise AssertionError("it is tried for ever")


def world(repository: SagaRepository, clock: ManualClock) -> World:
    bus = MemoryBus()
    orchestrator = Orchestrator(
        [Printing], repository, bus=bus, clock=clock, retry=RetryPolicy(max_age=5 * MINUTE)
    )

    @bus.subscribe(Print)
    def print_it(_: Print) -> None:
        raise error()

    return World(clock=clock, bus=bus, orchestrator=orchestrator)


def assert_readable(found: Instance[Printing], said: str) -> None:
    assert found.suspension is not None
    text = found.suspension.error
    text.encode()
    assert said in text
    assert "surrogates not allowed" not in text
    assert len(text) <= 4_000


async def test_event_whose_handler_fails(
    repository: SagaRepository, clock: ManualClock, said: str
) -> None:
    world_ = world(repository, clock)
    async with world_.orchestrator:
        await world_.orchestrator.handle(Begin("o"))
        await world_.bus.publish(Go("o"), message_id="m-2")
        assert_readable(await world_.suspended(), said)


async def test_timer_whose_handler_fails(
    repository: SagaRepository, clock: ManualClock, said: str
) -> None:
    world_ = world(repository, clock)
    await world_.orchestrator.handle(Begin("o"))
    clock.advance(50 * MINUTE)
    assert_readable(await world_.suspended(), said)


async def test_step_whose_compensation_fails(
    repository: SagaRepository, clock: ManualClock, said: str
) -> None:
    world_ = world(repository, clock)
    await world_.orchestrator.handle(Begin("o"))
    await world_.orchestrator.handle(Stop("o"))
    assert_readable(await world_.suspended(), said)


async def test_message_that_is_refused(
    repository: SagaRepository, clock: ManualClock, said: str
) -> None:
    world_ = world(repository, clock)
    await world_.orchestrator.handle(Begin("o"))
    await world_.orchestrator.handle(Print("o"))
    assert_readable(await world_.suspended(), said)


# Refused again and again


@frozen(kw_only=True)
class Refused:
    """A bus that refuses messages, and what is logged of it."""

    bus: RecordingBus
    clock: ManualClock
    orchestrator: Orchestrator
    caplog: pytest.LogCaptureFixture

    def lines(self, text: str) -> list[str]:
        return [line for line in self.caplog.messages if text in line]


@pytest.fixture
def refused(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> Refused:
    caplog.set_level(logging.WARNING)
    bus = RecordingBus()
    orchestrator = Orchestrator([Printing], MemoryRepository(clock=clock), bus=bus, clock=clock)
    return Refused(bus=bus, clock=clock, orchestrator=orchestrator, caplog=caplog)


async def test_error_that_names_the_message_does_not_fill_the_log(
    refused: Refused, anyio_backend: str
) -> None:
    async def refuse(published: object) -> None:
        raise ValueError(f"cannot take {published}")  # a text that never repeats

    refused.bus.on_publish = refuse
    for number in range(200):
        await refused.orchestrator.handle(Begin(f"o-{number}"))
        await refused.orchestrator.handle(Print(f"o-{number}"))
    assert len(refused.bus.attempts) == 200
    assert len(refused.lines("did not accept Print")) == 1
    refused.clock.advance(5 * MINUTE)
    await refused.orchestrator.run_due()
    told = refused.lines("did not accept Print")
    assert len(told) == 2
    assert "199 were left out" in told[1]


async def test_message_that_is_refused_and_accepted_by_turns_does_not_fill_the_log(
    refused: Refused, anyio_backend: str
) -> None:
    error = ValueError("not this one")
    for number in range(200):
        refused.bus.refusal = error if number % 2 else None
        await refused.orchestrator.handle(Begin(f"o-{number}"))
        await refused.orchestrator.handle(Print(f"o-{number}"))
    assert len(refused.lines("did not accept Print")) == 2
    assert len(refused.lines("accepts Print again")) == 1
    refused.bus.refusal = None
    refused.clock.advance(5 * MINUTE)
    await refused.orchestrator.run_due()
    again = refused.lines("accepts Print again; 98 refusals were left out")
    assert len(again) == 1


async def test_another_error_is_told_at_once(refused: Refused, anyio_backend: str) -> None:
    for number, error in enumerate((ValueError("a"), ValueError("b"), LookupError("c"))):
        refused.bus.refusal = error
        await refused.orchestrator.handle(Begin(f"o-{number}"))
        await refused.orchestrator.handle(Print(f"o-{number}"))
    assert [line[-1] for line in refused.lines("did not accept Print")] == ["a", "c"]
