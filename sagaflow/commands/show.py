"""``sagaflow show``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import click
from attrs import frozen

from sagaflow._codec.data import decode_saga
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import SagaId
from sagaflow._model.record import CompensationStatus, HistoryEntry, SagaRecord
from sagaflow._model.spans import instant, relative, roughly
from sagaflow.commands.connection import Loaded, ask, look
from sagaflow.commands.ids import json_id, parse_id, show_id
from sagaflow.commands.options import in_json, one_saga, stored
from sagaflow.commands.output import as_json, columns, iso, parts_of, plain, section
from sagaflow.commands.targets import load_saga
from sagaflow.inspection.shown import shown_error, shown_fields
from sagaflow.mongo import MongoRepository


@frozen
class _Found:
    record: SagaRecord
    fields: Mapping[str, str]
    unreadable: str | None = None


@click.command()
@one_saga
@click.option("--traceback", is_flag=True, help="Show the whole error of a suspended saga.")
@stored()
@in_json
def show(
    *,
    target: str,
    correlation_id: str,
    id_type: str | None,
    traceback: bool,
    mongodb: str,
    database: str,
    in_json: bool,
) -> None:
    """Show a stored saga: its data, its history, what is pending, and what would be undone.

    Of messages only the types and ids are shown. A saga whose data the class cannot read is shown
    all the same, without its data; of a document that cannot be read, what is wrong with it.

    The exit status is 0, or 2 after an error; that there is no such saga is one.
    """
    saga_type, wanted = load_saga(target), parse_id(correlation_id, id_type)

    async def read(repository: MongoRepository) -> _Found | Loaded:
        loaded = await look(repository, saga_type, wanted)
        record = loaded.record
        if record is None:
            return loaded
        if loaded.problem is not None:
            return _Found(record, {}, loaded.problem)
        try:
            return _Found(record, shown_fields(decode_saga(saga_type, record.data)))
        except SagaflowError as exc:
            return _Found(record, {}, str(exc))

    found = ask(mongodb, database, read, "reading the saga")
    name = saga_type.table.saga
    if isinstance(found, Loaded):
        _show_damaged(name, wanted, found, in_json=in_json)
        return
    if in_json:
        as_json({"saga": name, **_plain(found)})
        return
    record, now = found.record, datetime.now(UTC)
    click.secho(f"{name} {show_id(record.correlation_id)}", bold=True)
    for line in columns(_head(record, now)):
        click.echo(f"  {line}")
    if found.unreadable is None:
        section("data", columns(found.fields.items()), empty="none")
    else:
        section("data", [f"cannot be read by this code: {plain(found.unreadable)}"])
    section("history", columns(_timeline(record.history)), empty="none")
    section("pending", columns(_pending(record, now)), empty="nothing")
    undoing = "is undone" if record.goal is not None else "would be undone"
    section(f"what {undoing}, in this order", columns(_undone(record)))
    section("was undone", columns(_done(record)))
    if traceback and record.suspension is not None:
        section("error", (plain(line) for line in record.suspension.error.splitlines()))


def _show_damaged(name: str, wanted: SagaId, found: Loaded, *, in_json: bool) -> None:
    """Show of a document that cannot be read what is wrong with it, and what there is."""
    fields = dict(parts_of(found.document))
    if in_json:
        as_json({"saga": name, **json_id(wanted), "unreadable": found.problem, "fields": fields})
        return
    click.secho(f"{name} {show_id(wanted)}", bold=True)
    click.echo(f"  {plain(found.problem or '')}")
    section("what is stored, by its types", columns(fields.items()))


def _head(record: SagaRecord, now: datetime) -> Iterator[tuple[str, str]]:
    goal = "" if record.goal is None else f", on its way to {record.goal}"
    yield "state", f"{record.state}{goal}"
    suspension = record.suspension
    yield "status", record.status.value
    if suspension is not None:
        since = relative(suspension.since, now)
        error = shown_error(suspension.error)
        yield "suspended", f"{since}, {suspension.reason.value}: {error}"
    yield "version", str(record.version)
    yield "started", f"{instant(record.created_at)} ({relative(record.created_at, now)})"
    yield "changed", f"{instant(record.updated_at)} ({relative(record.updated_at, now)})"
    if record.finished_at is not None:
        yield "finished", f"{instant(record.finished_at)} ({relative(record.finished_at, now)})"


def _timeline(history: tuple[HistoryEntry, ...]) -> Iterator[tuple[str, ...]]:
    before: datetime | None = None
    for entry in history:
        passed = "" if before is None else f"+{roughly(entry.at - before)}"
        before = entry.at
        moved = entry.target if entry.source == entry.target else f"-> {entry.target}"
        attempt = "" if entry.attempt == 1 else f", attempt {entry.attempt}"
        yield (
            instant(entry.at),
            passed,
            f"v{entry.version}",
            entry.event,
            entry.step,
            moved,
            f"message {entry.message_id}{attempt}",
        )


def _pending(record: SagaRecord, now: datetime) -> Iterator[tuple[str, str, str]]:
    for message in record.outbox:
        yield "to send", message.message.type, f"{message.id}, {relative(message.created_at, now)}"
    for event in record.parked:
        yield "parked", event.message.type, f"{event.id}, {relative(event.parked_at, now)}"
    for timer in sorted(record.timers, key=lambda timer: timer.due):
        what = timer.name if timer.event is None else f"{timer.name}: {timer.event.type}"
        yield timer.kind.value, what, f"{instant(timer.due)}, {relative(timer.due, now)}"


def _undone(record: SagaRecord) -> Iterator[tuple[str, str]]:
    for entry in reversed(record.compensations):
        if entry.status is CompensationStatus.PENDING:
            failed = "" if entry.failing is None else f"failed {entry.failing.attempts} times: "
            error = "" if entry.failing is None else shown_error(entry.failing.error)
            yield f"{entry.step}, with {entry.method}", f"{failed}{error}"


def _done(record: SagaRecord) -> Iterator[tuple[str, str]]:
    for entry in reversed(record.compensations):
        if entry.status is not CompensationStatus.PENDING:
            yield f"{entry.step}, with {entry.method}", entry.status.value


def _plain(found: _Found) -> dict[str, object]:
    record, suspension = found.record, found.record.suspension
    return {
        **json_id(record.correlation_id),
        "state": record.state,
        "status": record.status.value,
        "goal": record.goal,
        "version": record.version,
        "schema": record.schema,
        "created_at": iso(record.created_at),
        "updated_at": iso(record.updated_at),
        "finished_at": iso(record.finished_at),
        "wake": iso(record.wake),
        "suspension": None
        if suspension is None
        else {
            "reason": suspension.reason.value,
            "subject": str(suspension.subject),
            "since": iso(suspension.since),
            "error": shown_error(suspension.error),
        },
        "data": None if found.unreadable is not None else dict(found.fields),
        "unreadable": found.unreadable,
        "history": [
            {
                "at": iso(entry.at),
                "version": entry.version,
                "event": entry.event,
                "step": entry.step,
                "source": entry.source,
                "target": entry.target,
                "message_id": str(entry.message_id),
                "attempt": entry.attempt,
                "kind": entry.kind.value,
            }
            for entry in record.history
        ],
        "outbox": [
            {"id": m.id, "kind": m.kind, "type": m.message.type, "created_at": iso(m.created_at)}
            for m in record.outbox
        ],
        "parked": [
            {"id": str(e.id), "type": e.message.type, "parked_at": iso(e.parked_at)}
            for e in record.parked
        ],
        "timers": [
            {
                "id": timer.id,
                "name": timer.name,
                "kind": timer.kind.value,
                "due": iso(timer.due),
                "type": None if timer.event is None else timer.event.type,
            }
            for timer in record.timers
        ],
        "compensations": [
            {"id": e.id, "step": e.step, "method": e.method, "status": e.status.value}
            for e in record.compensations
        ],
    }
