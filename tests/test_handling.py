"""Running the methods of a saga: what goes in, and what comes out in stored form."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import evolve, field, frozen

from sagaflow import (
    CompensationError,
    Context,
    RecordedCompensation,
    Saga,
    SerializationError,
    State,
    StoredMessage,
    UnknownEventError,
    compensates,
    during,
    initially,
)
from sagaflow._codec.messages import MessageTypes
from sagaflow._definition.table import TransitionRow
from sagaflow._engine.conclusion import Run, Scheduled, Undoing
from sagaflow._engine.writing import Sent
from sagaflow._model.record import SagaRecord
from sagaflow._runtime.invoke import Event, Invoker, read_saga
from sagaflow.testing import ManualClock
from tests.contract.records import record as plain_record

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@frozen
class Paid:
    amount: Decimal


@frozen
class Sorted:
    left: bool


@frozen
class Ended:
    """The end."""


@frozen
class Thanks:
    amount: Decimal


class Payment(Saga):
    waiting = State()
    left = State(final=True)
    right = State(final=True)

    total: Decimal = Decimal(0)
    log: list[str] = field(factory=list[str])

    @initially.on(Paid).goto(waiting)
    @during(waiting).on(Paid).stay()
    async def pay(self, event: Paid, ctx: Context) -> None:
        await checkpoint()
        self.total += event.amount
        ctx.send(Thanks(event.amount))
        ctx.publish(Thanks(self.total))
        ctx.add_compensation(self.forget, event.amount)

    @compensates(pay)
    async def refund(self, event: Paid, ctx: Context) -> None:
        self.total -= event.amount
        ctx.send(Thanks(-event.amount))

    def forget(self, amount: Decimal, ctx: Context) -> Awaitable[None]:
        """Returns something to await without being async itself."""
        self.log.append(f"forget {amount} at {ctx.version}")
        return checkpoint()

    @during(waiting).on(Sorted).branch(left, right)
    def sort(self, event: Sorted, ctx: Context) -> State:
        return self.left if event.left else self.right

    @during(waiting).on(Ended).compensate().goto(left)
    def end(self, event: Ended, ctx: Context) -> None:
        self.log.append("end")

    @compensates(sort)
    def unsort(self, event: Sorted, ctx: Context) -> None: ...


class Silent(Saga):
    waiting = State()
    over = State(final=True)
    begin = initially.on(Paid).goto(waiting)
    finish = during(waiting).on(Ended).goto(over)


def handling(*sagas: type[Saga]) -> Invoker:
    return Invoker(
        messages=MessageTypes(sagas or (Payment,), ()), clock=ManualClock(NOW), services=None
    )


def row(saga: type[Saga], state: str | None, event: object) -> TransitionRow:
    (found,) = saga.table.candidates(state, type(event))
    return found


def event(body: object) -> Event:
    return Event(body=body, correlation_id="p", message_id="m", headers={"trace": 1})


def record(data: dict[str, object]) -> SagaRecord:
    return plain_record("p", version=3, state="waiting", data=data)


def stored(saga: Payment) -> dict[str, Any]:
    return {"total": str(saga.total), "log": list(saga.log)}


async def test_run_of_a_handler_in_stored_form() -> None:
    saga, paid = Payment(total=Decimal(1)), Paid(Decimal("2.50"))
    before = record(stored(saga))
    found = await handling().run(row(Payment, "waiting", paid), saga, event(paid), before)
    assert found == Run(
        step="pay",
        event="Paid",
        message_id="m",
        headers={"trace": 1},
        target=None,
        compensate=False,
        data={"total": "3.50", "log": []},
        sent=(
            Sent("command", StoredMessage(type="Thanks", body={"amount": "2.50"})),
            Sent("event", StoredMessage(type="Thanks", body={"amount": "3.50"})),
        ),
        undoing=(
            Undoing(method="refund", event=StoredMessage(type="Paid", body={"amount": "2.50"})),
            Undoing(method="forget", arguments=({"@type": "Decimal", "value": "2.50"},)),
        ),
    )
    assert before.data == {"total": "1", "log": []}


async def test_run_of_a_start_has_a_target() -> None:
    paid = Paid(Decimal(1))
    found = await handling().run(row(Payment, None, paid), Payment(), event(paid), None)
    assert found.target == Payment.waiting


async def test_transition_without_code_leaves_everything_as_it_is() -> None:
    ended = Ended()
    found = await handling(Silent).run(
        row(Silent, "waiting", ended), Silent(), event(ended), record({})
    )
    assert (found.step, found.target, found.data) == ("finish", Silent.over, {})
    assert (found.sent, found.undoing, found.compensate) == ((), (), False)


@pytest.mark.parametrize("left", [True, False])
async def test_branch_takes_the_state_that_is_returned(left: bool) -> None:
    body = Sorted(left)
    saga = Payment()
    found = await handling().run(
        row(Payment, "waiting", body), saga, event(body), record(stored(saga))
    )
    assert found.target == (Payment.left if left else Payment.right)
    assert [undo.method for undo in found.undoing] == ["unsort"]


async def test_compensating_transition_is_no_step_to_undo() -> None:
    saga = Payment()
    found = await handling().run(
        row(Payment, "waiting", Ended()), saga, event(Ended()), record(stored(saga))
    )
    assert (found.compensate, found.undoing, found.target) == (True, (), Payment.left)


class Alarmed(Saga):
    waiting = State()
    over = State(final=True)

    log: list[str] = field(factory=list[str])

    @initially.on(Paid).goto(waiting)
    def begin(self, event: Paid, ctx: Context) -> None:
        ctx.schedule(Ended(), after=timedelta(hours=1), name="alarm")
        ctx.cancel("snooze")

    @during(waiting).on(Sorted).stay()
    def call(self, event: Sorted, ctx: Context) -> None:
        ctx.schedule(Thanks(Decimal(1)), after=timedelta(hours=1))

    @during(waiting).after(timedelta(minutes=1)).goto(over)
    def lapse(self, ctx: Context) -> None:
        self.log.append(f"{ctx.message_id} at {ctx.now.hour}")

    end = during(waiting).on(Ended).goto(over)

    @compensates(begin)
    def rewind(self, event: Paid, ctx: Context) -> None:
        ctx.schedule(Ended(), after=timedelta(hours=1))


async def test_what_a_handler_schedules_is_in_stored_form() -> None:
    paid = Paid(Decimal(1))
    found = await handling(Alarmed).run(row(Alarmed, None, paid), Alarmed(), event(paid), None)
    alarm = StoredMessage(type="Ended", body={})
    assert found.scheduled == (Scheduled(name="alarm", event=alarm, due=NOW + timedelta(hours=1)),)
    assert found.unscheduled == {"snooze"}


async def test_event_that_the_saga_does_not_take_cannot_be_scheduled() -> None:
    body = Sorted(left=True)
    with pytest.raises(UnknownEventError, match=r"no saga takes Thanks.* runs Alarmed"):
        await handling(Alarmed).run(
            row(Alarmed, "waiting", body), Alarmed(), event(body), record({})
        )


async def test_handler_of_a_timeout_is_given_the_context_only() -> None:
    (timeout,) = Alarmed.table.timeouts("waiting")
    saga = Alarmed()
    found = await handling(Alarmed).run(timeout, saga, event(None), record({}))
    assert saga.log == ["m at 0"]
    assert (found.event, found.target, found.undoing) == ("timeout", Alarmed.over, ())


async def test_compensation_cannot_schedule() -> None:
    entry = declared(step="begin", method="rewind")
    with pytest.raises(CompensationError, match="'rewind' can send and publish, but not"):
        await handling(Alarmed).undo(Alarmed(), entry, record({}))


def declared(**changes: Any) -> RecordedCompensation:
    plain = RecordedCompensation(
        id="1.1",
        step="pay",
        method="refund",
        event=StoredMessage(type="Paid", body={"amount": "2.50"}),
        message_id="m-1",
    )
    return evolve(plain, **changes)


async def test_undoing_a_declared_step_calls_its_method_with_the_event() -> None:
    saga = Payment(total=Decimal(3))
    data, sent = await handling().undo(saga, declared(), record(stored(saga)))
    assert data == {"total": "0.50", "log": []}
    assert sent == (Sent("command", StoredMessage(type="Thanks", body={"amount": "-2.50"})),)


async def test_undoing_an_added_one_calls_its_method_with_the_arguments() -> None:
    saga = Payment()
    added = declared(
        method="forget", event=None, arguments=({"@type": "Decimal", "value": "2.50"},)
    )
    data, sent = await handling().undo(saga, added, record(stored(saga)))
    assert data["log"] == ["forget 2.50 at 3"]
    assert sent == ()


async def test_method_that_is_gone_is_named() -> None:
    with pytest.raises(CompensationError, match=r"^Payment 'p': undoing 'pay': .* method 'gone'"):
        await handling().undo(Payment(), declared(method="gone"), record({}))


async def test_event_that_is_not_known_any_more_is_named() -> None:
    unknown = declared(event=StoredMessage(type="Settled", body={}))
    with pytest.raises(
        SerializationError, match=r"^Payment: compensation of pay: .* 'Settled' is not known"
    ):
        await handling().undo(Payment(), unknown, record({}))


async def test_event_that_does_not_fit_its_class_any_more_is_named() -> None:
    changed = declared(event=StoredMessage(type="Paid", body={"amount": 7}))
    with pytest.raises(SerializationError, match=r"^Payment: compensation of pay: Paid.*amount"):
        await handling().undo(Payment(), changed, record({}))


def test_saga_is_read_as_a_copy_of_its_own() -> None:
    before = record({"total": "1", "log": ["a"]})
    first, second = read_saga(Payment, before), read_saga(Payment, before)
    assert first == second == Payment(total=Decimal(1), log=["a"])
    assert isinstance(first, Payment)
    first.log.append("b")
    assert second == Payment(total=Decimal(1), log=["a"])
    assert before.data == {"total": "1", "log": ["a"]}


def test_unknown_saga_is_a_fresh_one() -> None:
    first, second = read_saga(Payment, None), read_saga(Payment, None)
    assert first == Payment()
    assert first is not second


async def test_cancelled_handler_is_cancelled() -> None:
    class Endless(Saga):
        over = State(final=True)

        @initially.on(Paid).goto(over)
        async def wait(self, event: Paid, ctx: Context) -> None:
            await anyio.sleep_forever()

    paid = Paid(Decimal(1))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await handling(Endless).run(row(Endless, None, paid), Endless(), event(paid), None)
    assert scope.cancelled_caught
