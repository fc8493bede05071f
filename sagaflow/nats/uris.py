"""What a URI says of where NATS is, and nothing of it in errors that could be secret. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from sagaflow._model.errors import BusError

_SCHEMES: Final = ("nats", "tls")
_EXAMPLE: Final = "such as nats://localhost:4222, or several of these separated by commas"
_PORT: Final = 4222


def servers_of(uri: object) -> list[str]:
    """Return the URIs of the servers.

    The client would take a part of a password that is not percent-encoded for a host, which its
    errors then repeat.

    :raises BusError: if *uri* does not say where servers are.
    """
    servers = [one.strip() for one in uri.split(",")] if isinstance(uri, str) else []
    if not servers:
        raise BusError(f"the URI of NATS is a text, {_EXAMPLE}")
    for one in servers:
        if one.partition("://")[0] not in _SCHEMES or "://" not in one:
            told = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
            raise BusError(f"each server of NATS begins with one of {told}: {_EXAMPLE}")
        try:
            parts = urlsplit(one)
            port = parts.port
        except ValueError:
            raise BusError(f"the URI of NATS cannot be read: {_ENCODE}") from None
        if "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1:
            raise BusError(f"the URI of NATS cannot be read: {_ENCODE}")
        if not parts.hostname or port == 0 or parts.path not in ("", "/") or parts.query:
            raise BusError(f"the URI of NATS is a scheme, a host and a port, {_EXAMPLE}")
    return servers


_ENCODE: Final = (
    "percent-encode @, /, ?, #, : and the comma where they stand in a user name or a password "
    "(%40, %2F, %3F, %23, %3A, %2C)"
)


def hosts(servers: list[str]) -> str:
    """Return where servers are, without users, passwords and tokens."""
    parts = [urlsplit(one) for one in servers]
    return ", ".join(f"{one.hostname}:{one.port or _PORT}" for one in parts)
