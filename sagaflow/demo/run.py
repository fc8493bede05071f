"""The run itself: place the orders, wait until nothing is left to do, read what is stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.util import find_spec
from time import monotonic
from typing import TypeVar

import anyio
from attrs import frozen

from sagaflow._concurrency.groups import cause_of
from sagaflow._model.errors import SagaflowError
from sagaflow.abc import SagaRepository
from sagaflow.demo.books import Books, Ledger
from sagaflow.demo.brokers import MEMORY, MONGODB, Broker, brokering
from sagaflow.demo.crash import Crashes, work_and_crash
from sagaflow.demo.example import orders
from sagaflow.demo.over_broker import MakeBus, reach, read_orders, work_over_broker
from sagaflow.demo.plan import Order
from sagaflow.demo.reconcile import Equation, reconcile
from sagaflow.demo.record import begin, resume
from sagaflow.demo.server import Server, serving
from sagaflow.demo.settings import Settings, Watcher
from sagaflow.demo.shop import Shop
from sagaflow.memory import MemoryRepository
from sagaflow.mongo import MongoRepository

T = TypeVar("T")


@frozen(kw_only=True)
class Result:
    """The result of a run of the demo.

    :ivar settings: what the demo was asked to do; for a continued demo, with the orders of its
        beginning.
    :ivar server: the server that it ran against.
    :ivar placed: how many orders were placed in this run.
    :ivar elapsed: the time from the first order until nothing was left to do.
    :ivar states: how many sagas are in each state, from the database.
    """

    settings: Settings
    server: Server
    placed: int
    elapsed: timedelta
    crashes: Crashes
    states: Mapping[str, int]
    books: Books
    equations: tuple[Equation, ...]

    @property
    def reconciles(self) -> bool:
        """Whether everything adds up."""
        return all(equation.holds for equation in self.equations)


@frozen(kw_only=True)
class _Done:
    placed: int
    seconds: float
    crashes: Crashes


def run(
    settings: Settings, watcher: Watcher, make_bus: Callable[[str], MakeBus] | None = None
) -> Result:
    """Run the demo; return what came of it.

    :param make_bus: tells how a bus is made at a URL, where `Settings.bus` is a broker.
    :raises SagaflowError: if it cannot be run as asked.
    :raises KeyboardInterrupt: if somebody interrupts it; its server and processes are stopped then.
    """
    if find_spec(settings.runtime) is None:
        raise SagaflowError(
            f"{settings.runtime} is not installed: pip install 'sagaflow[{settings.runtime}]', "
            "or choose --runtime asyncio"
        )

    async def connect_and_work() -> Result:
        async with _connected(server) as repository:
            return await work_here(settings, server, repository, watcher)

    async def connect_and_work_over_broker() -> Result:
        async with _connected(server) as repository:
            return await _work_over_broker(settings, server, broker, repository, watcher, make_bus)

    with serving(settings.mongodb, settings.database) as server:
        if settings.bus != MEMORY:
            with brokering(settings.bus, server) as broker:
                return _run(settings, connect_and_work_over_broker)
        if settings.crash:
            return _work_in_processes(settings, server, watcher)
        return _run(settings, connect_and_work)


async def work_here(
    settings: Settings, server: Server, repository: SagaRepository, watcher: Watcher
) -> Result:
    """Do the work in this process, with sagas in *repository*, and reconcile."""
    settings, missing = await _begin(settings, server, repository, watcher)
    # Books in memory are quicker, and will do for a server that is gone at the end.
    ledger = Ledger(repository if server.kept else MemoryRepository())
    began = monotonic()
    async with Shop.open(repository, ledger, settings.planned) as shop:
        leftovers = await shop.catch_up() if settings.resume else 0
        await shop.place(missing, settings.concurrency, lambda _: watcher.order_done())
        await shop.settle()
    done = _Done(
        placed=len(missing), seconds=monotonic() - began, crashes=Crashes(leftovers=leftovers)
    )
    return await _conclude(settings, server, repository, ledger, done)


def _work_in_processes(settings: Settings, server: Server, watcher: Watcher) -> Result:
    """Have the work done by processes that are killed, and reconcile."""

    async def before() -> tuple[Settings, Sequence[Order]]:
        async with _connected(server) as repository:
            return await _begin(settings, server, repository, watcher)

    async def after() -> Result:
        async with _connected(server) as repository:
            return await _conclude(found, server, repository, Ledger(repository), done)

    found, missing = _run(settings, before)
    began = monotonic()
    crashes = work_and_crash(found, server, [order.order_id for order in missing], watcher)
    done = _Done(placed=len(missing), seconds=monotonic() - began, crashes=crashes)
    return _run(settings, after)


async def _work_over_broker(
    settings: Settings,
    server: Server,
    broker: Broker,
    repository: SagaRepository,
    watcher: Watcher,
    make_bus: Callable[[str], MakeBus] | None,
) -> Result:
    """Have the work done by processes that share a broker, and reconcile."""
    if make_bus is not None and broker.url != MONGODB:
        await reach(make_bus, broker, server)
    settings, missing = await _begin(settings, server, repository, watcher)
    watcher.carried_by(broker)
    began = monotonic()
    crashes = await work_over_broker(settings, server, broker, repository, missing, watcher)
    done = _Done(placed=len(missing), seconds=monotonic() - began, crashes=crashes)
    return await _conclude(settings, server, repository, Ledger(repository), done)


async def _begin(
    settings: Settings, server: Server, repository: SagaRepository, watcher: Watcher
) -> tuple[Settings, Sequence[Order]]:
    """Return what is to be done, and the orders that have not been placed yet."""
    beginning = resume if settings.resume else begin
    settings = await beginning(settings, repository, server.database)
    await repository.create_indexes(orders.OrderSaga)
    known = {order.order_id for order in await read_orders(repository)}
    missing = [order for order in settings.planned if order.order_id not in known]
    watcher.begun(settings, server, len(known))
    return settings, missing


async def _conclude(
    settings: Settings, server: Server, repository: SagaRepository, ledger: Ledger, done: _Done
) -> Result:
    """Read what is stored, and reconcile."""
    counted = await repository.count_by_state(orders.OrderSaga)
    books = await ledger.read()
    planned = [order.order_id for order in settings.planned]
    return Result(
        settings=settings,
        server=server,
        placed=done.placed,
        elapsed=timedelta(seconds=done.seconds),
        crashes=done.crashes,
        states={state.name: number for state, number in counted.items()},
        books=books,
        equations=reconcile(books, await read_orders(repository), planned),
    )


@asynccontextmanager
async def _connected(server: Server) -> AsyncGenerator[SagaRepository]:
    async with MongoRepository.connect(
        server.uri, database=server.database, **server.options
    ) as repository:
        yield repository


def _run(settings: Settings, work: Callable[[], Awaitable[T]]) -> T:
    """Run *work* on the runtime that was asked for, and raise one error, not a group."""
    try:
        return anyio.run(work, backend=settings.runtime)
    except BaseExceptionGroup as group:
        raise cause_of(group) from None
