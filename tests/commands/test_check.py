"""``sagaflow check``: what a saga leaves open, and what it could not handle of what is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve

from sagaflow._model.record import StoredMessage
from tests.commands.support import LOAN, Stored, good, invoke, loan, opened, outgoing, refused

ORDERS = "examples.orders:OrderSaga"


def test_what_is_left_open_is_told() -> None:
    result = invoke("check", LOAN)
    lines = good(result)
    assert result.stderr == "5 findings\n"
    assert lines[0] == "Loan: unhandled: in state 'open': Asked"
    assert lines[1] == "Loan: unhandled: in state 'held': Asked, Granted"
    assert lines[2].startswith(
        "Loan: no_timeout: nothing ends the wait in state 'held' if no event"
    )
    assert lines[3].startswith(f"{Path('tests', 'commands', 'sagas.py')}:")
    assert ": Loan: no_compensation: the step 'ask' sends commands and nothing undoes" in lines[3]


def test_a_file_elsewhere_has_its_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (*_, line) = good(invoke("check", LOAN))
    assert line.startswith(str(Path(__file__).with_name("sagas.py")))


def test_strict_makes_findings_an_error() -> None:
    result = invoke("check", LOAN, "--strict")
    assert result.exit_code == 1
    assert result.stdout == invoke("check", LOAN).stdout


def test_every_saga_of_a_module_is_checked() -> None:
    lines = good(invoke("check", "tests.commands.sagas"))
    assert any(line.startswith("Other: ") for line in lines)


def test_findings_for_programs() -> None:
    found = json.loads(invoke("check", ORDERS, "--json").stdout)
    assert found["sagas"] == ["OrderSaga"]
    first, *_, last = found["findings"]
    problem = first.pop("problem")
    assert problem.startswith("OrderPlaced in state 'awaiting_payment' is UNHANDLED: declare a")
    assert first == {
        "saga": "OrderSaga",
        "kind": "unhandled",
        "state": "awaiting_payment",
        "subject": "OrderPlaced",
        "file": None,
        "line": None,
        "count": None,
        "examples": [],
    }
    assert last["file"].endswith("orders.py")
    assert (last["kind"], last["subject"], type(last["line"])) == ("no_compensation", "place", int)


def test_a_saga_that_leaves_nothing_open_says_so() -> None:
    result = invoke("check", "tests.inspection.test_definition:Tidy", "--strict")
    assert good(result) == ["Tidy: leaves nothing open"]


# --against


def against(stored: Stored, *options: str) -> tuple[str, ...]:
    return ("check", LOAN, "--against", stored.uri, "--database", stored.database, *options)


def test_what_the_code_can_handle_is_fine(stored: Stored) -> None:
    stored.put(loan(), opened(), loan("l-9", outbox=(outgoing(1),)))
    result = invoke(*against(stored))
    assert good(result) == ["Loan: all can be handled"]
    assert result.stderr == ""
    assert json.loads(invoke(*against(stored, "--json")).stdout)["findings"] == []


def test_what_the_code_cannot_handle_is_told_with_counts_and_examples(stored: Stored) -> None:
    (timer,) = opened().timers
    stored.put(
        loan(7, state="lent"),
        loan("l-4", state="lent"),
        opened(timers=(evolve(timer, name="gone"),)),
    )
    result = invoke(*against(stored))
    assert result.exit_code == 1
    state, timer_line = result.stdout.splitlines()
    assert state.startswith("Loan: state: sagas are in the state 'lent', which the class does not")
    assert state.endswith(" (2: int:7, l-4)")
    assert timer_line.startswith("Loan: timer: timeouts 'gone' after 0:05:00 are armed in state")
    found = json.loads(invoke(*against(stored, "--json")).stdout)["findings"]
    assert found[0]["count"] == 2
    assert found[0]["examples"] == [
        {"id": 7, "id_type": "int"},
        {"id": "l-4", "id_type": "str"},
    ]


def test_the_server_may_be_told_by_the_environment(stored: Stored) -> None:
    stored.put(loan(state="lent"))
    assert stored.run("check", LOAN, "--against", "-").exit_code == 1
    line = refused(invoke("check", LOAN, "--against", "-", "--database", "d"))
    assert "SAGAFLOW_MONGODB_URI is not set" in line


@pytest.mark.parametrize(
    ("messages", "status"),
    [(None, 1), ("tests.commands.sagas:NAMED", 0), ("tests.commands.sagas:MESSAGES", 1)],
)
def test_messages_are_known_by_the_names_that_the_orchestrator_is_given(
    messages: str | None, status: int, stored: Stored
) -> None:
    message = StoredMessage(type="remind", body={"number": "l-1"})
    stored.put(loan(outbox=(outgoing(1, message=message),), sequence=1))
    options = () if messages is None else ("--messages", messages)
    result = invoke(*against(stored, *options))
    assert result.exit_code == status, result.output
    assert ("messages of the type 'remind' wait to be sent" in result.output) is bool(status)


def test_a_database_is_needed() -> None:
    line = refused(invoke("check", LOAN, "--against", "mongodb://h"))
    assert "--against needs --database" in line


@pytest.mark.parametrize("messages", ["tests.commands.sagas:TEXT", "tests.commands.sagas"])
def test_messages_must_be_classes(messages: str) -> None:
    line = refused(invoke("check", LOAN, "--messages", messages))
    assert "is no collection of message classes" in line
