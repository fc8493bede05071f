"""A record as the one document that is stored, and the one change that a write makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import field, frozen

from sagaflow._codec.elements import (
    Document,
    decode_compensation,
    decode_failing,
    decode_history,
    decode_lease,
    decode_outgoing,
    decode_parked,
    decode_suspension,
    decode_timer,
    encode_compensation,
    encode_failing,
    encode_history,
    encode_lease,
    encode_outgoing,
    encode_parked,
    encode_suspension,
    encode_timer,
    present,
)
from sagaflow._codec.reading import (
    check_message_id,
    elements_in,
    instant_in,
    mapping_in,
    number_in,
    own_id_in,
    perhaps,
    text_in,
)
from sagaflow._forms.sameness import changed
from sagaflow._forms.size import document_size
from sagaflow._model.errors import DamagedDocumentError
from sagaflow._model.ids import SagaId
from sagaflow._model.record import SagaRecord, Status
from sagaflow._model.shown import shown

HISTORY_SIZE: Final = 64
"""How many writes a saga remembers."""

_BOOKKEPT: Final = frozenset({"sending", "wake", "lease"})
"""Bookkeeping changes these without a new version: what was read of them may be out of date, so a
transition always writes them, or ``wake`` could stay too late."""

_BOOKKEPT_AT_THE_END: Final = _BOOKKEPT | {"expire_at"}
"""Bookkeeping says of a saga that has ended how long it is kept, once all was sent."""


@frozen
class Push:
    """Elements to append to an array, of which the last *keep* stay."""

    items: list[Any]
    keep: int | None = None


@frozen(kw_only=True)
class DocumentChange:
    """One conditional update: it takes place if the saga still has this incarnation and version.

    :ivar set: values by path; a path is a field, a field of ``data``, or an element of
        ``compensations``.
    :ivar unset: fields to remove.
    :ivar push: elements to append to arrays, by field.
    :ivar growth: by how many bytes it makes the document larger at most; None if not counted.
    """

    correlation_id: SagaId
    incarnation: str
    version: int
    set: Mapping[str, Any]
    unset: tuple[str, ...] = ()
    push: Mapping[str, Push] = field(factory=dict[str, Push])
    growth: int | None = None


@frozen(kw_only=True)
class Bookkeeping:
    """What is noted about a saga without changing its version, so that it never gets in the way.

    :ivar sent: messages to remove from the outbox, whatever version the saga has.
    :ivar set: fields to set, only if the saga still has this *version*.
    :ivar unset: fields to remove, only if it still has this version.
    """

    correlation_id: SagaId
    incarnation: str
    version: int
    sent: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(factory=dict[str, Any])
    unset: tuple[str, ...] = ()


def decode_id(stored: SagaId) -> SagaId:
    """Return the id whose stored form this is; the driver has a subclass for long ints.

    What cannot be an id is returned as it is, for `check_id` to refuse.
    """
    return int(stored) if isinstance(stored, int) and not isinstance(stored, bool) else stored


def encode_record(record: SagaRecord) -> Document:
    """Return the document of a new saga."""
    document: Document = {
        "_id": record.correlation_id,
        "incarnation": record.incarnation,
        **_head(record),
        "data": dict(record.data),
        "inbox": list(record.inbox),
        "outbox": [encode_outgoing(message) for message in record.outbox],
        "compensations": [encode_compensation(entry) for entry in record.compensations],
        "timers": [encode_timer(timer) for timer in record.timers],
        "parked": [encode_parked(event) for event in record.parked],
        "history": [encode_history(entry) for entry in record.history],
    }
    return present(document)


def encode_change(  # noqa: C901, PLR0912 - one branch for each part of a document
    before: SagaRecord, after: SagaRecord, *, inbox_size: int, history_size: int = HISTORY_SIZE
) -> DocumentChange:
    """Return the change that makes *after* of *before*.

    Only what differs is written. The outbox is appended to, since sent messages are removed from it
    at any time; it is written as a whole only if *after* lacks some of them, which were sent: only
    transitions add to it, so *before* has every message that this version can have. The inbox and
    the history of *after* are what is to be appended. Another incarnation takes the place of
    everything.

    :raises SerializationError: if BSON cannot hold it.
    """
    if after.incarnation != before.incarnation:
        return _replacement(before, after)
    changes: dict[str, Any] = {}
    unset: list[str] = []
    old, new = vars(before), vars(after)
    bookkept = _BOOKKEPT if before.finished_at is None else _BOOKKEPT_AT_THE_END
    for name, encode in _HEAD.items():
        value = new[name]
        if name not in bookkept and (value is old[name] or value == old[name]):
            continue
        if encode is not None and value is not None:
            value = encode(value)
        if value is None:
            unset.append(name)
        else:
            changes[name] = value
    if after.schema != before.schema:  # as a whole, so that fields go which no longer are
        changes["data"] = dict(after.data)
    else:
        data = after.data
        changes.update((f"data.{name}", data[name]) for name in changed(before.data, data))
    push: dict[str, Push] = {}
    added_messages = [message for message in after.outbox if message.sequence > before.sequence]
    if len(after.outbox) - len(added_messages) < len(before.outbox):
        changes["outbox"] = [encode_outgoing(message) for message in after.outbox]
    elif added_messages:
        push["outbox"] = Push([encode_outgoing(message) for message in added_messages])
    known = len(before.compensations)
    amended = [
        i
        for i, (old_one, new_one) in enumerate(
            zip(before.compensations, after.compensations, strict=False)
        )
        if new_one is not old_one and new_one != old_one
    ]
    added = after.compensations[known:]
    if amended and added:  # one update cannot both append to an array and set its elements
        changes["compensations"] = [encode_compensation(entry) for entry in after.compensations]
    elif added:
        push["compensations"] = Push([encode_compensation(entry) for entry in added])
    for index in amended if not added else ():
        changes[f"compensations.{index}"] = encode_compensation(after.compensations[index])
    # Only transitions change these arrays, so they may be written as a whole.
    if after.timers != before.timers:
        changes["timers"] = [encode_timer(timer) for timer in after.timers]
    if after.parked != before.parked:
        parked = len(before.parked)
        if after.parked[:parked] == before.parked:
            push["parked"] = Push([encode_parked(event) for event in after.parked[parked:]])
        else:
            changes["parked"] = [encode_parked(event) for event in after.parked]
    if after.inbox:
        push["inbox"] = Push(list(after.inbox), inbox_size)
    if after.history:
        last = after.history[-history_size:]
        push["history"] = Push([encode_history(e) for e in last], history_size)
    pushed = {name: items.items for name, items in push.items()}
    return DocumentChange(
        correlation_id=before.correlation_id,
        incarnation=before.incarnation,
        version=before.version,
        set=changes,
        unset=tuple(unset),
        push=push,
        growth=document_size({**changes, **pushed}),
    )


def _replacement(before: SagaRecord, after: SagaRecord) -> DocumentChange:
    document = encode_record(after)
    del document["_id"]
    return DocumentChange(
        correlation_id=before.correlation_id,
        incarnation=before.incarnation,
        version=before.version,
        set=document,
        unset=tuple(name for name, value in _head(after).items() if value is None),
        growth=document_size(document),
    )


def decode_record(document: Mapping[str, Any], saga: str = "saga") -> SagaRecord:
    """Return the record that *document* holds; what was not read is empty.

    :param saga: the name of its class, for the error.
    :raises DamagedDocumentError: if it is no document of sagaflow's, whatever is wrong with it.
    """
    try:
        return _decode(document)
    except Exception as exc:
        reason = f"the field {exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise DamagedDocumentError(saga, document.get("_id"), reason) from exc


def _decode(document: Mapping[str, Any]) -> SagaRecord:
    schema: object = document.get("schema", 1)
    if not isinstance(schema, int) or schema < 1:
        raise ValueError(f"its schema is {shown(schema)}")
    status, state = Status(document["status"]), text_in(document, "state")
    if not state and status is not Status.EMBRYO:
        raise ValueError("it is in no state")
    return SagaRecord(
        correlation_id=own_id_in(document),
        incarnation=text_in(document, "incarnation"),
        version=number_in(document, "version"),
        token=text_in(document, "token"),
        schema=int(schema),
        state=state,
        status=status,
        goal=perhaps(text_in, document, "goal"),
        cancelled=bool(perhaps(number_in, document, "cancelled")),
        data=perhaps(mapping_in, document, "data") or {},
        sequence=perhaps(number_in, document, "sequence") or 0,
        inbox=elements_in(document, "inbox", check_message_id),
        outbox=elements_in(document, "outbox", decode_outgoing),
        compensations=elements_in(document, "compensations", decode_compensation),
        history=elements_in(document, "history", decode_history),
        timers=elements_in(document, "timers", decode_timer),
        parked=elements_in(document, "parked", decode_parked),
        sending=decode_failing(perhaps(mapping_in, document, "sending")),
        suspension=decode_suspension(perhaps(mapping_in, document, "suspension")),
        wake=perhaps(instant_in, document, "wake"),
        lease=decode_lease(perhaps(mapping_in, document, "lease")),
        created_at=instant_in(document, "created_at"),
        updated_at=instant_in(document, "updated_at"),
        finished_at=perhaps(instant_in, document, "finished_at"),
        expire_at=perhaps(instant_in, document, "expire_at"),
    )


def _encode_status(status: Status) -> str:
    return status.value


def _encode_flag(flag: bool) -> bool | None:  # noqa: FBT001
    return flag or None


_HEAD: Final[Mapping[str, Callable[[Any], object] | None]] = {
    "version": None,
    "token": None,
    "schema": None,
    "state": None,
    "status": _encode_status,
    "goal": None,
    "cancelled": _encode_flag,
    "sequence": None,
    "sending": encode_failing,
    "suspension": encode_suspension,
    "wake": None,
    "lease": encode_lease,
    "created_at": None,
    "updated_at": None,
    "finished_at": None,
    "expire_at": None,
}
"""What a transition may change, apart from data and arrays, and how it is encoded."""


def _head(record: SagaRecord) -> Document:
    """Return that part of a document."""
    return {
        name: getattr(record, name) if encode is None else encode(getattr(record, name))
        for name, encode in _HEAD.items()
    }
