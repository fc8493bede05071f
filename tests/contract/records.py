"""The sagas and stored documents of the contract kit, for other tests of what is stored."""

from __future__ import annotations

from sagaflow.testing._contract.records import (
    FAILING,
    NOW,
    PARCEL,
    SECOND,
    Arrived,
    Parcel,
    Sent,
    change,
    compensation,
    document,
    full_record,
    load,
    load_for,
    outgoing,
    past,
    plain_change,
    record,
    store,
    timer,
)

__all__ = [
    "FAILING",
    "NOW",
    "PARCEL",
    "SECOND",
    "Arrived",
    "Parcel",
    "Sent",
    "change",
    "compensation",
    "document",
    "full_record",
    "load",
    "load_for",
    "outgoing",
    "past",
    "plain_change",
    "record",
    "store",
    "timer",
]
