"""``sagaflow ls``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import click
from attrs import evolve

from sagaflow._codec.selection import UNFINISHED, Selection, Summary
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._model.errors import SagaflowError
from sagaflow._model.record import Status
from sagaflow._model.spans import instant, relative, roughly
from sagaflow.commands.connection import ask
from sagaflow.commands.damaged import list_damaged
from sagaflow.commands.ids import json_id, show_id
from sagaflow.commands.options import as_span, in_json, saga, stored
from sagaflow.commands.output import as_json, columns, iso
from sagaflow.commands.targets import load_saga
from sagaflow.mongo import MongoRepository

_OVERDUE: Final = timedelta(minutes=1)
_HEADING: Final = ("ID", "STATE", "STATUS", "VERSION", "CHANGED", "AGE", "DUE")


@click.command()
@saga
@click.option("--state", metavar="NAME", help="Only those in this state, finished ones as well.")
@click.option(
    "--older-than", metavar="SPAN", callback=as_span, help="Only those unchanged for so long: 2h."
)
@click.option("--overdue", is_flag=True, help="Only those whose work is due for over a minute.")
@click.option("--suspended", is_flag=True, help="Only those that wait for an operator.")
@click.option("--damaged", is_flag=True, help="Only what the class leaves alone, and why.")
@click.option("--all", "every", is_flag=True, help="The finished ones as well.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="How many on a page.",
)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, help="Which page.")
@stored()
@in_json
def ls(  # noqa: PLR0913 - the options of the command
    *,
    target: str,
    state: str | None,
    older_than: timedelta | None,
    overdue: bool,
    suspended: bool,
    damaged: bool,
    every: bool,
    limit: int,
    page: int,
    mongodb: str,
    database: str,
    in_json: bool,
) -> None:
    """List stored sagas, the one that changed longest ago first; --overdue: the longest due first.

    Without --state or --all, only those that are not finished. What is said in several options
    must all hold. An id stands there as show, explain and the others take it.

    With --damaged, what the code in MODULE leaves alone: documents that it cannot read, those of
    newer code, in states that it does not know, and with data that does not fit. All documents are
    read for that.

    The exit status is 0, or 2 after an error.
    """
    if damaged:
        if state is not None or older_than is not None or overdue or suspended or every:
            raise click.UsageError("--damaged goes with --limit, --page and --json only")
        list_damaged(target, limit, page, mongodb, database, in_json=in_json)
        return
    saga_type, now = load_saga(target), datetime.now(UTC)
    evolution = definition_of(saga_type).evolution
    if state is not None and saga_type.table.state(state) is None:
        click.echo(f"warning: {saga_type.table.saga} has no state {state!r} any more", err=True)
    selection = Selection(
        statuses=_statuses(suspended=suspended, finished=every or state is not None),
        states=None if state is None else evolution.names_of(state),
        unchanged_since=_before(now, older_than),
        due_before=now - _OVERDUE if overdue else None,
    )

    async def read(repository: MongoRepository) -> tuple[list[Summary], int]:
        return await _page(repository, saga_type, selection, limit, page)

    found, others = ask(mongodb, database, read, "listing sagas")
    more = len(found) > limit
    if in_json:
        as_json(
            {
                "saga": saga_type.table.saga,
                "page": page,
                "more": more,
                "sagas": [_plain(summary) for summary in found[:limit]],
            }
        )
        return
    if not found:
        click.echo(
            f"no {saga_type.table.saga} is to be listed; {others:,} are stored in the database "
            f"{database!r}",
            err=True,
        )
        return
    for line in columns(_rows(found[:limit], now), heading=_HEADING):
        click.echo(line)
    if more:
        click.echo(f"there are more: --page {page + 1}", err=True)


async def _page(
    repository: MongoRepository, saga_type: type[Saga], selection: Selection, limit: int, page: int
) -> tuple[list[Summary], int]:
    """Return a page and one more, and if there is none, how many are stored at all."""
    present = definition_of(saga_type).evolution.present
    found: list[Summary] = []
    async with aclosing(repository.summaries(saga_type, selection)) as summaries:
        skip = limit * (page - 1)
        async for summary in summaries:
            if skip:
                skip -= 1
                continue
            found.append(evolve(summary, state=present(summary.state)))
            if len(found) > limit:
                break
    stored_at_all = 0 if found else sum((await repository.count_by_state(saga_type)).values())
    return found, stored_at_all


def _statuses(*, suspended: bool, finished: bool) -> tuple[Status, ...]:
    if suspended:
        return (Status.SUSPENDED,)
    return (*UNFINISHED, Status.FINISHED) if finished else UNFINISHED


def _before(now: datetime, age: timedelta | None) -> datetime | None:
    try:
        return None if age is None else now - age
    except OverflowError:
        raise SagaflowError("--older-than reaches back beyond the year 1: say less") from None


def _rows(found: Iterable[Summary], now: datetime) -> Iterator[tuple[str, ...]]:
    for summary in found:
        reason = "" if summary.reason is None else f" ({summary.reason.value})"
        if summary.damaged is not None:
            status = f"{summary.status.value} (damaged: {summary.damaged})"
            yield (show_id(summary.correlation_id), summary.state, status, "-", "-", "-", "-")
            continue
        yield (
            show_id(summary.correlation_id),
            summary.state,
            f"{summary.status.value}{reason}",
            str(summary.version),
            instant(summary.updated_at),
            roughly(now - summary.created_at),
            "-" if summary.wake is None else relative(summary.wake, now),
        )


def _plain(summary: Summary) -> dict[str, object]:
    return {
        **json_id(summary.correlation_id),
        "state": summary.state,
        "status": summary.status.value,
        "reason": None if summary.reason is None else summary.reason.value,
        "version": summary.version,
        "created_at": iso(summary.created_at),
        "updated_at": iso(summary.updated_at),
        "finished_at": iso(summary.finished_at),
        "wake": iso(summary.wake),
        "damaged": summary.damaged,
    }
