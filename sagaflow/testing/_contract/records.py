"""Sagas and stored documents for the tests of repositories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
from attrs import evolve, field, frozen

from sagaflow._codec.documents import (
    DocumentChange,
    Push,
    decode_record,
    encode_change,
    encode_record,
)
from sagaflow._codec.elements import Document
from sagaflow._definition.context import Context
from sagaflow._definition.saga import Saga
from sagaflow._definition.sources import during, initially
from sagaflow._definition.state import State
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import (
    CompensationStatus,
    Failing,
    HistoryEntry,
    Lease,
    OutgoingMessage,
    ParkedEvent,
    RecordedCompensation,
    SagaRecord,
    Status,
    StoredMessage,
    Suspension,
    SuspensionReason,
    Timer,
    TimerKind,
)
from sagaflow.abc import SagaRepository

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Where the clock of the tests stands."""

SECOND = timedelta(seconds=1)

FAILING = Failing(attempts=2, since=NOW - SECOND, due=NOW + SECOND, error="no")


@frozen
class Sent:
    parcel: SagaId
    weight: int = 1


@frozen
class Arrived:
    parcel: SagaId


class Parcel(Saga, correlate_by="parcel", retain=timedelta(days=30)):
    waiting = State()
    moving = State()
    delivered = State(final=True)

    weight: int = 0
    price: Decimal = Decimal("9.90")
    stops: list[str] = field(factory=list[str])

    @initially.on(Sent).goto(moving)
    def send(self, event: Sent, ctx: Context) -> None:  # noqa: ARG002 - a handler has these
        self.weight = event.weight

    held = initially.on(Arrived).goto(waiting)
    moved = during(waiting).on(Sent).goto(moving)
    arrive = during(moving).on(Arrived).goto(delivered)


PARCEL = Parcel.table.saga


def record(correlation_id: SagaId = "p-1", **given: Any) -> SagaRecord:
    """Return a saga with little in it."""
    fields: dict[str, Any] = {
        "incarnation": "i-1",
        "version": 1,
        "token": "t-1",
        "state": "moving",
        "data": {"weight": 1},
        "created_at": NOW,
        "updated_at": NOW,
    }
    return SagaRecord(correlation_id=correlation_id, **(fields | given))


def document(correlation_id: SagaId = "p-1", **given: Any) -> Document:
    """Return the document of a saga with little in it."""
    return encode_record(record(correlation_id, **given))


def full_record(correlation_id: SagaId = "p-1") -> SagaRecord:
    """Return a saga with something in every field."""
    label = StoredMessage(type="PrintLabel", body={"parcel": "p-1", "copies": 2})
    return SagaRecord(
        correlation_id=correlation_id,
        incarnation="i-1",
        version=3,
        token="t-3",
        schema=1,
        state="moving",
        status=Status.SUSPENDED,
        goal="delivered",
        cancelled=True,
        data={"weight": 7, "stops": ["here", "there"]},
        sequence=2,
        inbox=("m-1", 2, "3"),
        outbox=(outgoing(1, message=label, headers={"trace": "x"}), outgoing(2)),
        compensations=(
            compensation("1.1", event=label),
            compensation(
                "2.1", arguments=(1, "two"), status=CompensationStatus.SKIPPED, failing=FAILING
            ),
        ),
        history=(past(1), past(2), past(3)),
        timers=(
            timer("t-1", kind=TimerKind.TIMEOUT, delay=timedelta(days=30, microseconds=1)),
            timer("t-2", event=label, failing=FAILING),
        ),
        parked=(
            ParkedEvent(id=7, message=label, parked_at=NOW),
            ParkedEvent(
                id="7",
                message=label,
                headers={"trace": "x"},
                parked_at=NOW,
                offered=2,
                failing=FAILING,
            ),
        ),
        sending=FAILING,
        suspension=Suspension(
            reason=SuspensionReason.HANDLER, subject=7, error="Traceback ...", since=NOW
        ),
        wake=NOW + SECOND,
        lease=Lease(owner="somebody", until=NOW + SECOND),
        created_at=NOW - SECOND,
        updated_at=NOW,
        finished_at=NOW,
        expire_at=NOW + timedelta(days=30),
    )


def timer(identity: str, **given: Any) -> Timer:
    """Return a timer that waits to fire."""
    fields: dict[str, Any] = {"name": "remind", "due": NOW + SECOND, "kind": TimerKind.EVENT}
    return Timer(id=identity, causation_id="m-1", **(fields | given))


def outgoing(sequence: int, **given: Any) -> OutgoingMessage:
    """Return a message that waits to be sent."""
    fields: dict[str, Any] = {
        "id": f"i-1-{sequence}",
        "sequence": sequence,
        "kind": "command",
        "message": StoredMessage(type="PrintLabel", body={}),
        "causation_id": "m-1",
        "created_at": NOW,
    }
    return OutgoingMessage(**(fields | given))


def compensation(identity: str, **given: Any) -> RecordedCompensation:
    """Return a completed step."""
    fields: dict[str, Any] = {"step": "send", "method": "recall", "message_id": "m-1"}
    return RecordedCompensation(id=identity, **(fields | given))


def past(version: int) -> HistoryEntry:
    """Return the history entry of the write that made this version."""
    return HistoryEntry(
        at=NOW,
        event="Sent",
        step="send",
        source=None if version == 1 else "waiting",
        target="moving",
        message_id=f"m-{version}",
        version=version,
        token=f"t-{version}",
    )


def change(before: SagaRecord, *, inbox_size: int = 128, **given: Any) -> DocumentChange:
    """Return the change to the next version of *before*, with these fields."""
    after = evolve(before, version=before.version + 1, inbox=(), history=())
    return encode_change(before, evolve(after, **given), inbox_size=inbox_size)


def plain_change(correlation_id: SagaId, version: int, **given: Any) -> DocumentChange:
    """Return a change that only sets fields and appends ids to the inbox."""
    push = {"inbox": Push(given.pop("inbox"), given.pop("keep", None))} if "inbox" in given else {}
    return DocumentChange(
        correlation_id=correlation_id,
        incarnation=given.pop("incarnation", "i-1"),
        version=version,
        set={"version": version + 1} | given,
        push=push,
    )


async def load(repository: SagaRepository, correlation_id: SagaId = "p-1") -> SagaRecord:
    """Return a saga as it is stored, with all it has."""
    found = await repository.load_document(PARCEL, correlation_id, message_id=None)
    assert found is not None
    return decode_record(found)


async def load_for(
    repository: SagaRepository, message_id: MessageId, correlation_id: SagaId = "p-1"
) -> SagaRecord:
    """Return a saga as it is read to handle this message."""
    found = await repository.load_document(PARCEL, correlation_id, message_id=message_id)
    assert found is not None
    return decode_record(found)


async def store(repository: SagaRepository, *documents: Document) -> None:
    """Store documents, many at once."""
    waiting = iter(documents)

    async def work() -> None:
        for next_one in waiting:
            assert await repository.insert_document(PARCEL, next_one)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(len(documents), 16)):
            tasks.start_soon(work)
