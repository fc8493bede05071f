"""A saga in a state that its class does not know is left alone, for code that knows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    MemoryBus,
    OperationError,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaId,
    SagaRepository,
    State,
    Status,
    UnknownStateError,
    during,
    during_any,
    initially,
    migrates,
)
from sagaflow._codec.selection import Part
from sagaflow._model.record import Lease
from sagaflow.testing import ManualClock
from tests.semantics.support import Passing, stored, stored_bytes

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


@frozen
class Placed:
    order: str


@frozen
class Paid:
    order: str


@frozen
class Checked:
    order: str


@frozen
class Refused:
    order: str


@frozen
class Check:
    order: str


class Old(Saga, name="Order", correlate_by="order"):
    awaiting_money = State()
    packing = State(final=True)
    expired = State(final=True)

    start = initially.on(Placed).goto(awaiting_money)
    pay = during(awaiting_money).on(Paid).goto(packing)
    expire = during(awaiting_money).after(30 * MINUTE).goto(expired)


class New(Saga, name="Order", correlate_by="order"):
    """Checks what was paid, in a state that is new; no schema says so."""

    awaiting_money = State()
    checking = State()
    packing = State(final=True)
    expired = State(final=True)
    refused = State(final=True)

    start = initially.on(Placed).goto(awaiting_money)
    expire = during(awaiting_money).after(30 * MINUTE).goto(expired)

    @during(awaiting_money).on(Paid).goto(checking)
    def pay(self, event: Paid, ctx: Context) -> None:
        ctx.send(Check(event.order))

    checked = during(checking).on(Checked).goto(packing)
    doubt = during(checking).after(30 * MINUTE).goto(refused)
    refuse = during_any.on(Refused).goto(refused)


class Renamed(Saga, name="Order", correlate_by="order"):
    """Calls a state otherwise, and nobody thought of those that are in it."""

    awaiting_payment = State()
    packing = State(final=True)
    expired = State(final=True)

    start = initially.on(Placed).goto(awaiting_payment)
    pay = during(awaiting_payment).on(Paid).goto(packing)
    expire = during(awaiting_payment).after(30 * MINUTE).goto(expired)


class Mended(Saga, name="Order", correlate_by="order", schema=2):
    awaiting_payment = State()
    packing = State(final=True)
    expired = State(final=True)

    names = migrates(1, 2, renamed={"awaiting_money": "awaiting_payment"})

    start = initially.on(Placed).goto(awaiting_payment)
    pay = during(awaiting_payment).on(Paid).goto(packing)
    expire = during(awaiting_payment).after(30 * MINUTE).goto(expired)


def run(saga: type[Saga], repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    return Orchestrator([saga], repository, clock=clock)


async def test_forgotten_state_loses_nothing(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Events are refused and timers wait, until code that knows the state takes both."""
    for order in ("paid", "late", "third"):
        await run(Old, repository, clock).handle(Placed(order))
    forgotten = run(Renamed, repository, clock)
    before = await stored_bytes(repository, Old, "paid")
    with pytest.raises(UnknownStateError, match=r"'awaiting_money'.* put the state back") as caught:
        await forgotten.handle(Paid("paid"), message_id="pay")
    assert (caught.value.saga, caught.value.correlation_id) == ("Order", "paid")
    assert await stored_bytes(repository, Old, "paid") == before
    mended = run(Mended, repository, clock)
    assert (await mended.handle(Paid("paid"), message_id="pay")).state == Mended.packing
    before = await stored_bytes(repository, Old, "late")
    for _ in range(3):
        clock.advance(31 * MINUTE)
        assert await forgotten.run_due() == 0
    assert await stored_bytes(repository, Old, "late") == before
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    assert "in this state are passed over silently" in caplog.text
    assert await mended.run_due() == 2
    late = await mended.find(Mended, "late")
    assert late is not None and late.state == Mended.expired


async def test_forgotten_state_is_found_and_counted(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await run(Old, repository, clock).handle(Placed("o"))
    found = await repository.find(Renamed, "o")
    assert found is not None and found.state.name == "awaiting_money"
    assert [one.correlation_id async for one in repository.find_stale(Renamed, -MINUTE)] == ["o"]
    counted = {state.name: n for state, n in (await repository.count_by_state(Renamed)).items()}
    assert counted["awaiting_money"] == 1
    traits = [one async for one in repository.survey(Renamed) if one.part is Part.STATE]
    assert [(one.state, one.count) for one in traits] == [("awaiting_money", 1)]
    (left,) = [one async for one in repository.unreadable(Renamed)]
    assert left.correlation_id == "o"
    assert isinstance(left.error, UnknownStateError)


async def test_operator_ends_it_in_a_state_that_is_known(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Nothing else can be said of it: to go on from a state, it has to be known."""
    await run(Old, repository, clock).handle(Placed("o"))
    forgotten = run(Renamed, repository, clock)
    before = await stored_bytes(repository, Old, "o")
    with pytest.raises(UnknownStateError):
        await forgotten.cancel(Renamed, "o")
    with pytest.raises(UnknownStateError):
        await forgotten.retry(Renamed, "o")
    with pytest.raises(OperationError, match="only a suspended saga"):
        await forgotten.skip(Renamed, "o")
    assert await stored_bytes(repository, Old, "o") == before
    await forgotten.cancel(Renamed, "o", state=Renamed.expired)
    found = await forgotten.find(Renamed, "o")
    assert found is not None
    assert (found.state, found.status) == (Renamed.expired, Status.FINISHED)


async def test_suspended_saga_in_an_unknown_state_stays_suspended(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Failing(Saga, name="Order", correlate_by="order"):
        awaiting_money = State()
        packing = State(final=True)

        start = initially.on(Placed).goto(awaiting_money)

        @during(awaiting_money).on(Paid).goto(packing)
        def pay(self, event: Paid, ctx: Context) -> None:
            raise OSError("no")

    bus, policy = MemoryBus(), RetryPolicy(max_age=timedelta(milliseconds=1))
    failing = Orchestrator(
        [Failing], repository, clock=clock, bus=bus, retry=policy, background=False
    )
    async with failing:
        await failing.handle(Placed("o"))
        await bus.publish(Paid("o"))
        clock.advance(MINUTE)
        await failing.run_due()
    found = await failing.find(Failing, "o")
    assert found is not None and found.status is Status.SUSPENDED
    forgotten, before = run(Renamed, repository, clock), await stored_bytes(repository, Old, "o")
    for operation in (forgotten.retry, forgotten.resume, forgotten.skip):
        with pytest.raises(UnknownStateError):
            await operation(Renamed, "o")
    assert await stored_bytes(repository, Old, "o") == before


# A rolling deployment: both versions at once


@pytest.mark.parametrize("first", ["old", "new"])
async def test_old_and_new_code_run_side_by_side(
    repository: SagaRepository, clock: ManualClock, first: str
) -> None:
    """Whichever meets a saga first: what is of the new state is done by the new code, once."""
    old, new = run(Old, repository, clock), run(New, repository, clock)
    turns = (old, new) if first == "old" else (new, old)
    for order in ("checked", "doubted", "unpaid"):
        await turns[0].handle(Placed(order))
    for order in ("checked", "doubted"):
        assert (await new.handle(Paid(order), message_id=f"pay-{order}")).state == New.checking
    # The event of the new state, which the old code does not even take.
    with pytest.raises(UnknownStateError):
        await old.handle(Paid("checked"), message_id="again")
    assert (await new.handle(Paid("checked"), message_id="pay-checked")).kind is (
        OutcomeKind.DUPLICATE
    )
    assert (await new.handle(Checked("checked"))).state == New.packing
    # The timer of the new state.
    clock.advance(31 * MINUTE)
    for one in turns:
        await one.run_due()
    states = {
        order: document["state"]
        for order in ("checked", "doubted", "unpaid")
        if (document := await stored(repository, New, order)) is not None
    }
    assert states == {"checked": "packing", "doubted": "refused", "unpaid": "expired"}


async def test_workers_of_the_old_code_take_nothing_from_the_new(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Not even for the time of a lease."""
    await run(New, repository, clock).handle(Placed("o"))
    await run(New, repository, clock).handle(Paid("o"))
    clock.advance(31 * MINUTE)
    before, soon = await stored_bytes(repository, New, "o"), timedelta(milliseconds=1)
    swept, claimed = anyio.Event(), list[SagaId]()

    class Watched(Passing):
        sweeps = 0

        async def claim(
            self,
            saga: str,
            correlation_id: SagaId,
            lease: Lease,
            now: datetime,
            *,
            schema: int | None = None,
        ) -> bool:
            claimed.append(correlation_id)
            return await super().claim(saga, correlation_id, lease, now, schema=schema)

        def due(
            self,
            saga: str,
            now: datetime,
            *,
            unclaimed: bool,
            schema: int | None = None,
            limit: int | None = None,
        ) -> AsyncIterator[SagaId]:
            if self.sweeps:  # the one before has ended
                swept.set()
            self.sweeps += 1
            return super().due(saga, now, unclaimed=unclaimed, schema=schema, limit=limit)

    # Nobody asks for its health before: that too looks at what is due, and sets it aside.
    async with Orchestrator([Old], Watched(repository), clock=clock, poll_interval=soon) as old:
        await swept.wait()
        assert claimed == []
        assert (await old.health()).newer == 1
        assert await stored_bytes(repository, New, "o") == before
    assert await run(New, repository, clock).run_due() == 1
    found: Any = await stored(repository, New, "o")
    assert found["state"] == "refused"
