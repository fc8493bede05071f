"""Everybody at once: all events are applied, each once, and none is refused for contention."""

from __future__ import annotations

import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from pymongo.database import Database

from examples.orders import (
    CreateShipment,
    InventoryFailed,
    InventoryReserved,
    OrderPlaced,
    OrderSaga,
    OrderShipped,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReserveInventory,
)
from sagaflow import MemoryBus, MemoryRepository, Orchestrator, OutcomeKind, SagaRepository
from sagaflow.mongo import MongoRepository
from tests.reliability.fleet import Fleet
from tests.reliability.shop import Opened, Tally
from tests.reliability.worker import Plan

Document = dict[str, Any]

PROCESSES: Final = 4


def test_events_of_many_tasks_and_processes_for_one_saga_are_all_applied_once(
    fleet: Fleet[Plan], mongodb_uri: str, database: Database[Document], tmp_path: Path
) -> None:
    anyio.run(Orchestrator([Tally], MongoRepository(database)).handle, Opened("storm"))
    log = tmp_path / "storm.log"
    begun = time.monotonic()
    crew = [
        fleet.start(
            Plan(
                job="storm",
                uri=mongodb_uri,
                database=database.name,
                events=tuple(f"{process}-{number}" for number in range(1_000 // PROCESSES)),
                log=str(log),
                runtime=("asyncio", "trio")[process % 2],
            )
        )
        for process in range(PROCESSES)
    ]
    for worker in crew:
        worker.finish()
    seconds = time.monotonic() - begun
    longest = max(float(line.split()[-1]) for line in log.read_text().splitlines())
    print(f"1,000 events in {seconds:.1f} s, the slowest in {longest:.1f} s")
    saga = database["Tally"].find_one({"_id": "storm"})
    assert saga is not None
    assert (saga["data"]["total"], saga["version"]) == (1_000, 1_001)
    assert len(set(saga["inbox"])) == 1_001


@pytest.mark.anyio
async def test_thousands_of_sagas_in_memory_end_as_they_should() -> None:
    repository = MemoryRepository()
    begun = time.monotonic()
    states = await _run_orders(repository, 2_000)
    print(f"2,000 sagas in {time.monotonic() - begun:.1f} s")
    assert states == {"completed": 1_000, "failed": 1_000}


@pytest.mark.soak
@pytest.mark.timeout(1_200)
@pytest.mark.anyio
async def test_ten_thousand_sagas_on_a_server_end_as_they_should(
    anyio_backend: str, mongodb_uri: str, database: Database[Document]
) -> None:
    del anyio_backend
    async with MongoRepository.connect(mongodb_uri, database=database.name) as repository:
        await repository.create_indexes(OrderSaga)
        begun = time.monotonic()
        states = await _run_orders(repository, 10_000)
        print(f"10,000 sagas in {time.monotonic() - begun:.1f} s")
    assert states == {"completed": 5_000, "failed": 5_000}
    assert database["OrderSaga"].count_documents({"status": "finished"}) == 10_000
    assert database["OrderSaga"].count_documents({"wake": {"$exists": True}}) == 0


async def _run_orders(repository: SagaRepository, count: int) -> dict[str, int]:
    """Place so many orders, 100 at a time, and return how many sagas are in which final state."""
    bus, sent = MemoryBus(), Counter[str]()

    @bus.subscribe(ProcessPayment)
    async def pay(command: ProcessPayment) -> None:
        sent["charge"] += 1
        await bus.publish(PaymentProcessed(command.order_id, f"charge {command.order_id}"))

    @bus.subscribe(ReserveInventory)
    async def reserve(command: ReserveInventory) -> None:
        order = command.order_id
        if int(order) % 2:
            await bus.publish(InventoryFailed(order, "out of stock"))
        else:
            await bus.publish(InventoryReserved(order, f"reservation {order}"))

    @bus.subscribe(CreateShipment)
    async def ship(command: CreateShipment) -> None:
        await bus.publish(OrderShipped(command.order_id, "parcel"))

    @bus.subscribe(RefundPayment)
    def refund(command: RefundPayment) -> None:
        assert command.transaction_id == f"charge {command.order_id}"
        sent["refund"] += 1

    async with Orchestrator([OrderSaga], repository, bus=bus) as orchestrator:
        numbers = iter(range(count))

        async def place() -> None:
            for number in numbers:
                event = OrderPlaced(str(number), Decimal(number))
                outcome = await orchestrator.handle(event, message_id=f"placing {number}")
                assert outcome.kind is OutcomeKind.STARTED

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(place)
    assert sent == {"charge": count, "refund": count // 2}
    counted = await repository.count_by_state(OrderSaga)
    return {state.name: number for state, number in counted.items() if number}
