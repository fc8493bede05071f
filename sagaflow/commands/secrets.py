"""Keeps the password in a server's URI out of everything that is printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from urllib.parse import unquote_plus

_SECRET_OPTION: Final = re.compile(r"password|token|secret|authmechanismproperties", re.IGNORECASE)
_OF_ONE_SERVER: Final = re.compile(r",(?=\w+://)")
"""Brokers take several URLs, with a comma between them."""
_TOKENS: Final = frozenset({"nats", "tls"})
"""Schemes in which a name without a password is itself what gives access."""
_HIDDEN: Final = "***"
_SHORT: Final = 4

_known: ContextVar[set[str] | None] = ContextVar("secrets of this command", default=None)


@contextmanager
def keeping_secrets() -> Generator[None]:
    """Forget the secrets at the end that `hide` was told of within the block."""
    token = _known.set(set())
    try:
        yield
    finally:
        _known.reset(token)


def hide(uri: str | None) -> None:
    """Leave the secrets in *uri* out of all errors that this command prints."""
    known = _known.get()
    if uri is not None and known is not None:
        known.update(secrets_of(uri))


def redacted(text: str) -> str:
    """Return *text* without any of the secrets."""
    return redactor()(text)


def redactor() -> Callable[[str], str]:
    """Return what leaves the secrets out of a text, as known now; also in threads of a driver."""
    secrets = sorted(_known.get() or (), key=len, reverse=True)

    def hidden(text: str) -> str:
        for secret in secrets:
            # A very short one is a part of many words, and is only hidden where it stands alone.
            pattern = re.escape(secret)
            if len(secret) < _SHORT:
                pattern = rf"(?<!\w){pattern}(?!\w)"
            text = re.sub(pattern, _HIDDEN, text)
        return text

    return hidden


def secrets_of(uri: str) -> set[str]:
    """Return what is secret in *uri*, as it stands there and as the driver reads it."""
    found = {text for text in _secrets(uri) if text}
    return found | {unquote_plus(text) for text in found}


def _secrets(uri: str) -> Iterator[str]:
    for server in _OF_ONE_SERVER.split(uri):
        scheme, _, rest = server.partition("://")
        location, _, options = rest.partition("?")
        credentials, at, _ = location.rpartition("@")
        if at:
            user, colon, password = credentials.partition(":")
            yield password
            if not colon and scheme in _TOKENS:
                yield user
        for option in re.split("[&;]", options):
            name, _, value = option.partition("=")
            if _SECRET_OPTION.search(name):
                yield value
