"""The state machine of Hypothesis: it finds the planted mistakes, and shrinks them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from examples.broken_orders import HastyOrderSaga
from examples.orders import OrderSaga
from sagaflow import SagaflowError
from sagaflow.testing import saga_state_machine
from sagaflow.testing._exploring.rules import SagaMachine
from tests.exploring import sagas
from tests.exploring.support import CANCELLED, PLACED, SHOP, run
from tests.exploring.test_findings import is_never_compensating, is_never_suspended

FEW = settings(
    max_examples=20,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
)
MANY = settings(FEW, max_examples=300)


def orders(
    saga: type[OrderSaga], *, faults: int = 0, backend: str = "asyncio"
) -> type[RuleBasedStateMachine]:
    return saga_state_machine(
        saga,
        events=[PLACED],
        optional=[CANCELLED],
        participants=SHOP,
        faults=faults,
        backend=backend,
    )


def found(machine: type[RuleBasedStateMachine]) -> str:
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(machine, settings=MANY)
    return str(caught.value)


class TestOrders(orders(OrderSaga, faults=1).TestCase):  # type: ignore[misc]
    """As a user writes it."""

    settings = FEW


def test_planted_mistake_is_found_and_shrunk() -> None:
    text = found(orders(HastyOrderSaga, backend="trio"))
    assert text.startswith("stuck: HastyOrderSaga waits in awaiting_inventory")
    assert "shortest path, 3 steps" in text
    snippet = text.partition("as a test:\n\n")[2]
    with pytest.raises(AssertionError, match="HastyOrderSaga waits in awaiting_inventory"):
        run(snippet)


def test_what_is_right_passes_from_the_table_alone() -> None:
    run_state_machine_as_test(saga_state_machine(sagas.Deferring), settings=FEW)


def by_hand(**given: Any) -> SagaMachine:
    made = saga_state_machine(sagas.Undoing, **given)()
    assert isinstance(made, SagaMachine)
    return made


def test_things_go_wrong() -> None:
    said: list[str] = []
    for trouble in range(12):
        machine = by_hand(invariants=[is_never_compensating, is_never_suspended])
        machine.deliver(0)
        machine.deliver(0)
        try:
            machine.go_wrong(1, trouble)
        except AssertionError as exc:
            said.append(str(exc))
    assert any("is_never_compensating" in text and "crash after write 1" in text for text in said)
    assert any("is_never_suspended" in text and "whenever it is called" in text for text in said)


def test_every_rule_is_a_step() -> None:
    machine = by_hand()
    machine.deliver(0)
    machine.deliver_again(0)
    machine.deliver(0)
    machine.deliver(0)
    machine.advance()
    machine.teardown()
    assert [happened.again for happened in machine.path] == [False, True, False, False, False]
    assert machine.path[-1].said == "done; done"


def test_suspended_saga_is_retried() -> None:
    machine = by_hand()
    machine.deliver(0)
    machine.deliver(0)
    machine.go_wrong(1, 3)
    assert "(suspended)" in machine.path[-1].said
    machine.retry(0)
    assert "(suspended)" not in machine.path[-1].said
    machine.teardown()


def test_silence_is_a_step() -> None:
    participants: dict[type, Callable[[Any], object]] = {sagas.Do: lambda _: [None, sagas.Left()]}
    machine = saga_state_machine(sagas.Asking, participants=participants)()
    assert isinstance(machine, SagaMachine)
    machine.deliver(0)
    with pytest.raises(AssertionError, match="Do-1 is never answered"):
        machine.never_answer(0)
    machine.teardown()


def test_missing_hypothesis_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sagaflow.testing._exploring.rules", None)
    with pytest.raises(SagaflowError, match=r"pip install 'sagaflow\[hypothesis\]'"):
        saga_state_machine(OrderSaga)
