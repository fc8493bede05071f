"""How much a write may take, so that a full saga can still be undone, suspended and operated on."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from attrs import evolve as evolved

from sagaflow._model.record import Failing, HistoryKind, SagaRecord, evolve
from sagaflow._model.texts import shortened

RESERVE: Final = 1024 * 1024
"""How many bytes beyond `Limits.max_bytes` are kept for undoing."""
NEARLY_FULL: Final = 15 * 1024 * 1024
"""From how many bytes on the history and texts of errors are cut; MongoDB's limit is 16 MiB."""
FEW_ENTRIES: Final = 4
"""How many entries of the history are left when it is cut."""
_FEW_CHARACTERS: Final = 200


class Room(IntEnum):
    """What a write is for. Its value is how many bytes beyond `Limits.max_bytes` it may take."""

    HANDLER = 0
    """An event: it is refused, or fails, if the saga would become too large."""
    UNDOING = RESERVE
    """A step that is undone: money must be sent back even if the saga is full."""
    SUSPENSION = RESERVE * 2
    """A failure, a suspension or an operator's decision: never refused, or nobody would see it."""


_ROOM: Final = {
    HistoryKind.COMPENSATION: Room.UNDOING,
    HistoryKind.DROPPED: Room.UNDOING,
    HistoryKind.ATTEMPT: Room.SUSPENSION,
    HistoryKind.SUSPENDED: Room.SUSPENSION,
    HistoryKind.OPERATOR: Room.SUSPENSION,
}


def room_of(after: SagaRecord) -> Room:
    """Return what the write of *after* is for, by the entries that it adds to the history."""
    room = Room.HANDLER
    for entry in after.history:
        if entry.kind is not HistoryKind.EVENT:  # the usual case, for which no table is needed
            room = max(room, _ROOM.get(entry.kind, Room.HANDLER))
    return room


def slimmed(record: SagaRecord) -> SagaRecord:
    """Return *record* with the texts of its errors cut to a line or two."""
    suspension = record.suspension
    return evolve(
        record,
        sending=_cut(record.sending),
        suspension=None
        if suspension is None
        else evolved(suspension, error=shortened(suspension.error, _FEW_CHARACTERS)),
        timers=tuple(evolved(timer, failing=_cut(timer.failing)) for timer in record.timers),
        parked=tuple(evolved(event, failing=_cut(event.failing)) for event in record.parked),
        compensations=tuple(
            evolved(entry, failing=_cut(entry.failing)) for entry in record.compensations
        ),
    )


def _cut(failing: Failing | None) -> Failing | None:
    if failing is None:
        return None
    return evolved(failing, error=shortened(failing.error, _FEW_CHARACTERS))
