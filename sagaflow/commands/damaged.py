"""``sagaflow ls --damaged``: what a class leaves alone, and why."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

import click

from sagaflow._codec.selection import Unreadable
from sagaflow._model.errors import (
    DamagedDocumentError,
    NewerSchemaError,
    UnknownStateError,
)
from sagaflow.commands.connection import ask
from sagaflow.commands.ids import json_id, show_id
from sagaflow.commands.output import as_json, columns
from sagaflow.commands.targets import load_saga
from sagaflow.mongo import MongoRepository

_HEADING: Final = ("ID", "WHY", "PROBLEM")


def list_damaged(
    target: str, limit: int, page: int, mongodb: str, database: str, *, in_json: bool
) -> None:
    """Print a page of the documents that the class leaves alone, each with the reason."""
    saga_type = load_saga(target)

    async def read(repository: MongoRepository) -> list[Unreadable]:
        found: list[Unreadable] = []
        skip = limit * (page - 1)
        async with aclosing(repository.unreadable(saga_type)) as unreadable:
            async for one in unreadable:
                if skip:
                    skip -= 1
                    continue
                found.append(one)
                if len(found) > limit:
                    break
        return found

    found = ask(mongodb, database, read, "reading all sagas")
    more, saga = len(found) > limit, saga_type.table.saga
    if in_json:
        listed = [_plain(one) for one in found[:limit]]
        as_json({"saga": saga, "page": page, "more": more, "damaged": listed})
        return
    if not found:
        click.echo(f"no {saga} is left alone", err=True)
        return
    rows = ((_id(one), *_why(one)) for one in found[:limit])
    for line in columns(rows, heading=_HEADING):
        click.echo(line)
    if more:
        click.echo(f"there are more: --page {page + 1}", err=True)


def _id(one: Unreadable) -> str:
    return one.shown_id if one.correlation_id is None else show_id(one.correlation_id)


def _why(one: Unreadable) -> tuple[str, str]:
    match one.error:
        case DamagedDocumentError(reason=reason):
            return "damaged", reason
        case NewerSchemaError(stored=stored, known=known):
            return "newer", f"schema {stored}, and the class has {known}"
        case UnknownStateError(state=state):
            return "state", f"the class has no state {state!r}"
        case error:
            return "data", str(error)


def _plain(one: Unreadable) -> dict[str, object]:
    why, problem = _why(one)
    known = one.correlation_id
    named = {"id": one.shown_id, "id_type": None} if known is None else json_id(known)
    return {**named, "why": why, "problem": problem}
