"""A world of several processes, a store and a bus in which everything goes wrong, by a seed.

The orchestrators, their workers, relays and handlers are the real ones. Simulated are only the
machines: processes that are killed, a store whose answers and requests get lost or late, a bus that
refuses, repeats and reorders, participants who answer, and time.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any, Final, TypeVar

import trio
from attrs import define, field, frozen
from svcs import Registry

from sagaflow import (
    BusError,
    Clock,
    Envelope,
    Limits,
    MemoryRepository,
    Orchestrator,
    Outcome,
    RetryPolicy,
    Saga,
    SagaRepository,
    ServerUnavailableError,
    UnknownOutcomeError,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange, decode_record
from sagaflow._codec.elements import Document
from sagaflow._definition.saga import definition_of
from sagaflow._engine.work import Machine, earliest
from sagaflow._model.clock import to_milliseconds
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import Lease
from tests.simulation.trip import (
    BookFlight,
    BookHotel,
    Chaos,
    Confirm,
    Confirmed,
    FlightBooked,
    HotelBooked,
    HotelFull,
    HotelOffered,
    TripCancelled,
    TripRequested,
    TripSaga,
)

MACHINE: Final = Machine(
    TripSaga.table,
    definition_of(TripSaga).options,
    {event.__name__: event for event in TripSaga.table.events}.get,
)
ResultT = TypeVar("ResultT")

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
SAGA: Final = TripSaga.table.saga
TROUBLE: Final = 40.0
"""For how many seconds things go wrong."""
PATIENCE: Final = 2000.0
"""By when everything must have come to rest."""


_TELLING: Final = ("_id", "status", "state", "version", "wake", "sending", "outbox", "parked")


class HandlerError(Exception):
    """What a handler of the simulation raises."""


class UnfinishedError(AssertionError):
    """The world does not come to rest."""


@frozen
class VirtualClock:
    """Trio's clock as the library sees it."""

    def now(self) -> datetime:
        """Return the virtual instant."""
        return to_milliseconds(START + timedelta(seconds=trio.current_time()))


class Watched(MemoryRepository):
    """Notes each saga that is stored with work that no sweep would find in time.

    :ivar forgotten: which, with the work.
    """

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.forgotten: list[str] = []

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Update, and look."""
        done = await super().update_document(saga, change)
        self._look(saga, change.correlation_id)
        return done

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Bookkeep, and look."""
        done = await super().bookkeep(saga, note)
        self._look(saga, note.correlation_id)
        return done

    def _look(self, saga: str, correlation_id: SagaId) -> None:
        document = self._get(saga, correlation_id)
        if document is None:
            return
        record = decode_record(document)
        due = earliest(record, MACHINE)
        if due is not None and (record.wake is None or record.wake > due):
            self.forgotten.append(
                f"{correlation_id} has work at {due} and wakes at {record.wake}: {document}"
            )


@define(eq=False)
class Process:
    """A process that may die at any moment; from then on nothing it does has any effect."""

    name: str
    alive: bool = True
    handler: Callable[[Envelope[object]], Awaitable[None]] | None = None
    orchestrator: Orchestrator | None = None
    scopes: set[trio.CancelScope] = field(factory=set[trio.CancelScope])

    def die(self) -> None:
        """Stop at once, without any farewell."""
        self.alive = False
        self.handler = None
        for scope in self.scopes:
            scope.cancel()


@frozen
class Delivered:
    """What became of one delivery of an event.

    :ivar since: the version of the saga that was stored when it was offered.
    """

    message_id: str
    outcome: Outcome
    since: int


@define(eq=False)
class World:
    """All there is, and what has happened: what the checks look at.

    :ivar offered: when each event was offered to a process for the first time.
    """

    seed: int
    random: Random = field(init=False)
    clock: VirtualClock = field(factory=VirtualClock)
    memory: Watched = field(init=False)
    nursery: trio.Nursery = field(init=False)
    processes: list[Process] = field(factory=list[Process])
    trouble: bool = True
    outage_until: float = 0
    under_way: int = 0
    snapshots: dict[str, list[Document]] = field(factory=dict[str, list[Document]])
    accepted_by_bus: list[tuple[str, object]] = field(factory=list[tuple[str, object]])
    offered: dict[str, datetime] = field(factory=dict[str, datetime])
    outcomes: list[Delivered] = field(factory=list[Delivered])
    replies: dict[str, object] = field(factory=dict[str, object])
    final: dict[str, Document] = field(factory=dict[str, Document])
    trips: list[str] = field(factory=list[str])
    trace: list[str] = field(factory=list[str])
    surprises: list[str] = field(factory=list[str])
    skipped: int = 0

    def __attrs_post_init__(self) -> None:
        self.random = Random(f"{self.seed} world")
        self.memory = Watched(clock=self.clock)
        self.patience = self.random.choice([timedelta(seconds=20), timedelta(hours=1)])
        self.fault_rate = self.random.choice([0.0, 0.03, 0.1])
        self.refusal_rate = self.random.choice([0.0, 0.1, 0.4])
        self.handler_fault_rate = self.random.choice([0.0, 0.1, 0.5])
        self.mean_life = self.random.choice([3.0, 10.0, 1e9])
        self.lease = timedelta(seconds=self.random.choice([1, 3, 10]))
        self.longest_pause = self.random.choice([0.001, 0.05, 0.5])
        self.hot_sagas = self.random.choice([0, 1, 5_000, 5_000])

    patience: timedelta = field(init=False)
    fault_rate: float = field(init=False)
    refusal_rate: float = field(init=False)
    handler_fault_rate: float = field(init=False)
    mean_life: float = field(init=False)
    lease: timedelta = field(init=False)
    longest_pause: float = field(init=False)
    hot_sagas: int = field(init=False)

    # What happens

    async def run(self) -> None:
        """Live through the trouble, and then until everything is at rest."""
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            for slot in range(self.random.choice([1, 2, 3])):
                nursery.start_soon(self._keep_running, f"p{slot}")
            nursery.start_soon(self._have_outages)
            self._have_clients()
            await trio.sleep(TROUBLE)
            self.trouble = False
            self.log("the trouble is over")
            await trio.sleep(5)  # until every process has been started again
            with trio.move_on_after(PATIENCE):
                while not await self._rests():
                    await trio.sleep(5)
                nursery.cancel_scope.cancel()
                return
            stuck = [
                {name: document.get(name) for name in _TELLING}
                async for document in self.memory.scan_documents(SAGA)
                if document["status"] != "finished" or "wake" in document
            ]
            nursery.cancel_scope.cancel()
        if stuck or self.under_way:
            raise UnfinishedError(f"{self.under_way} deliveries are under way; {stuck}")

    def log(self, what: str) -> None:
        """Note what happens, for comparing runs."""
        self.trace.append(f"{trio.current_time():.6f} {what}")

    def fingerprint(self) -> str:
        """Return what tells this run from any other."""
        return sha256("\n".join(self.trace).encode()).hexdigest()

    async def pause(self, longest: float | None = None) -> None:
        """Take a while: mostly a moment, sometimes long."""
        chance = self.random.random()
        bound = longest or (self.longest_pause * (20 if chance > 0.98 else 1))
        await trio.sleep(self.random.random() * bound)

    def chance(self, rate: float) -> bool:
        """Tell whether something goes wrong now."""
        return self.trouble and self.random.random() < rate

    async def within(self, handler: str) -> None:
        """Take a while in a handler, and perhaps raise."""
        await self.pause()
        if self.chance(self.handler_fault_rate):
            raise HandlerError(handler)

    async def _keep_running(self, slot: str) -> None:
        """Run one process after another, each until it dies."""
        generation = 0
        while True:
            process = Process(f"{slot}.{generation}")
            self.processes = [p for p in self.processes if p.alive] + [process]
            life = self.random.expovariate(1 / self.mean_life) if self.trouble else 1e9
            life = min(life, TROUBLE + self.random.random() - trio.current_time())
            gracefully = self.random.random() < 0.3
            stop = trio.Event()
            self.nursery.start_soon(self._live, process, stop)
            if trio.current_time() + life > TROUBLE and not self.trouble:
                return
            await trio.sleep(max(life, 0.001))
            self.log(f"{process.name} {'stops' if gracefully else 'dies'}")
            if gracefully:
                stop.set()
            else:
                process.die()
            await trio.sleep(self.random.random() * 3)
            generation += 1

    async def _live(self, process: Process, stop: trio.Event) -> None:
        registry: Any = Registry()
        registry.register_value(Chaos, self)
        orchestrator = Orchestrator(
            [TripSaga],
            Store(self, process),
            bus=Port(self, process),
            services=registry,
            clock=self.clock,
            retry=RetryPolicy(
                initial_delay=timedelta(milliseconds=100),
                max_delay=timedelta(seconds=5),
                max_age=self.patience,
            ),
            limits=Limits(max_outbox=100),  # what loops comes to an end
            lease_duration=self.lease,
            shutdown_timeout=timedelta(seconds=1),
            hot_sagas=self.hot_sagas,
        )
        with trio.CancelScope() as scope:
            process.scopes.add(scope)
            async with orchestrator:
                process.orchestrator = orchestrator
                await stop.wait()
                process.handler = None
        process.alive = False

    async def _have_outages(self) -> None:
        """Have the store be away now and then."""
        while self.trouble and self.fault_rate:
            await self.pause(30)
            if self.trouble:
                self.outage_until = trio.current_time() + self.random.random() * 5
                self.log("the store goes away")

    def _have_clients(self) -> None:
        for number in range(self.random.choice([1, 2, 3])):
            trip = f"t{number}"
            self.trips.append(trip)
            self._post_soon(f"{trip}-request", TripRequested(trip), trip, 10)
            if self.random.random() < 0.7:
                self._post_soon(f"{trip}-offer", HotelOffered(trip), trip, 15)
            if self.random.random() < 0.3:
                self._post_soon(f"{trip}-cancel", TripCancelled(trip), trip, 25)

    def _post_soon(self, message_id: str, event: object, trip: str, within: float) -> None:
        """Have the bus deliver an event some time, until somebody has taken it, or more often."""
        copies = self.random.choice([1, 1, 2, 3]) if self.trouble else 1
        for _ in range(copies):
            self.under_way += 1
            self.nursery.start_soon(self._deliver, message_id, event, trip, within)

    async def _deliver(self, message_id: str, event: object, trip: str, within: float) -> None:
        await self.pause(within)
        while not await self._deliver_once(message_id, event, trip):
            await self.pause(2)
        self.under_way -= 1

    async def _deliver_once(self, message_id: str, event: object, trip: str) -> bool:
        """Offer an event to one process, and tell whether it took it."""
        running = [p for p in self.processes if p.alive and p.handler is not None]
        if not running:
            return False
        process = self.random.choice(running)
        assert process.handler is not None
        outcome: Outcome | None = None
        stored = await self.memory.load_document(SAGA, trip, message_id=None)
        since = 0 if stored is None or not stored["state"] else stored["version"]
        with trio.CancelScope() as scope:
            process.scopes.add(scope)
            self.offered.setdefault(message_id, self.clock.now())
            try:
                if self.random.random() < 0.5:
                    assert process.orchestrator is not None
                    outcome = await process.orchestrator.handle(event, message_id=message_id)
                else:
                    await process.handler(Envelope(body=event, id=message_id, correlation_id=trip))
            except Exception as exc:  # noqa: BLE001
                self.log(f"{process.name} refuses {message_id}: {type(exc).__name__}")
                return False
            finally:
                process.scopes.discard(scope)
            if outcome is not None:
                # Known to the process, which is the same as known to us if it did not die since.
                self.outcomes.append(Delivered(message_id, outcome, since))
                self.log(f"{process.name} takes {message_id}: {outcome.kind.value}")
            return process.alive
        return False

    def accept(self, message_id: str, body: object) -> None:
        """Take a message over from an outbox, and have it carried out."""
        self.log(f"the bus accepts {message_id} {type(body).__name__}")
        self.accepted_by_bus.append((message_id, body))
        trip: Any = body
        if message_id not in self.replies:
            self.replies[message_id] = self._reply(body)
        reply = self.replies[message_id]
        if reply is not None:
            self._post_soon(f"{message_id}-reply", reply, trip.trip, 3)

    def _reply(self, command: object) -> object:
        """Decide, once for each message, what its receiver answers."""
        chance = self.random.random()
        match command:
            case BookFlight(trip):
                return FlightBooked(trip) if chance < 0.9 else None
            case BookHotel(trip):
                return (
                    HotelBooked(trip) if chance < 0.6 else HotelFull(trip) if chance < 0.9 else None
                )
            case Confirm(trip):
                return Confirmed(trip) if chance < 0.7 else None
            case _:
                return None

    async def _rests(self) -> bool:
        """Tell whether nothing is to come; decide, as an operator, on what is suspended."""
        if self.under_way:
            return False
        at_rest = True
        running = [p for p in self.processes if p.alive and p.handler is not None]
        async for document in self.memory.scan_documents(SAGA):
            self.final[document["_id"]] = document
            if document["status"] == "suspended" and running:
                await self._operate(running[0], document["_id"])
            if document["status"] != "finished" or "wake" in document:
                at_rest = False
        return at_rest and len(self.final) == len(self.trips)

    async def _operate(self, process: Process, trip: str) -> None:
        assert process.orchestrator is not None
        if self.random.random() < 0.7:
            self.log(f"the operator retries {trip}")
            await process.orchestrator.retry(TripSaga, trip)
        else:
            self.log(f"the operator skips {trip}")
            self.skipped += 1
            await process.orchestrator.skip(TripSaga, trip)


@define(eq=False)
class Port:
    """The bus as one process sees it."""

    world: World
    process: Process

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool = False
    ) -> None:
        """Deliver events to this process from now on."""
        del message_type, envelope
        if self.process.alive:
            self.process.handler = handler

    def unsubscribe(self, handler: Callable[..., Any], /) -> None:
        """Deliver nothing more."""
        del handler
        self.process.handler = None

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Accept a message, or not, or accept it and have the answer lost."""
        del correlation_id, headers
        await self.world.pause()
        if not self.process.alive or self.world.chance(self.world.refusal_rate):
            raise BusError("refused")
        self.world.accept(str(message_id), message)
        if self.world.chance(self.world.fault_rate):
            raise BusError("accepted, and the answer was lost")
        await self.world.pause()


class Store(SagaRepository):
    """The store as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(clock=world.clock)
        self._world = world
        self._process = process

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        """Read, if the store answers."""
        return await self._read(
            lambda: self._world.memory.load_document(saga, correlation_id, message_id=message_id)
        )

    async def insert_document(self, saga: str, document: Document) -> bool:
        """Insert, if the store is reached."""
        kept = deepcopy(document)
        return await self._write(
            "insert",
            lambda: self._changed(
                self._world.memory.insert_document(saga, kept), saga, kept["_id"]
            ),
        )

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        """Update, if the store is reached."""
        kept = deepcopy(change)
        return await self._write(
            "update",
            lambda: self._changed(
                self._world.memory.update_document(saga, kept), saga, kept.correlation_id
            ),
        )

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        """Bookkeep, if the store is reached."""
        return await self._write("bookkeep", lambda: self._world.memory.bookkeep(saga, note))

    async def claim(
        self,
        saga: str,
        correlation_id: SagaId,
        lease: Lease,
        now: datetime,
        *,
        schema: int | None = None,
    ) -> bool:
        """Claim, if the store is reached."""
        return await self._write(
            "claim",
            lambda: self._world.memory.claim(saga, correlation_id, lease, now, schema=schema),
        )

    async def due(
        self,
        saga: str,
        now: datetime,
        *,
        unclaimed: bool,
        schema: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SagaId]:
        """Tell what is due, if the store answers."""

        async def read() -> list[SagaId]:
            due = self._world.memory.due(saga, now, unclaimed=unclaimed, schema=schema, limit=limit)
            return [correlation_id async for correlation_id in due]

        for correlation_id in await self._read(read):
            yield correlation_id

    def scan_documents(
        self,
        saga: str,
        *,
        state: str | Collection[str] | None = None,
        unchanged_since: datetime | None = None,
    ) -> AsyncIterator[Document]:
        """Not part of what is simulated."""
        raise NotImplementedError

    async def count_states(self, saga: str) -> dict[str, int]:
        """Not part of what is simulated."""
        raise NotImplementedError

    async def delete_document(self, saga: str, correlation_id: SagaId) -> bool:
        """Delete, if the store is reached."""
        return await self._write(
            "delete", lambda: self._world.memory.delete_document(saga, correlation_id)
        )

    async def create_indexes(self, saga_type: type[Saga]) -> None:
        """Not part of what is simulated."""
        raise NotImplementedError

    async def _changed(self, write: Awaitable[bool], saga: str, correlation_id: SagaId) -> bool:
        """Make a write, and keep a copy of what it made."""
        done = await write
        if done:
            document = await self._world.memory.load_document(saga, correlation_id, message_id=None)
            assert document is not None
            self._world.snapshots.setdefault(str(correlation_id), []).append(document)
        return done

    async def _read(self, read: Callable[[], Awaitable[ResultT]]) -> ResultT:
        await self._reach()
        if self._world.chance(self._world.fault_rate):
            raise ServerUnavailableError("simulated: no answer")
        result = await read()
        await self._world.pause()
        return result

    async def _write(self, name: str, write: Callable[[], Awaitable[bool]]) -> bool:
        world = self._world
        await self._reach()
        if world.chance(world.fault_rate):
            trouble = world.random.choice(["refused", "lost", "late", "answer lost"])
            world.log(f"{self._process.name} {name}: {trouble}")
            match trouble:
                case "refused":
                    raise ServerUnavailableError("simulated: refused")
                case "late":
                    world.nursery.start_soon(self._arrive_late, write)
                case "answer lost":
                    await write()
                    await world.pause()
                case _:
                    pass
            raise UnknownOutcomeError("simulated: the answer was lost")
        done = await write()
        world.log(f"{self._process.name} {name}: {done}")
        await world.pause()
        return done

    async def _reach(self) -> None:
        """Get to the store, if the process lives and the store is there."""
        if not self._process.alive:
            raise ServerUnavailableError("simulated: this process is dead")
        await self._world.pause()
        if not self._process.alive:
            raise ServerUnavailableError("simulated: this process is dead")
        if self._world.trouble and trio.current_time() < self._world.outage_until:
            raise ServerUnavailableError("simulated: the store is away")

    async def _arrive_late(self, write: Callable[[], Awaitable[bool]]) -> None:
        self._world.under_way += 1
        await self._world.pause(3)
        done = await write()
        self._world.log(f"{self._process.name} late: {done}")
        self._world.under_way -= 1


class Surprises(logging.Handler):
    """Notes what the library reports as an error of its own."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Note errors that come from the library rather than from the simulated trouble."""
        text = record.getMessage()
        if "its work failed" in text or "sending failed" in text:
            error = record.exc_info[1] if record.exc_info else None
            self._world.surprises.append(f"{text}: {error!r}")
