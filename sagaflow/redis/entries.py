"""Messages as entries of a stream: the attributes of CloudEvents as fields, and the body. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen

from sagaflow._model.verdict import RetryLater, Undeliverable, Verdict
from sagaflow.bus.transport import DeadLetter, Delivery, Outgoing

BODY: Final = "data"
KEY: Final = "partitionkey"
"""An extension of CloudEvents: by what messages are kept together."""
_DEAD: Final = "dead_"
"""What the fields begin with that a dead letter has beside those of its message."""
_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


@frozen(kw_only=True)
class Entry:
    """A message that this process has taken.

    :ivar lane: of which lane it is the first.
    :ivar attempts: how often handling it has failed.
    :ivar since: when it was handled for the first time; None if it was not yet.
    """

    id: str
    lane: bytes
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    attempts: int
    since: datetime | None

    def delivery(self, now: datetime) -> Delivery:
        """Return what is handed to the service."""
        return Delivery(
            headers=self.headers,
            body=self.body,
            attempts=self.attempts,
            since=self.since or now,
        )


@frozen
class Outcome:
    """What became of a message that this process has taken, in words for the server."""

    entry: Entry
    words: tuple[str | bytes | int, ...] = field(repr=False)


def fields_of(message: Outgoing) -> list[str | bytes]:
    """Return the fields of an entry, each with its value behind it."""
    fields: list[str | bytes] = []
    for name, value in message.headers.items():
        fields += (name, value)
    if message.key is not None:
        fields += (KEY, message.key)
    return [*fields, BODY, message.body]


def read_entry(lane: bytes, entry_id: bytes, fields: Sequence[bytes], failures: bytes) -> Entry:
    """Return a message as the server hands it out; whatever it is, the dispatcher sees it."""
    headers, body = _parts(fields)
    headers.pop(KEY, None)
    attempts, _, since = failures.decode("ascii", "replace").partition(" ")
    return Entry(
        id=entry_id.decode(),
        lane=lane,
        headers=headers,
        body=body,
        attempts=int(attempts) if attempts.isdecimal() else 0,
        since=_instant(since) if since.isdecimal() else None,
    )


def outcome_of(entry: Entry, verdict: Verdict, begun: datetime, now: datetime) -> Outcome:
    """Return what the server is told of a message.

    :param begun: when it was handed to the service this time.
    """
    what = (entry.lane, entry.id)
    attempts = entry.attempts + 1
    if isinstance(verdict, RetryLater):
        # Rounded up: what is due in the same millisecond would be due at once.
        after = -int(-verdict.after.total_seconds() * 1000 // 1)
        if not verdict.failed:
            attempts = entry.attempts
            began = "" if entry.since is None else _milliseconds(entry.since)
            return Outcome(entry, ("retry", *what, max(after, 1), attempts, began, ""))
        since = _milliseconds(entry.since or begun)
        return Outcome(entry, ("retry", *what, max(after, 1), attempts, since, ""))
    if isinstance(verdict, Undeliverable):
        reason, detail = _bytes(verdict.reason), _bytes(verdict.detail)
        return Outcome(entry, ("dead", *what, reason, attempts, _milliseconds(now), detail))
    return Outcome(entry, ("accept", *what, "", "", "", ""))


def is_letter_id(letter_id: str) -> bool:
    """Tell whether a dead letter may have this id."""
    return _ID.fullmatch(letter_id) is not None


def read_dead_letter(service: str, letter_id: bytes, fields: Sequence[bytes]) -> DeadLetter:
    """Return what an entry says; what it lacks, or has of a wrong kind, is shown as it is.

    An operator has to see a damaged one too.
    """
    headers, body = _parts(fields)
    key = headers.pop(KEY, None)
    dead = {name: headers.pop(name) for name in list(headers) if name.startswith(_DEAD)}
    attempts, since = dead.get("dead_attempts", ""), dead.get("dead_since", "")
    return DeadLetter(
        id=letter_id.decode(),
        service=service,
        name=headers.get("type", ""),
        key=key,
        reason=dead.get("dead_reason", ""),
        detail=dead.get("dead_detail", ""),
        attempts=int(attempts) if attempts.isdecimal() else 0,
        since=_instant(since)
        if since.isdecimal()
        else _instant(letter_id.decode().partition("-")[0]),
        headers=headers,
        body=body,
    )


def _parts(fields: Sequence[bytes]) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of an entry.

    What is not valid UTF-8 stays so in the text, and is refused by the wire.
    """
    found = {name.decode("utf-8", "surrogateescape"): value for name, value in _pairs(fields)}
    body = found.pop(BODY, b"")
    return {name: value.decode("utf-8", "surrogateescape") for name, value in found.items()}, body


def _pairs(fields: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for at in range(0, len(fields) - 1, 2):
        yield fields[at], fields[at + 1]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _instant(milliseconds: Any) -> datetime:
    """Return an instant; one that no calendar has is shown as the first."""
    try:
        return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
