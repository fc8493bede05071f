"""What a log record of sagaflow says beside its message."""

from __future__ import annotations

import ast
import json
import logging
from datetime import timedelta
from pathlib import Path

import pytest

import sagaflow
from sagaflow import MemoryRepository, Orchestrator, RetryPolicy, SagaRepository
from sagaflow.testing import ManualClock
from tests.observing.shop import Order, Paid, Placed, SoldOut, shop
from tests.semantics.support import RecordingBus

pytestmark = pytest.mark.anyio
FIELDS = ("saga", "correlation_id", "event", "message_id", "version")
ROOT = Path(sagaflow.__file__).parent


def told(record: logging.LogRecord) -> tuple[object, ...]:
    """Return the fields of a record, in their order."""
    return tuple(getattr(record, name) for name in FIELDS)


def calls() -> list[tuple[str, ast.Call]]:
    """Return where the package logs."""
    found: list[tuple[str, ast.Call]] = []
    for path in sorted(ROOT.rglob("*.py")):
        if path.relative_to(ROOT).parts[0] in {"demo", "examples"}:
            continue  # programs that use the library
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if (
                isinstance(node, ast.Call)
                and isinstance(called, ast.Attribute)
                and isinstance(called.value, ast.Name)
                and called.value.id == "logger"
                and called.attr in {"debug", "info", "warning", "error", "exception", "critical"}
            ):
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def test_every_record_has_the_fields() -> None:
    found = calls()
    assert len(found) > 12
    assert [
        where for where, call in found if "extra" not in [given.arg for given in call.keywords]
    ] == []


def test_every_logger_is_one_of_the_packages() -> None:
    names = [
        line
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] not in {"demo", "examples"}
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("logger = ")
    ]
    # Parts of one room that a user would not tell apart share a name.
    assert set(names) == {
        "logger = get_logger(__name__)",
        'logger = get_logger("sagaflow.bus")',
        'logger = get_logger("sagaflow.delivery")',
        'logger = get_logger("sagaflow.outbox")',
        'logger = get_logger("sagaflow.worker")',
    }


async def test_event_that_nobody_takes(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    orders = Orchestrator([Order], repository, clock=clock)
    await orders.handle(Paid("o"), message_id="m-1")
    await orders.handle(Placed("o"), message_id="m-2")
    await orders.handle(SoldOut("o"), message_id=3)
    assert [told(record) for record in caplog.records] == [
        ("Order", "o", "Paid", "m-1", None),
        ("Order", "o", "SoldOut", 3, 1),
    ]
    assert {record.name for record in caplog.records} == {"sagaflow.delivery"}


async def test_event_of_no_saga(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    orders = Orchestrator([Order], MemoryRepository(), clock=clock)
    await orders.handle(Placed(None), saga_type=Order)  # type: ignore[arg-type]
    (record,) = caplog.records
    assert told(record) == ("Order", None, "Placed", None, None)


async def test_handler_that_keeps_failing(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    repository, bus = MemoryRepository(clock=clock), shop()
    async with Orchestrator(
        [Order],
        repository,
        clock=clock,
        bus=bus,
        background=False,
        retry=RetryPolicy(max_age=timedelta(minutes=1)),
    ) as orders:
        # Its message is not sent yet, and what is due does not wait for that.
        await Orchestrator([Order], repository, clock=clock).handle(Placed("o"))
        await bus.publish(Paid("o", fails=True), message_id="m-2")
        clock.advance(timedelta(minutes=2))
        await orders.run_due()
    assert [(record.name, told(record)) for record in caplog.records] == [
        ("sagaflow.delivery", ("Order", "o", "Paid", "m-2", 1)),
        ("sagaflow.due", ("Order", "o", "Paid", "m-2", 2)),
    ]


async def test_message_that_is_refused(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bus = RecordingBus(refusal=RuntimeError("full"))
    orders = Orchestrator([Order], MemoryRepository(clock=clock), clock=clock, bus=bus)
    await orders.handle(Placed("o"))
    (record,) = caplog.records
    saga, correlation_id, event, message_id, version = told(record)
    assert (saga, correlation_id, event, version) == ("Order", "o", "Pay", 1)
    assert message_id == bus.attempts[0].message_id
    assert record.name == "sagaflow.outbox"


async def test_records_hold_no_content_of_messages(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="sagaflow")
    async with Orchestrator(
        [Order], MemoryRepository(clock=clock), clock=clock, bus=shop(), background=False
    ) as orders:
        await orders.handle(Placed("o", card="4111-1111"))
        await orders.handle(Placed("o", card="4111-1111"))
        await orders.handle(Paid("unknown"))
    assert caplog.records
    everything = json.dumps([vars(record) for record in caplog.records], default=repr)
    assert "4111-1111" not in everything
