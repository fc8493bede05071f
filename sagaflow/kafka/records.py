"""Messages as records of Kafka: headers, a key and a value. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from sagaflow._model.texts import TRACEBACK, cleaned
from sagaflow._model.verdict import Undeliverable
from sagaflow.bus.transport import DeadLetter
from sagaflow.bus.wire import Binding

Headers: TypeAlias = list[tuple[str, bytes]]

_OWN: Final = "sagaflow_"
"""What the headers begin with that a dead letter has beside those of its message."""
_REASON: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@frozen(kw_only=True)
class Record:
    """A message as it lies in an inbox.

    :ivar key: the key by which it has its order; None if there is none.
    """

    partition: int
    offset: int
    key: str | None
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def identity(self) -> tuple[str, str] | None:
        """By what a message is recognised that was published twice: its class and its id."""
        found = self.headers.get(f"{Binding.KAFKA.value}id")
        return (
            None if found is None else (self.headers.get(f"{Binding.KAFKA.value}type", ""), found)
        )


def headers_of(headers: Mapping[str, str]) -> Headers:
    """Return headers as Kafka takes them."""
    return [(name, _bytes(value)) for name, value in headers.items()]


def key_of(key: str | None) -> bytes | None:
    """Return a key as Kafka takes it."""
    return None if key is None else _bytes(key)


def read_record(message: Any) -> Record:
    """Return what the client hands out; whatever it is, the dispatcher sees it."""
    key = message.key()
    return Record(
        partition=message.partition(),
        offset=message.offset(),
        key=None if key is None else _text(key),
        headers=_read_headers(message.headers()),
        body=message.value() or b"",
    )


def letter_of(record: Record, verdict: Undeliverable, attempts: int, now: datetime) -> Headers:
    """Return the headers of the dead letter that a message becomes."""
    told = {
        "reason": cleaned(verdict.reason, _REASON),
        "detail": cleaned(verdict.detail, TRACEBACK),
        "attempts": str(attempts),
        "since": str(_milliseconds(now)),
    }
    if record.key is not None:
        told["key"] = record.key
    return headers_of({**record.headers, **{f"{_OWN}{name}": text for name, text in told.items()}})


def read_letter(service: str, message: Any) -> DeadLetter:
    """Return what a record of the dead letters says; what it lacks is shown as missing.

    An operator has to see a damaged one too.
    """
    headers = _read_headers(message.headers())
    told = {name: headers.pop(name) for name in list(headers) if name.startswith(_OWN)}
    attempts, since = told.get(f"{_OWN}attempts", ""), told.get(f"{_OWN}since", "")
    return DeadLetter(
        id=_text(message.key() or b""),
        service=service,
        name=headers.get(f"{Binding.KAFKA.value}type", ""),
        key=told.get(f"{_OWN}key"),
        reason=told.get(f"{_OWN}reason", ""),
        detail=told.get(f"{_OWN}detail", ""),
        attempts=int(attempts) if _is_number(attempts) else 0,
        since=_instant(int(since) if _is_number(since) else max(message.timestamp()[1], 0)),
        headers=headers,
        body=message.value() or b"",
    )


def entry_of(service: str, name: str) -> bytes:
    """Return the key of the record which says that a service takes a name."""
    return f"{service} {name}".encode()


def read_entry(key: bytes | None) -> tuple[str, str]:
    """Return which service takes which name."""
    service, _, name = _text(key or b"").partition(" ")
    return service, name


def _read_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> dict[str, str]:
    """Return headers as texts. What is not valid UTF-8 stays so, and is refused by the wire."""
    return {name: _text(value or b"") for name, value in headers or ()}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: str) -> bytes:
    """Return a text as it came, or, if it has halves of characters that did not come so, as is."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 15  # noqa: PLR2004 - of years 1 to 9999


def _milliseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _instant(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
