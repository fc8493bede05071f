"""A worker process, as a program: ``python -m benchmarks.buses.worker ROLE PLACE``."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final

import anyio
import anyio.lowlevel

from benchmarks.buses.control import DID, READY, SENT, STORED, Control, instant, say
from benchmarks.buses.messages import Compute, answer_orders, compute, take_orders
from benchmarks.buses.places import Place, bus_at
from benchmarks.orders import OrderSaga, orders
from benchmarks.server import open_repository
from sagaflow import Observer, Orchestrator
from sagaflow.observing import Activity, ActivityKind, Ended, Fact

_DRIVER: Final = "pymongo-async"


class _Finished(Observer):
    """Says when an order has ended."""

    def note(self, fact: Fact) -> None:
        """Say it."""
        if isinstance(fact, Ended):
            say(DID, fact.correlation_id)


class Instants(Observer):
    """Says when the first event of an order was stored, and its command accepted."""

    @contextmanager
    def observe(self, activity: Activity) -> Generator[None]:
        """Say it, when it is over."""
        yield
        if activity.kind is ActivityKind.COMMIT and activity.outcome == "won":
            if activity.version == 1:
                say(STORED, activity.correlation_id, instant())
        elif activity.kind is ActivityKind.PUBLISH and activity.outcome == "accepted":
            say(SENT, activity.correlation_id, instant())


@asynccontextmanager
async def _orders(place: Place, control: Control) -> AsyncGenerator[None, None]:
    """Run the sagas, and whoever answers their commands."""
    async with (
        open_repository(_DRIVER, place.server, place.database, OrderSaga) as repository,
        bus_at(place, "orders") as bus,
        bus_at(place, "participants") as participants,
    ):
        answer_orders(participants)
        async with (
            participants,
            bus,
            Orchestrator([OrderSaga], repository, bus=bus, observers=_Finished()),
        ):
            yield


@asynccontextmanager
async def _computing(place: Place, control: Control) -> AsyncGenerator[None, None]:
    """Handle messages that take a processor some milliseconds each."""
    async with bus_at(place, "participants") as bus:

        async def take(message: Compute) -> None:
            await control.going.wait()
            compute()
            say(DID, message.number)
            await anyio.lowlevel.checkpoint()  # what has come meanwhile is not kept waiting

        bus.subscribe(Compute, take)
        async with bus:
            yield


@asynccontextmanager
async def _sending(place: Place, control: Control) -> AsyncGenerator[None, None]:
    """Send the commands of orders, those that it is told to place and those of others."""
    async with (
        open_repository(_DRIVER, place.server, place.database, OrderSaga) as repository,
        bus_at(place, "orders") as bus,
        bus_at(place, "participants") as participants,
    ):
        take_orders(participants)
        async with (
            participants,
            bus,
            Orchestrator([OrderSaga], repository, bus=bus, observers=Instants()) as orchestrator,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_place, orchestrator, control)
            yield


async def _place(orchestrator: Orchestrator, control: Control) -> None:
    while number := await control.orders_to_place():
        for order in orders(number, prefix="beside"):
            await orchestrator.handle(order.events[0], message_id=order.message_ids[0])


ROLES: Final[Mapping[str, Callable[[Place, Control], AbstractAsyncContextManager[None]]]] = {
    "orders": _orders,
    "computing": _computing,
    "sending": _sending,
}


async def _work(role: str, place: Place) -> None:
    control = Control()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(control.listen)
        async with ROLES[role](place, control):
            say(READY)
            await control.ended.wait()


if __name__ == "__main__":
    anyio.run(_work, sys.argv[1], Place(**json.loads(sys.argv[2])))
