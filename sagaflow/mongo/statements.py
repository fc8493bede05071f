"""What is said to the server to change one document, and how to find out whether it was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._model.ids import SagaId
from sagaflow.mongo.batches import UnknownResultError, WriteResult

_TOLD_BY_NOTHING: Final = UnknownResultError("the saga was deleted or has changed too often since")

Trace: TypeAlias = Callable[[Mapping[str, Any]], bool | None]

TRACES: Final[Mapping[str, int]] = dict.fromkeys(
    ("incarnation", "version", "token", "history.version", "history.token"), 1
)
"""The fields of a document that are read to find out which statements matched it."""


def _traceless(document: Mapping[str, Any]) -> None:
    """Return None: nothing in the document tells whether a statement has matched it."""


@frozen(kw_only=True)
class Statement:
    """One conditional update of one document.

    :ivar trace: tells from the document, read later, whether the statement has matched it; None
        if that cannot be told.
    :ivar otherwise: the result of the statement if it cannot be found out whether it matched.
    """

    query: Mapping[str, Any]
    update: Document
    trace: Trace = field(default=_traceless)
    otherwise: WriteResult = False

    @property
    def correlation_id(self) -> SagaId:
        """The id of the saga that the statement is about."""
        found: SagaId = self.query["_id"]
        return found


def transition(change: DocumentChange) -> Statement:
    """Return the statement that applies *change*."""
    update: Document = {"$set": dict(change.set)}
    if change.unset:
        update["$unset"] = dict.fromkeys(change.unset, "")
    if change.push:
        update["$push"] = {
            name: {"$each": push.items} | ({} if push.keep is None else {"$slice": -push.keep})
            for name, push in change.push.items()
        }
    return Statement(
        query=_at_version(change),
        update=update,
        trace=lambda document: _has_taken_place(change, document),
        otherwise=_TOLD_BY_NOTHING,
    )


def is_traceable(change: DocumentChange) -> bool:
    """Tell whether *change* leaves a token and a version by which it is recognised later."""
    return "token" in change.set and "version" in change.set


def note_of(note: Bookkeeping) -> Statement:
    """Return the statement for a whole note, which matches if the version is still the same."""
    update = _pull(note)
    if note.set:
        update["$set"] = dict(note.set)
    if note.unset:
        update["$unset"] = dict.fromkeys(note.unset, "")
    return Statement(
        query=_at_version(note),
        update=update,
        trace=lambda document: _is_still_at(note, document),
    )


def removal_of(note: Bookkeeping) -> Statement:
    """Return the statement that only removes sent messages, whatever the version."""
    return Statement(
        query={"_id": note.correlation_id, "incarnation": note.incarnation}, update=_pull(note)
    )


def fates_of(
    statements: list[Statement], found: Mapping[SagaId, Mapping[str, Any]], matched: int
) -> list[WriteResult]:
    """Tell which of *statements* have matched, from their documents as they are now.

    :param found: the documents that are still there, by their ids.
    :param matched: how many of the statements have matched.
    """
    seen = [
        None if document is None else statement.trace(document)
        for statement in statements
        for document in [found.get(statement.correlation_id)]
    ]
    # If the documents do not tell, the number may: that all others have matched, or none.
    left, unknown = matched - seen.count(True), seen.count(None)
    if left in (0, unknown):
        return [left > 0 if fate is None else fate for fate in seen]
    return [
        statement.otherwise if fate is None else fate
        for statement, fate in zip(statements, seen, strict=True)
    ]


def _at_version(change: DocumentChange | Bookkeeping) -> Document:
    return {
        "_id": change.correlation_id,
        "incarnation": change.incarnation,
        "version": change.version,
    }


def _pull(note: Bookkeeping) -> Document:
    return {"$pull": {"outbox": {"id": {"$in": list(note.sent)}}}} if note.sent else {}


def _has_taken_place(change: DocumentChange, document: Mapping[str, Any]) -> bool | None:
    """Tell whether *change* is one of the writes that led to *document*; None if unknown.

    Versions of an incarnation only rise, each write has a token of its own, and the history has
    the tokens of the last writes.
    """
    token, version = change.set["token"], change.set["version"]
    history = document.get("history", ())
    if document.get("token") == token or any(entry.get("token") == token for entry in history):
        return True
    found, now = document.get("incarnation"), document.get("version")
    if "incarnation" in change.set:  # the change replaces another incarnation
        return {change.set["incarnation"]: True, change.incarnation: False}.get(found)
    if found != change.incarnation or not isinstance(now, int):
        return None  # the saga was deleted and started anew, before or after the change
    if now <= version or any(change.version < entry["version"] <= version for entry in history):
        return False  # nothing has made that version, or another write has
    return None


def _is_still_at(note: Bookkeeping, document: Mapping[str, Any]) -> bool | None:
    """Tell whether *document* is still at the version of *note*; None if it has moved on."""
    found = (document.get("incarnation"), document.get("version"))
    return True if found == (note.incarnation, note.version) else None
