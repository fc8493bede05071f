"""The server that the demo runs against: one of its own, or the one it is given."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from attrs import field, frozen

from sagaflow.exceptions import SagaflowError
from sagaflow.mongo import EmbeddedServer

_SELECTION_TIMEOUT: Final = timedelta(seconds=5)
_OWN_TIMEOUT: Final = re.compile(r"[?&;]serverSelectionTimeoutMS=\d", re.IGNORECASE)


@frozen(kw_only=True)
class Server:
    """A server and how to connect to it.

    :ivar name: what people are told; never with credentials.
    :ivar uri: where it is; may hold credentials.
    :ivar database: the database of the demo.
    :ivar kept: whether the database is still there after the run.
    :ivar options: for the client.
    """

    name: str
    uri: str = field(repr=False)
    database: str
    kept: bool
    options: dict[str, Any]


@contextmanager
def serving(uri: str | None, database: str | None = None) -> Generator[Server]:
    """Yield the server at *uri*, or without one start a server, and stop it at the end.

    :param database: the database to use there; a new one if missing.
    :raises SagaflowError: if the server cannot be started, or *uri* hides where its host begins.
    """
    if database is None:
        database = f"sagaflow_demo_{uuid4().hex[:12]}"
    if uri is not None:
        yield Server(
            name=f"MongoDB at {hosts(uri)}",
            uri=uri,
            database=database,
            kept=True,
            options=_options(uri),
        )
        return
    with EmbeddedServer() as embedded:
        yield Server(
            name=f"SecantusDB at {hosts(embedded.uri)}, started for this run",
            uri=embedded.uri,
            database=database,
            kept=False,
            options=_options(embedded.uri),
        )


def hosts(uri: str) -> str:
    """Return the hosts of *uri*, and nothing of it that could be secret.

    :raises SagaflowError: if a password may be taken for something else. The driver's own error
        would repeat parts of it.
    """
    location, _, options = uri.partition("://")[2].partition("?")
    authority, _, path = location.partition("/")
    if "@" in path or ("@" in options and "@" not in authority):
        raise SagaflowError(
            "the URI has an '@' behind its '/' or '?': percent-encode these characters where they "
            "stand in a user name, a password or an option (%40, %2F, %3F)"
        )
    return authority.rpartition("@")[2]


def _options(uri: str) -> dict[str, Any]:
    if _OWN_TIMEOUT.search(uri):
        return {}
    return {"serverSelectionTimeoutMS": int(_SELECTION_TIMEOUT.total_seconds() * 1000)}
