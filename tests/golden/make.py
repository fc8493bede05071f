"""Writes the golden documents of a layout: ``python -m tests.golden.make NUMBER``.

Run once for each layout that is released; what it wrote is then kept as it is.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
from bson.json_util import CANONICAL_JSON_OPTIONS, JSONOptions, dumps

from sagaflow import MemoryBus, MemoryRepository, Orchestrator, RetryPolicy
from sagaflow.testing import ManualClock
from tests.golden.sagas import (
    HALF_HOUR,
    Cancelled,
    Charge,
    Line,
    Paid,
    Placed,
    Refund,
    Released,
    Shipped,
    Unpack,
)

HERE = Path(__file__).parent
OPTIONS: JSONOptions = CANONICAL_JSON_OPTIONS.with_options(uuid_representation=4, tz_aware=True)
ORDER = "o-1"
PAID = Paid(ORDER, UUID(int=7), Decimal("19.80"))
PLACED = Placed(ORDER, [Line("tea"), Line("cup")])


async def documents() -> dict[str, dict[str, Any]]:
    """Return a document for each condition that a saga can be in."""
    made: dict[str, dict[str, Any]] = {}

    async def keep(name: str, repository: MemoryRepository) -> None:
        found = await repository.load_document("Golden", ORDER, message_id=None)
        assert found is not None
        made[name] = found

    for name, events in (
        ("outbox", [PLACED]),
        ("started", [PLACED]),
        ("parked", [PLACED, Shipped(ORDER)]),
        ("embryo", [PAID]),
        ("scheduled", [PLACED, PAID]),
        ("finished", [PLACED, PAID, Shipped(ORDER)]),
        ("compensating", [PLACED, PAID, Cancelled(ORDER)]),
        ("suspended", [PLACED, PAID]),
    ):
        clock = ManualClock()
        repository, bus = MemoryRepository(clock=clock), MemoryBus()
        for command in (Charge, Refund, Unpack):
            bus.subscribe(command, lambda _: None)
        async with Orchestrator(
            [Released],
            repository,
            clock=clock,
            bus=None if name == "outbox" else bus,
            background=False,
            retry=RetryPolicy(max_age=HALF_HOUR / 6),
        ) as orchestrator:
            for number, event in enumerate(events, 1):
                failing = name == "suspended" and event is PAID
                Released.failing = failing or isinstance(event, Cancelled)
                if failing:
                    await bus.publish(event, correlation_id=ORDER, message_id=f"m-{number}")
                    for _ in range(20):
                        clock.advance(HALF_HOUR / 30)
                        await orchestrator.run_due()
                else:
                    await orchestrator.handle(event, message_id=f"m-{number}")
                Released.failing = False
        await keep(name, repository)
    return made


def main(layout: str) -> None:
    """Write the documents of this layout."""
    folder = HERE / layout
    folder.mkdir()
    for name, document in anyio.run(documents).items():
        text = dumps(document, json_options=OPTIONS, indent=1)
        text = text.replace(f"{HERE.parent.parent}/", "")  # in tracebacks
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
