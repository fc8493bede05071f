"""``sagaflow graph``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click
from attrs import evolve

from sagaflow._definition.saga import Saga, definition_of
from sagaflow._model.record import HistoryEntry
from sagaflow.commands.connection import ask, load
from sagaflow.commands.ids import parse_id, show_id
from sagaflow.commands.options import id_type, saga, stored
from sagaflow.commands.targets import load_saga
from sagaflow.diagrams import Diagram, Trail, diagram_of, to_dot, to_mermaid, to_svg, trail_of
from sagaflow.mongo import MongoRepository

_FORMATS: Final[Mapping[str, Callable[[Diagram], str]]] = {
    "mermaid": to_mermaid,
    "dot": to_dot,
    "svg": to_svg,
}
_SUFFIXES: Final[Mapping[str, str]] = {
    ".svg": "svg",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
}


@click.command()
@saga
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(_FORMATS)),
    help="What to draw it in.  [default: as the name of --output says; otherwise mermaid]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="The file to write.  [default: standard output]",
)
@click.option("--saga", "correlation_id", metavar="ID", help="Highlight the path of this one.")
@id_type
@stored(required=False)
def graph(
    *,
    target: str,
    form: str | None,
    output: Path | None,
    correlation_id: str | None,
    id_type: str | None,
    mongodb: str | None,
    database: str | None,
) -> None:
    """Draw a saga: states, events, guards, timeouts and what is undone by what.

    MODULE:CLASS is such as shop.sagas:OrderSaga. With --saga, --mongodb and --database the path
    that a stored saga has taken is highlighted, as far as its history goes back.

    Mermaid is shown by GitHub and many editors; DOT is for Graphviz; SVG is a picture, and needs
    no other program.

    The exit status is 0, or 2 after an error.
    """
    chosen = form or _by_name(output)
    saga_type = load_saga(target)
    trail: Trail | None = None
    if correlation_id is not None:
        if mongodb is None or database is None:
            raise click.UsageError("--saga needs --mongodb and --database: where it is stored")
        wanted = parse_id(correlation_id, id_type)

        async def read(repository: MongoRepository) -> Trail:
            record = await load(repository, saga_type, wanted)
            name = f"{saga_type.table.saga} {show_id(wanted)}"
            history = (_present(saga_type, entry) for entry in record.history)
            return trail_of(saga_type.table, name, history, record.state, record.goal)

        trail = ask(mongodb, database, read, "reading the saga")
    text = _FORMATS[chosen](diagram_of(saga_type.table, trail))
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"{output}: {saga_type.table.saga} as {chosen}", err=True)


def _present(saga_type: type[Saga], entry: HistoryEntry) -> HistoryEntry:
    """Return an entry with the names that the class has now."""
    present = definition_of(saga_type).evolution.present
    source = None if entry.source is None else present(entry.source)
    return evolve(entry, source=source, step=present(entry.step), target=present(entry.target))


def _by_name(output: Path | None) -> str:
    """Return what the name of a file asks for; Mermaid without one.

    :raises click.UsageError: if the name does not tell.
    """
    if output is None:
        return "mermaid"
    found = _SUFFIXES.get(output.suffix.lower())
    if found is None:
        known = ", ".join(_SUFFIXES)
        raise click.UsageError(
            f"the name {output.name!r} does not tell what to draw in: it ends in none of {known}. "
            "Give it one of these, or say --format"
        )
    return found
