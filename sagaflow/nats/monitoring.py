"""Asks a server's monitoring port whether it writes to disk before it confirms. Runs on asyncio."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import urlopen

from sagaflow._model.errors import BusError
from sagaflow._model.log import about, get_logger

logger = get_logger("sagaflow.bus")

_MOST: Final = 1_000_000
_SECONDS: Final = 5


def check_monitoring(url: str) -> None:
    """Refuse what is no address of a monitoring port.

    :raises BusError: if it is none.
    """
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_one = False
    if not is_one:
        raise BusError("monitoring= is an address such as http://localhost:8222")


async def warn_of_late_writes(url: str) -> None:
    """Log a warning if the server confirms messages that it has not written to disk.

    A server before 2.10 does not tell. What cannot be asked is logged, too, and does no harm.
    """
    try:
        told: Any = await asyncio.to_thread(_read, f"{url.rstrip('/')}/varz")
        settings = told["jetstream"]["config"]
        is_late = "sync_interval" in settings and not settings.get("sync_always")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        where = urlsplit(url).hostname
        message = "the monitoring of NATS at %s does not say how it writes to disk: %s"
        logger.warning(message, where, type(exc).__name__, extra=about())
        return
    if is_late:
        logger.warning(
            "NATS confirms messages before they are on disk: a power cut may lose what was "
            "published since the last sync; set sync_interval: always in its jetstream block",
            extra=about(),
        )


def _read(url: str) -> object:
    with urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - the scheme was checked
        found: object = json.loads(answer.read(_MOST))
        return found
