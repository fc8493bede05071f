"""The server that the demo runs against: one of its own, or the one it is given."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from attrs import field, frozen

from sagaflow.mongo import EmbeddedServer
from sagaflow.mongo.uris import hosts, impatient


@frozen(kw_only=True)
class Server:
    """A server and how to connect to it.

    :ivar name: what people are told; never with credentials.
    :ivar uri: where it is; may hold credentials.
    :ivar database: the database of the demo.
    :ivar kept: whether the database is still there after the run.
    :ivar options: for the client.
    :ivar restart: kills it and starts it again; None if it is not this demo's to kill.
    """

    name: str
    uri: str = field(repr=False)
    database: str
    kept: bool
    options: dict[str, Any]
    restart: Callable[[], None] | None = None


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
            options=impatient(uri),
        )
        return
    with EmbeddedServer() as embedded:

        def restart() -> None:
            embedded.kill()
            embedded.start()

        yield Server(
            name=f"SecantusDB at {hosts(embedded.uri)}, started for this run",
            uri=embedded.uri,
            database=database,
            kept=False,
            options=impatient(embedded.uri),
            restart=restart,
        )
