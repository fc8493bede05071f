"""Ids longer than may come in today, in what an earlier release has stored."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    CorrelationError,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaRepository,
    State,
    Status,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.support import stored

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
LONG = "é" * 2_000
"""The id of the saga."""
OTHERS = {name: name + "x" * 3_000 for name in ("begun", "said", "early")}
"""The ids of the messages that it has handled, is to send, and keeps for later."""


@frozen
class Began:
    tale: str


@frozen
class Interrupted:
    tale: str


@frozen
class Said:
    words: str


class Tale(Saga, correlate_by="tale", retain=MINUTE):
    """Is told for a minute, and interrupted only then."""

    told = State()
    heard = State()
    done = State(final=True)

    @initially.on(Began).goto(told)
    def begin(self, event: Began, ctx: Context) -> None:
        ctx.send(Said("once"))

    wait = during(told).on(Interrupted).defer()
    close = during(heard).after(MINUTE).goto(done)

    @during(told).after(MINUTE).goto(heard)
    def end(self, ctx: Context) -> None:
        ctx.send(Said("upon a time"))

    @during(heard).on(Interrupted).stay()
    def interrupt(self, event: Interrupted, ctx: Context) -> None:
        ctx.send(Said("what?"))


class Listener:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.has_heard = anyio.Event()
        self.bus = MemoryBus()
        self.bus.subscribe(Said, self.hear)

    async def hear(self, said: Said) -> None:
        self.heard.append(said.words)
        self.has_heard.set()


def orchestrator(
    repository: SagaRepository, clock: ManualClock, bus: MemoryBus | None = None
) -> Orchestrator:
    return Orchestrator([Tale], repository, bus=bus, clock=clock)


async def left_by_an_earlier_release(repository: SagaRepository, clock: ManualClock) -> None:
    """Store a saga with long ids everywhere, a message to be sent, a timer and a kept event."""
    early = orchestrator(repository, clock)
    await early.handle(Began("t"), message_id="begun")
    await early.handle(Interrupted("t"), message_id="early")
    document = await stored(repository, Tale, "t")
    assert document is not None
    assert document["inbox"] == ["begun", "early"]
    document.pop("lease", None)  # it has ended long ago
    document["_id"] = LONG
    document["inbox"] = [OTHERS["begun"], OTHERS["early"]]
    document["outbox"][0]["id"] = OTHERS["said"]
    document["parked"][0]["id"] = OTHERS["early"]
    assert await repository.delete(Tale, "t")
    assert await repository.insert_document("Tale", document)


async def test_saga_with_long_ids_is_worked_on(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await left_by_an_earlier_release(repository, clock)
    listener = Listener()
    tales = orchestrator(repository, clock, listener.bus)
    assert await tales.run_due() == 1
    assert listener.heard == ["once"]
    clock.advance(MINUTE)
    assert await tales.run_due() == 1
    assert listener.heard == ["once", "upon a time", "what?"]
    found = await tales.find(Tale, LONG)
    assert found is not None
    assert (found.state, found.correlation_id) == (Tale.heard, LONG)
    document = await stored(repository, Tale, LONG)
    assert document is not None
    assert document["inbox"] == [OTHERS["begun"], OTHERS["early"]]


async def test_workers_claim_it_as_any_other(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await left_by_an_earlier_release(repository, clock)
    listener = Listener()
    async with orchestrator(repository, clock, listener.bus) as tales:
        with anyio.fail_after(10):
            await listener.has_heard.wait()
        assert await tales.find(Tale, LONG) is not None
    document = await stored(repository, Tale, LONG)
    assert document is not None
    assert document.get("outbox", []) == []


async def test_it_is_found_listed_operated_on_and_removed(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await left_by_an_earlier_release(repository, clock)
    tales = orchestrator(repository, clock, Listener().bus)
    listed = [found.correlation_id async for found in repository.find_by_state(Tale, Tale.told)]
    assert listed == [LONG]
    await tales.cancel(Tale, LONG, state=Tale.done)
    found = await tales.find(Tale, LONG)
    assert found is not None
    assert found.status is Status.FINISHED
    clock.advance(2 * MINUTE)
    assert await tales.find(Tale, LONG) is None
    await repository.delete(Tale, LONG)
    assert not any((await repository.count_by_state(Tale)).values())


async def test_what_comes_in_anew_is_refused_for_it_as_well(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await left_by_an_earlier_release(repository, clock)
    before = await stored(repository, Tale, LONG)
    tales = orchestrator(repository, clock)
    with pytest.raises(CorrelationError, match="correlation id: it has 4,000 bytes"):
        await tales.handle(Interrupted(LONG))
    with pytest.raises(CorrelationError, match="message id: it has 3,005 bytes"):
        await tales.handle(Interrupted("t"), message_id=OTHERS["begun"])
    bus = MemoryBus()
    async with Orchestrator([Tale], repository, bus=bus, clock=clock, background=False):
        for given, long in (("t", OTHERS["early"]), (LONG, "m")):
            with pytest.raises(CorrelationError, match="1 to 1,024 bytes"):
                await bus.publish(Began(given), message_id=long)
    assert await stored(repository, Tale, LONG) == before
    assert await tales.find(Tale, "t") is None
    assert (await tales.handle(Began("t"))).kind is OutcomeKind.STARTED
