"""The parts of a saga's document: messages, timers, recorded compensations and so on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias

from sagaflow._codec.reading import (
    elements_in,
    id_in,
    instant_in,
    mapping_in,
    number_in,
    perhaps,
    text_in,
)
from sagaflow._model.record import (
    CompensationStatus,
    Failing,
    HistoryEntry,
    HistoryKind,
    Lease,
    OutgoingMessage,
    ParkedEvent,
    RecordedCompensation,
    StoredMessage,
    Suspension,
    SuspensionReason,
    Timer,
    TimerKind,
)

Document: TypeAlias = dict[str, Any]

_MICROSECOND: Final = timedelta(microseconds=1)
_KINDS: Final = {kind.value: kind for kind in HistoryKind}
_EVENTS: Final = {
    "operator": HistoryKind.OPERATOR,
    "compensation": HistoryKind.COMPENSATION,
    "compensation failed": HistoryKind.ATTEMPT,
}
_STEPS: Final = {
    "failed": HistoryKind.ATTEMPT,
    "parked": HistoryKind.PARKED,
    "suspended": HistoryKind.SUSPENDED,
    "unhandled": HistoryKind.DROPPED,
    "ignored": HistoryKind.DROPPED,
    "no longer declared": HistoryKind.DROPPED,
}
"""The words of entries that were written before they had a kind."""


def encode_message(message: StoredMessage) -> Document:
    """Return the stored form of a message."""
    return {"type": message.type, "body": dict(message.body)}


def decode_message(document: Mapping[str, Any]) -> StoredMessage:
    """Return a message from its stored form."""
    return StoredMessage(type=text_in(document, "type"), body=mapping_in(document, "body"))


def encode_outgoing(message: OutgoingMessage) -> Document:
    """Return the stored form of an outgoing message."""
    return {
        "id": message.id,
        "seq": message.sequence,
        "kind": message.kind,
        **encode_message(message.message),
        "causation_id": message.causation_id,
        "headers": message.headers,
        "created_at": message.created_at,
    } | ({} if message.undoes is None else {"undoes": message.undoes})


def decode_outgoing(document: Mapping[str, Any]) -> OutgoingMessage:
    """Return an outgoing message from its stored form."""
    return OutgoingMessage(
        id=text_in(document, "id"),
        sequence=number_in(document, "seq"),
        kind=text_in(document, "kind"),
        message=decode_message(document),
        causation_id=id_in(document, "causation_id"),
        headers=perhaps(mapping_in, document, "headers") or {},
        created_at=instant_in(document, "created_at"),
        undoes=perhaps(text_in, document, "undoes"),
    )


def encode_compensation(entry: RecordedCompensation) -> Document:
    """Return the stored form of a recorded compensation."""
    document: Document = {
        "id": entry.id,
        "step": entry.step,
        "method": entry.method,
        "event": None if entry.event is None else encode_message(entry.event),
        "arguments": None if entry.arguments is None else list(entry.arguments),
        "message_id": entry.message_id,
        "headers": entry.headers or None,
        "status": entry.status.value,
        "failing": encode_failing(entry.failing),
    }
    return present(document)


def decode_compensation(document: Mapping[str, Any]) -> RecordedCompensation:
    """Return a recorded compensation from its stored form."""
    event = perhaps(mapping_in, document, "event")
    has_arguments = document.get("arguments") is not None
    return RecordedCompensation(
        id=text_in(document, "id"),
        step=text_in(document, "step"),
        method=text_in(document, "method"),
        event=None if event is None else decode_message(event),
        arguments=elements_in(document, "arguments", _as_it_is) if has_arguments else None,
        message_id=id_in(document, "message_id"),
        headers=perhaps(mapping_in, document, "headers") or {},
        status=CompensationStatus(document["status"]),
        failing=decode_failing(perhaps(mapping_in, document, "failing")),
    )


def encode_failing(failing: Failing | None) -> Document | None:
    """Return the stored form of how something has failed so far."""
    if failing is None:
        return None
    return {
        "attempts": failing.attempts,
        "since": failing.since,
        "due": failing.due,
        "error": failing.error,
    }


def decode_failing(document: Mapping[str, Any] | None) -> Failing | None:
    """Return how something has failed so far from its stored form."""
    if document is None:
        return None
    return Failing(
        attempts=number_in(document, "attempts"),
        since=instant_in(document, "since"),
        due=instant_in(document, "due"),
        error=text_in(document, "error"),
    )


def encode_lease(lease: Lease | None) -> Document | None:
    """Return the stored form of a lease."""
    return None if lease is None else {"owner": lease.owner, "until": lease.until}


def decode_lease(document: Mapping[str, Any] | None) -> Lease | None:
    """Return a lease from its stored form."""
    if document is None:
        return None
    return Lease(owner=text_in(document, "owner"), until=instant_in(document, "until"))


def encode_suspension(suspension: Suspension | None) -> Document | None:
    """Return the stored form of a suspension."""
    if suspension is None:
        return None
    return {
        "reason": suspension.reason.value,
        "subject": suspension.subject,
        "error": suspension.error,
        "since": suspension.since,
    }


def decode_suspension(document: Mapping[str, Any] | None) -> Suspension | None:
    """Return a suspension from its stored form."""
    if document is None:
        return None
    return Suspension(
        reason=SuspensionReason(document["reason"]),
        subject=id_in(document, "subject"),
        error=text_in(document, "error"),
        since=instant_in(document, "since"),
    )


def encode_timer(timer: Timer) -> Document:
    """Return the stored form of a timer."""
    return present(
        {
            "id": timer.id,
            "name": timer.name,
            "due": timer.due,
            "kind": timer.kind.value,
            "delay": None if timer.delay is None else timer.delay // _MICROSECOND,
            "event": None if timer.event is None else encode_message(timer.event),
            "causation_id": timer.causation_id,
            "headers": timer.headers or None,
            "failing": encode_failing(timer.failing),
        }
    )


def decode_timer(document: Mapping[str, Any]) -> Timer:
    """Return a timer from its stored form."""
    event = perhaps(mapping_in, document, "event")
    delay = perhaps(number_in, document, "delay")
    return Timer(
        id=text_in(document, "id"),
        name=text_in(document, "name"),
        due=instant_in(document, "due"),
        kind=TimerKind(document["kind"]),
        delay=None if delay is None else delay * _MICROSECOND,
        event=None if event is None else decode_message(event),
        causation_id=id_in(document, "causation_id"),
        headers=perhaps(mapping_in, document, "headers") or {},
        failing=decode_failing(perhaps(mapping_in, document, "failing")),
    )


def encode_parked(event: ParkedEvent) -> Document:
    """Return the stored form of a parked event."""
    return present(
        {
            "id": event.id,
            **encode_message(event.message),
            "headers": event.headers,
            "parked_at": event.parked_at,
            "offered": event.offered,
            "failing": encode_failing(event.failing),
        }
    )


def decode_parked(document: Mapping[str, Any]) -> ParkedEvent:
    """Return a parked event from its stored form."""
    return ParkedEvent(
        id=id_in(document, "id"),
        message=decode_message(document),
        headers=mapping_in(document, "headers"),
        parked_at=instant_in(document, "parked_at"),
        offered=number_in(document, "offered"),
        failing=decode_failing(perhaps(mapping_in, document, "failing")),
    )


def present(document: Document) -> Document:
    """Return *document* without what is None."""
    return {name: value for name, value in document.items() if value is not None}


def encode_history(entry: HistoryEntry) -> Document:
    """Return the stored form of an entry of the history."""
    return {
        "at": entry.at,
        "event": entry.event,
        "step": entry.step,
        "source": entry.source,
        "target": entry.target,
        "message_id": entry.message_id,
        "version": entry.version,
        "token": entry.token,
        "attempt": entry.attempt,
        "kind": entry.kind.value,
    } | ({"compensates": True} if entry.compensates else {})


def decode_history(document: Mapping[str, Any]) -> HistoryEntry:
    """Return an entry of the history from its stored form."""
    return HistoryEntry(
        at=instant_in(document, "at"),
        event=text_in(document, "event"),
        step=text_in(document, "step"),
        source=perhaps(text_in, document, "source"),
        target=text_in(document, "target"),
        message_id=id_in(document, "message_id"),
        version=number_in(document, "version"),
        token=text_in(document, "token"),
        attempt=perhaps(number_in, document, "attempt") or 1,
        kind=_kind_of(document),
        compensates=bool(perhaps(number_in, document, "compensates")),
    )


def _kind_of(document: Mapping[str, Any]) -> HistoryKind:
    """Return what an entry tells; one of an earlier release says it in words only."""
    stored = document.get("kind")
    if stored is not None:
        return _KINDS.get(stored, HistoryKind.OTHER)
    event, step = document["event"], document["step"]
    if event in _EVENTS:
        return _EVENTS[event]
    # What takes no transition leaves the saga where it is.
    if (document.get("source") or "") == document["target"] and step in _STEPS:
        return _STEPS[step]
    return HistoryKind.TIMEOUT if event == "timeout" else HistoryKind.EVENT


def _as_it_is(value: object) -> object:
    return value
