"""What an event and a sweep cost when many other sagas are stored."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import islice
from typing import Any
from uuid import uuid4

import anyio
import bson
import pymongo
from attrs import frozen
from bson.codec_options import CodecOptions
from pymongo import WriteConcern

from benchmarks.measuring import Measurement, one_at_a_time, resident, timed
from benchmarks.orders import (
    EVENTS_PER_ORDER,
    Order,
    OrderSaga,
    command_bus,
    orders,
    run_order,
)
from benchmarks.server import open_repository
from sagaflow import (
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow.testing import ManualClock

_BATCH = 1_000
_SWEEPS = 5
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
_PATIENCE = timedelta(minutes=30)


@frozen
class Asked:
    """Somebody is asked."""


@frozen
class Answered:
    """And answers."""


class QuestionSaga(Saga, name="BenchmarkQuestion"):
    """Waits for an answer, but not for ever."""

    waiting = State()
    answered = State(final=True)
    expired = State(final=True)

    question: str = "?"

    ask = initially.on(Asked).goto(waiting)
    answer = during(waiting).on(Answered).goto(answered)
    give_up = during(waiting).after(_PATIENCE).goto(expired)


def idle_in_memory(*, stored: int, number: int) -> Measurement:
    """Time orders while others wait for nothing, in the memory repository."""
    return anyio.run(_idle, "", "", stored, number)


def idle_on_server(*, stored: int, number: int, uri: str, database: str) -> Measurement:
    """Time orders while others wait for nothing, on the server. The first run stores them."""
    return anyio.run(_idle, uri, database, stored, number)


def timers_in_memory(*, stored: int, number: int) -> Measurement:
    """Time starts and timers while other timers are pending, in the memory repository."""
    return anyio.run(_timers, "", "", stored, number)


def timers_on_server(*, stored: int, number: int, uri: str, database: str) -> Measurement:
    """Time starts and timers while others are pending, on the server. The first run stores them."""
    return anyio.run(_timers, uri, database, stored, number)


async def _idle(uri: str, database: str, stored: int, number: int) -> Measurement:
    async with _repository(uri, database, OrderSaga) as repository:
        orchestrator = Orchestrator([OrderSaga], repository, bus=command_bus())
        (first,) = orders(1, prefix=f"idle-{_run()}")
        await orchestrator.handle(first.events[0], message_id=first.message_ids[0])
        before = _occupied()
        await _multiply(repository, uri, database, OrderSaga, first.order_id, stored)
        grown = _occupied() - before

        async def run(order: Order) -> None:
            await run_order(orchestrator, order)

        warm_up = max(number // 10, 1)
        measured = orders(number + warm_up, prefix=_run())
        timing = await one_at_a_time(run, measured, warm_up=warm_up)
        metrics = timing.per(number * EVENTS_PER_ORDER)
        metrics |= {"sweep": await _sweep(orchestrator), "process": resident()}
        if not uri:
            metrics["memory"] = grown * 1024 / stored
    return Measurement(metrics)


async def _timers(uri: str, database: str, stored: int, number: int) -> Measurement:
    clock, this = ManualClock(), _run()
    async with _repository(uri, database, QuestionSaga) as repository:
        orchestrator = Orchestrator([QuestionSaga], repository, clock=clock)

        async def ask(correlation_id: str) -> None:
            await orchestrator.handle(
                Asked(), correlation_id=correlation_id, message_id=f"asked-{correlation_id}"
            )

        for index in range(number):
            await ask(f"due-{this}-{index}")
        clock.advance(_PATIENCE / 2)
        await ask(f"pending-{this}")
        await _multiply(repository, uri, database, QuestionSaga, f"pending-{this}", stored)
        timing = await one_at_a_time(
            ask, [f"new-{this}-{index}" for index in range(number)], warm_up=0
        )
        metrics = timing.per(number) | {"sweep": await _sweep(orchestrator)}
        clock.advance(_PATIENCE / 2)
        with timed() as firing:
            fired = await orchestrator.run_due()
        if fired != number:
            raise RuntimeError(f"{fired} timers fired, {number} were due")
        late = await orchestrator.handle(Answered(), correlation_id=f"due-{this}-0")
        if late.kind is not OutcomeKind.FINISHED:
            raise RuntimeError(f"a timer had no effect: {late}")
        metrics |= {"fire": firing.per(number)["wall"], "process": resident()}
    return Measurement(metrics)


@asynccontextmanager
async def _repository(
    uri: str, database: str, saga_type: type[Saga]
) -> AsyncGenerator[SagaRepository, None]:
    if not uri:
        yield MemoryRepository()
        return
    async with open_repository("pymongo-async", uri, database, saga_type) as repository:
        yield repository


async def _multiply(
    repository: SagaRepository,
    uri: str,
    database: str,
    saga_type: type[Saga],
    correlation_id: str,
    number: int,
) -> None:
    """Store *number* sagas like this one, behind the orchestrator's back, which would take long."""
    name = saga_type.table.saga
    document = await repository.load_document(name, correlation_id, message_id=None)
    if document is None:
        raise RuntimeError(f"{correlation_id} is not stored")
    if not uri:
        encoded = bson.encode(document)
        for index in range(number):
            # With values of its own, as a real saga has them: a deep copy would share its strings.
            other = bson.decode(encoded, _OPTIONS)
            await repository.insert_document(name, other | {"_id": f"other-{index}"})
        return
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        target = client[database].get_collection(name, write_concern=WriteConcern(w=1, j=False))
        if target.estimated_document_count() >= number:
            return  # an earlier run has stored them
        waiting: Iterator[dict[str, Any]] = (
            document | {"_id": f"other-{index}"} for index in range(number)
        )
        while batch := list(islice(waiting, _BATCH)):
            target.insert_many(batch, ordered=False)


async def _sweep(orchestrator: Orchestrator) -> float:
    """Return how many milliseconds a sweep takes that finds nothing to do."""
    taken: list[float] = []
    for _ in range(_SWEEPS):
        began = time.perf_counter()
        if await orchestrator.run_due():
            raise RuntimeError("something was due")
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[_SWEEPS // 2]


def _run() -> str:
    """Return something that tells the sagas of this run from those of earlier ones."""
    return uuid4().hex[:8]


def _occupied() -> float:
    gc.collect()
    return resident()
