"""Documents that no saga has written: they are left alone, and all others go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import bson
import pymongo
import pytest
from anyio import to_thread
from attrs import frozen
from bson import Binary, Code, DatetimeMS, Decimal128, Regex

from sagaflow import (
    Context,
    CorrelationError,
    DamagedDocumentError,
    MemoryBus,
    MemoryRepository,
    MessageId,
    Observer,
    Orchestrator,
    Saga,
    SagaId,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow._codec.elements import Document
from sagaflow._model.record import Lease
from sagaflow.mongo.drivers import CODEC_OPTIONS
from sagaflow.observing import Fact
from sagaflow.testing import ManualClock
from tests.semantics.support import Passing

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
SOON = timedelta(milliseconds=1)


@frozen
class Begin:
    order: str


@frozen
class Greet:
    order: str


Put: TypeAlias = Callable[..., Awaitable[list[Any]]]


class Order(Saga, correlate_by="order"):
    open = State()
    expired = State(final=True)

    @initially.on(Begin).goto(open)
    def begin(self, event: Begin, ctx: Context) -> None:
        ctx.send(Greet(event.order))

    expire = during(open).after(MINUTE).goto(expired)


class Other(Saga, correlate_by="order"):
    waiting = State()
    over = State(final=True)

    begin = initially.on(Begin).goto(waiting)
    end = during(waiting).after(MINUTE).goto(over)


ODD_IDS: list[Any] = [
    {"a": 1},
    {"$gt": ""},
    Decimal128("1.5"),
    Regex(".*"),
    Code("1"),
    b"bytes",
    Binary(b"x" * 16, 3),
    None,
    1.5,
    True,
    datetime(2020, 1, 1),  # noqa: DTZ001
]


def damaged(number: Any, wake: object) -> Document:
    return {"_id": number, "state": "open", "status": "active", "wake": wake}


@pytest.fixture
def put(
    repository: SagaRepository, store: str, database_name: str, request: pytest.FixtureRequest
) -> Put:
    """Put documents past sagaflow; returns the ids of those that the store took."""

    async def put_document(document: Document) -> None:
        if store == "memory":
            await repository.insert_document("Order", document)
            return
        client: pymongo.MongoClient[Any] = request.getfixturevalue("mongodb_client")
        await to_thread.run_sync(client[database_name]["Order"].insert_one, document)

    async def put_documents(*documents: Document) -> list[Any]:
        taken: list[Any] = []
        for document in documents:
            with suppress(Exception):  # a server takes no regular expression as an id
                await put_document(document)
                taken.append(document["_id"])
        return taken

    if store not in ("memory", "motor", "pymongo-async", "pymongo-threads"):
        pytest.skip("holds nothing but sagas")
    if store != "memory":
        request.getfixturevalue("mongodb_client")
    return put_documents


async def sweep_until(orchestrator: Orchestrator, saga: type[Saga], *orders: str) -> None:
    """Return once the workers have brought these to an end; the limit of the test bounds it."""
    for order in orders:
        while (found := await orchestrator.find(saga, order)) is None or not found.state.final:
            await anyio.lowlevel.checkpoint()


async def test_ids_that_are_none_stop_nobody(
    repository: SagaRepository, clock: ManualClock, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    starting = Orchestrator([Order, Other], repository, clock=clock)
    await starting.handle(Begin("o"), saga_type=Order)
    await starting.handle(Begin("o"), saga_type=Other)
    taken = await put(*(damaged(odd, clock.now()) for odd in ODD_IDS))
    assert len(taken) > len(ODD_IDS) // 2
    clock.advance(MINUTE)
    async with Orchestrator(
        [Order, Other], repository, clock=clock, poll_interval=SOON
    ) as orchestrator:
        await sweep_until(orchestrator, Order, "o")
        await sweep_until(orchestrator, Other, "o")
        health = await orchestrator.health()
        assert (health.ok, health.damaged, health.outage_since) == (True, len(taken), None)
        assert "sagaflow ls --damaged" in health.warnings[0]
        while (await orchestrator.health()).last_sweep is None:
            await anyio.lowlevel.checkpoint()
    assert "the store fails" not in caplog.text
    told = [line for line in caplog.records if "is not one that sagaflow wrote" in line.message]
    assert len(told) == len(taken) == len(caplog.records)
    found = [one async for one in repository.unreadable(Order)]
    assert len(found) == len(taken)
    assert all(isinstance(one.error, DamagedDocumentError) for one in found)


@pytest.mark.parametrize("odd", ODD_IDS, ids=lambda odd: type(odd).__name__)
async def test_id_that_is_none_never_becomes_a_query(
    repository: SagaRepository, store: str, clock: ManualClock, odd: Any
) -> None:
    if store == "sqlite":
        pytest.skip("has no queries that an id could become")
    await Orchestrator([Order], repository, clock=clock).handle(Begin("o"))
    lease = Lease(owner="me", until=clock.now() + MINUTE)
    with pytest.raises(CorrelationError):
        await repository.load_document("Order", odd, message_id=None)
    with pytest.raises(CorrelationError):
        await repository.load_recent("Order", odd)
    with pytest.raises(CorrelationError):
        await repository.claim("Order", odd, lease, clock.now() + MINUTE)
    with pytest.raises(CorrelationError):
        await repository.delete_document("Order", odd)
    found = await repository.find(Order, "o")
    assert found is not None


@pytest.mark.timeout(300)  # hundreds of reads, again and again, on a machine with other work
async def test_more_damaged_documents_than_a_sweep_takes_are_in_nobodys_way(
    repository: SagaRepository, clock: ManualClock, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    """They have been due for longer than all others, and stay so."""
    number = 410
    await put(*(damaged(f"x{n}", clock.now()) for n in range(number)))
    clock.advance(SOON)
    starting = Orchestrator([Order], repository, clock=clock)
    for order in ("a", "b"):
        await starting.handle(Begin(order))
    clock.advance(MINUTE)
    async with Orchestrator([Order], repository, clock=clock, poll_interval=SOON) as orchestrator:
        await sweep_until(orchestrator, Order, "a", "b")
        assert (await orchestrator.health()).damaged == number
        clock.advance(MINUTE)  # the pauses of all are over; nothing is told twice
        await starting.handle(Begin("c"))
        clock.advance(MINUTE)
        await sweep_until(orchestrator, Order, "c")
        assert (await orchestrator.health()).ok
    assert caplog.text.count("is not one that sagaflow wrote") == number
    untouched = await repository.load_document("Order", "x0", message_id=None)
    assert untouched is not None and "lease" not in untouched


async def test_repaired_document_is_worked_on_again(
    repository: SagaRepository, clock: ManualClock, put: Put
) -> None:
    await Orchestrator([Order], repository, clock=clock).handle(Begin("o"))
    whole = await repository.load_document("Order", "o", message_id=None)
    assert whole is not None
    await repository.delete(Order, "o")
    await put(whole | {"timers": [{"due": "soon"}]})
    clock.advance(MINUTE)
    async with Orchestrator([Order], repository, clock=clock, poll_interval=SOON) as orchestrator:
        while (await orchestrator.health()).damaged == 0:
            await anyio.lowlevel.checkpoint()
        await repository.delete(Order, "o")
        await put(whole)
        clock.advance(timedelta(minutes=10))
        await sweep_until(orchestrator, Order, "o")
        while (await orchestrator.health()).damaged:
            await anyio.lowlevel.checkpoint()


async def test_pauses_grow_while_a_document_stays_damaged(clock: ManualClock) -> None:
    class Counting(MemoryRepository):
        async def load_document(
            self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
        ) -> Document | None:
            looks.append(clock.now())
            return await super().load_document(saga, correlation_id, message_id=message_id)

    looks = list[datetime]()
    repository = Counting(clock=clock)
    await repository.insert_document("Order", damaged("x", clock.now()))
    begun, swept = clock.now(), list[Fact]()
    async with Orchestrator([Order], repository, clock=clock, poll_interval=SOON) as orchestrator:
        for _ in range(60):
            last = (await orchestrator.health()).last_sweep
            while (await orchestrator.health()).last_sweep in (None, last):
                clock.advance(timedelta(milliseconds=1))
                await anyio.sleep(0.001)
            clock.advance(timedelta(seconds=20))
    assert not swept
    assert 4 <= len(looks) <= 9
    assert looks[0] - begun < MINUTE


async def test_bug_in_one_class_stops_no_other_and_is_no_outage(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a repository raises that it should not, and once it is over, all goes on."""

    class Broken(Passing):
        broken = True

        async def due(
            self,
            saga: str,
            now: datetime,
            *,
            unclaimed: bool,
            schema: int | None = None,
            limit: int | None = None,
        ) -> AsyncIterator[SagaId]:
            if saga == "Order" and self.broken:
                raise ZeroDivisionError
            async for one in super().due(
                saga, now, unclaimed=unclaimed, schema=schema, limit=limit
            ):
                yield one

    repository = Broken(MemoryRepository(clock=clock))
    starting = Orchestrator([Order, Other], repository, clock=clock)
    await starting.handle(Begin("o"), saga_type=Order)
    await starting.handle(Begin("o"), saga_type=Other)
    clock.advance(MINUTE)
    async with Orchestrator(
        [Order, Other], repository, clock=clock, poll_interval=SOON
    ) as orchestrator:
        await sweep_until(orchestrator, Other, "o")
        health = await orchestrator.health()
        assert (health.store_reachable, health.last_sweep) == (True, None)
        repository.broken = False
        await sweep_until(orchestrator, Order, "o")
    assert [line.message.partition(";")[0] for line in caplog.records] == [
        "Order: looking for its due work failed"
    ]


# What a driver cannot even read


def test_date_that_no_datetime_holds_is_read_as_something_else() -> None:
    """The whole answer of the server that it comes with would be unreadable otherwise."""
    beyond = DatetimeMS(2**60)
    raw = bson.encode({"_id": "o", "wake": beyond})
    assert bson.BSON(raw).decode(CODEC_OPTIONS) == {"_id": "o", "wake": beyond}


async def test_date_that_no_datetime_holds_is_damage(clock: ManualClock) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = Orchestrator([Order], repository, clock=clock)
    await orchestrator.handle(Begin("o"))
    whole = await repository.load_document("Order", "o", message_id=None)
    assert whole is not None
    foreign = whole | {"_id": "x", "created_at": DatetimeMS(2**60)}
    await repository.insert_document("Order", foreign)
    clock.advance(MINUTE)
    assert (await orchestrator.health()).store_reachable
    with pytest.raises(DamagedDocumentError, match="its created_at is DatetimeMS"):
        await orchestrator.run_due()
    found = await orchestrator.find(Order, "o")
    assert found is not None and found.state == Order.expired


def test_text_that_is_not_utf_8_damages_its_document_only() -> None:
    raw = bson.encode({"_id": "o", "state": "<<>>"}).replace(b"<<>>", b"\xff<>>")
    assert bson.BSON(raw).decode(CODEC_OPTIONS) == {"_id": "o", "state": "\udcff<>>"}


# Bus and observers: who is told


async def test_bus_is_told_so_that_it_delivers_again(
    repository: SagaRepository, clock: ManualClock, put: Put
) -> None:
    bus = MemoryBus()
    await put(damaged("o", clock.now()))
    async with Orchestrator(
        [Order], repository, clock=clock, bus=bus, background=False, observers=Observer()
    ):
        with pytest.raises(DamagedDocumentError, match="the field 'incarnation' is missing"):
            await bus.publish(Begin("o"))
