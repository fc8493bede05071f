"""An orchestrator's life: what it is made of, how it begins, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    MemoryBus,
    NoHandlerError,
    Orchestrator,
    OrchestratorClosedError,
    Outcome,
    OutcomeKind,
    Saga,
    SagaDefinitionError,
    SagaflowError,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.sagas import Account, Deposited, Opened
from tests.semantics.support import Gate, Interrupted, Published, RecordingBus

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@frozen
class Called:
    call: str


@frozen
class Answered:
    call: str


@frozen
class Ring:
    call: str


class Call(Saga, correlate_by="call"):
    """Rings until somebody answers."""

    ringing = State()
    answered = State(final=True)

    @initially.on(Called).goto(ringing)
    async def ring(self, event: Called, ctx: Context) -> None:
        ctx.send(Ring(event.call))

    pick_up = during(ringing).on(Answered).goto(answered)


# What it is made of


class Abstract(Saga):
    """A base class without transitions."""


def another(name: str) -> type[Saga]:
    class Account(Saga, name=name):
        active = State(final=True)
        start = initially.on(Opened).goto(active)

    return Account


@frozen
class OtherDeposited:
    """Has the name of another event."""


OtherDeposited.__name__ = "Deposited"


class Bank(Saga, correlate_by="account"):
    active = State(final=True)
    start = initially.on(OtherDeposited).goto(active)


class Unstorable(Saga):
    active = State(final=True)
    lock: Path | None = None
    start = initially.on(Opened).goto(active)


@pytest.mark.parametrize(
    ("sagas", "says"),
    [
        ([], r"needs a saga class: Orchestrator\(\[OrderSaga\]"),
        ([Opened], "runs subclasses of Saga, not <class"),
        ([Account()], r"runs subclasses of Saga, not Account\("),
        (["Account"], "runs subclasses of Saga, not 'Account'"),
        ([Abstract], "Abstract: this class has no transitions to run"),
        (
            [Account, another("Account")],
            r"are stored under one name: .* class Account\(Saga, name=",
        ),
        (
            [Account, Bank],
            r"both called 'Deposited': give one another stored name with .*messages=",
        ),
        ([Unstorable], "Unstorable: the annotation 'Path' cannot be resolved"),
    ],
)
def test_what_cannot_be_run_is_refused(sagas: list[Any], says: str, memory: SagaRepository) -> None:
    with pytest.raises(SagaDefinitionError, match=says):
        Orchestrator(sagas, memory)


def test_two_message_classes_of_one_name_are_refused(memory: SagaRepository) -> None:
    with pytest.raises(SagaDefinitionError, match="both called 'Deposited'"):
        Orchestrator([Account], memory, messages=[OtherDeposited])


def test_names_given_to_message_classes_settle_a_collision(memory: SagaRepository) -> None:
    Orchestrator([Account, Bank], memory, messages={"bank.Deposited": OtherDeposited})


def test_same_class_given_twice_counts_once(memory: SagaRepository) -> None:
    Orchestrator([Account, Account], memory)


def test_name_keyword_tells_classes_of_one_name_apart(memory: SagaRepository) -> None:
    Orchestrator([Account, another("OtherAccount")], memory)


# Its life


async def test_works_without_being_entered(repository: SagaRepository, clock: ManualClock) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Call], repository, clock=clock, bus=bus)
    await orchestrator.handle(Called("c"))
    assert bus.bodies == [Ring("c")]  # all of its work is done before it returns
    instance = await orchestrator.find(Call, "c")
    assert instance is not None
    assert instance.outbox == ()


async def test_not_entered_it_takes_nothing_from_the_bus(
    clock: ManualClock, memory: SagaRepository
) -> None:
    bus = MemoryBus()
    Orchestrator([Call], memory, clock=clock, bus=bus)
    await bus.publish(Called("c"))
    assert await memory.count_states("Call") == {}


async def test_entered_it_takes_events_from_the_bus_and_answers_to_what_it_sends(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()

    @bus.subscribe(Ring)
    async def answer(command: Ring) -> None:
        await bus.publish(Answered(command.call))

    async with Orchestrator([Call], repository, clock=clock, bus=bus) as orchestrator:
        await bus.publish(Called("c"), message_id="m-1")
        outcome = await orchestrator.handle(Called("d"))
        assert outcome.kind is OutcomeKind.STARTED
        instance = await orchestrator.find(Call, "d")
        assert instance is not None
        assert instance.state == Call.answered  # handle() returns when all of it is done
    for correlation_id in ("c", "d"):
        instance = await repository.find(Call, correlation_id)
        assert instance is not None
        assert (instance.state, instance.outbox) == (Call.answered, ())


async def test_same_message_from_the_bus_twice_is_a_duplicate(
    clock: ManualClock, memory: SagaRepository
) -> None:
    bus = MemoryBus()
    async with Orchestrator([Account], memory, clock=clock, bus=bus):
        await bus.publish(Opened("a"))
        for _ in range(2):
            await bus.publish(Deposited("a", 5), message_id="m-1")
    instance = await memory.find(Account, "a")
    assert instance is not None
    assert instance.saga.entries == [5]


async def test_cannot_be_entered_twice(clock: ManualClock, memory: SagaRepository) -> None:
    orchestrator = Orchestrator([Call], memory, clock=clock)
    async with orchestrator:
        with pytest.raises(SagaflowError, match="entered once: make another one"):
            await orchestrator.__aenter__()
    with pytest.raises(SagaflowError, match="entered once: make another one"):
        await orchestrator.__aenter__()


async def test_closed_it_takes_nothing(clock: ManualClock, memory: SagaRepository) -> None:
    bus = RecordingBus()
    async with Orchestrator([Call], memory, clock=clock, bus=bus) as orchestrator:
        pass
    with pytest.raises(OrchestratorClosedError, match="use it inside its `async with` block"):
        await orchestrator.handle(Called("c"))
    with pytest.raises(OrchestratorClosedError):
        await orchestrator.run_due()
    assert await memory.count_states("Call") == {}


async def test_closed_it_no_longer_listens(clock: ManualClock, memory: SagaRepository) -> None:
    bus = MemoryBus()
    async with Orchestrator([Call], memory, clock=clock, bus=bus):
        pass
    await bus.publish(Called("c"))
    with pytest.raises(NoHandlerError):
        await bus.publish(Called("c"), headers={"kind": "command"})
    assert await memory.count_states("Call") == {}


async def test_closed_it_refuses_what_a_bus_without_unsubscribe_still_delivers(
    clock: ManualClock, memory: SagaRepository
) -> None:
    bus = MemoryBus()

    class OnlyTwoMethods:
        subscribe = bus.subscribe
        publish = bus.publish

    only: Any = OnlyTwoMethods()
    async with Orchestrator([Call], memory, clock=clock, bus=only):
        pass
    with pytest.raises(OrchestratorClosedError):
        await bus.publish(Called("c"))


async def test_closing_waits_for_what_is_being_sent_and_takes_the_answers(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, ringing, go_on = MemoryBus(), anyio.Event(), anyio.Event()

    @bus.subscribe(Ring)
    async def answer(command: Ring) -> None:
        ringing.set()
        await go_on.wait()
        await bus.publish(Answered(command.call))

    async with (
        anyio.create_task_group() as tasks,
        Orchestrator([Call], repository, clock=clock, bus=bus),
    ):
        await bus.publish(Called("c"))
        await ringing.wait()
        tasks.start_soon(_set, go_on)
    instance = await repository.find(Call, "c")
    assert instance is not None
    assert (instance.state, instance.outbox) == (Call.answered, ())


async def _set(event: anyio.Event) -> None:
    event.set()


class BreakError(Exception):
    """Raised in the body of the async with."""


async def test_exception_in_the_body_cancels_what_is_being_sent_and_comes_out_as_it_is(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus, ringing = MemoryBus(), anyio.Event()
    cancelled: list[str] = []

    @bus.subscribe(Ring)
    async def hang(command: Ring) -> None:
        ringing.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(command.call)

    orchestrator = Orchestrator([Call], repository, clock=clock, bus=bus)
    with pytest.raises(BreakError):
        async with orchestrator:
            await bus.publish(Called("c"))
            await ringing.wait()
            raise BreakError
    assert cancelled == ["c"]
    with pytest.raises(OrchestratorClosedError):
        await orchestrator.handle(Called("c"))
    # The command was not taken to its end: it is sent again, by whoever comes next.
    fresh = RecordingBus()
    assert await Orchestrator([Call], repository, clock=clock, bus=fresh).run_due() == 1
    assert fresh.bodies == [Ring("c")]


async def test_cancellation_of_the_body_goes_on_outside(
    clock: ManualClock, memory: SagaRepository
) -> None:
    bus, ringing = MemoryBus(), anyio.Event()

    @bus.subscribe(Ring)
    async def hang(_: Ring) -> None:
        ringing.set()
        await anyio.sleep_forever()

    reached: list[str] = []
    with anyio.CancelScope() as scope:
        async with Orchestrator([Call], memory, clock=clock, bus=bus):
            await bus.publish(Called("c"))
            await ringing.wait()
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            reached.append("body")
        reached.append("behind")
    assert scope.cancelled_caught
    assert reached == []


async def test_group_raised_in_the_body_comes_out_as_it_is(
    clock: ManualClock, memory: SagaRepository
) -> None:
    error = ExceptionGroup("mine", [BreakError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with Orchestrator([Call], memory, clock=clock):
            raise error
    assert caught.value is error


async def test_event_in_flight_when_it_closes_is_told_truly(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It was accepted and is stored, so that is what its caller learns."""

    bus, gate = RecordingBus(), Gate()
    slow = Interrupted(repository, insert=gate.hold)
    outcomes: list[Outcome] = []
    async with anyio.create_task_group() as tasks:
        async with Orchestrator([Call], slow, clock=clock, bus=bus) as orchestrator:

            async def handle() -> None:
                outcomes.append(await orchestrator.handle(Called("c")))

            tasks.start_soon(handle)
            await gate.begun.wait()
        gate.go_on.set()
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.STARTED]
    fresh = RecordingBus()
    await Orchestrator([Call], repository, clock=clock, bus=fresh).run_due()
    assert [*bus.bodies, *fresh.bodies] == [Ring("c")]


async def test_handle_cancelled_while_its_messages_are_sent_leaves_that_to_the_background(
    repository: SagaRepository, clock: ManualClock
) -> None:
    ringing, go_on = anyio.Event(), anyio.Event()

    async def pause(_: Published) -> None:
        ringing.set()
        await go_on.wait()

    bus = RecordingBus(on_publish=pause)
    async with Orchestrator([Call], repository, clock=clock, bus=bus) as orchestrator:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orchestrator.handle, Called("c"))
            await ringing.wait()
            tasks.cancel_scope.cancel()
        assert bus.bodies == []
        go_on.set()
    assert bus.bodies == [Ring("c")]
    instance = await repository.find(Call, "c")
    assert instance is not None
    assert instance.outbox == ()


async def test_handle_within_a_handler_of_the_bus_does_not_wait_for_itself(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """What it sends to the same saga would wait behind the message that is being handled."""
    bus = MemoryBus()
    outcomes: list[Outcome] = []
    async with Orchestrator([Call], repository, clock=clock, bus=bus) as orchestrator:

        @bus.subscribe(Ring)
        async def answer(command: Ring) -> None:
            outcomes.append(await orchestrator.handle(Answered(command.call)))
            outcomes.append(await orchestrator.handle(Called("d" if command.call == "c" else "c")))

        with anyio.fail_after(20):
            await orchestrator.handle(Called("c"))
    assert [(o.correlation_id, o.kind) for o in outcomes] == [
        ("c", OutcomeKind.TRANSITIONED),
        ("d", OutcomeKind.STARTED),
        ("d", OutcomeKind.TRANSITIONED),
        ("c", OutcomeKind.FINISHED),
    ]
    instance = await repository.find(Call, "d")
    assert instance is not None
    assert (instance.state, instance.outbox) == (Call.answered, ())
