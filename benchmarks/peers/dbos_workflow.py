"""DBOS: an order is a workflow of four steps, each of them stored."""

# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import sqlite3
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import psycopg
from dbos import DBOS

from benchmarks.measuring import Measurement, in_flight
from benchmarks.orders import EVENTS_PER_ORDER, Order, check_completed, orders

_NEEDED = (3, 42)
"""The schema of DBOS uses a function that SQLite has since then."""


@DBOS.step()
async def _place(order_id: str) -> str:
    return order_id


@DBOS.step()
async def _reserve(order_id: str) -> str:
    return f"transaction of {order_id}"


@DBOS.step()
async def _ship(order_id: str) -> str:
    return f"reservation of {order_id}"


@DBOS.step()
async def _finish(order_id: str) -> str:
    return f"tracking code of {order_id}"


@DBOS.workflow()
async def _order(order_id: str) -> str:
    await _place(order_id)
    await _reserve(order_id)
    await _ship(order_id)
    await _finish(order_id)
    return "completed"


def on_sqlite(*, number: int, tasks: int) -> Measurement:
    """Time the flow on a file, with the settings that DBOS chooses."""
    module = _sqlite()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        url = f"sqlite:///{Path(folder) / 'dbos.sqlite'}"
        metrics = _measure(url, {"module": module}, number, tasks)
    return Measurement(metrics, {"SQLite (DBOS)": str(module.sqlite_version)})


def on_postgresql(*, number: int, tasks: int, uri: str) -> Measurement:
    """Time the flow on a PostgreSQL server."""
    metrics = _measure(uri, {}, number, tasks)
    with psycopg.connect(uri) as connection:
        server = connection.info.parameter_status("server_version")
    return Measurement(metrics, {"PostgreSQL (DBOS)": str(server)})


def _measure(url: str, engine: dict[str, Any], number: int, tasks: int) -> dict[str, float]:
    logging.getLogger("dbos").setLevel(logging.ERROR)
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": url,
            "db_engine_kwargs": engine,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        return anyio.run(_run, number, tasks)
    finally:
        DBOS.destroy()


async def _run(number: int, tasks: int) -> dict[str, float]:
    async def run_one(order: Order) -> None:
        check_completed(order.order_id, await _order(order.order_id))

    warm_up = max(number // 10, 1)
    timing = await in_flight(tasks, run_one, orders(number + warm_up), warm_up=warm_up)
    return timing.per(number * EVENTS_PER_ORDER)


def _sqlite() -> ModuleType:
    if sqlite3.sqlite_version_info >= _NEEDED:
        return sqlite3
    import pysqlite3.dbapi2  # noqa: PLC0415 - only there where it is needed

    found: ModuleType = pysqlite3.dbapi2
    return found
