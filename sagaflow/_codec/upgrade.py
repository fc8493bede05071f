"""Stored sagas of an earlier schema as such of the present one, in memory.

Nothing is written here: the conditional write that follows stores the new schema, the new names
and the new data together, or none of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from sagaflow._codec.data import encode_saga, migrated_saga
from sagaflow._codec.documents import decode_record
from sagaflow._concurrency.cancellation import failure
from sagaflow._definition.evolution import MigrationStep
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._model.errors import NewerSchemaError, SerializationError, UnknownStateError
from sagaflow._model.record import (
    RecordedCompensation,
    SagaRecord,
    Status,
    Timer,
    TimerKind,
    evolve,
)
from sagaflow._model.texts import line_of


def read_record(
    saga_type: type[Saga], document: Mapping[str, Any], *, any_state: bool = False
) -> SagaRecord:
    """Return the record that *document* holds, as the class has it now.

    Whether a document is fit to be worked on is decided here, and nowhere else. Its schema is
    looked at before its other fields, which newer code may have changed.

    :param any_state: whether a state that the class does not know is accepted, too: for code that
        only shows the saga.
    :raises NewerSchemaError: if the document has a later schema than the class.
    :raises UnknownStateError: if the saga is in a state that the class does not know.
    :raises DamagedDocumentError: if the document cannot be read.
    """
    saga, known = saga_type.table.saga, definition_of(saga_type).evolution.schema
    stored: object = document.get("schema")
    if isinstance(stored, int) and stored > known:
        raise NewerSchemaError(saga, document.get("_id"), stored, known)
    record = upgraded(saga_type, decode_record(document, saga))
    unknown = None if any_state else unknown_state(saga_type, record)
    if unknown is not None:
        raise UnknownStateError(saga, record.correlation_id, unknown)
    return record


def unknown_state(saga_type: type[Saga], record: SagaRecord) -> str | None:
    """Return the state that keeps a class from working on *record*, if there is one.

    None if nothing is left to do, if there is no state yet, or if a migration has failed, so that
    the record has the state names of its old schema. A saga that an operator has cancelled leaves
    its state, so that only its goal must be known.
    """
    if record.fault is not None:
        return None
    if record.status is Status.EMBRYO or (record.finished_at is not None and not record.outbox):
        return None
    states = (None if record.cancelled else record.state, record.goal)
    table = saga_type.table
    return next((name for name in states if name is not None and table.state(name) is None), None)


def upgraded(saga_type: type[Saga], record: SagaRecord) -> SagaRecord:
    """Return *record* as the class has it now.

    If a migration fails, the record is as it was, with the `SerializationError` as its ``fault``:
    there is no half of an upgrade.

    :raises NewerSchemaError: if the record has a later schema than the class.
    """
    evolution = definition_of(saga_type).evolution
    if record.schema == evolution.schema:
        return record
    saga = saga_type.table.saga
    if record.schema > evolution.schema:
        raise NewerSchemaError(saga, record.correlation_id, record.schema, evolution.schema)
    data = record.data
    if record.status is not Status.EMBRYO:  # an embryo has no data yet
        steps = evolution.steps[record.schema - 1 :]
        try:
            data = _migrated(saga_type, f"{saga} {record.correlation_id!r}", data, steps)
        except SerializationError as exc:
            return evolve(record, fault=exc)
    names = evolution.names_since(record.schema)
    return evolve(
        record,
        schema=evolution.schema,
        state=names.get(record.state, record.state),
        goal=None if record.goal is None else names.get(record.goal, record.goal),
        data=data,
        timers=tuple(_timer(timer, names) for timer in record.timers),
        compensations=tuple(_compensation(entry, names) for entry in record.compensations),
        stored=record,
    )


def _migrated(
    saga_type: type[Saga], path: str, stored: Mapping[str, object], steps: tuple[MigrationStep, ...]
) -> Mapping[str, object]:
    data = cast("dict[str, Any]", _plain(stored))
    for step in steps:
        if not step.runs:
            continue
        from_ = step.migration.from_
        named = f"the migration {step.name!r} from schema {from_} to {from_ + 1}"
        try:
            returned: object = getattr(saga_type, step.name)(data)
        except BaseException as exc:
            raise SerializationError(
                path,
                f"{named} raised {line_of(failure(exc))}. Nothing was stored; mend the migration",
            ) from exc
        if returned is not None:
            if not isinstance(returned, dict):
                raise SerializationError(
                    path,
                    f"{named} returned a {type(returned).__name__}: it changes the dict that it is "
                    "given and returns None, or returns another dict",
                )
            data = cast("dict[str, Any]", returned)
    first, last = steps[0].migration.from_, steps[-1].migration.from_ + 1
    try:
        # Decoded and encoded, the data is stored as if the class had always been as it is now.
        return encode_saga(migrated_saga(saga_type, data))
    except SerializationError as exc:
        raise SerializationError(
            path,
            f"its data does not fit the class after the migration from {first} to {last}: {exc}",
        ) from exc


def _plain(value: Any) -> object:
    """Return a copy of a stored value of builtin types only; drivers have subclasses of some."""
    match value:
        case Mapping():
            stored = cast("Mapping[str, object]", value)
            return {name: _plain(item) for name, item in stored.items()}
        case list():
            return [_plain(item) for item in cast("list[object]", value)]
        case bool():
            return value
        case int():
            return int(value)
        case datetime():
            return value.astimezone(UTC)
        case _:
            return value


def _timer(timer: Timer, names: Mapping[str, str]) -> Timer:
    if timer.kind is not TimerKind.TIMEOUT:
        return timer
    return evolve(timer, name=names.get(timer.name, timer.name))


def _compensation(entry: RecordedCompensation, names: Mapping[str, str]) -> RecordedCompensation:
    return evolve(
        entry,
        step=names.get(entry.step, entry.step),
        method=names.get(entry.method, entry.method),
    )
