"""What the commands make of documents that are damaged, newer, or in a state nobody knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bson import Decimal128

from sagaflow import Status
from sagaflow._codec.documents import encode_record
from tests.commands.support import AGO, LOAN, Stored, failed_event, good, loan, opened

SECRET = "4111-1111"


@pytest.fixture
def mixed(stored: Stored) -> Stored:
    """A database with a good saga, and one of each kind that is left alone."""
    stored.put(
        loan("good"),
        loan("newer", schema=7),
        loan("lent", state="lent", wake=AGO),
        loan("unfit", data={"amount": "much"}),
    )
    whole = encode_record(opened("x"))
    stored.put_documents(
        whole | {"_id": "soon", "wake": "soon"},
        whole | {"_id": "timer", "timers": [{"name": SECRET}]},
        whole | {"_id": Decimal128("1.5"), "wake": AGO},
        {"_id": "foreign", "kind": "of somebody else", "card": SECRET, "wake": AGO},
        whole | {"_id": "later", "schema": 9, "state": {"name": "open"}},
    )
    return stored


def lines_of(stored: Stored, *arguments: str) -> list[str]:
    return good(stored.run(*arguments))


def test_list_of_what_is_left_alone_says_why(mixed: Stored) -> None:
    found = lines_of(mixed, "ls", LOAN, "--damaged")
    assert found[0].split() == ["ID", "WHY", "PROBLEM"]
    assert {tuple(line.split(maxsplit=2)) for line in found[1:]} == {
        ("newer", "newer", "schema 7, and the class has 1"),
        ("later", "newer", "schema 9, and the class has 1"),
        ("lent", "state", "the class has no state 'lent'"),
        ("unfit", "data", "Loan.amount: expected int, found 'much'"),
        ("soon", "damaged", "its wake is 'soon'"),
        ("timer", "damaged", "the field 'id' is missing"),
        ("Decimal128('1.5')", "damaged", "its _id is a Decimal128"),
        ("foreign", "damaged", "the field 'incarnation' is missing"),
    }


def test_list_of_what_is_left_alone_has_pages_and_is_for_programs(mixed: Stored) -> None:
    first = mixed.run("ls", LOAN, "--damaged", "--limit", "5")
    assert len(good(first)) == 6
    assert first.stderr == "there are more: --page 2\n"
    assert len(lines_of(mixed, "ls", LOAN, "--damaged", "--limit", "5", "--page", "2")) == 4
    said: Any = json.loads("\n".join(lines_of(mixed, "ls", LOAN, "--damaged", "--json")))
    assert (said["saga"], said["more"], len(said["damaged"])) == ("Loan", False, 8)
    assert {
        "id": "soon",
        "id_type": "str",
        "why": "damaged",
        "problem": "its wake is 'soon'",
    } in said["damaged"]
    assert [one["id_type"] for one in said["damaged"]].count(None) == 1


def test_nothing_may_be_left_alone(stored: Stored) -> None:
    stored.put(loan("good"))
    result = stored.run("ls", LOAN, "--damaged")
    assert (good(result), result.stderr) == ([], "no Loan is left alone\n")


@pytest.mark.parametrize("option", ["--all", "--suspended", "--overdue"])
def test_what_is_left_alone_has_no_other_options(stored: Stored, option: str) -> None:
    result = stored.run("ls", LOAN, "--damaged", option)
    assert result.exit_code == 2
    assert "--damaged goes with --limit, --page and --json only" in result.stderr


def test_a_list_shows_the_others_and_what_is_damaged_as_that(mixed: Stored) -> None:
    found = {line.split()[0]: line for line in lines_of(mixed, "ls", LOAN)[1:]}
    assert set(found) == {"good", "newer", "lent", "unfit", "soon", "timer", "Decimal128('1.5')"}
    assert "active (damaged: its wake is 'soon')" in found["soon"]
    assert "active (damaged: its _id is a Decimal128)" in found["Decimal128('1.5')"]
    assert "damaged" not in found["good"]


def test_overdue_ones_are_listed_beside_what_is_damaged(mixed: Stored) -> None:
    found = [line.split()[0] for line in lines_of(mixed, "ls", LOAN, "--overdue")[1:]]
    assert sorted(found) == ["Decimal128('1.5')", "lent"]


def test_numbers_count_what_is_left_alone(mixed: Stored) -> None:
    found = lines_of(mixed, "stats", LOAN)
    assert "  1 left alone, in states that the class does not have: lent" in found
    assert "  1 left alone, stored by newer code" in found
    (damaged,) = [line for line in found if "sagaflow ls --damaged" in line]
    assert damaged.split()[1:3] == ["left", "alone,"]
    said: Any = json.loads("\n".join(lines_of(mixed, "stats", LOAN, "--json")))
    (numbers,) = said["sagas"]
    assert numbers["unknown_states"] == {"lent": 1}
    assert numbers["newer"] == 1
    assert numbers["damaged"] > 0
    assert numbers["states"]["held"]["active"] == 3


def test_damaged_one_is_shown_by_what_it_has_but_not_what_that_says(mixed: Stored) -> None:
    found = lines_of(mixed, "show", LOAN, "foreign")
    assert found[:2] == ["Loan foreign", "  damaged: the field 'incarnation' is missing"]
    assert "  card  str" in found and "  wake  datetime" in found
    assert SECRET not in "\n".join(found)
    said: Any = json.loads("\n".join(lines_of(mixed, "show", LOAN, "foreign", "--json")))
    assert said["unreadable"] == "damaged: the field 'incarnation' is missing"
    assert said["fields"]["card"] == "str"


def test_very_many_fields_are_not_all_shown(stored: Stored) -> None:
    stored.put_documents({"_id": "wide", **{f"field {n}" * 30: n for n in range(1_000)}})
    found = lines_of(stored, "show", LOAN, "wide")
    assert len(found) < 50 and max(map(len, found)) < 100
    assert found[-1].split() == ["...", "961", "more"]


@pytest.mark.parametrize("command", ["show", "explain"])
def test_newer_one_is_shown_as_that(mixed: Stored, command: str) -> None:
    for one in ("newer", "later"):
        found = "\n".join(lines_of(mixed, command, LOAN, one))
        assert "is left to processes that run the newer code" in found


def test_what_is_left_alone_is_explained(mixed: Stored) -> None:
    assert lines_of(mixed, "explain", LOAN, "soon") == [
        "Loan soon",
        "  damaged: its wake is 'soon'",
        "  it is left alone: restore the document, or remove it",
    ]
    found = lines_of(mixed, "explain", LOAN, "lent")
    assert (
        "  it is left alone, with its timers and messages, for code that knows the state" in found
    )
    assert "  nothing" in found


def test_only_what_an_unknown_state_allows_is_offered(mixed: Stored) -> None:
    found = lines_of(mixed, "explain", LOAN, "lent")
    offered = found[found.index("what you can do") + 1 :]
    (line,) = offered
    assert line == (
        f"  sagaflow cancel --state STATE {LOAN} lent  undo 1 completed step, and end it "
        "in a state that the class knows: closed, refused"
    )
    refused = mixed.run("cancel", LOAN, "lent", "--yes")
    assert refused.exit_code == 2
    good(mixed.run("cancel", "--state", "closed", LOAN, "lent", "--yes"))


def test_resuming_a_suspended_one_in_an_unknown_state_is_not_offered(stored: Stored) -> None:
    stored.put(failed_event("held-up", state="lent"))
    found = lines_of(stored, "explain", LOAN, "held-up")
    assert not [line for line in found if "sagaflow resume" in line or "sagaflow skip" in line]
    for command in ("resume", "skip"):
        assert stored.run(command, LOAN, "held-up", "--yes").exit_code == 2


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_operators_are_told_that_it_is_damaged(mixed: Stored, command: str) -> None:
    result = mixed.run(command, LOAN, "soon", "--yes")
    assert result.exit_code == 2
    assert "is not one that sagaflow wrote: its wake is 'soon'" in result.stderr


def test_deployment_is_told_of_all_of_them(mixed: Stored) -> None:
    result = mixed.run("check", LOAN, "--against", mixed.uri, "--database", mixed.database)
    assert result.exit_code == 1
    kinds = {line.split(": ")[1] for line in result.stdout.splitlines()}
    assert kinds >= {"schema", "state", "damaged"}
    assert "sagaflow ls --damaged" in result.stdout


def test_finished_one_in_an_unknown_state_is_not_left_alone(stored: Stored) -> None:
    stored.put(loan("old", state="lent", status=Status.FINISHED, finished_at=AGO))
    assert lines_of(stored, "ls", LOAN, "--damaged") == []
    assert not [line for line in lines_of(stored, "stats", LOAN) if "left alone" in line]
