"""The parts of a saga's document: messages, timers, recorded compensations and so on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from sagaflow._codec.layout import (
    Layout,
    among,
    field,
    filled,
    flag,
    identity,
    instant,
    lenient,
    mapping,
    named,
    number,
    one_of,
    optional,
    part,
    span,
    text,
    value_of,
)
from sagaflow._codec.reading import elements_in, mapping_in, perhaps, text_in
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
"""The words of history entries that were written before entries had a kind."""


def _kind_of(document: Mapping[str, Any], _: str) -> HistoryKind:
    """Return the kind of an entry; entries of earlier releases tell it in words only."""
    stored = document.get("kind")
    if stored is not None:
        return _KINDS.get(stored, HistoryKind.OTHER)
    event, step = document["event"], document["step"]
    if event in _EVENTS:
        return _EVENTS[event]
    # Entries of these kinds leave the saga in its state; a method of such a name need not.
    if (document.get("source") or "") == document["target"] and step in _STEPS:
        return _STEPS[step]
    return HistoryKind.TIMEOUT if event == "timeout" else HistoryKind.EVENT


def _source_in(document: Mapping[str, Any], name: str) -> str | None:
    return perhaps(text_in, document, name)


def _arguments_in(document: Mapping[str, Any], name: str) -> tuple[object, ...]:
    return elements_in(document, name, lambda argument: argument)


MESSAGE: Final = Layout(StoredMessage, text("type"), field("body", mapping_in, dict))

FAILING: Final = Layout(
    Failing, number("attempts"), instant("since"), instant("due"), text("error")
)

LEASE: Final = Layout(Lease, text("owner"), instant("until"))

SUSPENSION: Final = Layout(
    Suspension,
    one_of("reason", SuspensionReason),
    identity("subject"),
    text("error"),
    instant("since"),
)

OUTGOING: Final = Layout(
    OutgoingMessage,
    text("id"),
    named("seq", number("sequence")),
    text("kind"),
    among("message", MESSAGE),
    identity("causation_id"),
    lenient(mapping("headers")),
    instant("created_at"),
    optional(text("undoes")),
)

COMPENSATION: Final = Layout(
    RecordedCompensation,
    text("id"),
    text("step"),
    text("method"),
    optional(part("event", MESSAGE)),
    optional(field("arguments", _arguments_in, list)),
    identity("message_id"),
    filled("headers"),
    one_of("status", CompensationStatus),
    optional(part("failing", FAILING)),
)

TIMER: Final = Layout(
    Timer,
    text("id"),
    text("name"),
    instant("due"),
    one_of("kind", TimerKind),
    optional(span("delay")),
    optional(part("event", MESSAGE)),
    identity("causation_id"),
    filled("headers"),
    optional(part("failing", FAILING)),
)

PARKED: Final = Layout(
    ParkedEvent,
    identity("id"),
    among("message", MESSAGE),
    mapping("headers"),
    instant("parked_at"),
    number("offered"),
    optional(part("failing", FAILING)),
)

HISTORY: Final = Layout(
    HistoryEntry,
    instant("at"),
    text("event"),
    text("step"),
    field("source", _source_in),
    text("target"),
    identity("message_id"),
    number("version"),
    text("token"),
    lenient(number("attempt")),
    field("kind", _kind_of, value_of),
    flag("compensates"),
)


def encode_lease(lease: Lease | None) -> Document | None:
    """Return the stored form of a lease; None if there is no lease."""
    return LEASE.encode_any(lease)
