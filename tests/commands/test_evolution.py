"""Commands upon sagas that earlier or later code has stored, and on fields that are secret."""

from __future__ import annotations

import json

import pytest

from tests.commands.support import LOAN, Stored, good, invoke, loan, opened, refused

RENEWED = "tests.commands.sagas:Renewed"


def lines_of(stored: Stored, *arguments: str) -> list[str]:
    return [" ".join(line.split()) for line in good(stored.run(*arguments))]


def test_a_saga_of_an_earlier_schema_is_shown_as_it_would_be_now(stored: Stored) -> None:
    stored.put(loan())
    before = stored.get("l-1")
    lines = lines_of(stored, "show", RENEWED, "l-1")
    assert "state lent" in lines
    assert "amount 7" in lines
    assert any(
        line.startswith("Withdrawn: 'end' enters ended")
        for line in lines_of(stored, "explain", RENEWED, "l-1")
    )
    assert stored.get("l-1") == before


def test_a_secret_is_not_shown(stored: Stored) -> None:
    stored.put(loan())
    assert "pin <secret>" in lines_of(stored, "show", RENEWED, "l-1")
    found = json.loads(stored.run("show", RENEWED, "l-1", "--json").stdout)
    assert found["data"]["pin"] == "<secret>"


def test_a_state_is_listed_by_its_name_now(stored: Stored) -> None:
    stored.put(loan("old"), loan("new", state="lent", schema=2), opened("other"))
    for line in good(stored.run("ls", RENEWED, "--state", "lent"))[1:]:
        assert line.split()[:2] in (["old", "lent"], ["new", "lent"])
    lines = lines_of(stored, "stats", RENEWED)
    assert "lent 2 0 0 0" in lines
    assert "begun 1 0 0 0" in lines


def test_a_path_is_drawn_with_the_names_of_now(stored: Stored) -> None:
    stored.put(loan())
    text = "\n".join(good(stored.run("graph", RENEWED, "--saga", "l-1")))
    assert "✓ Asked / ask" in text
    assert "✓ Granted / lend" in text


def test_a_deployment_that_can_migrate_is_fine(stored: Stored) -> None:
    stored.put(loan(compensations=()))
    result = stored.run("check", RENEWED, "--against", "-")
    assert good(result) == ["Loan: all can be handled"]


def test_what_newer_code_has_stored_is_shown_without_its_data(stored: Stored) -> None:
    stored.put(loan(schema=2))
    (line,) = (line for line in lines_of(stored, "show", LOAN, "l-1") if "schema" in line)
    assert line.startswith("cannot be read by this code: Loan 'l-1' ")
    assert any("schema 2" in line for line in lines_of(stored, "explain", LOAN, "l-1"))
    assert stored.run("check", LOAN, "--against", "-").exit_code == 1


def test_a_migration_that_fails_hides_nothing_else(stored: Stored) -> None:
    stored.put(loan(data={"amount": "much"}))
    lines = lines_of(stored, "show", RENEWED, "l-1")
    assert any("the migration 'renew' from schema 1 to 2 raised" in line for line in lines)
    assert "hold, with release" in lines


@pytest.mark.parametrize("action", ["retry", "resume", "skip", "cancel"])
def test_what_newer_code_has_stored_is_left_alone(action: str, stored: Stored) -> None:
    stored.put(loan(schema=2))
    before = stored.get("l-1")
    assert "schema 2" in refused(stored.run(action, LOAN, "l-1", "--yes"))
    assert stored.get("l-1") == before


def test_a_secret_is_no_part_of_a_picture() -> None:
    assert "pin" not in invoke("graph", RENEWED).output
