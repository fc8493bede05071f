"""What every repository does with a document: memory and MongoDB, with every driver."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import evolve

from sagaflow import SagaRepository, StoredMessage
from sagaflow._codec.documents import (
    HISTORY_SIZE,
    Bookkeeping,
    DocumentChange,
    Push,
    encode_change,
    encode_record,
)
from sagaflow.record import Status, StepStatus
from tests.contract.records import (
    FAILING,
    NOW,
    PARCEL,
    SECOND,
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

pytestmark = pytest.mark.anyio


# Reading and inserting


async def test_everything_of_a_saga_is_read_back(repository: SagaRepository) -> None:
    await store(repository, encode_record(full_record()))
    assert await load(repository) == full_record()


async def test_what_is_not_stored_is_not_found(repository: SagaRepository) -> None:
    assert await repository.load_document(PARCEL, "p-1", message_id=None) is None
    assert await repository.load_document(PARCEL, "p-1", message_id="m-1") is None


async def test_sagas_of_another_class_are_not_found(repository: SagaRepository) -> None:
    await store(repository, document())
    assert await repository.load_document("Letter", "p-1", message_id=None) is None
    assert await repository.insert_document("Letter", document())


async def test_insert_never_replaces(repository: SagaRepository) -> None:
    assert await repository.insert_document(PARCEL, document(token="first"))
    assert not await repository.insert_document(PARCEL, document(token="second", version=9))
    assert (await load(repository)).token == "first"


async def test_one_of_two_simultaneous_starts_inserts(repository: SagaRepository) -> None:
    won: list[str] = []

    async def start(token: str) -> None:
        if await repository.insert_document(PARCEL, document(token=token)):
            won.append(token)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(start, f"t-{number}")
    assert len(won) == 1
    assert (await load(repository)).token == won[0]


async def test_deleted_saga_is_gone_and_can_be_inserted_again(repository: SagaRepository) -> None:
    await store(repository, document(), document("p-2"))
    assert await repository.delete_document(PARCEL, "p-1")
    assert await repository.load_document(PARCEL, "p-1", message_id=None) is None
    assert await repository.insert_document(PARCEL, document(incarnation="i-2"))
    assert (await load(repository, "p-2")).incarnation == "i-1"


async def test_deleting_nothing_says_so(repository: SagaRepository) -> None:
    assert not await repository.delete_document(PARCEL, "p-1")


# Updating


async def test_update_changes_what_it_names_and_nothing_else(repository: SagaRepository) -> None:
    before = full_record()
    await store(repository, encode_record(before))
    after = evolve(
        before,
        version=4,
        token="t-4",
        state="waiting",
        data={"weight": 8, "stops": ["here", "there"], "price": "1.5"},
        updated_at=NOW + SECOND,
    )
    written = evolve(after, inbox=("m-4",), history=(past(4),))
    assert await repository.update_document(PARCEL, encode_change(before, written, inbox_size=9))
    found = await load(repository)
    assert found == evolve(after, inbox=(*before.inbox, "m-4"), history=(*before.history, past(4)))


async def test_update_removes_what_is_gone(repository: SagaRepository) -> None:
    before = full_record()
    await store(repository, encode_record(before))
    gone = ["goal", "sending", "suspension", "wake", "lease", "finished_at", "expire_at"]
    given: dict[str, Any] = dict.fromkeys(gone)
    assert await repository.update_document(
        PARCEL, change(before, status=Status.ACTIVE, cancelled=False, **given)
    )
    found = await repository.load_document(PARCEL, "p-1", message_id=None)
    assert found is not None
    assert not found.keys() & {*given, "cancelled"}
    assert found["status"] == "active"


async def test_update_appends_messages_and_steps(repository: SagaRepository) -> None:
    before = record(outbox=(outgoing(1),), sequence=1, compensations=(compensation("1.1"),))
    await store(repository, encode_record(before))
    done = (*before.compensations, compensation("2.1", arguments=(1,)))
    sent = (*before.outbox, outgoing(2), outgoing(3))
    assert await repository.update_document(
        PARCEL, change(before, outbox=sent, sequence=3, compensations=done)
    )
    found = await load(repository)
    assert (found.outbox, found.compensations, found.sequence) == (sent, done, 3)


async def test_update_amends_single_steps(repository: SagaRepository) -> None:
    steps = tuple(compensation(f"{number}.1") for number in range(12))
    before = record(compensations=steps)
    await store(repository, encode_record(before))
    amended = list(steps)
    amended[11] = evolve(steps[11], status=StepStatus.DONE)
    amended[3] = evolve(steps[3], failing=FAILING)
    assert await repository.update_document(PARCEL, change(before, compensations=tuple(amended)))
    assert (await load(repository)).compensations == tuple(amended)


async def test_update_amends_and_appends_steps_at_once(repository: SagaRepository) -> None:
    before = record(compensations=(compensation("1.1"), compensation("1.2")))
    await store(repository, encode_record(before))
    after = (
        compensation("1.1"),
        compensation("1.2", status=StepStatus.DONE),
        compensation("2.1", event=StoredMessage(type="Sent", body={"parcel": "p-1"})),
    )
    assert await repository.update_document(PARCEL, change(before, compensations=after))
    assert (await load(repository)).compensations == after


async def test_update_replaces_timers_and_parked_events(repository: SagaRepository) -> None:
    before = full_record()
    await store(repository, encode_record(before))
    timers = (timer("t-3"), before.timers[0])
    parked = before.parked[1:]
    assert await repository.update_document(PARCEL, change(before, timers=timers, parked=parked))
    found = await load(repository)
    assert (found.timers, found.parked) == (timers, parked)


async def test_update_appends_parked_events(repository: SagaRepository) -> None:
    before = full_record()
    await store(repository, encode_record(before))
    parked = (*before.parked, evolve(before.parked[0], id="m-9"))
    assert await repository.update_document(PARCEL, change(before, parked=parked))
    assert (await load(repository)).parked == parked


async def test_update_leaves_alone_what_was_removed_from_the_outbox_meanwhile(
    repository: SagaRepository,
) -> None:
    before = record(outbox=(outgoing(1), outgoing(2)), sequence=2)
    await store(repository, encode_record(before))
    await repository.bookkeep(
        PARCEL,
        Bookkeeping(correlation_id="p-1", incarnation="i-1", version=1, sent=("i-1-1",)),
    )
    after = (*before.outbox, outgoing(3))
    assert await repository.update_document(PARCEL, change(before, outbox=after, sequence=3))
    assert [message.sequence for message in (await load(repository)).outbox] == [2, 3]


async def test_update_never_inserts(repository: SagaRepository) -> None:
    assert not await repository.update_document(PARCEL, change(record()))
    assert await repository.count_states(PARCEL) == {}


@pytest.mark.parametrize("version", [0, 2])
async def test_another_version_is_not_updated(version: int, repository: SagaRepository) -> None:
    await store(repository, document())
    assert not await repository.update_document(PARCEL, plain_change("p-1", version, token="mine"))
    assert await load(repository) == record()


async def test_another_incarnation_is_not_updated(repository: SagaRepository) -> None:
    """The saga was deleted and started again, and is at the very same version."""
    await store(repository, document())
    await repository.delete_document(PARCEL, "p-1")
    await store(repository, document(incarnation="i-2"))
    assert not await repository.update_document(PARCEL, change(record(), token="late"))
    assert await load(repository) == record(incarnation="i-2")


async def test_one_of_two_writers_at_one_version_wins(repository: SagaRepository) -> None:
    await store(repository, document())
    first, second = (plain_change("p-1", 1, token=token) for token in ("first", "second"))
    assert await repository.update_document(PARCEL, first)
    assert not await repository.update_document(PARCEL, second)
    found = await load(repository)
    assert (found.version, found.token) == (2, "first")


async def test_one_of_many_simultaneous_writers_wins(repository: SagaRepository) -> None:
    await store(repository, document())
    won: list[str] = []

    async def write(token: str) -> None:
        if await repository.update_document(
            PARCEL, plain_change("p-1", 1, token=token, inbox=[token])
        ):
            won.append(token)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(write, f"t-{number}")
    assert len(won) == 1
    found = await load(repository)
    assert (found.version, found.token, found.inbox) == (2, won[0], (won[0],))


async def test_every_writer_gets_its_turn_when_it_reads_again(repository: SagaRepository) -> None:
    """20 writers, each of which retries until it wins: none is lost and none counts twice."""
    await store(repository, document())

    async def write(number: int) -> None:
        while True:
            seen = await load(repository)
            mine = plain_change("p-1", seen.version, inbox=[f"m-{number}"])
            if await repository.update_document(PARCEL, mine):
                return

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(write, number)
    found = await load(repository)
    assert found.version == 21
    assert sorted(found.inbox, key=str) == sorted(f"m-{number}" for number in range(20))


# Copies


async def test_repository_keeps_nothing_of_what_it_was_given(repository: SagaRepository) -> None:
    given = document(data={"stops": ["here"]}, outbox=(outgoing(1),))
    await store(repository, given)
    given["data"]["stops"].append("nowhere")
    given["outbox"].clear()
    given["version"] = 99
    found = await load(repository)
    assert found == record(data={"stops": ["here"]}, outbox=(outgoing(1),))

    stops, seen, steps = ["there"], ["m-1"], [{"id": "x"}]
    await repository.update_document(
        PARCEL,
        DocumentChange(
            correlation_id="p-1",
            incarnation="i-1",
            version=1,
            set={"version": 2, "data.stops": stops},
            push={"inbox": Push(seen, 5), "history": Push([steps], 5)},
        ),
    )
    stops.append("nowhere")
    seen.append("nothing")
    steps[0]["id"] = "y"
    whole = await repository.load_document(PARCEL, "p-1", message_id=None)
    assert whole is not None
    assert whole["data"] == {"stops": ["there"]}
    assert whole["inbox"] == ["m-1"]
    assert whole["history"] == [[{"id": "x"}]]


@pytest.mark.parametrize("message_id", [None, "m-1"])
async def test_what_is_read_can_be_changed_without_harm(
    message_id: str | None, repository: SagaRepository
) -> None:
    await store(repository, encode_record(full_record()))
    found = await repository.load_document(PARCEL, "p-1", message_id=message_id)
    assert found is not None
    found["data"]["stops"].append("nowhere")
    found["outbox"][0]["body"]["copies"] = 1000
    found["compensations"].clear()
    found["inbox"].append("m-9")
    del found["state"]
    assert await load(repository) == full_record()


async def test_what_is_scanned_can_be_changed_without_harm(repository: SagaRepository) -> None:
    await store(repository, encode_record(full_record()))
    async for found in repository.scan_documents(PARCEL):
        found["data"]["stops"].append("nowhere")
        found["version"] = 99
    assert await load(repository) == full_record()


async def test_documents_that_are_handed_over_are_not_changed(repository: SagaRepository) -> None:
    given = encode_record(full_record())
    copied = copy.deepcopy(given)
    await repository.insert_document(PARCEL, given)
    before = full_record()
    written = change(before, token="t-4", wake=None, history=(past(4),), inbox=("m-4",))
    kept = copy.deepcopy(written)
    await repository.update_document(PARCEL, written)
    assert (given, written) == (copied, kept)


# The inbox and the history


async def test_inbox_keeps_the_last_ids(repository: SagaRepository) -> None:
    before = record(inbox=tuple(f"m-{number}" for number in range(5)))
    await store(repository, encode_record(before))
    written = evolve(before, version=2, token="t-2", inbox=("m-5", "m-6"), history=(past(2),))
    assert await repository.update_document(PARCEL, encode_change(before, written, inbox_size=4))
    assert (await load(repository)).inbox == ("m-3", "m-4", "m-5", "m-6")


async def test_inbox_of_one_holds_the_last_id_alone(repository: SagaRepository) -> None:
    before = record(inbox=("m-1",))
    await store(repository, encode_record(before))
    written = evolve(before, version=2, token="t-2", inbox=("m-2",))
    assert await repository.update_document(PARCEL, encode_change(before, written, inbox_size=1))
    assert (await load(repository)).inbox == ("m-2",)


async def test_history_keeps_the_last_writes(repository: SagaRepository) -> None:
    before = record(history=tuple(past(number) for number in range(1, HISTORY_SIZE + 1)))
    await store(repository, encode_record(before))
    written = evolve(before, version=2, token="t-2", inbox=(), history=(past(HISTORY_SIZE + 1),))
    assert await repository.update_document(PARCEL, encode_change(before, written, inbox_size=9))
    versions = [entry.version for entry in (await load(repository)).history]
    assert versions == list(range(2, HISTORY_SIZE + 2))


async def test_array_that_is_missing_is_begun(repository: SagaRepository) -> None:
    given = document()
    del given["inbox"], given["history"]
    await store(repository, given)
    assert await repository.update_document(PARCEL, plain_change("p-1", 1, inbox=["m-1"], keep=3))
    assert (await load(repository)).inbox == ("m-1",)


async def test_history_is_not_read_to_handle_a_message(repository: SagaRepository) -> None:
    await store(repository, encode_record(full_record()))
    found = await load_for(repository, "m-9")
    assert found == evolve(full_record(), history=(), inbox=())


async def test_only_the_id_that_is_asked_for_is_read_from_the_inbox(
    repository: SagaRepository,
) -> None:
    await store(repository, encode_record(full_record()))
    assert (await load_for(repository, "m-1")).inbox == ("m-1",)


async def test_wake_is_stored_to_the_millisecond(repository: SagaRepository) -> None:
    wake = NOW + timedelta(milliseconds=1)
    await store(repository, document(wake=wake))
    assert (await load(repository)).wake == wake
