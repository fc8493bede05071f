"""What a URL says of where Redis is, and nothing of it in errors that could be secret."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from sagaflow._model.errors import BusError

_SCHEMES: Final = ("redis", "rediss", "unix")
_EXAMPLE: Final = "such as redis://localhost:6379/0"
_OPTIONS: Final = ("db", "username", "password", "client_name")


def check_url(url: object) -> str:
    """Return a URL if it says where a server is.

    The client would pass over a number of a database that is none, and would take a part of a
    password that is not percent-encoded for a host, which its errors then repeat.

    :raises BusError: if it does not.
    """
    if not isinstance(url, str) or url.partition("://")[0] not in _SCHEMES:
        raise BusError(f"the URL of Redis begins with redis://, rediss:// or unix://, {_EXAMPLE}")
    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise BusError(f"the URL of Redis cannot be read: {_ENCODE}") from None
    behind = url.partition("://")[2].partition("/")[2] + parts.query + parts.fragment
    if "@" in behind or "#" in url or ("?" in parts.netloc):
        raise BusError(f"the URL of Redis cannot be read: {_ENCODE}")
    is_socket = parts.scheme == "unix"
    if is_socket != (not parts.hostname) or port == 0 or (is_socket and not parts.path):
        raise BusError(f"the URL of Redis names no server, {_EXAMPLE} or unix:///run/redis.sock")
    if not is_socket and parts.path not in ("", "/") and not parts.path[1:].isdigit():
        raise BusError(
            f"behind the server the URL of Redis has the number of a database, {_EXAMPLE}"
        )
    for name in options:
        if name not in _OPTIONS and not name.startswith("ssl_"):
            known = ", ".join(_OPTIONS)
            raise BusError(
                f"the URL of Redis has an option that is of no use here: {name[:40]!r}; there are "
                f"{known} and those that begin with ssl_"
            )
    return url


_ENCODE: Final = (
    "percent-encode @, /, ?, # and : where they stand in a user name or a password (%40, %2F, %3F, "
    "%23, %3A)"
)


def place(url: str) -> str:
    """Return where the server is, without a user, a password and options."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname}:{parts.port or 6379}"


def options(url: str, parse: Any) -> dict[str, Any]:
    """Return what the client is to be given for a URL that was checked.

    :param parse: how the client reads a URL.
    :raises BusError: if the client cannot read it.
    """
    try:
        found: dict[str, Any] = dict(parse(url))
    except ValueError:
        raise BusError(f"the URL of Redis cannot be read: {_ENCODE}") from None
    return found
