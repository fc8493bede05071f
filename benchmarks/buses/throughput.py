"""How much one worker process does on a bus, and how much two of them do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from attrs import define, frozen

from benchmarks.buses.control import GO, HOLD
from benchmarks.buses.messages import MESSAGES_PER_ORDER, Compute, answer_orders
from benchmarks.buses.places import Place, bus_at, fresh_place
from benchmarks.buses.team import PATIENCE, Team, team_at
from benchmarks.measuring import Measurement, share, timed
from benchmarks.orders import Order, OrderSaga
from benchmarks.orders import orders as made
from benchmarks.server import fresh_database, open_repository
from sagaflow import MemoryBus, Observer, Orchestrator
from sagaflow.bus import BrokerBus
from sagaflow.observing import Ended, Fact

_PUBLISHERS: Final = 20
_BATCH: Final = 20
"""How many orders, or messages, are to be shared by two workers before they are measured."""
_SHARE: Final = 0.25
"""What each worker has to have done of such a batch: then they share the work."""
_MICROSECONDS: Final = 1e6

Publish = Callable[[BrokerBus, str, int], Awaitable[None]]
"""Publishes the beginning of so many pieces of work, whose ids begin with a text."""


@frozen
class _Pace:
    """How fast pieces of work were done, and what each has cost.

    :ivar rate: how many a second.
    :ivar cpu: for how many seconds processors have worked for the workers, for each.
    """

    rate: float
    cpu: float


@define(eq=False)
class _Load:
    """Work for a team.

    :ivar role: what its workers do.
    :ivar publish: publishes work.
    :ivar waits: whether the workers begin only when all of it is published.
    """

    role: str
    publish: Publish
    waits: bool

    async def do(self, team: Team, bus: BrokerBus, prefix: str, number: int) -> _Pace:
        """Have the team do so many pieces, and return how fast that was."""
        if self.waits:
            await team.tell(HOLD)
        cpu, wanted = await team.cpu(), team.did + number
        began = time.perf_counter()
        await self.publish(bus, prefix, number)
        if self.waits:
            began = time.perf_counter()
            await team.tell(GO)
        await team.until(lambda: team.did >= wanted)
        seconds = time.perf_counter() - began
        return _Pace(number / seconds, (await team.cpu() - cpu) / number)

    async def share(self, team: Team, bus: BrokerBus) -> None:
        """Give the team work until each worker does its share.

        :raises TimeoutError: if that does not come about.
        """
        with anyio.fail_after(PATIENCE):
            for batch in range(1_000_000):
                before = [worker.did for worker in team.workers]
                await self.do(team, bus, f"share-{batch}", _BATCH)
                done = [w.did - b for w, b in zip(team.workers, before, strict=True)]
                if min(done) >= _SHARE * _BATCH:
                    return


def orders(*, bus: str, number: int, uri: str, broker: str = "") -> Measurement:
    """Have one worker, and then two, complete orders, whose commands they also answer."""
    load = _Load("orders", _publish_orders, waits=False)
    with fresh_place(bus=bus, broker=broker, uri=uri) as place:
        one, two = anyio.run(_by_one_and_by_two, load, place, number)
    per_message = _MICROSECONDS / MESSAGES_PER_ORDER
    return Measurement(
        {
            "orders_one": one.rate,
            "orders_two": two.rate,
            "message_one": one.cpu * per_message,
            "message_two": two.cpu * per_message,
        }
    )


def computing(*, bus: str, number: int, uri: str = "", broker: str = "") -> Measurement:
    """Have one worker, and then two, handle messages that take a processor some milliseconds."""
    load = _Load("computing", _publish_computations, waits=True)
    with fresh_place(bus=bus, broker=broker, uri=uri) as place:
        one, two = anyio.run(_by_one_and_by_two, load, place, number)
    return Measurement(
        {"handled_one": one.rate, "handled_two": two.rate, "gain": two.rate / one.rate}
    )


def orders_in_memory(*, number: int, uri: str) -> Measurement:
    """Complete orders in this process, over a `MemoryBus`, with the sagas on the same server."""
    with fresh_database(uri) as database:
        return anyio.run(_orders_in_memory, number, uri, database)


async def _by_one_and_by_two(load: _Load, place: Place, number: int) -> tuple[_Pace, _Pace]:
    async with team_at(place) as team, bus_at(place, "shop") as bus:
        await team.start(load.role)
        async with bus:
            await load.do(team, bus, "warm-up", min(_BATCH, number))
            one = await load.do(team, bus, "one", number)
            await team.start(load.role)
            await load.share(team, bus)
            two = await load.do(team, bus, "two", number)
    return one, two


async def _publish_orders(bus: BrokerBus, prefix: str, number: int) -> None:
    async def publish(order: Order) -> None:
        await bus.publish(
            order.events[0], correlation_id=order.order_id, message_id=order.message_ids[0]
        )

    await share(_PUBLISHERS, publish, made(number, prefix=prefix))


async def _publish_computations(bus: BrokerBus, prefix: str, number: int) -> None:
    async def publish(message: Compute) -> None:
        key = f"{prefix}-{message.number}"
        await bus.publish(message, correlation_id=key, message_id=key)

    await share(_PUBLISHERS, publish, [Compute(index) for index in range(number)])


class _Ends(Observer):
    """Counts the orders that have ended."""

    def __init__(self) -> None:
        self.number = 0
        self.told = anyio.Event()

    def note(self, fact: Fact) -> None:
        """Count one."""
        if isinstance(fact, Ended):
            self.number += 1
            self.told.set()

    async def until(self, number: int) -> None:
        """Wait until so many have ended."""
        with anyio.fail_after(PATIENCE):
            while self.number < number:
                self.told = anyio.Event()
                await self.told.wait()


async def _orders_in_memory(number: int, uri: str, database: str) -> Measurement:
    bus, ends, few = MemoryBus(), _Ends(), min(_BATCH, number)
    answer_orders(bus)
    async with (
        open_repository("pymongo-async", uri, database, OrderSaga) as repository,
        Orchestrator([OrderSaga], repository, bus=bus, observers=ends),
    ):

        async def publish(order: Order) -> None:
            await bus.publish(
                order.events[0], correlation_id=order.order_id, message_id=order.message_ids[0]
            )

        await share(_PUBLISHERS, publish, made(few, prefix="warm-up"))
        await ends.until(few)
        placed = made(number)
        with timed() as timing:
            await share(_PUBLISHERS, publish, placed)
            await ends.until(few + number)
    per_message = _MICROSECONDS / (number * MESSAGES_PER_ORDER)
    return Measurement(
        {"orders_one": number / timing.wall, "message_one": timing.cpu * per_message}
    )
