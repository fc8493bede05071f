"""A handler that raises has done nothing."""

from __future__ import annotations

import inspect
from typing import NoReturn, cast

import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    LimitExceededError,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaDefinitionError,
    SagaRepository,
    SerializationError,
    State,
    compensates,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.support import RecordingBus, stored, stored_bytes

pytestmark = pytest.mark.anyio


class OutOfOrderError(Exception):
    """What the handlers of these tests raise."""


@frozen
class Ordered:
    machine: str
    fails: bool = False


@frozen
class Used:
    machine: str
    fails: bool = False


@frozen
class UsedQuickly:
    machine: str
    fails: bool = False


@frozen
class Inspected:
    machine: str


@frozen
class Scrapped:
    machine: str
    where: object = None


@frozen
class Ship:
    machine: str


@frozen
class Recycle:
    content: object


def explode(saga: Machine, event: Inspected) -> bool:
    saga.used += 100  # a guard must not do this; it comes to nothing
    raise OutOfOrderError("guard")


class Machine(Saga, correlate_by="machine"):
    ready = State()
    inspected = State()
    scrapped = State(final=True)

    used: int = 0
    log: list[str] = field(factory=list[str])

    @initially.on(Ordered).goto(ready)
    async def order(self, event: Ordered, ctx: Context) -> None:
        ctx.send(Ship(event.machine))
        if event.fails:
            raise OutOfOrderError("start")

    @during(ready).on(Used).stay()
    async def use(self, event: Used, ctx: Context) -> None:
        self._run(event.fails, ctx)

    @during(ready).on(UsedQuickly).stay()
    def use_quickly(self, event: UsedQuickly, ctx: Context) -> None:
        self._run(event.fails, ctx)

    @compensates(use)
    def clean(self, event: Used, ctx: Context) -> None: ...

    def _run(self, fails: bool, ctx: Context) -> None:
        self.used += 1
        self.log.append("used")
        ctx.send(Ship("spare part"))
        ctx.publish(Ship("spare part"))
        ctx.compensate()
        ctx.add_compensation(self.release, "spare part")
        if fails:
            raise OutOfOrderError("later")

    def release(self, part: str, ctx: Context) -> None: ...

    inspect = during(ready).on(Inspected).when(explode).goto(inspected)
    other = during(ready).on(Inspected).goto(inspected)

    @during(ready, inspected).on(Scrapped).goto(scrapped)
    async def scrap(self, event: Scrapped, ctx: Context) -> None:
        return cast("None", event.where)  # a state, which the type checkers would refuse


async def test_failing_start_stores_and_sends_nothing(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Machine], repository, clock=clock, bus=bus)
    with pytest.raises(OutOfOrderError, match="start"):
        await orchestrator.handle(Ordered("x", fails=True), message_id="m-1")
    assert await stored(repository, Machine, "x") is None
    assert bus.attempts == []
    # It was not handled, so that it can be delivered again.
    outcome = await orchestrator.handle(Ordered("x"), message_id="m-1")
    assert outcome.kind is OutcomeKind.STARTED


@pytest.mark.parametrize("event_type", [Used, UsedQuickly], ids=["async", "sync"])
async def test_failing_handler_stores_and_sends_nothing(
    event_type: type[Used | UsedQuickly], repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Machine], repository, clock=clock, bus=bus)
    await orchestrator.handle(Ordered("x"))
    before = await stored_bytes(repository, Machine, "x")
    with pytest.raises(OutOfOrderError, match="later"):
        await orchestrator.handle(event_type("x", fails=True), message_id="m-1")
    assert await stored_bytes(repository, Machine, "x") == before
    assert bus.bodies == [Ship("x")]
    outcome = await orchestrator.handle(event_type("x"), message_id="m-1")
    assert outcome.kind is OutcomeKind.STAYED
    instance = await orchestrator.find(Machine, "x")
    assert instance is not None
    assert (instance.saga.used, instance.saga.log) == (1, ["used"])  # nothing of the failed run


async def test_failing_guard_stores_nothing(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = Orchestrator([Machine], repository, clock=clock)
    await orchestrator.handle(Ordered("x"))
    before = await stored_bytes(repository, Machine, "x")
    with pytest.raises(OutOfOrderError, match="guard"):
        await orchestrator.handle(Inspected("x"))
    assert await stored_bytes(repository, Machine, "x") == before


async def test_failing_correlation_stores_nothing(
    clock: ManualClock, memory: SagaRepository
) -> None:
    def explode_early(_: Ordered) -> NoReturn:
        raise OutOfOrderError("by")

    class Odd(Saga):
        ready = State(final=True)
        start = initially.on(Ordered, by=explode_early).goto(ready)

    with pytest.raises(Exception, match="by= callable of Ordered raised OutOfOrderError: by") as e:
        await Orchestrator([Odd], memory, clock=clock).handle(Ordered("x"))
    assert isinstance(e.value.__cause__, OutOfOrderError)
    assert await memory.count_states("Odd") == {}


async def test_goto_handler_that_returns_a_state_is_refused_and_stores_nothing(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Machine], memory, clock=clock)
    await orchestrator.handle(Ordered("x"))
    before = await stored_bytes(memory, Machine, "x")
    with pytest.raises(SagaDefinitionError, match=r"chain ends with \.goto\(\)") as caught:
        await orchestrator.handle(Scrapped("x", Machine.inspected))
    error = caught.value
    assert (error.saga, error.method) == ("Machine", "scrap")
    assert error.filename == __file__
    assert line_of(Machine.scrap) == error.line
    assert await stored_bytes(memory, Machine, "x") == before


async def test_stay_handler_that_returns_a_state_is_refused(
    clock: ManualClock, memory: SagaRepository
) -> None:
    class Stubborn(Saga, correlate_by="machine"):
        ready = State()
        gone = State(final=True)
        order = initially.on(Ordered).goto(ready)

        @during(ready).on(Used).stay()
        def use(self, event: Used, ctx: Context) -> None:
            return cast("None", self.gone)

        leave = during(ready).on(Scrapped).goto(gone)

    orchestrator = Orchestrator([Stubborn], memory, clock=clock)
    await orchestrator.handle(Ordered("x"))
    with pytest.raises(SagaDefinitionError, match=r"chain ends with \.stay\(\)"):
        await orchestrator.handle(Used("x"))


class Sorter(Saga, correlate_by="machine"):
    ready = State()
    left = State(final=True)
    right = State(final=True)
    foreign = State(final=True)

    order = initially.on(Ordered).goto(ready)

    @during(ready).on(Scrapped).branch(left, right)
    async def sort(self, event: Scrapped, ctx: Context) -> State:
        ctx.send(Ship("somewhere"))
        return cast("State", event.where)

    never = during(ready).on(Used).goto(foreign)


@pytest.mark.parametrize("where", [Sorter.left, Sorter.right, State("left")], ids=repr)
async def test_branch_enters_the_state_that_its_handler_returns(
    where: State, clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Sorter], memory, clock=clock)
    await orchestrator.handle(Ordered("x"))
    outcome = await orchestrator.handle(Scrapped("x", where))
    assert (outcome.kind, outcome.state) == (OutcomeKind.TRANSITIONED, where)


@pytest.mark.parametrize("where", [None, "left", Sorter.foreign, Sorter.ready, 1], ids=repr)
async def test_branch_that_returns_elsewhere_is_refused_and_stores_nothing(
    where: object, repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Sorter], repository, clock=clock, bus=bus)
    await orchestrator.handle(Ordered("x"))
    before = await stored_bytes(repository, Sorter, "x")
    with pytest.raises(
        SagaDefinitionError, match="a branch handler returns left or right"
    ) as caught:
        await orchestrator.handle(Scrapped("x", where))
    error = caught.value
    assert (error.saga, error.method) == ("Sorter", "sort")
    assert (error.filename, error.line) == (__file__, line_of(Sorter.sort))
    assert f"this one returned {where!r}" in str(error)
    assert await stored_bytes(repository, Sorter, "x") == before
    assert bus.attempts == []


def line_of(method: object) -> int:
    """Return the line of the method's decorator."""
    return inspect.getsourcelines(cast("type", method))[1]


class Hoarder(Saga, correlate_by="machine"):
    ready = State()
    gone = State(final=True)

    content: object = None

    order = initially.on(Ordered).goto(ready)

    @during(ready).on(Scrapped).stay()
    def keep(self, event: Scrapped, ctx: Context) -> None:
        ctx.send(Ship("first"))
        self.content = event.where

    @during(ready).on(Used).stay()
    def recycle(self, event: Used, ctx: Context) -> None:
        ctx.send(Ship("first"))
        ctx.send(Recycle(object()))

    @during(ready).on(Inspected).goto(gone)
    def send_nonsense(self, event: Inspected, ctx: Context) -> None:
        ctx.send("nonsense")


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (Scrapped("x", object()), r"^Hoarder\.content: cannot be stored: .* type object"),
        (Used("x"), r"^Hoarder: Recycle\.content: cannot be stored: .* type object"),
        (Inspected("x"), r"^Hoarder: ctx\.send\(\) was given a str: .* attrs class"),
    ],
)
async def test_what_cannot_be_stored_is_refused_before_anything_is_sent(
    event: object, says: str, repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Hoarder], repository, clock=clock, bus=bus)
    await orchestrator.handle(Ordered("x"))
    before = await stored_bytes(repository, Hoarder, "x")
    with pytest.raises(SerializationError, match=says):
        await orchestrator.handle(event)
    assert await stored_bytes(repository, Hoarder, "x") == before
    assert bus.attempts == []


async def test_headers_that_cannot_be_stored_are_refused(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Hoarder], memory, clock=clock)
    with pytest.raises(
        SerializationError, match=r"^headers\['trace'\]: cannot be stored: .* type object"
    ):
        await orchestrator.handle(Ordered("x"), headers={"trace": object()})
    assert await memory.count_states("Hoarder") == {}


async def test_document_that_would_be_too_large_is_refused_before_anything_is_sent(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Hoarder], repository, clock=clock, bus=bus)
    await orchestrator.handle(Ordered("x"))
    before = await stored_bytes(repository, Hoarder, "x")
    says = r"17,\d{3},\d{3} bytes; .* are allowed .*'content' alone takes 17,\d{3},\d{3}"
    with pytest.raises(LimitExceededError, match=says):
        await orchestrator.handle(Scrapped("x", b"x" * 17_000_000))
    assert await stored_bytes(repository, Hoarder, "x") == before
    assert bus.attempts == []
