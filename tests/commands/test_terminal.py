"""Commands on a terminal: a question, a bar, colours, and Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("terminals of POSIX", allow_module_level=True)

from tests.commands.support import LOAN, Stored, failed_event, loan
from tests.demo.terminal import OnTerminal, interrupt, interrupt_a_reader


def on_terminal(stored: Stored, directory: Path, command: str, *arguments: str) -> OnTerminal:
    where = ("--mongodb", stored.uri, "--database", stored.database)
    return OnTerminal(directory, *arguments, *where, command=command, errors_apart=False)


def do_nothing(_: int) -> None:
    """Just watch."""


def test_a_change_is_asked_for_and_made(stored: Stored, tmp_path: Path) -> None:
    stored.put(failed_event())
    terminal = on_terminal(stored, tmp_path, "resume", LOAN, "l-3")
    asked = r"Put it back to work\? \[y/N\]: "
    status, seen, _ = terminal.watch(asked, lambda _: terminal.type("y\n"))
    assert status == 0, seen
    assert "Loan l-3: resume: suspended -> active in open, version 1 -> 2" in seen
    assert "reading the saga" in seen
    assert stored.get("l-3")["status"] == "active"


def test_ctrl_c_at_the_question_changes_nothing(stored: Stored, tmp_path: Path) -> None:
    stored.put(loan())
    before = stored.get("l-1")
    terminal = on_terminal(stored, tmp_path, "cancel", LOAN, "l-1")
    status, seen, _ = terminal.watch(r"Undo and end it\? \[y/N\]: ", interrupt_a_reader)
    assert status == 130
    assert seen.splitlines()[-1] == "interrupted"
    assert "Traceback" not in seen
    assert stored.get("l-1") == before


def test_ctrl_c_ends_the_wait_for_a_server(tmp_path: Path) -> None:
    terminal = OnTerminal(
        tmp_path,
        LOAN,
        *("--mongodb", "mongodb://127.0.0.1:1", "--database", "d"),
        command="ls",
        errors_apart=False,
    )
    status, seen, _ = terminal.watch("listing sagas", interrupt)
    assert status == 130
    assert seen.splitlines()[-1].endswith("interrupted")
    assert "Traceback" not in seen


def test_a_terminal_has_a_bold_heading(stored: Stored, tmp_path: Path) -> None:
    stored.put(loan())
    terminal = on_terminal(stored, tmp_path, "ls", LOAN)
    status, seen, _ = terminal.watch("l-1 ", do_nothing)
    assert status == 0
    assert "\x1b[1mID " in seen
