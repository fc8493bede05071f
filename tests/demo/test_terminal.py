"""The demo on a terminal: a progress bar, and Ctrl-C."""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sagaflow.demo.report import Terminal
from sagaflow.demo.settings import Settings

if sys.platform == "win32":
    pytest.skip("terminals of POSIX", allow_module_level=True)

from tests.demo.terminal import OnTerminal, interrupt

needs_embedded = pytest.mark.skipif(
    "SAGAFLOW_TEST_MONGODB_URI" in os.environ, reason="another server is tested"
)


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def do_nothing(_: int) -> None:
    """Just watch."""


def test_a_progress_bar_counts_the_orders(tmp_path: Path, mongodb_uri: str) -> None:
    demo = OnTerminal(tmp_path, "--orders", "20", "--mongodb", mongodb_uri)
    status, seen, errors = demo.watch("[^0-9]20/20", do_nothing)
    assert (status, errors) == (0, "")
    assert "connecting" in seen
    assert "Everything adds up." in seen


@needs_embedded
def test_ctrl_c_ends_it_and_its_server(tmp_path: Path) -> None:
    """While orders are being processed."""
    demo = OnTerminal(tmp_path, "--orders", "9999")
    status, _, errors = demo.watch("[1-9]/9999", interrupt)
    assert (status, errors) == (130, "interrupted\n")
    assert list(tmp_path.glob("sagaflow-*")) == []


def test_ctrl_c_ends_the_process_that_does_the_work(tmp_path: Path, mongodb_uri: str) -> None:
    """Nobody holds its errors any more when `watch` returns."""
    demo = OnTerminal(tmp_path, "--orders", "9999", "--mongodb", mongodb_uri, "--crash")
    status, _, errors = demo.watch("[1-9]/9999", interrupt)
    assert (status, errors) == (130, "interrupted\n")


def test_a_progress_bar_counts_the_kills(tmp_path: Path, mongodb_uri: str) -> None:
    demo = OnTerminal(tmp_path, "--orders", "30", "--mongodb", mongodb_uri, "--crash")
    status, seen, errors = demo.watch("orders, killed 2 times", do_nothing)
    assert (status, errors) == (0, "")
    assert "killed once" in seen
    assert "The process that does the work was killed 5 times and started again." in seen
    assert "Everything adds up." in seen


class _InterruptedTerminal(StringIO):
    """A terminal at which somebody presses Ctrl-C as soon as a text is there."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._at and self._at in text:
            self._at = ""
            raise KeyboardInterrupt
        return written


def test_ctrl_c_while_the_bar_appears_leaves_the_terminal_as_it_was() -> None:
    screen, errors = _InterruptedTerminal("starting a server"), sys.stderr
    console = Console(file=screen, force_terminal=True, width=100)
    with pytest.raises(KeyboardInterrupt), Terminal(console, Settings(seed=1)).showing():
        pytest.fail("it was interrupted before")
    assert sys.stderr is errors
    seen = screen.getvalue()
    assert seen.rindex(SHOW_CURSOR) > seen.rindex(HIDE_CURSOR)


@needs_embedded
def test_ctrl_c_while_the_server_starts_ends_both(tmp_path: Path) -> None:
    demo = OnTerminal(tmp_path)
    status, _, errors = demo.watch("starting a server", interrupt)
    assert (status, errors) == (130, "interrupted\n")
    assert list(tmp_path.glob("sagaflow-*")) == []
