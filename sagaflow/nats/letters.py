"""Dead letters as they stand in their stream: the message, and a header that tells the rest. Pure.

What a letter lacks, or has of a wrong type, is shown as it is: an operator has to see a damaged
one.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from sagaflow._model.texts import cleaned, shortened
from sagaflow._model.verdict import Undeliverable
from sagaflow.bus.transport import DeadLetter

ROOM: Final = 32_768
"""How many bytes a dead letter may have more than its message."""
LETTER: Final = "Sagaflow-Letter"
KEY: Final = "ce-partitionkey"
"""The header with the key of a message, percent-encoded: what keeps its order."""
SUBJECT: Final = "subject"
_DETAIL: Final = 4_500
_SHOWN: Final = 500
_LONG_AGO: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def letter_header(
    verdict: Undeliverable,
    *,
    subject: str,
    name: str,
    key: str | None,
    attempts: int,
    now: datetime,
) -> str:
    """Return the header that says why a message was put aside.

    :param subject: where the message has been, and goes when it is tried again.
    """
    told = {
        "reason": cleaned(verdict.reason, _SHOWN),
        "detail": shortened(verdict.detail, _DETAIL),
        SUBJECT: subject,
        "name": cleaned(name, _SHOWN),
        "key": key,
        "attempts": attempts,
        "since": now.isoformat(),
    }
    text = json.dumps(told, ensure_ascii=False)
    return b64encode(text.encode("utf-8", "backslashreplace")).decode()


def read_header(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what the header of a letter says; nothing if it is damaged."""
    try:
        found: Any = json.loads(b64decode(headers.get(LETTER, "")))
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def dead_letter(
    letter_id: str, service: str, headers: Mapping[str, str], body: bytes
) -> DeadLetter:
    """Return what a letter says."""
    told = read_header(headers)
    attempts, key = told.get("attempts"), told.get("key")
    return DeadLetter(
        id=letter_id,
        service=service,
        name=str(told.get("name")),
        key=None if key is None else str(key),
        reason=str(told.get("reason")),
        detail=str(told.get("detail")),
        attempts=attempts if isinstance(attempts, int) else 0,
        since=_instant(told.get("since")),
        headers=own_headers(headers),
        body=body,
    )


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that a message was published with, without those that were added."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower().startswith("ce-") and name != KEY
    }


def _instant(value: object) -> datetime:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return _LONG_AGO
    return found if found.tzinfo is not None else _LONG_AGO
