"""Lines for people and for grep: aligned, never wrapped, nothing in them that moves a cursor."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import click

_MOST_PARTS: Final = 40
_LONGEST_NAME: Final = 60


def plain(text: str) -> str:
    """Return *text* with all that a terminal would not show as it is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def columns(rows: Iterable[Sequence[str]], *, heading: Sequence[str] = ()) -> Iterator[str]:
    """Yield rows with their cells one below the other; a terminal shows the heading bold."""
    cells = [[plain(cell) for cell in row] for row in rows]
    every = [list(heading), *cells] if heading else cells
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    for number, row in enumerate(every):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(padded).rstrip()
        yield click.style(line, bold=True) if heading and number == 0 else line


def section(title: str, lines: Iterable[str], *, empty: str | None = None) -> None:
    """Print lines under a title; if there are none, print *empty* instead, or nothing at all."""
    found = list(lines)
    if not found and empty is None:
        return
    click.echo()
    click.secho(title, bold=True)
    for line in found or (empty,):
        click.echo(f"  {line}")


def parts_of(document: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a document that cannot be read, each with its type: values may be secret.

    If there are very many, only the first.
    """
    for number, (name, value) in enumerate(document.items()):
        if number == _MOST_PARTS:
            yield "...", f"{len(document) - number:,} more"
            return
        yield name[:_LONGEST_NAME], type(value).__name__


def as_json(value: Mapping[str, object]) -> None:
    """Print *value* for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def iso(at: datetime | None) -> str | None:
    """Return an instant as JSON has it."""
    return None if at is None else at.isoformat()
