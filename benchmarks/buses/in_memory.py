"""What a message costs on a `MemoryBus`, by public names only: an earlier commit runs it, too."""

from __future__ import annotations

from typing import Any

import anyio

from benchmarks.measuring import Measurement, one_at_a_time
from benchmarks.orders import TOTAL, ProcessPayment
from sagaflow import MemoryBus


def plain(*, number: int) -> Measurement:
    """Publish messages that a plain function takes."""

    def take(command: ProcessPayment) -> None:
        """Do nothing."""

    return anyio.run(_publish, take, number)


def asynchronous(*, number: int) -> Measurement:
    """Publish messages that a coroutine function takes."""

    async def take(command: ProcessPayment) -> None:
        """Do nothing."""

    return anyio.run(_publish, take, number)


async def _publish(take: Any, number: int) -> Measurement:
    bus, warm_up = MemoryBus(), max(number // 10, 1)
    bus.subscribe(ProcessPayment, take)

    async def publish(index: int) -> None:
        await bus.publish(
            ProcessPayment(f"order-{index}", TOTAL),
            correlation_id=f"order-{index}",
            message_id=f"m-{index}",
        )

    timing = await one_at_a_time(publish, range(number + warm_up), warm_up=warm_up)
    found = timing.per(number)
    return Measurement({"message_wall": found["wall"], "message_cpu": found["cpu"]})
