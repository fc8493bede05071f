"""``sagaflow check``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import click

from sagaflow._codec.messages import MessageTypes
from sagaflow._definition.saga import Saga
from sagaflow.commands.connection import ask
from sagaflow.commands.ids import json_id, show_id
from sagaflow.commands.options import hidden, in_json
from sagaflow.commands.output import as_json, plain
from sagaflow.commands.targets import load_messages, load_sagas
from sagaflow.inspection.compatibility import unmanageable
from sagaflow.inspection.definition import open_ends
from sagaflow.inspection.finding import Finding
from sagaflow.mongo import MongoRepository


def _from_environment(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Take the URI from the environment, where the list of processes does not show it."""
    if value == "-":
        value = os.environ.get("SAGAFLOW_MONGODB_URI")
        if value is None:
            raise click.BadParameter("SAGAFLOW_MONGODB_URI is not set.", ctx, parameter)
    return hidden(ctx, parameter, value)


@click.command()
@click.argument("target", metavar="MODULE[:CLASS]")
@click.option("--strict", is_flag=True, help="Exit with 1 if there is any finding.")
@click.option(
    "--against",
    metavar="URI",
    callback=_from_environment,
    help="Ask this MongoDB server what of its unfinished sagas the code could not handle; - stands "
    "for what SAGAFLOW_MONGODB_URI says.",
)
@click.option(
    "--database",
    metavar="NAME",
    envvar="SAGAFLOW_DATABASE",
    help="The database on that server.  [env: SAGAFLOW_DATABASE]",
)
@click.option(
    "--messages",
    metavar="MODULE:NAME",
    help="Message classes that the orchestrator is given as messages=.",
)
@in_json
@click.pass_context
def check(
    ctx: click.Context,
    /,
    *,
    target: str,
    strict: bool,
    against: str | None,
    database: str | None,
    messages: str | None,
    in_json: bool,
) -> None:
    """Tell what a saga leaves open, or with --against what it could not handle of what is stored.

    Without --against: events that a state does not take (unhandled: declare a transition, or
    .ignore() it, or .defer() it if it may come early) or takes under guards only (guarded); states
    that nothing ends if no event comes (no_timeout); steps that send commands and have no
    compensation (no_compensation). None of this is an error; --strict makes it one.

    With --against, before code is deployed: the states, timers, compensations, parked events and
    outgoing messages of unfinished sagas that the code in MODULE does not know, with counts and
    examples. The database is only read.

    The exit status is 0; 1 if there are findings with --against or --strict; 2 after an error.
    """
    sagas = load_sagas(target)
    known = MessageTypes(sagas, load_messages(messages))
    if against is None:
        found = [finding for saga in sagas for finding in open_ends(saga)]
    else:
        if database is None:
            raise click.UsageError("--against needs --database: where the sagas are")
        found = _compared(sagas, known, against, database)
    if in_json:
        as_json(
            {
                "sagas": [saga.table.saga for saga in sagas],
                "findings": [_plain(finding) for finding in found],
            }
        )
    else:
        for line in _lines(found):
            click.echo(line)
        names = ", ".join(saga.table.saga for saga in sagas)
        if found:
            click.echo(f"{len(found)} finding{'' if len(found) == 1 else 's'}", err=True)
        else:
            what = "leaves nothing open" if against is None else "all can be handled"
            click.echo(f"{names}: {what}")
    ctx.exit(1 if found and (strict or against is not None) else 0)


def _compared(
    sagas: Iterable[type[Saga]], known: MessageTypes, uri: str, database: str
) -> list[Finding]:
    async def findings(repository: MongoRepository) -> list[Finding]:
        found: list[Finding] = []
        for saga in sagas:
            traits = [trait async for trait in repository.survey(saga)]
            found += unmanageable(saga, known.find, traits)
        return found

    return ask(uri, database, findings, "reading what is stored")


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield a line for each finding; the events that a state does not take share one."""
    for (saga, state), group in groupby(findings, lambda found: (found.saga, _unhandled_in(found))):
        if state is None:
            yield from (_line(finding) for finding in group)
        else:
            events = ", ".join(str(finding.subject) for finding in group)
            kind = click.style("unhandled", fg="yellow")
            yield f"{saga}: {kind}: in state {plain(repr(state))}: {events}"


def _unhandled_in(finding: Finding) -> str | None:
    return finding.state if finding.kind == "unhandled" else None


def _line(finding: Finding) -> str:
    said = plain(finding.problem)
    if finding.count is not None:
        examples = ", ".join(show_id(example) for example in finding.examples)
        said = f"{said} ({finding.count:,}: {examples})"
    place = "" if finding.place is None else f"{_near(finding.place[0])}:{finding.place[1]}: "
    return f"{place}{finding.saga}: {click.style(finding.kind, fg='yellow')}: {said}"


def _near(file: str) -> str:
    """Return the name of a file as it is seen from here."""
    path = Path(file)
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


def _plain(finding: Finding) -> dict[str, object]:
    return {
        "saga": finding.saga,
        "kind": finding.kind,
        "state": finding.state,
        "subject": finding.subject,
        "problem": finding.problem,
        "file": None if finding.place is None else finding.place[0],
        "line": None if finding.place is None else finding.place[1],
        "count": finding.count,
        "examples": [json_id(example) for example in finding.examples],
    }
