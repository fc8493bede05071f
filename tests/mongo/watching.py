"""Watches every command that the library sends in this process, whatever the driver."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pymongo import monitoring

from tests.mongo.rules.book import violations

_LIBRARY = ("sagaflow", "mongo", "drivers.py")
_POOL = ("concurrent", "futures", "thread.py")
_HERE = Path(__file__)
_TESTS = _HERE.parent.parent


class Watch(monitoring.CommandListener):
    """Holds what is sent to a server against the rules.

    :ivar seen: how many commands there were, by their names.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._found: dict[str, None] = {}
        self._lock = threading.Lock()
        self._is_away = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Look at a command; the driver would hide an error, so it is a finding as well."""
        if (
            self._is_away or not event.command or not _is_said_by_the_library()
        ):  # logging in is not shown
            return
        try:
            found = violations({**event.command, "$db": event.database_name})
        except Exception as exc:  # noqa: BLE001 - whatever a rule has made of it
            found = [f"{exc!r} about {event.command}"]
        with self._lock:
            self.seen[event.command_name] += 1
            self._found.update(dict.fromkeys(found))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""

    @contextmanager
    def away(self) -> Generator[None]:
        """Look away while a test says what the library would not, but in its way."""
        self._is_away = True
        try:
            yield
        finally:
            self._is_away = False

    def taken(self) -> list[str]:
        """Return what was found since the last time."""
        with self._lock:
            found, self._found = list(self._found), {}
        return found


def _is_said_by_the_library() -> bool:
    """Tell whether the library is who calls the driver, and not a test behind its back.

    Motor has a thread of its own pool call the driver, and does so for the library alone.
    """
    frame: FrameType | None = inspect.currentframe()
    pooled = False
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parts[-3:] == _LIBRARY:
            return True
        if path.is_relative_to(_TESTS) and path != _HERE:
            return False
        pooled = pooled or path.parts[-3:] == _POOL
        frame = frame.f_back
    return pooled


WATCH = Watch()
monitoring.register(WATCH)  # before any client is made
