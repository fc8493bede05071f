"""What a worker is told on the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Literal

from attrs import asdict, frozen


@frozen(kw_only=True)
class Settings:
    """What a worker is told. It may hold credentials: it is never printed.

    :ivar target: ``MODULE``, ``MODULE:CLASS`` or ``MODULE:FACTORY``.
    :ivar mongodb: the URI of the database server, if there is one.
    :ivar bus: ``mongodb``, or the URL of a broker.
    :ivar owner: what the names of the processes begin with.
    :ivar messages: ``MODULE:NAME`` of message classes.
    :ivar retry_for: for how long a message that fails is tried again.
    :ivar log_level: the least level of what is logged.
    """

    target: str
    mongodb: str | None
    database: str | None
    bus: str
    service: str
    owner: str
    runtime: str
    messages: str | None
    concurrency: int
    handler_timeout: timedelta
    shutdown_timeout: timedelta
    retry_for: timedelta
    unhandled: Literal["dead_letter", "accept"]
    log_json: bool
    log_level: str

    def to_json(self) -> str:
        """Return the settings as one line, for a child process."""
        return json.dumps(
            asdict(self, value_serializer=lambda _, __, value: _seconds(value)), ensure_ascii=True
        )

    @classmethod
    def of_json(cls, line: bytes) -> Settings:
        """Return the settings that *line* says."""
        given: dict[str, Any] = json.loads(line)
        for name in _SPANS:
            given[name] = timedelta(seconds=given[name])
        return cls(**given)


_SPANS = ("handler_timeout", "shutdown_timeout", "retry_for")


def _seconds(value: object) -> object:
    return value.total_seconds() if isinstance(value, timedelta) else value
