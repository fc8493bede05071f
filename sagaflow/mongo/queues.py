r"""The messages of one saga that wait for one service: a document, and the changes to it. Pure.

A message is pushed to the end of its queue, whoever holds the queue. One process at a time holds a
queue, by a claim with a number, and takes messages from its front::

    {_id: "service\nkey", service, key,
     messages: [{id, name, headers: [[name, value], ...], body}, ...],
     handled: [id, ...],            # the last ones: a message that is pushed again is not handled
     failing: {id, attempts, since},  # the first message, if handling it has failed
     pushed: 7,                     # how many messages were ever pushed
     claim: 3,                      # which claim is the latest
     owner,                         # the process that has made it
     wake,                          # since when there are messages; absent where there are none
     rest_until,                    # not claimed before: it is held, or the first message rests
     expire_at}                     # where there are no messages: when the document may go
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast

from attrs import field, frozen

from sagaflow.bus.transport import Outgoing
from sagaflow.mongo.indexes import Index

Document = dict[str, Any]

QUEUE_INDEXES: Final = (
    Index(name="sagaflow_wake", keys=("service", "wake")),
    Index(
        name="sagaflow_expire",
        keys=("expire_at",),
        options={"expireAfterSeconds": 0, "sparse": True},
    ),
)
_REMEMBERED: Final = 128
"""How many handled messages a queue remembers, to recognise one that is pushed again."""
_KEPT_EMPTY: Final = timedelta(days=1)
"""For how long a queue without messages remembers what it has had."""


class DamagedQueueError(Exception):
    """A document is no queue: another program has written it."""


@frozen(kw_only=True)
class Waiting:
    """A message in a queue."""

    id: str
    name: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen(kw_only=True)
class Queue:
    """A queue as it was read.

    :ivar failing_since: since when handling the first message fails; None if it was not tried.
    :ivar attempts: how often handling the first message has failed.
    """

    id: str
    key: str
    messages: tuple[Waiting, ...]
    handled: frozenset[str]
    pushed: int
    claim: int
    attempts: int = 0
    failing_since: datetime | None = None


def queue_id(service: str, key: str) -> str:
    """Return the id of a queue: a name of a service has no line break."""
    return f"{service}\n{key}"


def waiting_of(message: Outgoing) -> Document:
    """Return a message as it stands in a queue."""
    return {
        "id": message.id,
        "name": message.name,
        "headers": [[name, value] for name, value in message.headers.items()],
        "body": message.body.decode(),
    }


def push(waiting: Document, now: datetime) -> Document:
    """Return the change that adds a message to the end of a queue."""
    return {
        "$push": {"messages": {"$each": [waiting]}},
        "$inc": {"pushed": 1},
        "$set": {"wake": now},
        "$unset": {"expire_at": ""},
    }


def new_queue(service: str, key: str, waiting: Document, now: datetime) -> Document:
    """Return a queue with its first message."""
    return {
        "_id": queue_id(service, key),
        "service": service,
        "key": key,
        "messages": [waiting],
        "handled": [],
        "pushed": 1,
        "claim": 0,
        "wake": now,
        "rest_until": now,
    }


def free_queues(service: str, now: datetime) -> Document:
    """Return the question for the queues of a service that have messages and may be claimed."""
    return {"service": service, "wake": {"$lte": now}, "rest_until": {"$lte": now}}


def left_queues(service: str, owner: str, now: datetime) -> Document:
    """Return the question for the queues that a process of this name holds, or has left behind."""
    return {"service": service, "wake": {"$lte": now}, "owner": owner}


def claim_of(queue: Queue, owner: str, until: datetime) -> tuple[Document, Document]:
    """Return the condition and the change by which a process claims a queue."""
    change = {"$set": {"claim": queue.claim + 1, "owner": owner, "rest_until": until}}
    return {"_id": queue.id, "claim": queue.claim}, change


def held(queue: Queue) -> Document:
    """Return the condition that the claim which was made after reading still holds."""
    return {"_id": queue.id, "claim": queue.claim + 1}


def rest(until: datetime) -> Document:
    """Return the change that keeps a queue from being claimed before an instant."""
    return {"$set": {"rest_until": until}}


def emptied(queue: Queue, handled: Sequence[str], now: datetime) -> tuple[Document, Document]:
    """Return condition and change that end a claim after all messages, if none has come since.

    :param handled: the messages that are to be recognised if they are pushed again.
    """
    change: Document = {
        "$set": {"messages": [], "rest_until": now, "expire_at": now + _KEPT_EMPTY},
        "$unset": {"wake": "", "failing": "", "owner": ""},
    }
    if handled:
        change["$push"] = _remembered(handled)
    return {**held(queue), "pushed": queue.pushed}, change


def given_back(
    done: Sequence[str],
    handled: Sequence[str],
    now: datetime,
    *,
    failing: Document | None,
    until: datetime,
) -> Document:
    """Return the change that ends a claim where messages are left.

    :param done: the messages that are to be removed.
    :param handled: those among them that are to be recognised if they are pushed again.
    :param failing: how handling the first message that is left has failed, if it has.
    :param until: when that one may be tried again.
    """
    change: Document = {"$set": {"rest_until": until, "wake": now}, "$unset": {"owner": ""}}
    if failing is not None:
        change["$set"]["failing"] = failing
    else:
        change["$unset"]["failing"] = ""
    if done:
        change["$pull"] = {"messages": {"id": {"$in": list(done)}}}
    if handled:
        change["$push"] = _remembered(handled)
    return change


def _remembered(handled: Sequence[str]) -> Document:
    return {"handled": {"$each": list(handled), "$slice": -_REMEMBERED}}


def failing_of(message: Waiting, attempts: int, since: datetime) -> Document:
    """Return what a queue says of its first message, after handling it has failed."""
    return {"id": message.id, "attempts": attempts, "since": since}


def read_queue(document: Document) -> Queue:
    """Return the queue that a document holds.

    :raises DamagedQueueError: if it is none.
    """
    try:
        messages = tuple(_waiting(one) for one in document["messages"])
        failing = document.get("failing")
        failing = failing if failing and messages and failing["id"] == messages[0].id else None
        return Queue(
            id=_text(document["_id"]),
            key=_text(document["key"]),
            messages=messages,
            handled=frozenset(_text(one) for one in document["handled"]),
            pushed=_whole(document["pushed"]),
            claim=_whole(document["claim"]),
            attempts=0 if failing is None else _whole(failing["attempts"]),
            failing_since=None if failing is None else _instant(failing["since"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise DamagedQueueError(f"{type(exc).__name__}: {exc}") from exc


def read_waiting(stored: object) -> Waiting:
    """Return a message as it stands in a queue or a dead letter.

    :raises DamagedQueueError: if it is none.
    """
    try:
        return _waiting(cast("Mapping[str, Any]", stored))
    except (KeyError, TypeError, ValueError) as exc:
        raise DamagedQueueError(f"{type(exc).__name__}: {exc}") from exc


def services_of(readers: Document | None) -> list[str]:
    """Return the services that read messages of a name, as the document of that name says.

    :raises DamagedQueueError: if it says something else.
    """
    services: object = {} if readers is None else readers.get("services")
    if not isinstance(services, dict):
        raise DamagedQueueError(f"services is a {type(services).__name__}, and no document")
    return list(cast("Document", services))


def _waiting(stored: Mapping[str, Any]) -> Waiting:
    return Waiting(
        id=_text(stored["id"]),
        name=_text(stored["name"]),
        headers={_text(name): _text(value) for name, value in stored["headers"]},
        body=_text(stored["body"]).encode(),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {type(value).__name__}")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a whole number was expected, not {type(value).__name__}")
    return value


def _instant(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"an instant was expected, not {type(value).__name__}")
    return value
