"""What guards and branches say, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaDefinitionError,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow.exceptions import SagaflowError
from sagaflow.testing import ManualClock

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


@frozen
class Started:
    order: str


@frozen
class Arrived:
    order: str
    part: str


@frozen
class Checked:
    order: str


ASKED = list[str]()


def _count(name: str, *, holds: bool) -> Any:
    def guard(saga: Assembly, event: object) -> bool:
        ASKED.append(f"{name} sees {sorted(saga.parts)}")
        saga.parts.add(f"{name} was here")
        return holds

    return guard


class Assembly(Saga, correlate_by="order"):
    waiting = State()
    ready = State(final=True)
    late = State(final=True)

    parts: set[str] = field(factory=set[str])

    start = initially.on(Started).when(_count("first", holds=True)).goto(waiting)

    @during(waiting).on(Arrived).branch(waiting, ready)
    async def note(self, event: Arrived, ctx: Context) -> State:
        self.parts.add(event.part)
        return self.ready if len(self.parts) == 3 else self.waiting

    hold = (
        during(waiting)
        .on(Checked)
        .when(_count("keeps", holds=True))
        .when(_count("refuses", holds=False))
        .defer()
    )

    @during(waiting).on(Checked).when(_count("holds", holds=True)).stay()
    async def check(self, event: Checked, ctx: Context) -> None:
        ASKED.append(f"check sees {sorted(self.parts)}")

    expire = during(waiting).after(60 * MINUTE).goto(late)


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


async def test_guard_is_asked_once_about_a_copy_of_its_own(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = Orchestrator([Assembly], repository, clock=clock)
    await runner.handle(Started("o"))
    await runner.handle(Checked("o"))
    assert ASKED == [
        "first sees []",
        "keeps sees []",
        "refuses sees []",
        "holds sees []",
        "check sees []",
    ]
    found = await runner.find(Assembly, "o")
    assert found is not None and found.saga.parts == set()


async def test_guard_of_a_parked_event_is_asked_about_a_copy_as_well(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Picky(Saga, correlate_by="order"):
        waiting = State()
        ready = State()
        over = State(final=True)
        parts: set[str] = field(factory=set[str])
        start = initially.on(Started).goto(waiting)
        wait = during(waiting).on(Checked).defer()
        go = during(waiting).on(Arrived).goto(ready)
        no = during(ready).on(Checked).when(_count("no", holds=False)).goto(over)
        yes = during(ready).on(Checked).when(_count("yes", holds=True)).goto(over)

    runner = Orchestrator([Picky], repository, clock=clock)
    await runner.handle(Started("o"))
    await runner.handle(Checked("o"))
    await runner.handle(Arrived("o", "a"))
    found = await runner.find(Picky, "o")
    assert found is not None and found.state == Picky.over
    assert (ASKED, found.saga.parts) == (["no sees []", "yes sees []"], set())


async def test_guard_that_turns_out_to_be_awaited_is_an_error(
    repository: SagaRepository, clock: ManualClock
) -> None:
    async def slow() -> bool:
        return False

    class Order(Saga, correlate_by="order"):
        waiting = State(final=True)
        start = initially.on(Started).when(lambda _, __: slow()).goto(waiting)  # type: ignore[arg-type, return-value]

    runner = Orchestrator([Order], repository, clock=clock)
    with pytest.raises(SagaDefinitionError, match=r"Order\.start: .* says neither yes nor no"):
        await runner.handle(Started("o"))
    assert await runner.find(Order, "o") is None


async def test_branch_into_the_present_state_neither_ends_nor_prolongs_its_timeout(
    repository: SagaRepository, clock: ManualClock
) -> None:
    runner = Orchestrator([Assembly], repository, clock=clock)
    await runner.handle(Started("o"))
    started = clock.now()
    for part in ("a", "b"):
        clock.advance(25 * MINUTE)
        outcome = await runner.handle(Arrived("o", part))
        assert (outcome.kind, outcome.state) == (OutcomeKind.STAYED, Assembly.waiting)
    waiting = await runner.find(Assembly, "o")
    assert waiting is not None
    assert [timer.due for timer in waiting.timers] == [started + 60 * MINUTE]
    assert [(entry.source, entry.target) for entry in waiting.history][1:] == [
        ("waiting", "waiting"),
        ("waiting", "waiting"),
    ]
    clock.advance(11 * MINUTE)
    await runner.run_due()
    ended = await runner.find(Assembly, "o")
    assert ended is not None
    assert (ended.state, ended.saga.parts) == (Assembly.late, {"a", "b"})


async def test_timeout_that_branches_into_the_present_state_has_elapsed(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """As with `.stay()`; `.goto()` enters the state anew."""

    class Patient(Saga, correlate_by="order"):
        waiting = State()
        over = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Checked).goto(over)

        @during(waiting).after(MINUTE).branch(waiting, over)
        async def remind(self, ctx: Context) -> State:
            return self.waiting

        @during(waiting).after(2 * MINUTE).goto(waiting)
        async def again(self, ctx: Context) -> None:
            pass

    runner = Orchestrator([Patient], repository, clock=clock)
    await runner.handle(Started("o"))
    started = clock.now()
    for minutes, armed in ((1, {2}), (2, {3, 4})):
        clock.advance(MINUTE)
        await runner.run_due()
        found = await runner.find(Patient, "o")
        assert found is not None
        assert {timer.due for timer in found.timers} == {started + n * MINUTE for n in armed}, (
            minutes
        )


KEPT = list[Context]()


class Leaky(Saga, correlate_by="order"):
    """Hands its contexts out."""

    waiting = State()
    over = State(final=True)
    start = initially.on(Started).goto(waiting)

    @during(waiting).on(Arrived).stay()
    async def note(self, event: Arrived, ctx: Context) -> None:
        KEPT.append(ctx)
        ctx.add_compensation(self.undo)
        if event.part == "broken":
            raise ValueError(event.part)

    fail = during(waiting).on(Checked).compensate().goto(over)

    def undo(self, ctx: Context) -> None:
        KEPT.append(ctx)


ASKS: dict[str, Callable[[Context], object]] = {
    "send": lambda ctx: ctx.send(Checked("o")),
    "publish": lambda ctx: ctx.publish(Checked("o")),
    "schedule": lambda ctx: ctx.schedule(Checked("o"), after=MINUTE),
    "cancel": lambda ctx: ctx.cancel("Checked"),
    "compensate": Context.compensate,
    "add_compensation": lambda ctx: ctx.add_compensation(Leaky.undo),
}


@pytest.mark.parametrize("call", ASKS)
async def test_context_takes_nothing_more_once_its_handler_has_returned(
    memory: SagaRepository, clock: ManualClock, call: str
) -> None:
    KEPT.clear()
    runner = Orchestrator([Leaky], memory, clock=clock)
    await runner.handle(Started("o"))
    await runner.handle(Arrived("o", "a"), message_id="m")
    with pytest.raises(ValueError, match="broken"):
        await runner.handle(Arrived("o", "broken"), message_id="m2")
    await runner.handle(Checked("o"))
    assert len(KEPT) == 3  # of the handler, of the one that raised, and of undoing the first
    for ctx, message_id in zip(KEPT, ("m", "m2", "m"), strict=True):
        problem = rf"Leaky 'o': ctx\.{call}\(\) was called after the handler of '{message_id}'"
        with pytest.raises(SagaflowError, match=problem):
            ASKS[call](ctx)
        assert ctx.idempotency_key()  # a fact, which is no less true now


def test_every_way_to_ask_a_context_for_something_is_tried() -> None:
    public = {name for name in vars(Context) if not name.startswith("_")}
    asks = {name for name in public if callable(getattr(Context, name))}
    assert asks - {"idempotency_key"} == set(ASKS)
