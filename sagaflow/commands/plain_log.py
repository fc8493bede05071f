"""What sagaflow logs while a command answers one question."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import click

_MOST_LINES: Final = 5

_shown: ContextVar[_Lines | None] = ContextVar("log of this command", default=None)


@contextmanager
def plain_log(one_line: Callable[[str], str]) -> Generator[None]:
    """Show what sagaflow logs as lines without tracebacks, and not hundreds of them.

    :param one_line: makes one line of a text, without secrets.
    """
    lines = _Lines(one_line)
    logger = logging.getLogger("sagaflow")
    logger.addHandler(lines)
    token = _shown.set(lines)
    try:
        yield
    finally:
        _shown.reset(token)
        logger.removeHandler(lines)
        if lines.count > _MOST_LINES:
            click.echo(f"and {lines.count - _MOST_LINES:,} messages more", err=True)


def leave_log_alone() -> None:
    """Show nothing more: the command has a log of its own."""
    lines = _shown.get()
    if lines is not None:
        logging.getLogger("sagaflow").removeHandler(lines)


class _Lines(logging.Handler):
    def __init__(self, one_line: Callable[[str], str]) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        self._one_line = one_line

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        if self.count <= _MOST_LINES:
            text = self._one_line(record.getMessage())
            click.echo(f"{record.levelname.lower()}: {text}", err=True)
