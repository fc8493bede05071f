"""Several classes of sagas in one orchestrator."""

from __future__ import annotations

import pytest
from attrs import field, frozen

from sagaflow import (
    AmbiguousSagaError,
    Context,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaflowError,
    SagaRepository,
    State,
    UnknownEventError,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.sagas import Account

pytestmark = pytest.mark.anyio


@frozen
class Ordered:
    order: str
    customer: str


@frozen
class VipOrdered(Ordered):
    """An order of somebody important."""


@frozen
class Cancelled:
    order: str


@frozen
class Packed:
    order: str


class OutOfPaperError(Exception):
    """What a failing saga raises."""


class Shipping(Saga, correlate_by="order"):
    packing = State()
    packed = State(final=True)

    orders: list[str] = field(factory=list[str])

    @initially.on(Ordered).goto(packing)
    async def pack(self, event: Ordered, ctx: Context) -> None:
        if event.customer.startswith("fails"):
            raise OutOfPaperError("shipping")
        self.orders.append(event.order)

    finish = during(packing).on(Packed).goto(packed)
    cancel = during(packing).on(Cancelled).goto(packed)


class Loyalty(Saga, correlate_by="customer"):
    counting = State()
    lost = State(final=True)

    points: int = 0

    @initially.on(Ordered).goto(counting)
    @during(counting).on(Ordered).stay()
    async def count(self, event: Ordered, ctx: Context) -> None:
        if event.order.startswith("fails"):
            raise OutOfPaperError("loyalty")
        self.points += 1

    @during(counting).on(VipOrdered).stay()
    async def count_double(self, event: VipOrdered, ctx: Context) -> None:
        if event.order.startswith("fails"):
            raise OutOfPaperError("loyalty")
        self.points += 2

    lose = during(counting).on(Cancelled).goto(lost)


BOTH: list[type[Saga]] = [Shipping, Loyalty]


async def points(repository: SagaRepository) -> int:
    """Return what the loyalty saga has counted."""
    instance = await repository.find(Loyalty, "Ada")
    return 0 if instance is None else instance.saga.points


async def test_event_of_one_saga_goes_to_it(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = Orchestrator(BOTH, repository, clock=clock)
    await orchestrator.handle(Ordered("o-1", "Ada"), saga_type=Shipping)
    outcome = await orchestrator.handle(Packed("o-1"))
    assert (outcome.kind, outcome.saga_type) == (OutcomeKind.TRANSITIONED, Shipping)


async def test_event_of_several_sagas_is_ambiguous(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator(BOTH, repository, clock=clock)
    with pytest.raises(AmbiguousSagaError, match="Ordered is taken by Shipping, Loyalty") as caught:
        await orchestrator.handle(Ordered("o-1", "Ada"))
    assert (caught.value.event_type, caught.value.sagas) == (Ordered, ("Shipping", "Loyalty"))
    assert "saga_type=Shipping" in str(caught.value)
    assert await repository.count_states("Shipping") == {}
    assert await repository.count_states("Loyalty") == {}


async def test_saga_type_says_which_is_meant(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator(BOTH, repository, clock=clock)
    outcome = await orchestrator.handle(VipOrdered("o-1", "Ada"), saga_type=Loyalty)
    assert (outcome.saga_type, outcome.correlation_id) == (Loyalty, "Ada")
    assert await repository.count_states("Shipping") == {}


async def test_saga_type_must_be_run_here_and_take_the_event(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator(BOTH, memory, clock=clock)
    with pytest.raises(SagaflowError, match=r"Account'> is not run by this orchestrator: pass it"):
        await orchestrator.handle(Ordered("o-1", "Ada"), saga_type=Account)
    with pytest.raises(UnknownEventError, match=r"no saga takes Packed; .* runs Loyalty") as caught:
        await orchestrator.handle(Packed("o-1"), saga_type=Loyalty)
    assert caught.value.event_type is Packed
    with pytest.raises(UnknownEventError, match="runs Shipping, Loyalty"):
        await orchestrator.handle(object())


@pytest.mark.parametrize("event_type", [Ordered, VipOrdered])
async def test_each_saga_gets_the_event_from_the_bus_once(
    event_type: type[Ordered], repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()
    async with Orchestrator(BOTH, repository, clock=clock, bus=bus):
        await bus.publish(event_type("o-1", "Ada"), message_id="m-1")
    shipping = await repository.find(Shipping, "o-1")
    assert shipping is not None
    assert shipping.saga.orders == ["o-1"]
    assert await points(repository) == 1


async def test_event_from_the_bus_is_taken_once_though_several_of_its_classes_are_declared(
    clock: ManualClock, memory: SagaRepository, caplog: pytest.LogCaptureFixture
) -> None:
    bus = MemoryBus()
    async with Orchestrator([Loyalty], memory, clock=clock, bus=bus):
        await bus.publish(Ordered("o-1", "Ada"))
        await bus.publish(VipOrdered("o-2", "Ada"))
        assert await points(memory) == 3
        assert caplog.records == []
        await bus.publish(VipOrdered("fails", "Ada"))  # tried once, and kept
    assert [record.message.count("OutOfPaperError") for record in caplog.records] == [0]


async def test_saga_that_fails_does_not_keep_the_event_from_the_other(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()
    async with Orchestrator(BOTH, repository, clock=clock, bus=bus):
        with pytest.raises(OutOfPaperError, match="shipping"):
            await bus.publish(Ordered("o-1", "fails"))
        with pytest.raises(OutOfPaperError, match="loyalty"):
            await bus.publish(Ordered("fails", "Ada"))
        with pytest.raises(ExceptionGroup, match="several sagas failed on Ordered") as caught:
            await bus.publish(Ordered("fails again", "fails again"))
    assert [str(error) for error in caught.value.exceptions] == ["shipping", "loyalty"]
    loyalty, shipping = (
        await repository.find(Loyalty, "fails"),
        await repository.find(Shipping, "fails"),
    )
    assert loyalty is not None
    assert loyalty.saga.points == 1
    assert shipping is not None
    assert shipping.saga.orders == ["fails"]


async def test_message_delivered_again_is_taken_by_the_saga_that_failed_only(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()
    broken = True

    class Moody(Saga, correlate_by="order"):
        fine = State(final=True)

        @initially.on(Ordered).goto(fine)
        def start(self, event: Ordered, ctx: Context) -> None:
            if broken:
                raise OutOfPaperError("moody")

    async with Orchestrator([Moody, Loyalty], repository, clock=clock, bus=bus):
        with pytest.raises(OutOfPaperError, match="moody"):
            await bus.publish(Ordered("o-1", "Ada"), message_id="m-1")
        assert await points(repository) == 1
        broken = False
        await bus.publish(Ordered("o-1", "Ada"), message_id="m-1")
    assert await points(repository) == 1
    assert await repository.count_states("Moody") == {"fine": 1}


async def test_same_id_in_two_sagas_is_two_documents(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator(BOTH, repository, clock=clock)
    for saga in BOTH:
        await orchestrator.handle(Ordered("x", "x"), saga_type=saga, message_id="m-1")
    await orchestrator.handle(Cancelled("x"), correlation_id="x", saga_type=Loyalty)
    shipping, loyalty = await repository.find(Shipping, "x"), await repository.find(Loyalty, "x")
    assert shipping is not None
    assert loyalty is not None
    assert (shipping.state, loyalty.state) == (Shipping.packing, Loyalty.lost)
