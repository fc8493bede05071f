"""What handlers return and publish on a MemoryBus, and the ids by which answers are recognised."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from attrs import frozen

from sagaflow import (
    Context,
    Envelope,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    Saga,
    State,
    during,
    initially,
)
from sagaflow.bus import Accepted, RetryLater, Undeliverable
from sagaflow.bus.causation import id_by_place
from sagaflow.bus.subscriptions import Subscriptions
from sagaflow.bus.turns import OwnTurns
from sagaflow.exceptions import BusError
from sagaflow.testing import ManualClock

pytestmark = pytest.mark.anyio


@frozen
class Pay:
    order_id: str


@frozen
class Paid:
    order_id: str
    number: int = 0


def recording(bus: MemoryBus, *types: type) -> list[Envelope[Any]]:
    found: list[Envelope[Any]] = []
    for message_type in types:
        bus.subscribe(message_type, found.append, envelope=True)
    return found


async def test_what_a_handler_returns_is_published_as_its_answer() -> None:
    bus = MemoryBus()
    found = recording(bus, Paid)

    @bus.subscribe(Pay)
    async def pay(command: Pay) -> Paid:
        return Paid(command.order_id)

    await bus.publish(
        Pay("o-1"), correlation_id=7, message_id="m-1", headers={"traceparent": "00-1-2-01"}
    )
    (answer,) = found
    assert answer.body == Paid("o-1")
    assert (answer.correlation_id, answer.causation_id) == (7, "m-1")
    assert answer.headers == {"traceparent": "00-1-2-01"}


async def test_plain_function_answers_as_well() -> None:
    bus = MemoryBus()
    found = recording(bus, Paid)

    @bus.subscribe(Pay)
    def pay(command: Pay) -> Paid:
        return Paid(command.order_id)

    assert bus.delivers_at_once(Pay, "o-1")
    await bus.publish(Pay("o-1"), correlation_id="o-1")
    assert [answer.body for answer in found] == [Paid("o-1")]
    assert not bus.delivers_at_once(Pay, "o-1"), "whoever takes the answer may wait"


async def test_second_delivery_is_answered_with_the_same_ids() -> None:
    bus = MemoryBus()
    found = recording(bus, Paid)

    @bus.subscribe(Pay)
    async def pay(command: Pay) -> Paid:
        await bus.publish(Paid(command.order_id, 1))
        await bus.publish(Paid(command.order_id, 2))
        return Paid(command.order_id, 3)

    for _ in range(2):
        await bus.publish(Pay("o-1"), message_id="m-1")
    assert [answer.body.number for answer in found] == [1, 2, 3, 1, 2, 3]
    ids = [answer.id for answer in found]
    assert ids[:3] == ids[3:]
    assert len(set(ids)) == 3


async def test_handlers_of_one_message_answer_with_ids_of_their_own() -> None:
    bus = MemoryBus()
    found = recording(bus, Paid)

    def answering(number: int) -> Any:
        async def pay(command: Pay) -> Paid:
            return Paid(command.order_id, number)

        return pay

    for number in range(3):
        bus.subscribe(Pay, answering(number))
    for _ in range(2):
        await bus.publish(Pay("o-1"), message_id="m-1")
    by_number = {answer.body.number: answer.id for answer in found}
    assert len(set(by_number.values())) == 3
    assert all(answer.id == by_number[answer.body.number] for answer in found)


async def test_id_that_a_handler_gives_is_kept() -> None:
    bus = MemoryBus()
    found = recording(bus, Paid)

    @bus.subscribe(Pay)
    async def pay(command: Pay) -> None:
        await bus.publish(Paid(command.order_id), message_id="its own")

    await bus.publish(Pay("o-1"))
    assert [answer.id for answer in found] == ["its own"]


@pytest.mark.parametrize(
    "verdict", [Accepted(), RetryLater(timedelta(1), "later"), Undeliverable("no")]
)
async def test_verdict_is_no_answer(verdict: object) -> None:
    bus = MemoryBus()
    bus.subscribe(Pay, lambda command: verdict)
    await bus.publish(Pay("o-1"))


@pytest.mark.parametrize("returned", [5, "paid", object(), Paid, [Paid("o-1")]])
async def test_what_is_no_message_is_no_answer_either(returned: object) -> None:
    bus = MemoryBus()

    @bus.subscribe(Pay)
    def pay(command: Pay) -> object:
        return returned

    with pytest.raises(BusError, match=r"pay returned .*: a handler returns its reply"):
        await bus.publish(Pay("o-1"))


@frozen
class Ended:
    order_id: str


class Order(Saga, correlate_by="order_id"):
    paying = State()
    paid = State(final=True)
    times: int = 0

    @initially.on(Pay).goto(paying)
    async def place(self, event: Pay, ctx: Context) -> None: ...

    @during(paying).on(Paid).stay()
    async def count(self, event: Paid, ctx: Context) -> None:
        self.times += 1

    end = during(paying).on(Ended).goto(paid)


async def test_saga_takes_the_answers_to_a_command_that_came_twice_once(
    clock: ManualClock,
) -> None:
    """Ten were paid, and twenty counted, as long as each delivery was answered anew."""
    bus = MemoryBus()

    @frozen
    class Charge:
        order_id: str

    @bus.subscribe(Charge)
    async def charge(command: Charge) -> Paid:
        return Paid(command.order_id)

    async with Orchestrator([Order], MemoryRepository(clock=clock), bus=bus, clock=clock) as orders:
        await orders.handle(Pay("o-1"))
        for _ in range(2):
            await bus.publish(Charge("o-1"), correlation_id="o-1", message_id="m-1")
        found = await orders.find(Order, "o-1")
    assert found is not None
    assert found.saga.times == 1


def test_ids_depend_on_all_that_makes_a_place() -> None:
    places = [
        ("m", "", "pay", 1),
        ("m", "", "pay", 2),
        ("m", "", "refund", 1),
        ("m", "billing", "pay", 1),
        ("m2", "", "pay", 1),
        ("mp", "", "ay", 1),
        ("7", "", "pay", 1),
    ]
    ids = [id_by_place(*place) for place in places]
    assert len({*ids, id_by_place(7, "", "pay", 1)}) == len(places) + 1
    assert ids == [id_by_place(*place) for place in places]


def _nothing() -> Callable[[Pay], None]:
    return lambda command: None


def test_names_of_handlers_are_those_of_their_code() -> None:
    class Desk:
        def take(self, command: Pay) -> None: ...

        def __call__(self, command: Pay) -> None: ...

    def first(command: Pay, at: int = 0) -> None: ...

    known = Subscriptions(lambda name, terms: OwnTurns(terms, ManualClock()))
    handlers: list[Any] = [
        first,
        partial(partial(first, at=1), at=2),
        Desk().take,
        Desk(),
        print,
        *(_nothing() for _ in range(2)),
    ]
    for handler in handlers:
        known.add(Pay, handler, envelope=False)
    names = [taker.name for taker in known.takers(Pay).subscriptions]
    here = f"{__name__}.test_names_of_handlers_are_those_of_their_code.<locals>"
    assert names == [
        f"{here}.first",
        f"{here}.first#2",
        f"{here}.Desk.take",
        f"{here}.Desk",
        "builtins.print",
        f"{__name__}._nothing.<locals>.<lambda>",
        f"{__name__}._nothing.<locals>.<lambda>#2",
    ]
