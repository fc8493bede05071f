"""What may be shown of a server's URI, and how long a person waits for the server."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

from sagaflow._model.errors import SagaflowError

_SELECTION_TIMEOUT: Final = timedelta(seconds=5)
_OWN_TIMEOUT: Final = re.compile(r"[?&;]serverSelectionTimeoutMS=\d", re.IGNORECASE)


def hosts(uri: str) -> str:
    """Return the hosts of *uri*, and nothing of it that could be secret.

    :raises SagaflowError: if the driver would take a part of the password for something else. Its
        own error would repeat that part.
    """
    location, _, options = uri.partition("://")[2].partition("?")
    authority, _, path = location.partition("/")
    if "@" in path or ("@" in options and "@" not in authority):
        raise SagaflowError(
            "the URI has an '@' behind its '/' or '?': percent-encode these characters where they "
            "stand in a user name, a password or an option (%40, %2F, %3F)"
        )
    return authority.rpartition("@")[2]


def impatient(uri: str) -> dict[str, Any]:
    """Return driver options for a person who waits for a server, unless *uri* sets a timeout."""
    if _OWN_TIMEOUT.search(uri):
        return {}
    return {"serverSelectionTimeoutMS": int(_SELECTION_TIMEOUT.total_seconds() * 1000)}
