"""What a URI says of where Kafka is, and nothing of it in errors that could be secret. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import field, frozen

from sagaflow._model.errors import BusError

_PLAIN: Final = "kafka"
_TLS: Final = "kafkas"
_PORT: Final = 9092
_EXAMPLE: Final = "such as kafka://localhost:9092, or kafkas://user:password@one:9093,two:9093"
_OPTIONS: Final = ("broker.", "client.", "metadata.", "reconnect.", "sasl.", "socket.", "ssl.")
"""What the names of those settings of librdkafka begin with that are about the connection."""
_OURS: Final = ("sasl.username", "sasl.password")
_ENCODE: Final = (
    "percent-encode @, /, ?, #, : and the comma where they stand in a user name or a password "
    "(%40, %2F, %3F, %23, %3A, %2C)"
)


@frozen
class Servers:
    """Where brokers are, and how to get in.

    :ivar place: hosts and ports, for errors.
    :ivar settings: what librdkafka is told; the password is in there.
    :ivar has_options: whether there are settings among these that only librdkafka can judge.
    """

    place: str
    settings: dict[str, str] = field(repr=False)
    has_options: bool = False


def servers_of(uri: object) -> Servers:
    """Return what a URI says.

    :raises BusError: if it does not say where brokers are.
    """
    scheme, separator, rest = uri.partition("://") if isinstance(uri, str) else ("", "", "")
    if not separator or scheme not in (_PLAIN, _TLS):
        raise BusError(f"the URI of Kafka begins with kafka:// or kafkas://, {_EXAMPLE}")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        options = dict(parse_qsl(parts.query, strict_parsing=True) if parts.query else [])
    except ValueError:
        raise BusError(f"the URI of Kafka cannot be read: {_ENCODE}") from None
    access, _, brokers = parts.netloc.rpartition("@")
    if "@" in access + parts.path + parts.query or "#" in rest or "?" in parts.netloc:
        raise BusError(f"the URI of Kafka cannot be read: {_ENCODE}")
    if parts.path not in ("", "/"):
        raise BusError(f"the URI of Kafka has nothing behind the brokers but options, {_EXAMPLE}")
    for name in options:
        if not name.startswith(_OPTIONS) or name in _OURS or name.endswith(".pem"):
            raise BusError(
                f"the URI of Kafka has an option that is of no use here: {name[:40]!r}; those of "
                f"librdkafka are taken that begin with {', '.join(_OPTIONS)}"
            )
    found = ",".join(_broker(one.strip()) for one in brokers.split(","))
    settings = {"bootstrap.servers": found, "security.protocol": _protocol(scheme, access)}
    if access:
        user, _, password = access.partition(":")
        settings["sasl.mechanism"] = "PLAIN"
        settings |= {"sasl.username": unquote(user), "sasl.password": unquote(password)}
    return Servers(found, settings | options, bool(options))


def _broker(text: str) -> str:
    """Return the host and the port of one broker."""
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        raise BusError(f"the URI of Kafka cannot be read: {_ENCODE}") from None
    if not parts.hostname or port == 0:
        raise BusError(f"the URI of Kafka names no broker, {_EXAMPLE}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or _PORT}"


def _protocol(scheme: str, access: str) -> str:
    encrypted = "SSL" if scheme == _TLS else "PLAINTEXT"
    return f"SASL_{encrypted}" if access else encrypted
