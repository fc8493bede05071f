"""``ls``, ``stats`` and ``indexes``: many sagas at a glance."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from bson import ObjectId

from sagaflow import SagaId, Status
from tests.commands.support import (
    AGO,
    LOAN,
    NOW,
    Stored,
    failed_event,
    good,
    loan,
    opened,
    outgoing,
    refused,
)


def ids(lines: list[str]) -> list[str]:
    """Return the first column."""
    return [line.split()[0] for line in lines[1:]]


@pytest.fixture
def many(stored: Stored) -> Stored:
    """A database with a saga of each kind."""
    stored.put(
        loan("old", updated_at=NOW - timedelta(days=3)),
        loan("late", wake=AGO, outbox=(outgoing(1),), sequence=1),
        opened("waiting", updated_at=NOW - timedelta(minutes=10)),
        failed_event("stuck", updated_at=NOW - timedelta(minutes=9)),
        loan("done", state="closed", status=Status.FINISHED, finished_at=AGO),
    )
    return stored


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["old", "late", "waiting", "stuck"]),
        (("--all",), ["old", "late", "done", "waiting", "stuck"]),
        (("--state", "open"), ["waiting", "stuck"]),
        (("--state", "closed"), ["done"]),
        (("--suspended",), ["stuck"]),
        (("--overdue",), ["late"]),
        (("--older-than", "2d"), ["old"]),
        (("--older-than", "1h", "--state", "held"), ["old", "late"]),
        (("--older-than", "90s", "--suspended"), ["stuck"]),
    ],
)
def test_sagas_are_listed_by_what_is_asked(
    options: tuple[str, ...], found: list[str], many: Stored
) -> None:
    assert ids(good(many.run("ls", LOAN, *options))) == found


def test_a_list_has_columns_that_stand_below_each_other(many: Stored) -> None:
    heading, *_, stuck = good(many.run("ls", LOAN))
    assert heading.split() == ["ID", "STATE", "STATUS", "VERSION", "CHANGED", "AGE", "DUE"]
    assert stuck.startswith("stuck    open   suspended (handler)  1  ")
    assert stuck[heading.index("STATUS") :].startswith("suspended")
    assert stuck.endswith(" -")


def test_a_list_has_pages(many: Stored) -> None:
    first = many.run("ls", LOAN, "--limit", "3")
    assert ids(good(first)) == ["old", "late", "waiting"]
    assert first.stderr == "there are more: --page 2\n"
    second = many.run("ls", LOAN, "--limit", "3", "--page", "2")
    assert ids(good(second)) == ["stuck"]
    assert second.stderr == ""


def test_a_list_for_programs(many: Stored) -> None:
    result = many.run("ls", LOAN, "--limit", "1", "--suspended", "--json")
    assert json.loads("\n".join(good(result))) == {
        "saga": "Loan",
        "page": 1,
        "more": False,
        "sagas": [
            {
                "id": "stuck",
                "id_type": "str",
                "state": "open",
                "status": "suspended",
                "reason": "handler",
                "version": 1,
                "created_at": AGO.isoformat(),
                "updated_at": (NOW - timedelta(minutes=9)).isoformat(),
                "finished_at": None,
                "wake": None,
                "damaged": None,
            }
        ],
    }


def test_an_empty_list_says_what_there_is(many: Stored) -> None:
    result = many.run("ls", LOAN, "--state", "refused")
    assert good(result) == []
    assert result.stderr == (
        f"no Loan is to be listed; 5 are stored in the database {many.database!r}\n"
    )
    assert json.loads(many.run("ls", LOAN, "--state", "refused", "--json").stdout)["sagas"] == []


def test_a_state_that_the_class_no_longer_has_can_be_listed(stored: Stored) -> None:
    stored.put(loan("ghost", state="gone"))
    result = stored.run("ls", LOAN, "--state", "gone")
    assert ids(good(result)) == ["ghost"]
    assert result.stderr == "warning: Loan has no state 'gone' any more\n"


@pytest.mark.parametrize(
    ("correlation_id", "shown"),
    [
        (7, "int:7"),
        ("7", "7"),
        ("int:7", "str:int:7"),
        (UUID(int=1), f"uuid:{UUID(int=1)}"),
        (ObjectId("0" * 24), f"objectid:{'0' * 24}"),
    ],
)
def test_an_id_is_listed_as_it_can_be_typed(
    correlation_id: SagaId, shown: str, stored: Stored
) -> None:
    stored.put(loan(correlation_id))
    assert ids(good(stored.run("ls", LOAN))) == [shown]
    assert good(stored.run("show", LOAN, shown))[0] == f"Loan {shown}"


def test_an_id_that_would_move_the_cursor_does_not(stored: Stored) -> None:
    stored.put(loan("a\x1b[2Jb\n"))
    (_, line) = good(stored.run("ls", LOAN))
    assert line.startswith("'a\\x1b[2Jb\\n'")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--older-than", "soon"), "a span of time is such as 90s, 15m, 2h or 7d"),
        (("--older-than", "999999999d"), "--older-than reaches back beyond the year 1"),
        (("--limit", "0"), "0 is not in the range"),
        (("--page", "0"), "0 is not in the range"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, ...], said: str, stored: Stored) -> None:
    assert said in refused(stored.run("ls", LOAN, *options))


# stats


def test_sagas_are_counted(many: Stored) -> None:
    many.put(loan("ghost", state="gone"))
    lines = [" ".join(line.split()) for line in good(many.run("stats", LOAN))]
    assert lines[:7] == [
        "Loan: 6 sagas",
        "STATE ACTIVE COMPENSATING SUSPENDED FINISHED",
        "open 1 0 1 0",
        "held 2 0 0 0",
        "closed 0 0 0 1",
        "refused 0 0 0 0",
        "gone 1 0 0 0",
    ]
    assert lines[7].startswith("1 have work to do now; the oldest for 2 h")
    assert lines[7].endswith(": late")
    for line in ("messages to send: 1", "Remind 1", "parked events: 1", "Granted 1", "timers: 2"):
        assert line in lines


def test_numbers_for_programs(many: Stored) -> None:
    found = json.loads("\n".join(good(many.run("stats", LOAN, "--json"))))
    nothing = {"active": 0, "compensating": 0, "suspended": 0, "finished": 0}
    assert found == {
        "sagas": [
            {
                "saga": "Loan",
                "states": {
                    "open": nothing | {"active": 1, "suspended": 1},
                    "held": nothing | {"active": 2},
                    "closed": nothing | {"finished": 1},
                    "refused": nothing,
                },
                "due": 1,
                "oldest": {"id": "late", "id_type": "str", "wake": AGO.isoformat()},
                "unknown_states": {},
                "newer": 0,
                "damaged": 0,
                "outgoing": {"Remind": 1},
                "parked": {"Granted": 1},
                "timers": {"late": 2},
            }
        ]
    }


def test_every_saga_of_a_module_is_counted(stored: Stored) -> None:
    lines = good(stored.run("stats", "tests.commands.sagas"))
    assert [line for line in lines if line.endswith("sagas")] == [
        "Loan: 0 sagas",
        "Loan: 0 sagas",
        "Other: 0 sagas",
    ]
    assert "  0 have work to do now" in lines
    found: dict[str, Any] = json.loads(stored.run("stats", LOAN, "--json").stdout)
    assert found["sagas"][0]["oldest"] is None


# indexes


def test_indexes_are_verified_and_created(stored: Stored) -> None:
    result = stored.run("indexes", LOAN)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "Loan  sagaflow_wake   missing or wrong",
        "Loan  sagaflow_state  missing or wrong",
    ]
    for options in (("--create",), ("--create",), ()):
        lines = good(stored.run("indexes", LOAN, *options))
        assert [line.split()[-1] for line in lines] == ["there"] * 2
