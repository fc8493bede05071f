"""What AMQP carries of a message, and how it is read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from attrs import field, frozen

from sagaflow._model.errors import BusError
from sagaflow._model.texts import TRACEBACK, cleaned
from sagaflow._model.verdict import Undeliverable
from sagaflow.bus.transport import DeadLetter, Outgoing
from sagaflow.bus.wire import Binding

PARTITION_KEY: Final = "partitionkey"
"""The attribute of CloudEvents with the key; a message without one has its correlation id."""

_CONTENT_TYPE: Final = Binding.AMQP.content_type
_OWN: Final = "sagaflow_"
_MOST_IN_HEADERS: Final = 100_000
"""RabbitMQ takes headers of one frame, 128 KiB; a dead letter has some more than its message."""
_MOST_IN_AN_ID: Final = 255
_DETAIL: Final = TRACEBACK


@frozen
class Content:
    """A message as AMQP carries it.

    :ivar id: the property ``message_id``.
    :ivar headers: texts, those of sagaflow's own included.
    """

    id: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    content_type: str | None = None

    @property
    def key(self) -> str | None:
        """The key by which the message has its order."""
        return self.attribute(PARTITION_KEY) or self.attribute("correlationid")

    @property
    def name(self) -> str:
        """The name of its class, as the message says it."""
        return self.attribute("type") or ""

    @property
    def wire_headers(self) -> Mapping[str, str]:
        """The headers that a receiver needs to read the message."""
        kept = {name: text for name, text in self.headers.items() if not name.startswith(_OWN)}
        return kept if self.content_type is None else {**kept, _CONTENT_TYPE: self.content_type}

    def attribute(self, name: str) -> str | None:
        """Return an attribute of CloudEvents; its binding allows two prefixes."""
        found = self.headers.get(Binding.AMQP.value + name)
        return self.headers.get(f"cloudEvents:{name}") if found is None else found


def content_of(message: Outgoing) -> Content:
    """Return a message as it is published.

    :raises BusError: if its headers are too large for RabbitMQ.
    """
    headers = {name: text for name, text in message.headers.items() if name != _CONTENT_TYPE}
    if message.key is not None:
        headers[Binding.AMQP.value + PARTITION_KEY] = message.key
    if sum(_size(name, text) for name, text in headers.items()) > _MOST_IN_HEADERS:
        raise BusError(
            f"the headers of {message.name} {message.id[:100]!r} have more than "
            f"{_MOST_IN_HEADERS:,} bytes, which RabbitMQ does not take: put less into headers="
        )
    return Content(_short(message.id), headers, message.body, message.headers.get(_CONTENT_TYPE))


def read_content(
    message_id: str | None,
    content_type: str | None,
    headers: Mapping[str, Any] | None,
    body: bytes,
) -> Content:
    """Return what has come, from whatever program; headers have to be texts or numbers."""
    texts = {name: _text(value) for name, value in (headers or {}).items() if _is_plain(value)}
    found = Content("", texts, body, content_type)
    known = message_id or found.attribute("id")
    if not known:
        known = sha256(repr(sorted(texts.items())).encode() + body).hexdigest()
    return Content(_short(known), texts, body, content_type)


def delivery_count(headers: Mapping[str, Any] | None) -> int:
    """Return how often RabbitMQ has taken a message back, for whatever reason."""
    found = (headers or {}).get("x-delivery-count")
    return found if isinstance(found, int) else 0


def letter_of(content: Content, verdict: Undeliverable, attempts: int, now: datetime) -> Content:
    """Return a message as it is put aside."""
    told = {
        f"{_OWN}reason": cleaned(verdict.reason, 200),
        f"{_OWN}detail": cleaned(verdict.detail, _DETAIL),
        f"{_OWN}attempts": str(attempts),
        f"{_OWN}since": now.isoformat(),
    }
    headers = {**_fitting(content.headers), **told}
    return Content(content.id, headers, content.body, content.content_type)


def without_fate(content: Content) -> Content:
    """Return a message that was put aside as it came at first."""
    kept = {
        name: text for name, text in content.headers.items() if not name.startswith((_OWN, "x-"))
    }
    return Content(content.id, kept, content.body, content.content_type)


def read_letter(content: Content, service: str) -> DeadLetter:
    """Return a dead letter; what RabbitMQ itself or an operator has put there is shown, too."""
    headers = content.headers
    attempts = headers.get(f"{_OWN}attempts", "")
    return DeadLetter(
        id=content.id,
        service=service,
        name=content.name,
        key=content.key,
        reason=headers.get(f"{_OWN}reason") or headers.get("x-first-death-reason", "unknown"),
        detail=headers.get(f"{_OWN}detail", ""),
        attempts=int(attempts) if attempts.isascii() and attempts.isdigit() else 0,
        since=_instant(headers.get(f"{_OWN}since", "")),
        headers=without_fate(content).wire_headers,
        body=content.body,
    )


def _short(message_id: str) -> str:
    """Return an id as a property, which has 255 bytes at most: of a longer one its digest."""
    encoded = message_id.encode("utf-8", "surrogatepass")
    return message_id if len(encoded) <= _MOST_IN_AN_ID else sha256(encoded).hexdigest()


def _size(name: str, text: str) -> int:
    return len(name.encode()) + len(text.encode()) + 8


def _fitting(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers for a dead letter, without the largest of another program's too many."""
    kept, size = dict[str, str](), 0
    for name, text in sorted(headers.items(), key=lambda one: _size(*one)):
        size += _size(name, text)
        if size <= _MOST_IN_HEADERS:
            kept[name] = text
    return kept


def _is_plain(value: object) -> bool:
    return isinstance(value, str | bytes | int | float)


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return _LONG_AGO
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


_LONG_AGO: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
