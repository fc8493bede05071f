"""``sagaflow demo --bus``: workers and participants in processes of their own, over a broker."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import IO, Any, Final

import anyio
from anyio import to_thread
from attrs import define, field

from sagaflow._model.errors import RepositoryError, SagaflowError
from sagaflow.abc import SagaRepository
from sagaflow.bus.broker import BrokerBus
from sagaflow.demo.books import Ledger
from sagaflow.demo.brokers import Broker
from sagaflow.demo.crash import Crashes
from sagaflow.demo.example import orders
from sagaflow.demo.plan import Order
from sagaflow.demo.reconcile import StoredOrder, reconcile
from sagaflow.demo.server import Server
from sagaflow.demo.services import messages_of, program_of
from sagaflow.demo.settings import Settings, Watcher
from sagaflow.orchestrator import Orchestrator

PROGRAMS: Final = (
    ("sagas", "orders", "1"),
    ("sagas", "orders", "2"),
    ("payment", "payment", "1"),
    ("inventory", "inventory", "1"),
    ("shipping", "shipping", "1"),
)
"""What runs: a factory in `sagaflow.demo.services`, its service, and the number of the process."""
_PATIENCE: Final = timedelta(seconds=30)
"""How long nothing may happen; a lease, and a process that starts, take a third of that."""
_PAUSE: Final = timedelta(milliseconds=100)

MakeBus = Callable[..., BrokerBus]


async def work_over_broker(
    settings: Settings,
    server: Server,
    broker: Broker,
    repository: SagaRepository,
    missing: Sequence[Order],
    watcher: Watcher,
) -> Crashes:
    """Have the orders worked off by processes; with `Settings.crash`, kill each on the way.

    :raises SagaflowError: if a process ends by itself.
    """
    program = program_of(server.database)
    with crew_of(settings, server, broker, program) as crew:
        customers = Orchestrator(
            [orders.OrderSaga], repository, messages=messages_of(program), background=False
        )
        async with customers:
            demo = Demo(settings, repository, customers, crew, watcher)
            turns = _turns(settings, broker, crew)
            kills = 0
            for turn in range(len(turns) + 1):
                share = -(-len(missing) * (turn + 1) // (len(turns) + 1))
                before = demo.placed
                await demo.place(missing[before:share])
                if turn < len(turns):
                    await demo.until_done(demo.draw.randint(before, max(before, share - 1)))
                    await to_thread.run_sync(turns[turn])
                    kills += 1
                    watcher.killed()
            await demo.settle()
        return Crashes(kills=kills)


def _turns(settings: Settings, broker: Broker, crew: Sequence[Program]) -> list[Callable[[], None]]:
    """Return what is killed, and started again, one after another."""
    if not settings.crash:
        return []
    turns = [program.restart for program in crew]
    if broker.restart is not None:
        turns.append(broker.restart)
    random.Random(settings.seed).shuffle(turns)  # noqa: S311 - to be repeated
    return turns


async def reach(make_bus: Callable[[str], MakeBus], broker: Broker, server: Server) -> None:
    """Check that a broker answers, before anything waits for it.

    :raises SagaflowError: if it does not.
    """
    async with make_bus(broker.url)(service=program_of(server.database), messages=()) as bus:
        await bus.ping()


@define
class Program:
    """A process of the demo: ``sagaflow run`` of a factory. It ends with this process.

    :ivar name: of the process on the bus, the same when it is started again.
    """

    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(repr=False)
    log: IO[str]
    running: subprocess.Popen[str] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it."""
        self.running = subprocess.Popen(  # noqa: S603 - this interpreter, arguments of ours
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            text=True,
            env=self.environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )

    def kill(self) -> None:
        """Kill it."""
        if self.running is not None:
            self.running.kill()
            self.running.communicate()
            self.running = None

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        self.start()

    def check(self) -> None:
        """Check that it runs.

        :raises SagaflowError: if it has ended by itself.
        """
        if self.running is not None and self.running.poll() is not None:
            self.log.seek(0)
            said = self.log.read().strip().rpartition("\n")[2]
            status = self.running.returncode
            raise SagaflowError(f"{self.name} has ended by itself, with status {status}: {said}")


@contextmanager
def crew_of(
    settings: Settings, server: Server, broker: Broker, program: str
) -> Generator[Sequence[Program]]:
    """Start the processes, and kill them at the end: what they had to do is done by then."""
    environment = os.environ | {
        "SAGAFLOW_MONGODB_URI": server.uri,
        "SAGAFLOW_DATABASE": server.database,
        "SAGAFLOW_BUS": broker.url,
    }
    with ExitStack() as stack:
        crew: list[Program] = []
        for factory, service, number in PROGRAMS:
            name = f"{program}-{service}-{number}"
            command = (
                *(sys.executable, "-P", "-W", "ignore", "-m", "sagaflow.demo.ends_with_parent"),
                *("run", f"sagaflow.demo.services:{factory}", "--runtime", settings.runtime),
                *("--service", f"{program}-{service}", "--owner", name),
            )
            log = stack.enter_context(
                tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
            )
            one = Program(name, command, environment, log)
            crew.append(one)
            stack.callback(one.kill)
            one.start()
        yield crew


@define
class Demo:
    """The customers, and what is seen of their orders."""

    settings: Settings
    repository: SagaRepository
    customers: Orchestrator
    crew: Sequence[Program]
    watcher: Watcher
    placed: int = field(default=0, init=False)
    done: int = field(default=0, init=False)
    draw: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.draw = random.Random(self.settings.seed)  # noqa: S311 - to be repeated

    async def place(self, waiting: Sequence[Order]) -> None:
        """Place orders, as many at a time as the settings say."""
        queue = iter(waiting)
        async with anyio.create_task_group() as tasks:
            for _ in range(min(self.settings.concurrency, len(waiting))):
                tasks.start_soon(self._place, queue)
        self.placed += len(waiting)

    async def _place(self, queue: Iterator[Order]) -> None:
        for order in queue:
            event, patience = orders.OrderPlaced(order.order_id, order.total), _Watch()
            while True:
                message_id = f"{order.order_id}:placed"  # also if it is placed once more
                try:
                    await self.customers.handle(event, message_id=message_id, wait=False)
                except RepositoryError:  # it was killed, and is back soon
                    if patience.is_over(None):
                        raise
                    await anyio.sleep(_PAUSE.total_seconds())
                else:
                    break

    async def until_done(self, enough: int) -> None:
        """Wait until so many orders have ended.

        :raises SagaflowError: if a process has ended by itself, or nothing happens any more.
        """
        watch = _Watch()
        while await self._look() < enough:
            if watch.is_over(self.done):
                raise SagaflowError(f"{self.done:,} of {self.placed:,} orders, and nothing happens")
            await anyio.sleep(_PAUSE.total_seconds())

    async def settle(self) -> None:
        """Wait until all adds up, or nothing happens any more: a participant may be the last."""
        watch, planned = _Watch(), [order.order_id for order in self.settings.planned]
        while not watch.is_over(seen := await self._look()):
            if seen >= len(planned) and await self._adds_up(planned):
                return
            await anyio.sleep(_PAUSE.total_seconds())

    async def _adds_up(self, planned: Sequence[str]) -> bool:
        try:
            books = await Ledger(self.repository).read()
            stored = await read_orders(self.repository)
        except RepositoryError:  # it was killed, and is back soon
            return False
        return all(equation.holds for equation in reconcile(books, stored, planned))

    async def _look(self) -> int:
        """Return how many orders have ended."""
        for program in self.crew:
            program.check()
        try:
            counted = await self.repository.count_by_state(orders.OrderSaga)
        except RepositoryError:  # it was killed, and is back soon
            return self.done
        found = sum(number for state, number in counted.items() if state.final)
        while self.done < found:
            self.done += 1
            self.watcher.order_done()
        return self.done


@define
class _Watch:
    """Notes when anything has happened."""

    _seen: Any = None
    _since: float = field(factory=anyio.current_time)

    def is_over(self, seen: Any) -> bool:
        """Tell whether what is seen has not changed for too long."""
        now = anyio.current_time()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since > _PATIENCE.total_seconds()


async def read_orders(repository: SagaRepository) -> list[StoredOrder]:
    """Return what is stored of all orders."""
    return [
        StoredOrder.of(instance)
        for state in orders.OrderSaga.table.states
        async for instance in repository.find_by_state(orders.OrderSaga, state)
    ]
