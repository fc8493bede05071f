"""``sagaflow explain``."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from sagaflow._codec.messages import MessageTypes
from sagaflow.commands.connection import Loaded, ask, look
from sagaflow.commands.ids import parse_id, show_id
from sagaflow.commands.options import one_saga, stored
from sagaflow.commands.output import columns, plain, section
from sagaflow.commands.targets import load_saga
from sagaflow.inspection.explanation import explain as explained
from sagaflow.mongo import MongoRepository


@click.command()
@one_saga
@stored()
def explain(
    *, target: str, correlation_id: str, id_type: str | None, mongodb: str, database: str
) -> None:
    """Say why a saga is where it is, what it waits for, what comes next, and what can be done.

    The events are those that the class in MODULE takes in that state, which should be the code
    that the workers run.

    The exit status is 0, or 2 after an error; that there is no such saga is one.
    """
    saga_type, wanted = load_saga(target), parse_id(correlation_id, id_type)

    async def read(repository: MongoRepository) -> Loaded:
        return await look(repository, saga_type, wanted)

    found = ask(mongodb, database, read, "reading the saga")
    record, problem = found.record, found.problem
    if record is None:
        click.secho(f"{saga_type.table.saga} {show_id(wanted)}", bold=True)
        click.echo(f"  {plain(problem or '')}")
        click.echo("  it is left alone: restore the document, or remove it")
        return
    said = explained(saga_type, record, MessageTypes([saga_type], ()).find, datetime.now(UTC))
    click.secho(f"{saga_type.table.saga} {show_id(wanted)}", bold=True)
    if problem is not None:
        click.echo(f"  {plain(problem)}")
    for line in said.here:
        click.echo(f"  {plain(line)}")
    section(
        "waits for", map(plain, said.waits_for), empty="no event: nothing that comes changes it"
    )
    section("comes next, without any event", map(plain, said.next), empty="nothing")
    commands = ((f"sagaflow {verb} {target} {show_id(wanted)}", what) for verb, what in said.can)
    section("what you can do", columns(commands), empty="nothing: it has ended")
