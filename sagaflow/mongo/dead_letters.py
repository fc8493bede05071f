"""Dead letters in MongoDB: a document for each message that a service could not deal with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, cast

from sagaflow._model.verdict import Undeliverable
from sagaflow.bus.transport import DeadLetter
from sagaflow.mongo.indexes import Index
from sagaflow.mongo.queues import Document, Queue, Waiting, queue_id

DEAD_LETTER_INDEXES: Final = (Index(name="sagaflow_service", keys=("service", "since")),)


def dead_letter_of(
    service: str,
    queue: Queue,
    message: Waiting,
    verdict: Undeliverable,
    attempts: int,
    now: datetime,
) -> Document:
    """Return the document of a message that is put aside; the same message has the same id."""
    return {
        "_id": queue_id(service, message.id),
        "service": service,
        "name": message.name,
        "key": queue.key,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "attempts": attempts,
        "since": now,
        "message": {
            "id": message.id,
            "name": message.name,
            "headers": [[name, value] for name, value in message.headers.items()],
            "body": message.body.decode(),
        },
    }


def read_dead_letter(document: Document) -> DeadLetter:
    """Return what a document says; what it lacks, or has of a wrong type, is shown as it is.

    An operator has to see a damaged one too.
    """
    message = _document(document.get("message"))
    since, attempts = document.get("since"), document.get("attempts")
    return DeadLetter(
        id=str(document["_id"]).partition("\n")[2],
        service=str(document.get("service")),
        name=str(document.get("name")),
        key=None if document.get("key") is None else str(document["key"]),
        reason=str(document.get("reason")),
        detail=str(document.get("detail")),
        attempts=attempts if isinstance(attempts, int) else 0,
        since=since if isinstance(since, datetime) else _LONG_AGO,
        headers=dict(_pairs(message.get("headers"))),
        body=str(message.get("body", "")).encode("utf-8", "surrogatepass"),
    )


def _document(value: Any) -> Document:
    return cast("Document", value) if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return list(cast("Iterable[Any]", value)) if isinstance(value, list) else []


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    for pair in _items(value):
        found = _items(pair)
        if len(found) == 2:  # noqa: PLR2004 - a name and its value
            yield str(found[0]), str(found[1])


_LONG_AGO: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
