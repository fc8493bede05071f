"""Questions of `SagaRepository.survey` as MongoDB answers them, without sending whole sagas."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from sagaflow._codec.elements import Document
from sagaflow._codec.selection import ARRAYS, SHARED, Part, Selection
from sagaflow._model.record import CompensationStatus, Status

SUMMARY_FIELDS: Final[tuple[str, ...]] = (
    "state",
    "status",
    "version",
    "created_at",
    "updated_at",
    "finished_at",
    "wake",
    "suspension.reason",
)

ANY_STATE: Final[Document] = {"$gte": ""}
"""Matches every state, also the empty one of a saga that has not started. Queries name the state,
since the index begins with it."""
_LIVE: Final[Document] = {
    "$or": [
        {
            "state": ANY_STATE,
            "status": {"$in": [s.value for s in Status if s is not Status.FINISHED]},
        },
        {"wake": {"$exists": True}},
    ]
}
_ALL: Final[Document] = {"$or": [{"state": ANY_STATE}, {"wake": {"$exists": True}}]}
_GROUPED: Final[Document] = {
    "count": {"$sum": 1},
    "least": {"$min": "$_id"},
    "greatest": {"$max": "$_id"},
}


def living(now: datetime) -> Document:
    """Return the query for unexpired documents: the server removes expired ones only later."""
    return {"expire_at": {"$not": {"$lte": now}}}


def listing(selection: Selection, now: datetime) -> tuple[Document, str]:
    """Return the query for the sagas that a selection takes, and the field to sort them by."""
    query: Document = {
        "state": ANY_STATE if selection.states is None else {"$in": sorted(selection.states)},
        "status": {"$in": [status.value for status in selection.statuses]},
    } | living(now)
    if selection.unchanged_since is not None:
        query["updated_at"] = {"$lt": selection.unchanged_since}
    if selection.due_before is None:
        return query, "updated_at"
    return query | {"wake": {"$lte": selection.due_before}}, "wake"


def surveys(now: datetime, *, finished: bool) -> Iterator[tuple[Part, list[Document]]]:
    """Yield the pipelines that count what sagas with something to do have in common.

    :param now: documents that have expired by then are left out.
    :param finished: whether to count the states of sagas with nothing to do as well.
    """
    kept: Document = {"$match": living(now)}  # a stage of its own: the state's index is used
    yield Part.STATE, [{"$match": _ALL if finished else _LIVE}, kept, _group({})]
    has_goal: Document = {"$match": {**_LIVE, "goal": {"$exists": True}}}
    yield Part.GOAL, [has_goal, kept, _group({"name": "$goal"})]
    for part, (array, paths) in ARRAYS.items():
        pipeline: list[Document] = [{"$match": _LIVE}, kept, {"$unwind": f"${array}"}]
        if part is Part.COMPENSATION:
            pipeline.append({"$match": {f"{array}.status": CompensationStatus.PENDING.value}})
        pipeline.append(_group({name: f"${array}.{path}" for name, path in paths.items()}))
        yield part, pipeline


def _group(fields: dict[str, Any]) -> Document:
    return {"$group": {"_id": dict(SHARED) | fields, **_GROUPED}}
