"""What a factory is given, without a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pymongo
import pytest
from attrs import frozen

from sagaflow import Context, MemoryRepository, Saga, SagaflowError, State, during, initially
from sagaflow.bus import BrokerBus
from sagaflow.commands.running.applying import apply
from sagaflow.mongo import MongoBus
from sagaflow.worker import Worker

pytestmark = pytest.mark.anyio


@frozen
class Placed:
    order_id: str


@frozen
class Charge:
    order_id: str


@frozen
class Opaque:
    """Mentioned by the saga's code, and nothing that could travel."""

    pattern: re.Pattern[str]


@frozen
class Charged:
    order_id: str


class Order(Saga, correlate_by="order_id"):
    charging = State()
    charged = State(final=True)

    @initially.on(Placed).goto(charging)
    async def place(self, event: Placed, ctx: Context) -> None:
        Opaque(re.compile(""))
        ctx.send(Charge(event.order_id))

    charge = during(charging).on(Charged).goto(charged)


def worker(**given: Any) -> tuple[Worker, list[Mapping[str, type]]]:
    """Return a worker, and the messages that its bus is made with."""
    made: list[Mapping[str, type]] = []

    def make(messages: Mapping[str, type]) -> BrokerBus:
        made.append(messages)
        database = pymongo.MongoClient[dict[str, Any]](connect=False)["d"]
        return MongoBus(database, service="orders", messages=messages)

    settings: dict[str, Any] = {"repository": MemoryRepository(), **given}
    return Worker(service="orders", owner="w", make_bus=make, **settings), made


def test_what_sagas_take_and_mention_travels() -> None:
    found, made = worker(sagas=[Order])
    assert found.bus is found.bus
    assert made == [{"Placed": Placed, "Charged": Charged, "Charge": Charge}]


def test_what_is_declared_travels_beside_the_events() -> None:
    found, made = worker()
    found.sagas = [Order]
    found.messages = iter([Charge])
    assert made == []
    found.bus.subscribe(Charge, print)
    assert found.has_bus is True
    assert made == [{"Charge": Charge, "Placed": Placed, "Charged": Charged}]


def test_names_of_messages() -> None:
    found, made = worker(messages={"charge.v2": Charge, "charge": Charge})
    assert found.messages == {"charge.v2": Charge, "charge": Charge}
    assert found.bus.service == "orders"
    assert made == [{"charge.v2": Charge, "charge": Charge}]


def test_what_the_bus_is_made_of_cannot_be_changed_afterwards() -> None:
    found, _ = worker(messages=[Charge])
    found.bus.subscribe(Charge, print)
    with pytest.raises(SagaflowError, match=r"worker\.sagas is set before worker\.bus"):
        found.sagas = [Order]
    with pytest.raises(SagaflowError, match=r"worker\.messages is set before worker\.bus"):
        found.messages = [Placed]


def test_sagas_need_a_database() -> None:
    found, _ = worker(repository=None)
    with pytest.raises(SagaflowError, match="orders runs sagas and has no database"):
        _ = found.repository


def test_what_is_there_from_the_beginning() -> None:
    found, _ = worker()
    assert (found.service, found.owner, found.sagas, found.messages) == ("orders", "w", (), ())
    assert (found.observers, found.retry, found.limits) == ([], None, None)
    assert isinstance(found.repository, MemoryRepository)
    assert found.has_services is False
    assert found.services is found.services
    assert found.has_services is True


async def test_factory_with_a_plain_context_manager() -> None:
    found, _ = worker()
    seen: list[str] = []

    @contextmanager
    def factory(given: Worker) -> Any:
        assert given is found
        seen.append("opened")
        yield
        seen.append("closed")

    async with AsyncExitStack() as stack:
        await apply(factory, found, stack, "shop:factory")
        assert seen == ["opened"]
    assert seen == ["opened", "closed"]


def ask_for_repository(given: Worker) -> None:
    _ = given.repository


async def test_error_of_sagaflow_goes_on_as_it_is() -> None:
    found, _ = worker(repository=None)
    async with AsyncExitStack() as stack:
        with pytest.raises(SagaflowError, match=r"^orders runs sagas"):
            await apply(ask_for_repository, found, stack, "shop:factory")
