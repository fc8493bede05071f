"""A bus over MongoDB as most of its tests open it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sagaflow.mongo import MongoBus
from sagaflow.testing._bus_contract.kit import MESSAGES, PATIENT


def opened(database: Any, service: str = "billing", **settings: Any) -> MongoBus:
    given: dict[str, Any] = {
        "messages": MESSAGES,
        "retry": PATIENT,
        "poll_interval": timedelta(milliseconds=20),
    }
    return MongoBus(database, service=service, **{**given, **settings})
