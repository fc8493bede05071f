"""Old code leaves alone what newer code has stored, whichever of them comes first."""

from __future__ import annotations

import logging

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    MemoryBus,
    MemoryRepository,
    NewerSchemaError,
    Orchestrator,
    SagaRepository,
)
from sagaflow._model.record import Lease
from sagaflow.testing import ManualClock
from tests.evolution.sagas import MINUTE, NAME, New, Old, Paid, Placed, Shipped
from tests.semantics.support import PausesAfterRead, stored, stored_bytes

pytestmark = pytest.mark.anyio


@pytest.fixture
def old(repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    """What the old code runs with."""
    return Orchestrator([Old], repository, clock=clock)


@pytest.fixture
def new(repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    """What the new code runs with."""
    return Orchestrator([New], repository, clock=clock)


async def test_event_is_refused_and_nothing_is_stored(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    await new.handle(Placed("o", 7))
    before = await stored_bytes(repository, New, "o")
    with pytest.raises(NewerSchemaError, match="deliver the event again later") as caught:
        await old.handle(Paid("o"))
    assert (caught.value.stored, caught.value.known) == (3, 1)
    with pytest.raises(NewerSchemaError):
        await repository.find(Old, "o")
    with pytest.raises(NewerSchemaError):
        await old.cancel(Old, "o")
    assert await stored_bytes(repository, New, "o") == before
    assert (await new.handle(Paid("o"))).state == New.awaiting_shipment


async def test_upgrade_between_read_and_write_of_the_old_code_wins(
    new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    await Orchestrator([Old], repository, clock=clock).handle(Placed("o", 7))
    paused = PausesAfterRead(repository)
    old = Orchestrator([Old], paused, clock=clock)

    async def pay() -> None:
        with pytest.raises(NewerSchemaError):
            await old.handle(Paid("o"), message_id="old")

    before = b""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pay)
        await paused.has_read.wait()
        await new.handle(Paid("o"), message_id="new")
        before = await stored_bytes(repository, New, "o")
        paused.go_on.set()
    assert await stored_bytes(repository, New, "o") == before
    await new.handle(Shipped("o"))


async def test_due_work_is_left_to_the_newer_code(
    old: Orchestrator,
    new: Orchestrator,
    repository: SagaRepository,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await new.handle(Placed("o", 7))
    await new.handle(Placed("p", 7))
    await old.handle(Placed("q", 7))
    clock.advance(MINUTE)
    before = await stored_bytes(repository, New, "o")
    assert await old.run_due() == 1
    await old.run_due()
    assert await stored_bytes(repository, New, "o") == before
    assert caplog.text.count("is left to processes that run the newer code") == 1
    assert await new.run_due() == 2


async def test_due_and_claim_tell_schemas_apart(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    await new.handle(Placed("o", 7))
    await old.handle(Placed("q", 7))
    clock.advance(MINUTE)
    now, lease = clock.now(), Lease(owner="me", until=clock.now() + MINUTE)
    due = repository.due("Order", now, unclaimed=True, schema=2)
    assert [found async for found in due] == ["q"]
    assert not await repository.claim("Order", "o", lease, now, schema=2)
    document = await stored(repository, New, "o")
    assert document is not None
    assert "lease" not in document
    assert await repository.claim("Order", "o", lease, now, schema=3)


async def test_query_yields_what_it_can_read_and_then_says_what_it_could_not(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    await new.handle(Placed("o", 7))
    clock.advance(MINUTE / 2)
    await old.handle(Placed("q", 7))
    clock.advance(MINUTE)
    found: list[object] = []
    with pytest.raises(NewerSchemaError, match="'o'"):
        async for one in repository.find_stale(Old, MINUTE / 4):
            found.append(one.correlation_id)  # noqa: PERF401 - it raises at the end
    assert found == ["q"]


async def test_bus_is_told_so_that_it_delivers_again(
    anyio_backend: str, clock: ManualClock
) -> None:
    repository, bus = MemoryRepository(clock=clock), MemoryBus()
    await Orchestrator([New], repository, clock=clock).handle(Placed("o", 7))
    async with Orchestrator([Old], repository, clock=clock, bus=bus, background=False):
        with pytest.raises(NewerSchemaError):
            await bus.publish(Paid("o"))


@frozen
class Charge:
    order_id: str


class Charging(Old, name=NAME, correlate_by="order_id"):
    """The old code, with a command."""

    async def place(self, event: Placed, ctx: Context) -> None:
        ctx.send(Charge(event.order_id))


async def test_messages_that_were_sent_before_the_upgrade_are_not_sent_again(
    new: Orchestrator,
    repository: SagaRepository,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="sagaflow")
    bus, charged = MemoryBus(), list[Charge]()

    async def charge(command: Charge) -> None:
        charged.append(command)
        await new.handle(Paid(command.order_id))  # upgrades the saga

    bus.subscribe(Charge, charge)
    async with Orchestrator([Charging], repository, clock=clock, bus=bus, background=False) as old:
        await old.handle(Placed("o", 7))
    assert charged == [Charge("o")]
    document = await stored(repository, New, "o")
    assert document is not None
    assert (document["schema"], document["version"], document["outbox"]) == (3, 2, [])
    assert "will be sent again" not in caplog.text
    assert [one.levelname for one in caplog.records if one.levelno > logging.INFO] == ["WARNING"]
    assert "is left to processes that run the newer code" in caplog.text
