"""A record as the one document that is stored, and the one change that a write makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from sagaflow._codec.elements import (
    COMPENSATION,
    FAILING,
    HISTORY,
    LEASE,
    OUTGOING,
    PARKED,
    SUSPENSION,
    TIMER,
    Document,
)
from sagaflow._codec.layout import (
    Layout,
    array,
    field,
    flag,
    instant,
    lenient,
    named,
    number,
    one_of,
    optional,
    part,
    text,
)
from sagaflow._codec.reading import (
    check_message_id,
    elements_in,
    mapping_in,
    own_id_in,
    perhaps,
)
from sagaflow._forms.sameness import changed
from sagaflow._forms.size import document_size
from sagaflow._model.errors import DamagedDocumentError
from sagaflow._model.ids import SagaId
from sagaflow._model.record import SagaRecord, Status
from sagaflow._model.shown import shown
from sagaflow._model.value import value

HISTORY_SIZE: Final = 64
"""How many writes a saga remembers."""

_BOOKKEPT: Final = frozenset({"sending", "wake", "lease"})
"""The fields that bookkeeping changes without a new version. A transition may have read them before
such a change, so it always writes them: otherwise a ``wake`` that is too late could stay."""

_BOOKKEPT_AT_THE_END: Final = _BOOKKEPT | {"expire_at"}
"""The same of a saga that has ended: bookkeeping sets its expiry once all messages are sent."""


@value
class Push:
    """Elements to append to an array.

    :ivar keep: how many of the last elements stay in the array; None for all.
    """

    items: list[Any]
    keep: int | None = None


@value(kw_only=True)
class DocumentChange:
    """One conditional update: it takes place if the saga still has this incarnation and version.

    :ivar set: values by path; a path is a field, a field of ``data``, or an element of
        ``compensations``.
    :ivar unset: fields to remove.
    :ivar push: elements to append to arrays, by field.
    :ivar growth: by how many bytes the document grows at most; None if that was not counted.
    """

    correlation_id: SagaId
    incarnation: str
    version: int
    set: Mapping[str, Any]
    unset: tuple[str, ...] = ()
    push: Mapping[str, Push] = attrs.field(factory=dict[str, Push])
    growth: int | None = None


@value(kw_only=True)
class Bookkeeping:
    """A note about a saga that leaves its version, and so never gets in the way of a transition.

    :ivar sent: messages to remove from the outbox, whatever version the saga has.
    :ivar set: fields to set, only if the saga still has the *version* of the note.
    :ivar unset: fields to remove, only if the saga still has that version.
    """

    correlation_id: SagaId
    incarnation: str
    version: int
    sent: tuple[str, ...] = ()
    set: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    unset: tuple[str, ...] = ()


def decode_id(stored: SagaId) -> SagaId:
    """Return a stored id as a plain value; the driver returns a subclass for long ints.

    A value that cannot be an id is returned as it is, for `check_id` to refuse.
    """
    return int(stored) if isinstance(stored, int) and not isinstance(stored, bool) else stored


def _schema_in(document: Mapping[str, Any], name: str) -> int:
    stored: object = document.get(name, 1)
    if not isinstance(stored, int) or stored < 1:
        raise ValueError(f"its schema is {shown(stored)}")
    return int(stored)


def _data_in(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return perhaps(mapping_in, document, name) or {}


def _inbox_in(document: Mapping[str, Any], name: str) -> tuple[SagaId, ...]:
    return elements_in(document, name, check_message_id)


_HEAD: Final = (
    number("version"),
    text("token"),
    field("schema", _schema_in),
    text("state"),
    one_of("status", Status),
    optional(text("goal")),
    flag("cancelled"),
    lenient(number("sequence")),
    optional(part("sending", FAILING)),
    optional(part("suspension", SUSPENSION)),
    optional(instant("wake")),
    optional(part("lease", LEASE)),
    instant("created_at"),
    instant("updated_at"),
    optional(instant("finished_at")),
    optional(instant("expire_at")),
)
"""The fields that a transition may change, apart from data and arrays."""

RECORD: Final = Layout(
    SagaRecord,
    named("_id", field("correlation_id", own_id_in)),
    text("incarnation"),
    *_HEAD,
    field("data", _data_in, dict),
    field("inbox", _inbox_in, list),
    array("outbox", OUTGOING),
    array("compensations", COMPENSATION),
    array("timers", TIMER),
    array("parked", PARKED),
    array("history", HISTORY),
)
"""A record as it is stored. Its attributes about how it was read, as ``fault``, are not stored."""


def encode_record(record: SagaRecord) -> Document:
    """Return the document of a new saga."""
    return RECORD.encode(record)


def decode_record(document: Mapping[str, Any], saga: str = "saga") -> SagaRecord:
    """Return the record that *document* holds; arrays that were left out in reading are empty.

    :param saga: the name of the saga's class, for the error.
    :raises DamagedDocumentError: if the document is not sagaflow's, or is damaged in any way.
    """
    try:
        record = RECORD.decode(document)
        if not record.state and record.status is not Status.EMBRYO:
            raise ValueError("it is in no state")  # noqa: TRY301 - damage like any other
    except Exception as exc:
        reason = f"the field {exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise DamagedDocumentError(saga, document.get("_id"), reason) from exc
    return record


def encode_change(
    before: SagaRecord, after: SagaRecord, *, inbox_size: int, history_size: int = HISTORY_SIZE
) -> DocumentChange:
    """Return the change that makes *after* of *before*.

    Only fields that differ are written. The inbox and the history of *after* hold the elements to
    append to the stored ones. If *after* is another incarnation, it replaces the whole document.

    :param inbox_size: how many message ids the stored inbox keeps.
    :param history_size: how many entries the stored history keeps.
    :raises SerializationError: if BSON cannot hold the change.
    """
    if after.incarnation != before.incarnation:
        return _replacement(before, after)
    values, unset = _head_of(before, after)
    push: dict[str, Push] = {}
    if after.data is not before.data or after.schema != before.schema:
        _change_data(before, after, values)
    if after.outbox is not before.outbox:
        _change_outbox(before, after, values, push)
    if after.compensations is not before.compensations:
        _change_compensations(before, after, values, push)
    if after.timers is not before.timers and after.timers != before.timers:
        values["timers"] = [TIMER.encode(timer) for timer in after.timers]
    if after.parked is not before.parked and after.parked != before.parked:
        _change_parked(before, after, values, push)
    if after.inbox:
        push["inbox"] = Push(list(after.inbox), inbox_size)
    if after.history:
        last = after.history[-history_size:]
        push["history"] = Push([HISTORY.encode(entry) for entry in last], history_size)
    pushed = {name: items.items for name, items in push.items()}
    return DocumentChange(
        correlation_id=before.correlation_id,
        incarnation=before.incarnation,
        version=before.version,
        set=values,
        unset=tuple(unset),
        push=push,
        growth=document_size({**values, **pushed}),
    )


def _head_of(before: SagaRecord, after: SagaRecord) -> tuple[Document, list[str]]:
    """Return the fields of the head that are to be set, and the names of fields to remove."""
    values: Document = {}
    unset: list[str] = []
    old, new = vars(before), vars(after)
    bookkept = _BOOKKEPT if before.finished_at is None else _BOOKKEPT_AT_THE_END
    for name, encode in _HEAD_ENCODERS:
        value = new[name]
        if name not in bookkept and (value is old[name] or value == old[name]):
            continue
        if encode is not None and value is not None:
            value = encode(value)
        if value is None:
            unset.append(name)
        else:
            values[name] = value
    return values, unset


_HEAD_ENCODERS: Final = tuple((stored.name, stored.encode) for stored in _HEAD)


def _change_data(before: SagaRecord, after: SagaRecord, values: Document) -> None:
    if after.schema != before.schema:  # as a whole: fields of the old schema go
        values["data"] = dict(after.data)
    else:
        for name in changed(before.data, after.data):
            values[f"data.{name}"] = after.data[name]


def _change_outbox(
    before: SagaRecord, after: SagaRecord, values: Document, push: dict[str, Push]
) -> None:
    """Append new messages; write the whole outbox only if *after* lacks messages of *before*.

    Sent messages are removed from the stored outbox at any time, so that writing the whole might
    bring some back. But only transitions add messages: *before* has every message that its version
    can have, and a message that *after* lacks was sent or withdrawn.
    """
    added = [message for message in after.outbox if message.sequence > before.sequence]
    if len(after.outbox) - len(added) < len(before.outbox):
        values["outbox"] = [OUTGOING.encode(message) for message in after.outbox]
    elif added:
        push["outbox"] = Push([OUTGOING.encode(message) for message in added])


def _change_compensations(
    before: SagaRecord, after: SagaRecord, values: Document, push: dict[str, Push]
) -> None:
    pairs = enumerate(zip(before.compensations, after.compensations, strict=False))
    amended = [i for i, (old, new) in pairs if new is not old and new != old]
    added = after.compensations[len(before.compensations) :]
    if amended and added:  # one update cannot both append to an array and set its elements
        values["compensations"] = [COMPENSATION.encode(entry) for entry in after.compensations]
    elif added:
        push["compensations"] = Push([COMPENSATION.encode(entry) for entry in added])
    else:
        for index in amended:
            entry = after.compensations[index]
            values[f"compensations.{index}"] = COMPENSATION.encode(entry)


def _change_parked(
    before: SagaRecord, after: SagaRecord, values: Document, push: dict[str, Push]
) -> None:
    """Append new events; write the whole array if an older event differs or is gone."""
    known = len(before.parked)
    if after.parked[:known] == before.parked:
        push["parked"] = Push([PARKED.encode(event) for event in after.parked[known:]])
    else:
        values["parked"] = [PARKED.encode(event) for event in after.parked]


def _replacement(before: SagaRecord, after: SagaRecord) -> DocumentChange:
    document = encode_record(after)
    del document["_id"]
    return DocumentChange(
        correlation_id=before.correlation_id,
        incarnation=before.incarnation,
        version=before.version,
        set=document,
        unset=tuple(stored.name for stored in _HEAD if stored.name not in document),
        growth=document_size(document),
    )
