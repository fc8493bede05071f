"""An operator who ends a saga ends what it has not yet had done, and is told what may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Cancellation,
    Context,
    MemoryBus,
    Orchestrator,
    OutgoingMessage,
    RetryPolicy,
    Saga,
    SagaRepository,
    State,
    Status,
    UnknownOutcomeError,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow.testing import ManualClock
from tests.semantics.support import Passing, stored

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


@frozen
class Placed:
    order: str
    commands: int = 1


@frozen
class Paid:
    order: str


@frozen
class Withdrawn:
    order: str


@frozen
class TakePayment:
    order: str
    number: int


@frozen
class PayBack:
    order: str


class Order(Saga, correlate_by="order"):
    awaiting_payment = State()
    awaiting_parcel = State()
    completed = State(final=True)
    failed = State(final=True)

    @initially.on(Placed).goto(awaiting_payment)
    async def place(self, event: Placed, ctx: Context) -> None:
        for number in range(event.commands):
            ctx.send(TakePayment(event.order, number))

    pay = during(awaiting_payment).on(Paid).goto(awaiting_parcel)

    @compensates(pay)
    async def pay_back(self, event: Paid, ctx: Context) -> None:
        ctx.send(PayBack(event.order))

    withdraw = during_any.on(Withdrawn).compensate().goto(completed)
    give_up = during(awaiting_payment).after(timedelta(days=90)).goto(failed)


class Unreliable:
    """A bus that is down until it is told that it is up."""

    def __init__(self) -> None:
        self.bus, self.taken, self.is_down = MemoryBus(), list[object](), True
        for command in (TakePayment, PayBack):
            self.bus.subscribe(command, self.take)

    async def take(self, command: object) -> None:
        if self.is_down:
            raise ConnectionError("no answer")
        self.taken.append(command)


def orchestrated(
    repository: SagaRepository, clock: ManualClock, bus: MemoryBus | None, minutes: int = 10
) -> Orchestrator:
    retry = RetryPolicy(max_age=minutes * MINUTE)
    return Orchestrator([Order], repository, bus=bus, clock=clock, background=False, retry=retry)


async def later(orchestrator: Orchestrator, clock: ManualClock) -> None:
    for _ in range(4):
        clock.advance(5 * MINUTE)
        await orchestrator.run_due()


async def status(orchestrator: Orchestrator) -> Status:
    order = await orchestrator.find(Order, "o")
    assert order is not None
    return order.status


def bodies(messages: tuple[OutgoingMessage, ...]) -> list[str]:
    return [message.message.type for message in messages]


async def test_command_that_was_refused_is_not_sent_after_its_saga_was_cancelled(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """The bus never took it, and the order has ended: the customer must not be charged."""
    world = Unreliable()
    async with orchestrated(repository, clock, world.bus) as orchestrator:
        await orchestrator.handle(Placed("o", commands=2))
        await later(orchestrator, clock)
        assert await status(orchestrator) is Status.SUSPENDED
        world.is_down = False
        told = await orchestrator.cancel(Order, "o", state=Order.failed)
        assert bodies(told.withdrawn) == ["TakePayment", "TakePayment"]
        assert (told.state, told.undone, told.sent) == ("failed", (), 0)
        assert (told.under_way, told.kept) == ((), ())
        await later(orchestrator, clock)
        order = await orchestrator.find(Order, "o")
        assert order is not None
        assert (order.state, order.outbox, world.taken) == (Order.failed, (), [])


class Stuck(Order):
    """Undoes two steps, the second of which is never undone by itself."""

    arrive = during(Order.awaiting_parcel).on(Placed).stay()

    @compensates(arrive)
    async def return_it(self, event: Placed, ctx: Context) -> None:
        ctx.send(PayBack("parcel"))

    async def pay_back(self, event: Paid, ctx: Context) -> None:
        if BROKEN:
            raise LookupError("no account")
        ctx.send(PayBack(event.order))


BROKEN: list[str] = []


async def test_saga_that_is_being_undone_keeps_what_undoes_it_and_goes_on(
    repository: SagaRepository, clock: ManualClock
) -> None:
    world = Unreliable()
    BROKEN.append("yes")
    async with Orchestrator(
        [Stuck],
        repository,
        bus=world.bus,
        clock=clock,
        background=False,
        retry=RetryPolicy(max_age=10 * MINUTE),
    ) as orchestrator:
        for event in (Placed("o"), Paid("o"), Placed("o"), Withdrawn("o")):
            await orchestrator.handle(event)
        await later(orchestrator, clock)
        world.is_down = False
        BROKEN.clear()
        told = await orchestrator.cancel(Stuck, "o", state=Stuck.failed)
        assert bodies(told.withdrawn) == ["TakePayment"]
        assert bodies(told.kept) == ["PayBack"]
        assert told.undone == ("pay",)
        await later(orchestrator, clock)
        order = await orchestrator.find(Stuck, "o")
        assert order is not None
        assert (order.state, order.status) == (Stuck.failed, Status.FINISHED)
    assert world.taken == [PayBack("parcel"), PayBack("o")]


class Held:
    """A bus whose publishing of the first command waits until it is told to go on."""

    def __init__(self) -> None:
        self.taken: list[object] = []
        self.has_begun, self.go_on = anyio.Event(), anyio.Event()

    def subscribe(self, *_: object, **__: object) -> None:
        """Nobody answers here."""

    async def publish(self, message: object, **_: object) -> None:
        self.has_begun.set()
        await self.go_on.wait()
        self.taken.append(message)


async def cancelled_while_sending(
    sending: Orchestrator, bus: Held, commands: int, cancelling: Orchestrator
) -> Cancellation:
    """Cancel the order while its first command is being handed to the bus."""
    told = list[Cancellation]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sending.handle, Placed("o", commands))
        await bus.has_begun.wait()
        told.append(await cancelling.cancel(Order, "o", state=Order.failed, wait=False))
        bus.go_on.set()
    return told[0]


async def test_message_that_is_on_its_way_may_arrive_and_those_behind_it_do_not(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = Held()
    async with Orchestrator(
        [Order], repository, bus=bus, clock=clock, background=False
    ) as orchestrator:
        told = await cancelled_while_sending(orchestrator, bus, 3, orchestrator)
        assert (bodies(told.under_way), told.sent) == (["TakePayment"], 0)
        assert len(told.withdrawn) == 2
        await later(orchestrator, clock)
        order = await orchestrator.find(Order, "o")
        assert order is not None
        assert (order.outbox, bus.taken) == ((), [TakePayment("o", 0)])


async def test_another_process_that_may_be_sending_is_told(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Its lease says that it is about to; a message then may arrive after the saga has ended."""
    bus = Held()
    async with Orchestrator([Order], repository, bus=bus, clock=clock, background=False) as sending:
        other = orchestrated(repository, clock, None)
        told = await cancelled_while_sending(sending, bus, 2, other)
    assert (bodies(told.under_way), told.withdrawn) == (["TakePayment"] * 2, ())
    document = await stored(repository, Order, "o")
    assert document is not None
    assert (document["outbox"], document["state"]) == ([], "failed")


async def test_what_the_bus_took_before_is_counted(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Its removal may be left to the next write: that does not make it one the bus never took."""
    world = Unreliable()
    world.is_down = False
    async with orchestrated(repository, clock, world.bus) as orchestrator:
        await orchestrator.handle(Placed("o", commands=3))
        told = await orchestrator.cancel(Order, "o", state=Order.failed)
    assert told == Cancellation(
        state="failed", undone=(), withdrawn=(), under_way=(), kept=(), sent=3
    )
    assert len(world.taken) == 3


class Fails(Passing):
    """Does the writes that it is asked for, and then fails at the one that is named."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.writes: list[str] = []

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.writes.append("update")
        return await super().update_document(saga, change)

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        self.writes.append("bookkeep")
        raise UnknownOutcomeError("the second write has failed")


async def skip(orchestrator: Orchestrator) -> None:
    await orchestrator.skip(Order, "o", wait=False)


async def cancel(orchestrator: Orchestrator) -> None:
    await orchestrator.cancel(Order, "o", wait=False)


@pytest.mark.parametrize("operate", [skip, cancel])
async def test_what_an_operator_decides_is_one_write(
    operate: Callable[[Orchestrator], Awaitable[None]],
    repository: SagaRepository,
    clock: ManualClock,
) -> None:
    """A message that is left out is never sent, whatever fails after the history says so."""
    world = Unreliable()
    async with orchestrated(repository, clock, world.bus) as orchestrator:
        await orchestrator.handle(Placed("o"))
        await later(orchestrator, clock)
        assert await status(orchestrator) is Status.SUSPENDED
        world.is_down = False
        failing = Fails(repository)
        await operate(orchestrated(failing, clock, world.bus))
        assert failing.writes == ["update"]
        document = await stored(repository, Order, "o")
        assert document is not None
        assert document["outbox"] == []
        await later(orchestrator, clock)
    assert world.taken == []
