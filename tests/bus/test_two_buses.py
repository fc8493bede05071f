"""A handler of one bus that publishes on another one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field, frozen

from sagaflow import MemoryBus
from sagaflow.bus import BrokerBus, DeadLetter, Delivery, Outgoing, Transport
from sagaflow.bus.transport import Handle
from sagaflow.bus.wire import Binding

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 8, 1, tzinfo=UTC)


@frozen
class Pay:
    order_id: str


@frozen
class Paid:
    order_id: str


@define
class Loop(Transport):
    """A broker within the test: it keeps what is published, and hands out what it is given."""

    published: list[Outgoing] = field(factory=list[Outgoing])
    handle: Handle | None = None
    closes: bool = True

    binding = Binding.PLAIN

    async def subscribe(self, names: Collection[str]) -> None: ...

    async def publish(self, message: Outgoing) -> bool:
        self.published.append(message)
        return True

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        self.handle = handle
        await stopping.wait()

    def dead_letters(self) -> AsyncIterator[DeadLetter]:
        async def none() -> AsyncGenerator[DeadLetter]:
            for letter in list[DeadLetter]():
                yield letter

        return none()

    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        return None

    async def retry_dead_letter(self, letter_id: str) -> bool:
        return False

    async def drop_dead_letter(self, letter_id: str) -> bool:
        return False

    async def ping(self) -> None: ...

    async def aclose(self) -> None:
        if not self.closes:
            await anyio.sleep_forever()


def bus_over(transport: Transport) -> BrokerBus:
    return BrokerBus(
        transport,
        service="payments",
        messages=[Pay, Paid],
        shutdown_timeout=timedelta(milliseconds=50),
    )


async def test_second_delivery_in_memory_is_published_with_the_same_id() -> None:
    loop, memory = Loop(), MemoryBus()
    broker = bus_over(loop)

    @memory.subscribe(Pay)
    async def pay(command: Pay) -> None:
        await broker.publish(Paid(command.order_id))

    for _ in range(2):
        await memory.publish(Pay("o-1"), message_id="m-1")
    first, second = loop.published
    assert first.id == second.id


async def test_second_delivery_of_a_broker_is_published_in_memory_with_the_same_id() -> None:
    loop, memory = Loop(), MemoryBus()
    broker, seen = bus_over(loop), list[object]()
    memory.subscribe(Paid, lambda envelope: seen.append(envelope.id), envelope=True)

    @broker.subscribe(Pay)
    async def pay(command: Pay) -> None:
        await memory.publish(Paid(command.order_id))

    async with broker:
        await broker.publish(Pay("o-1"), message_id="m-1")
        (message,) = loop.published
        while loop.handle is None:
            await anyio.lowlevel.checkpoint()
        for _ in range(2):
            delivery = Delivery(headers=message.headers, body=message.body, since=NOW)
            await loop.handle(delivery)
    assert len(seen) == 2
    assert len(set(seen)) == 1


async def test_transport_that_does_not_close_is_left() -> None:
    with anyio.fail_after(10):
        async with bus_over(Loop(closes=False)):
            pass
