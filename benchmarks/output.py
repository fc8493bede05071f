"""The tables on a terminal, and in a Markdown file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import evolve
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.results import Entry, Results
from benchmarks.tables import Table, foot, tables

PEERS: Final = "benchmarks"
"""The place of what is measured beside peers."""
WORK: Final = "work"
"""The place of what is measured beside an earlier commit: a suite that is run more often."""
BUSES: Final = "buses"
"""The place of what buses are measured in."""
_OWN_PLACES: Final = (WORK, BUSES)


def show(results: Results, console: Console) -> None:
    """Print all tables."""
    for table in tables(results):
        console.print(_on_terminal(table))
        for note in table.notes:
            console.print(f"  {note}", style="dim", highlight=False, markup=False)
        console.print()
    for line in foot(results):
        console.print(line, highlight=False, markup=False)


def markdown(results: Results) -> str:
    """Return all tables as Markdown."""
    parts = [_in_markdown(table) for table in tables(results)]
    return "\n\n".join([*parts, *foot(results)]) + "\n"


def parts(results: Results) -> dict[str, Results]:
    """Return what was measured by the place that its tables have in a file."""
    found: dict[str, list[Entry]] = {}
    for entry in results.entries:
        place = entry.suite if entry.suite in _OWN_PLACES else PEERS
        found.setdefault(place, []).append(entry)
    return {place: evolve(results, entries=tuple(entries)) for place, entries in found.items()}


def marks(place: str) -> tuple[str, str]:
    """Return what a place begins and ends with."""
    return f"<!-- {place}: begin -->", f"<!-- {place}: end -->"


def put_into(path: Path, place: str, text: str) -> None:
    """Replace what stands between the two marks of a place.

    :raises ValueError: if the file does not have them.
    """
    begin, end = marks(place)
    content = path.read_text(encoding="utf-8")
    before, begun, rest = content.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"{path} has no place for the tables: it needs {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def _on_terminal(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", title_style="bold")
    for index, name in enumerate(table.header):
        shown.add_column(name, justify="left" if index == 0 else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown


def _in_markdown(table: Table) -> str:
    header = " | ".join(table.header)
    line = " | ".join("---" if index == 0 else "---:" for index in range(len(table.header)))
    rows = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in table.rows]
    title = f"## {table.title[0].upper()}{table.title[1:]}"
    notes = "\n".join(f"- {note}" for note in table.notes)
    return "\n".join(
        [title, "", f"| {header} |", f"| {line} |", *rows, *(["", notes] * bool(notes))]
    )


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
