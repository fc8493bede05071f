"""A saga that old code has stored goes on with new code."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from sagaflow import (
    Context,
    Instance,
    MemoryBus,
    OperationError,
    Orchestrator,
    OutcomeKind,
    SagaRepository,
    SerializationError,
    Status,
    during,
)
from sagaflow.testing import ManualClock
from tests.evolution.sagas import MINUTE, New, Old, Paid, Placed, Refund, Shipped
from tests.evolution.sagas import Failed as Undo
from tests.semantics.support import stored, stored_bytes

pytestmark = pytest.mark.anyio


async def instance(repository: SagaRepository, correlation_id: str = "o") -> Instance[New]:
    """Return the saga as new code sees it."""
    found = await repository.find(New, correlation_id)
    assert found is not None
    return found


@pytest.fixture
async def old(repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    """What the old code runs with; the saga "o" is stored."""
    orchestrator = Orchestrator([Old], repository, clock=clock)
    await orchestrator.handle(Placed("o", 7), message_id="m-1")
    return orchestrator


@pytest.fixture
def new(repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    """What the new code runs with."""
    return Orchestrator([New], repository, clock=clock, messages=[Refund])


@pytest.fixture
def broken() -> Iterator[None]:
    """A migration that raises."""
    New.fails = True
    yield
    New.fails = False


async def test_find_migrates_in_memory_only(old: Orchestrator, repository: SagaRepository) -> None:
    before = await stored_bytes(repository, Old, "o")
    found = await instance(repository)
    assert (found.saga.total, found.saga.currency) == (Decimal(7), "EUR")
    assert (found.state, found.version) == (New.awaiting_payment, 1)
    assert [timer.name for timer in found.timers] == ["expire"]
    assert await stored_bytes(repository, Old, "o") == before


async def test_next_write_stores_schema_data_and_names(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    outcome = await new.handle(Paid("o"), message_id="m-2")
    assert (outcome.kind, outcome.state) == (OutcomeKind.TRANSITIONED, New.awaiting_shipment)
    document = await stored(repository, New, "o")
    assert document is not None
    assert (document["schema"], document["state"], document["version"]) == (
        3,
        "awaiting_shipment",
        2,
    )
    assert document["data"] == {"total": "7", "currency": "EUR", "seen": None}
    assert document["inbox"] == ["m-1", "m-2"]
    assert (await new.handle(Placed("o", 7), message_id="m-1")).kind is OutcomeKind.DUPLICATE


async def test_renamed_compensation_of_an_old_step_is_undone(
    old: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    await old.handle(Paid("o", "t-1"))
    bus = MemoryBus()
    refunds: list[Refund] = []
    bus.subscribe(Refund, refunds.append)
    async with Orchestrator([New], repository, clock=clock, bus=bus, background=False) as new:
        await new.handle(Undo("o"))
    assert refunds == [Refund("new t-1")]
    assert (await instance(repository)).status is Status.FINISHED


async def test_renamed_timeout_fires(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    clock.advance(MINUTE)
    assert await new.run_due() == 1
    found = await instance(repository)
    assert (found.state, found.saga.seen) == (New.failed, ["expired"])


async def test_queries_see_old_sagas_under_the_new_name(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    await new.handle(Placed("p", 8))
    await old.handle(Placed("q", 9))
    await new.handle(Paid("q"))
    found = [one async for one in repository.find_by_state(New, New.awaiting_payment)]
    assert [one.correlation_id for one in found] == ["o", "p"]
    counted = await repository.count_by_state(New)
    assert counted[New.awaiting_payment] == 2
    assert counted[New.awaiting_shipment] == 1
    assert len(counted) == 4


@pytest.mark.usefixtures("broken")
async def test_failing_migration_reaches_the_caller_and_stores_nothing(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    before = await stored_bytes(repository, Old, "o")
    with pytest.raises(SerializationError, match=r"Order 'o'.*'decimals' from schema 1 to 2"):
        await new.handle(Paid("o"))
    with pytest.raises(SerializationError, match="no such currency"):
        await repository.find(New, "o")
    assert await stored_bytes(repository, Old, "o") == before


@pytest.mark.usefixtures("broken")
async def test_failing_migration_suspends_the_saga_in_the_background(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    await repository.find(Old, "o")
    clock.advance(MINUTE)
    for _ in range(10):
        await new.run_due()
        clock.advance(30 * MINUTE)
    found = await repository.find(Old, "o")
    assert found is not None
    # With its old schema, names and data, or nobody could go on once the migration is mended.
    assert (found.status, found.state) == (Status.SUSPENDED, Old.awaiting_money)
    assert found.suspension is not None
    assert "no such currency" in found.suspension.error
    assert (found.saga.total, [timer.name for timer in found.timers]) == (7, ["give_up"])
    with pytest.raises(SerializationError):
        await new.cancel(New, "o")
    New.fails = False
    await new.retry(New, "o")
    assert (await instance(repository)).state == New.failed


async def test_operator_may_cancel_an_old_saga(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    with pytest.raises(OperationError):
        await new.retry(New, "o")
    await new.cancel(New, "o", state=New.failed)
    document = await stored(repository, New, "o")
    assert document is not None
    assert (document["schema"], document["state"]) == (3, "failed")


async def test_old_saga_goes_on_to_its_end(
    old: Orchestrator, new: Orchestrator, repository: SagaRepository
) -> None:
    await old.handle(Paid("o"))
    assert (await new.handle(Shipped("o"))).state == New.done


async def test_timeout_with_another_delay_still_ends_the_waiting(
    old: Orchestrator, repository: SagaRepository, clock: ManualClock
) -> None:
    class Patient(Old, name="Order", correlate_by="order_id"):
        @during(Old.awaiting_money).after(10 * MINUTE).goto(Old.failed)
        async def give_up(self, ctx: Context) -> None: ...

    clock.advance(MINUTE)
    assert await Orchestrator([Patient], repository, clock=clock).run_due() == 1
    found = await repository.find(Patient, "o")
    assert found is not None
    assert found.state == Patient.failed
