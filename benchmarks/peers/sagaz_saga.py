"""sagaz: an order is a saga of four actions, stored at its start and at its end only."""

# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import anyio
from sagaz import Saga, SagaConfig, action
from sagaz.core.storage.backends.sqlite import SQLiteSagaStorage

from benchmarks.measuring import Measurement, in_flight
from benchmarks.orders import EVENTS_PER_ORDER, Order, check_completed, orders


class _OrderSaga(Saga):
    saga_name = "order"

    @action("place")
    async def place(self, context: dict[str, Any]) -> dict[str, Any]:
        return {"total": "99.50"}

    @action("reserve", depends_on=["place"])
    async def reserve(self, context: dict[str, Any]) -> dict[str, Any]:
        return {"transaction_id": "transaction"}

    @action("ship", depends_on=["reserve"])
    async def ship(self, context: dict[str, Any]) -> dict[str, Any]:
        return {"reservation_id": "reservation"}

    @action("finish", depends_on=["ship"])
    async def finish(self, context: dict[str, Any]) -> dict[str, Any]:
        return {"tracking_code": "tracking code"}


def on_sqlite(*, number: int, tasks: int) -> Measurement:
    """Time the flow on a file."""
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        metrics = anyio.run(_run, str(Path(folder) / "sagaz.sqlite"), number, tasks)
    return Measurement(metrics, {"SQLite (sagaz)": sqlite3.sqlite_version})


async def _run(path: str, number: int, tasks: int) -> dict[str, float]:
    warm_up = max(number // 10, 1)
    async with SQLiteSagaStorage(path) as storage:
        config = SagaConfig(storage=storage)

        async def run_one(order: Order) -> None:
            given = {"order_id": order.order_id}
            await _OrderSaga(config=config).run(given, saga_id=order.order_id)

        all_orders = orders(number + warm_up)
        timing = await in_flight(tasks, run_one, all_orders, warm_up=warm_up)
        # It only logs what it could not store.
        for order in all_orders:
            stored = await storage.load_saga_state(order.order_id)
            check_completed(order.order_id, None if stored is None else stored["status"])
    return timing.per(number * EVENTS_PER_ORDER)
