"""Documents of every released layout are read and driven to their end, by old and by new code.

They lie in a folder for each layout and are never written again; see `tests.golden.make`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from bson.json_util import loads

from sagaflow import Instance, MemoryBus, Orchestrator, OutcomeKind, SagaRepository, Status
from sagaflow.testing import ManualClock
from tests.golden.make import OPTIONS, ORDER, PAID, PLACED
from tests.golden.sagas import (
    HOUR,
    Cancelled,
    Charge,
    Line,
    Refund,
    Released,
    Shipped,
    Today,
    Unpack,
)

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.json"))

SagaClass: TypeAlias = type[Released] | type[Today]


class World:
    """A golden document in a store, and code that goes on with it."""

    def __init__(
        self,
        saga: SagaClass,
        repository: SagaRepository,
        orchestrator: Orchestrator,
        clock: ManualClock,
        sent: list[object],
    ) -> None:
        self.saga = saga
        self.repository = repository
        self.orchestrator = orchestrator
        self.clock = clock
        self.sent = sent

    async def find(self) -> Instance[Any]:
        found = await self.repository.find(self.saga, ORDER)
        assert found is not None
        return found

    async def ends_with(self, event: object, *, done: bool = True) -> None:
        """Hand the saga its last event and look at its end."""
        await self.orchestrator.handle(event)
        found = await self.find()
        assert found.status is Status.FINISHED
        assert (found.state == self.saga.done) is done

    async def wait(self) -> None:
        """Let an hour go by."""
        self.clock.advance(HOUR)
        await self.orchestrator.run_due()


async def started(world: World) -> None:
    await world.wait()
    found = await world.find()
    assert (found.status, found.saga.notes["expired"]) == (Status.FINISHED, True)


async def outbox(world: World) -> None:
    await world.orchestrator.run_due()
    assert world.sent == [Charge(ORDER, Decimal("19.80"))]
    assert (await world.find()).outbox == ()
    await world.orchestrator.handle(PAID)
    await world.ends_with(Shipped(ORDER))


async def parked(world: World) -> None:
    await world.ends_with(PAID)


async def embryo(world: World) -> None:
    assert await world.repository.find(world.saga, ORDER) is None
    await world.orchestrator.handle(PLACED)
    assert (await world.find()).saga.paid_at == world.clock.now()
    await world.ends_with(Shipped(ORDER))


async def scheduled(world: World) -> None:
    await world.wait()
    assert (await world.find()).saga.notes["reminded"] == "ship it"
    assert await world.orchestrator.run_due() == 0
    await world.ends_with(Cancelled(ORDER), done=False)
    assert world.sent[-2:] == [
        Unpack(Line("added"), {"$inc": 1}),
        Refund(UUID(int=7), Decimal("19.80")),
    ]


async def compensating(world: World) -> None:
    await world.wait()
    found = await world.find()
    assert (found.status, found.state == world.saga.done) == (Status.FINISHED, False)
    assert world.sent == [Refund(UUID(int=7), Decimal("19.80"))]


async def suspended(world: World) -> None:
    found = await world.find()
    assert found.suspension is not None
    assert "no such transaction" in found.suspension.error
    outcome = await world.orchestrator.handle(Shipped(ORDER))
    assert outcome.kind is OutcomeKind.SUSPENDED
    await world.orchestrator.retry(world.saga, ORDER)
    found = await world.find()
    assert (found.status, found.state) == (Status.FINISHED, world.saga.done)


async def finished(world: World) -> None:
    assert (await world.find()).state == world.saga.done
    outcome = await world.orchestrator.handle(PLACED, message_id="m-1")
    assert outcome.kind is OutcomeKind.DUPLICATE
    outcome = await world.orchestrator.handle(PLACED)
    assert outcome.kind is OutcomeKind.FINISHED


ENDS: Mapping[str, Callable[[World], Awaitable[None]]] = {
    drive.__name__: drive
    for drive in (
        started,
        outbox,
        parked,
        embryo,
        scheduled,
        compensating,
        suspended,
        finished,
    )
}


def test_every_layout_has_every_condition() -> None:
    layouts = {file.parent.name for file in FILES}
    assert layouts >= {"1"}
    assert {(file.parent.name, file.stem) for file in FILES} == {
        (layout, name) for layout in layouts for name in ENDS
    }


def read(file: Path) -> dict[str, Any]:
    """Return a golden document."""
    document: dict[str, Any] = loads(file.read_text(encoding="utf-8"), json_options=OPTIONS)
    return document


@pytest.mark.parametrize("saga", [Released, Today])
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
async def test_document_is_driven_to_its_end(
    repository: SagaRepository, clock: ManualClock, file: Path, saga: SagaClass
) -> None:
    document = read(file)
    clock.advance(document["updated_at"] - clock.now())
    assert await repository.insert_document("Golden", document)
    bus, sent = MemoryBus(), list[object]()
    for command in (Charge, Refund, Unpack):
        bus.subscribe(command, sent.append)
    async with Orchestrator(
        [saga], repository, clock=clock, bus=bus, messages=[Charge, Line], background=False
    ) as orchestrator:
        world = World(saga, repository, orchestrator, clock, sent)
        if file.stem != "embryo":
            _has_everything(await world.find())
        await ENDS[file.stem](world)
        _has_everything(await world.find())


def _has_everything(found: Instance[Any]) -> None:
    """Assert that what the old code stored is still there, as it was."""
    saga = found.saga
    assert saga.lines == [Line("tea"), Line("cup")]
    assert saga.notes["$set"] == {"a.b": [1, 2.5, None, ("x",)]}
    assert saga.last == Line("cup")
    if isinstance(saga, Today):
        assert (saga.cents, saga.currency) == (1980, "EUR")
    else:
        assert saga.total == Decimal("19.80")
