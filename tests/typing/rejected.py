"""Wrong usage, which both mypy and pyright must reject. Only type checked, never run.

Each wrong line says what each of them complains about; a comment without a complaint is an error
itself. For pyright that takes `pyright -p tests/typing`: elsewhere it honours the comments for
mypy, too, and stops there.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from datetime import timedelta

from attrs import frozen

from sagaflow import (
    Context,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    RetryPolicy,
    Saga,
    Secret,
    State,
    compensates,
    during,
    during_any,
    initially,
    migrates,
)
from sagaflow.bus import Rate
from sagaflow.testing import AsyncSagaTest, SagaTest


@frozen
class Placed:
    order_id: str


@frozen
class Paid:
    order_id: str


@frozen
class PaidByCard(Paid):
    card: str


@frozen
class Shipped:
    number: int


def key_of(event: Paid) -> str:
    return event.order_id


def seconds_of(event: Paid) -> float:
    return 1.0


def is_large(saga: object, event: Shipped) -> bool:
    return event.number > 1


class Order(Saga):
    """One mistake per transition."""

    unpaid = State()
    paid = State()
    done = State(final=True)

    number: int = 0

    # The event of the handler is not that of its chain.

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def wrong_event(self, event: Paid, ctx: Context) -> None: ...

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    def wrong_event_sync(self, event: Paid, ctx: Context) -> None: ...

    @during(unpaid).on(Paid).goto(paid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def only_a_subclass(self, event: PaidByCard, ctx: Context) -> None: ...

    @during(unpaid).on(Paid, Shipped).goto(paid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def one_of_two_events(self, event: Paid, ctx: Context) -> None: ...

    @during(unpaid).on(Shipped).goto(paid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    @during(paid).on(Paid).stay()
    async def upper_of_two_chains(self, event: Paid, ctx: Context) -> None: ...

    @during(unpaid).on(Shipped).goto(paid)  # type: ignore[call-overload]
    @during(paid).on(Paid).stay()  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def lower_of_two_chains(self, event: Shipped, ctx: Context) -> None: ...

    # Its other parameters are wrong.

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def no_context(self, event: Placed) -> None: ...

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    def no_context_sync(self, event: Placed) -> None: ...

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def other_context(self, event: Placed, ctx: str) -> None: ...

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def one_more(self, event: Placed, ctx: Context, more: int) -> None: ...

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def swapped(self, ctx: Context, event: Placed) -> None: ...

    # What it returns is not what its chain asks for.

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def goto_returns_state(self, event: Placed, ctx: Context) -> State:
        return self.unpaid

    @initially.on(Placed).goto(unpaid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    def goto_returns_state_sync(self, event: Placed, ctx: Context) -> State:
        return self.unpaid

    @during(unpaid).on(Paid).stay()  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def stay_returns_state(self, event: Paid, ctx: Context) -> State:
        return self.unpaid

    @during(unpaid).on(Paid).branch(paid, done)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def branch_returns_none(self, event: Paid, ctx: Context) -> None: ...

    @during(unpaid).on(Paid).branch(paid, done)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    def branch_returns_none_sync(self, event: Paid, ctx: Context) -> None: ...

    @during(unpaid).on(Paid).branch(paid, done)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def branch_may_return_none(self, event: Paid, ctx: Context) -> State | None: ...

    @during(unpaid).on(Paid).compensate().branch(paid, done)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def branch_returns_name(self, event: Paid, ctx: Context) -> str:
        return "paid"

    # Names that do not exist.

    misspelt_state = during(unpiad).on(Paid).goto(paid)  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]
    misspelt_target = during(unpaid).on(Paid).goto(piad)  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]
    misspelt_event = during(unpaid).on(Piad).goto(paid)  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]

    @compensates(wrong_evnet)  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]
    async def misspelt_step(self, event: Paid, ctx: Context) -> None: ...

    # Something else than a state, an event, a predicate.

    name_of_state = during("unpaid").on(Paid).goto(paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    name_of_target = during(unpaid).on(Paid).goto("paid")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    name_in_branch = during(unpaid).on(Paid).branch(paid, "done")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    name_after_compensate = during(unpaid).on(Paid).compensate().goto("paid")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    no_target = during(unpaid).on(Paid).goto()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    no_branch = during(unpaid).on(Paid).branch()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    no_event = during(unpaid).on().goto(paid)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    no_class = during(unpaid).on(Paid("o-1")).goto(paid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    name_of_event = during(unpaid).on("Paid").goto(paid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    predicate_of_other_event = during(unpaid).on(Paid).when(is_large).goto(paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    predicate_of_the_event_only = during(unpaid).on(Paid).when(key_of).goto(paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    # A chain that cannot go on like this.

    no_source = during.on(Paid).goto(paid)  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    no_on = during(unpaid).goto(paid)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    stay_after_compensate = during(unpaid).on(Paid).compensate().stay()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    goto_twice = during(unpaid).on(Paid).goto(paid).goto(done)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

    @during(unpaid)  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    def without_event(self, event: Paid, ctx: Context) -> None: ...

    @during(unpaid).on(Paid)  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    def without_end(self, event: Paid, ctx: Context) -> None: ...

    @initially  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    def without_anything(self, event: Placed, ctx: Context) -> None: ...

    # by= that does not fit the event.

    by_of_other_event = during(unpaid).on(Shipped, by=key_of).goto(paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_of_one_event = during(unpaid).on(Paid, Shipped, by=key_of).goto(paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_that_gives_no_id = during(unpaid).on(Paid, by=seconds_of).goto(paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_number = during(unpaid).on(Paid, by=7).goto(paid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

    # Compensations.

    step = during(unpaid).on(Paid).goto(paid)

    @compensates(step)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def undo_other_event(self, event: Shipped, ctx: Context) -> None: ...

    @compensates(step)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    def undo_without_context(self, event: Paid) -> None: ...

    @compensates(step)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def undo_that_returns(self, event: Paid, ctx: Context) -> State:
        return self.paid

    @during(unpaid).on(Shipped).stay()
    async def ship(self, event: Shipped, ctx: Context) -> None: ...

    @compensates(ship)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    async def unship_other_event(self, event: Paid, ctx: Context) -> None: ...

    @compensates("ship")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async def undo_name(self, event: Shipped, ctx: Context) -> None: ...

    @compensates(unpaid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async def undo_state(self, event: Shipped, ctx: Context) -> None: ...

    # Handlers that are used wrongly.

    @during_any.on(Paid).stay()
    async def pay(self, event: Paid, ctx: Context) -> None:
        ctx.state = self.done  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        ctx.version = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        ctx.now = ctx.now  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        ctx.services = ctx.services  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        ctx.sned(event)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        self.number = "seven"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
        await self.pay(Shipped(1), ctx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await self.pay(event)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        await self.ship(event, ctx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class WebOrder(Order):
    """An override that does not fit, and names of the base class that do not exist."""

    misspelt_inherited_state = during(Order.unpiad).on(Paid).goto(Order.paid)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]

    @compensates(Order.pya)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    async def misspelt_inherited_step(self, event: Paid, ctx: Context) -> None: ...

    async def pay(self, event: Shipped, ctx: Context) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]


async def use(ctx: Context) -> None:
    Order(nubmer=7)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Order(number="seven")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Order(7)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    misspelt = Order.unpiad  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(misspelt)
    Order.unpaid.final = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    State(name="unpaid")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    State("unpaid", True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Order().pay(Placed("o-1"), ctx)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Evolved(Saga, schema=2):
    """Migrations that do not fit."""

    card: Secret[str] = 7  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    @migrates(1, 2)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    @staticmethod
    def takes_a_list(data: list[str]) -> None: ...

    @migrates(1, 2)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    @staticmethod
    async def waits(data: dict[str, object]) -> None: ...

    misspelt = migrates(1, 2, renamd={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


class Numbered(Saga, schema="2"):  # pyright: ignore[reportArgumentType]
    """A schema that is no number."""


class Other(Saga):
    """A saga of another kind."""

    start = initially.on(Placed).goto(State("other", final=True))


def test_a_saga() -> None:
    test = SagaTest(Order)
    test.then(lambda saga: saga.nubmer > 1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType]
    test.then(lambda saga: saga.number)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    test.then(key_of)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.then(state="paid")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.then(data=Other())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.then(sent=Placed("o-1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.then(timers={"give_up": 30})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    test.then(stat=Order.paid)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    test.when(Placed("o-1"), raises=ValueError("no"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.given_state("paid")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.given_state(Order.paid, Other())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.advance(30)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.on(Placed).reply(key_of)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    test.on(Placed).reply(lambda command: command.nubmer)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType]
    test.on(Placed).reply("paid")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    test.on(Placed).reply(Paid("o-1"), after=30)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    test.on(Placed).raises(ValueError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    test.on(Placed("o-1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SagaTest(Placed)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    SagaTest(Order, runtime="curio")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def run_a_saga(orchestrator: Orchestrator) -> None:
    await orchestrator.handle(Placed("o-1"), message_id=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await orchestrator.handle(Placed("o-1"), message_id=Placed("m-1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await orchestrator.handle(Placed("o-1"), correlation_id={"o": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await orchestrator.cancel(Order, "o-1", state="failed")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await orchestrator.wait_for(Order, "o-1")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await orchestrator.wait_for(Order, "o-1", finished=False)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await orchestrator.wait_for(Order, "o-1", finished=True, state=Order.paid)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await orchestrator.wait_for(Order, "o-1", finished=True, timeout=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Orchestrator([Order], MemoryRepository(), observers=print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Orchestrator([Order], MemoryRepository(), poll_interval=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(max_age=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_saga_in_a_coroutine() -> None:
    test = AsyncSagaTest(Order)
    test.when(Placed("o-1"))  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    test.when(Placed("o-1")).then()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    await test.then()  # type: ignore[func-returns-value, misc]  # pyright: ignore[reportGeneralTypeIssues]


def limits(bus: MemoryBus) -> None:
    bus.subscribe(Placed, print, rate=50)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    bus.subscribe(Placed, print, concurrency=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    bus.subscribe(Placed, print, Rate(50, per=timedelta(seconds=1)))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Rate(50, per=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Rate(50, timedelta(seconds=1))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
