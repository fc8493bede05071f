"""``sagaflow indexes``."""

from __future__ import annotations

import click

from sagaflow.commands.connection import ask
from sagaflow.commands.options import stored
from sagaflow.commands.output import columns
from sagaflow.commands.targets import load_sagas
from sagaflow.mongo import MongoRepository


@click.command()
@click.argument("target", metavar="MODULE[:CLASS]")
@click.option("--create", is_flag=True, help="Create what is missing. Call it at deployment.")
@stored()
@click.pass_context
def indexes(
    ctx: click.Context, /, *, target: str, create: bool, mongodb: str, database: str
) -> None:
    """Verify the indexes that the queries and workers use, or create them.

    Creating them again does nothing. An index of the same name that is another one is not
    replaced: drop it first.

    The exit status is 0; 1 if an index is missing or another one; 2 after an error.
    """
    sagas = load_sagas(target)

    async def look(repository: MongoRepository) -> list[tuple[str, str, bool]]:
        found: list[tuple[str, str, bool]] = []
        for saga in sagas:
            if create:
                await repository.create_indexes(saga)
            known = await repository.check_indexes(saga)
            found += ((saga.table.saga, name, made) for name, made in known.items())
        return found

    found = ask(mongodb, database, look, "creating indexes" if create else "reading indexes")
    rows = ((saga, name, "there" if made else "missing or wrong") for saga, name, made in found)
    for line in columns(rows):
        click.echo(line)
    ctx.exit(0 if all(made for *_, made in found) else 1)
