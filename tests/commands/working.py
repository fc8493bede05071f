"""Applications for the tests of `sagaflow run`: an order that is charged, and who charges it.

What a process has begun is written down in the database, by which a test knows of it, and waits for
what the test writes down there.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pymongo
from anyio import to_thread
from attrs import frozen
from pymongo.errors import DuplicateKeyError

from sagaflow import Context, Observer, Saga, Secret, State, during, initially
from sagaflow.observing import Activity, ActivityKind
from sagaflow.worker import Worker


@frozen
class Placed:
    order_id: str
    card: Secret[str] = "4000-1234"


@frozen
class Charge:
    order_id: str


@frozen
class Charged:
    order_id: str
    by: str = ""


class Order(Saga, correlate_by="order_id"):
    charging = State()
    charged = State(final=True)

    by: str = ""

    @initially.on(Placed).goto(charging)
    async def place(self, event: Placed, ctx: Context) -> None:
        ctx.send(Charge(event.order_id))

    @during(charging).on(Charged).goto(charged)
    async def charge(self, event: Charged, ctx: Context) -> None:
        self.by = event.by


MESSAGES = (Placed, Charge, Charged)


def notes() -> Any:
    """Return where processes write down what they have begun."""
    client = pymongo.MongoClient[dict[str, Any]](os.environ["SAGAFLOW_MONGODB_URI"])
    return client[os.environ["SAGAFLOW_DATABASE"]]["notes"]


def is_first(note: str) -> bool:
    """Write something down, and tell whether it was not there yet."""
    try:
        notes().insert_one({"_id": note})
    except DuplicateKeyError:
        return False
    return True


def is_written(note: str) -> bool:
    return notes().find_one({"_id": note}) is not None


def nothing(worker: Worker) -> None:
    pass


def payments(worker: Worker) -> None:
    """A participant, and no saga."""
    worker.messages = MESSAGES

    @worker.bus.subscribe(Charge)
    def pay(command: Charge) -> Charged:
        return Charged(command.order_id, worker.owner)


async def everything(worker: Worker) -> None:
    """The saga and its participant in one process."""
    await anyio.lowlevel.checkpoint()
    everything_of(worker)


def everything_of(worker: Worker) -> None:
    worker.sagas = [Order]

    @worker.bus.subscribe(Charge)
    def pay(command: Charge) -> Charged:
        return Charged(command.order_id, worker.owner)


def hanging(worker: Worker) -> None:
    """Who charges an order hangs the first time, and answers the second time."""
    worker.sagas = [Order]

    @worker.bus.subscribe(Charge)
    async def pay(command: Charge) -> Charged:
        if await to_thread.run_sync(is_first, f"begun {command.order_id}"):
            await anyio.sleep_forever()
        return Charged(command.order_id, worker.owner)


def slow(worker: Worker) -> None:
    """Who charges an order waits until the test says so."""
    worker.messages = MESSAGES

    @worker.bus.subscribe(Charge)
    async def pay(command: Charge) -> None:
        await to_thread.run_sync(is_first, f"begun {command.order_id}")
        while not await to_thread.run_sync(is_written, "go on"):
            await anyio.sleep(0.02)
        await to_thread.run_sync(is_first, f"ended {command.order_id}")


def alone(worker: Worker) -> None:
    """Who charges an order is alone with that, in all processes; the first one is killed there."""
    worker.messages = MESSAGES

    @worker.bus.subscribe(Charge, concurrency=1)
    async def pay(command: Charge) -> None:
        await to_thread.run_sync(charge_alone, command.order_id)


def charge_alone(order_id: str) -> None:
    """Write down if somebody else is there."""
    me = os.getpid()
    if not is_first("inside"):
        notes().insert_one({"note": "overlap", "pid": me})
    if is_first("killed"):
        notes().insert_one({"note": "begun", "pid": me})
        time.sleep(0.2)  # so that somebody could come
        notes().delete_one({"_id": "inside"})
        os.kill(me, signal.SIGKILL)
    time.sleep(0.02)
    notes().insert_one({"note": "ended", "pid": me, "order": order_id})
    notes().delete_one({"_id": "inside"})


class Killing(Observer):
    """Kills this process when it has stored an order, before it has sent anything."""

    @contextmanager
    def observe(self, activity: Activity) -> Generator[None]:
        yield
        if activity.kind is ActivityKind.COMMIT and is_first(f"begun {activity.correlation_id}"):
            os.kill(os.getpid(), signal.SIGKILL)


def killing(worker: Worker) -> None:
    worker.observers.append(Killing())
    everything_of(worker)


class Till:
    """A service."""


def forking(worker: Worker) -> None:
    """Fork a process that has all that the worker has open, and outlives it."""
    everything_of(worker)
    pid = os.fork()
    if not pid:
        time.sleep(600)
        os._exit(0)
    is_first(f"forked {pid}")


@asynccontextmanager
async def entered(worker: Worker) -> AsyncGenerator[None]:
    """A factory with something to open and to close."""
    everything_of(worker)

    def close() -> None:
        is_first("till closed")

    services: Any = worker.services  # its own types are incomplete
    services.register_value(Till, Till(), on_registry_close=close)
    print("opened", flush=True)
    yield
    print("closed", flush=True)


@asynccontextmanager
async def cannot_close(worker: Worker) -> AsyncGenerator[None]:
    """A factory with a mistake in what it does at the end."""
    everything_of(worker)
    yield
    raise ZeroDivisionError("the till is off")


def once(worker: Worker) -> None:
    """What each process can set up once."""
    if not is_first(worker.owner):
        raise ValueError("no till")
    everything_of(worker)


def yields(worker: Worker) -> Iterator[None]:
    yield


def returns(worker: Worker) -> int:
    return 3


def raises(worker: Worker) -> None:
    raise ValueError("no till")


async def late(worker: Worker) -> None:
    everything_of(worker)
    worker.messages = MESSAGES


NUMBER = 7
