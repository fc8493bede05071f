"""A repository shares no document with its callers; inbox and history are bounded."""

from __future__ import annotations

import copy
from datetime import timedelta

from attrs import evolve

from sagaflow._codec.documents import (
    HISTORY_SIZE,
    DocumentChange,
    Push,
    decode_record,
    encode_change,
    encode_record,
)
from sagaflow.abc import SagaRepository
from sagaflow.testing._contract.kit import Contract, promise
from sagaflow.testing._contract.records import (
    NOW,
    PARCEL,
    change,
    document,
    full_record,
    load,
    load_for,
    outgoing,
    past,
    plain_change,
    record,
    store,
)


class CopyContract(Contract):
    """Copies, the inbox and the history."""

    @promise
    async def test_repository_keeps_nothing_of_what_it_was_given(
        self, repository: SagaRepository
    ) -> None:
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

    @promise
    async def test_what_is_read_can_be_changed_without_harm(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, encode_record(full_record()))
        for message_id in (None, "m-1"):
            found = await repository.load_document(PARCEL, "p-1", message_id=message_id)
            assert found is not None
            found["data"]["stops"].append("nowhere")
            found["outbox"][0]["body"]["copies"] = 1000
            found["compensations"].clear()
            found["inbox"].append("m-9")
            del found["state"]
            assert await load(repository) == full_record()

    @promise
    async def test_what_is_scanned_can_be_changed_without_harm(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, encode_record(full_record()))
        async for found in repository.scan_documents(PARCEL):
            found["data"]["stops"].append("nowhere")
            found["version"] = 99
        assert await load(repository) == full_record()

    @promise
    async def test_documents_that_are_handed_over_are_not_changed(
        self, repository: SagaRepository
    ) -> None:
        given = encode_record(full_record())
        copied = copy.deepcopy(given)
        await repository.insert_document(PARCEL, given)
        before = full_record()
        written = change(before, token="t-4", wake=None, history=(past(4),), inbox=("m-4",))
        kept = copy.deepcopy(written)
        await repository.update_document(PARCEL, written)
        assert (given, written) == (copied, kept)

    @promise
    async def test_inbox_keeps_the_last_ids(self, repository: SagaRepository) -> None:
        before = record(inbox=tuple(f"m-{number}" for number in range(5)))
        await store(repository, encode_record(before))
        written = evolve(before, version=2, token="t-2", inbox=("m-5", "m-6"), history=(past(2),))
        assert await repository.update_document(
            PARCEL, encode_change(before, written, inbox_size=4)
        )
        assert (await load(repository)).inbox == ("m-3", "m-4", "m-5", "m-6")

    @promise
    async def test_inbox_of_one_holds_the_last_id_alone(self, repository: SagaRepository) -> None:
        before = record(inbox=("m-1",))
        await store(repository, encode_record(before))
        written = evolve(before, version=2, token="t-2", inbox=("m-2",))
        assert await repository.update_document(
            PARCEL, encode_change(before, written, inbox_size=1)
        )
        assert (await load(repository)).inbox == ("m-2",)

    @promise
    async def test_history_keeps_the_last_writes(self, repository: SagaRepository) -> None:
        before = record(history=tuple(past(number) for number in range(1, HISTORY_SIZE + 1)))
        await store(repository, encode_record(before))
        written = evolve(
            before, version=2, token="t-2", inbox=(), history=(past(HISTORY_SIZE + 1),)
        )
        assert await repository.update_document(
            PARCEL, encode_change(before, written, inbox_size=9)
        )
        versions = [entry.version for entry in (await load(repository)).history]
        assert versions == list(range(2, HISTORY_SIZE + 2))

    @promise
    async def test_array_that_is_missing_is_begun(self, repository: SagaRepository) -> None:
        given = document()
        del given["inbox"], given["history"]
        await store(repository, given)
        assert await repository.update_document(
            PARCEL, plain_change("p-1", 1, inbox=["m-1"], keep=3)
        )
        assert (await load(repository)).inbox == ("m-1",)

    @promise
    async def test_history_is_not_read_to_handle_a_message(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, encode_record(full_record()))
        found = await load_for(repository, "m-9")
        assert found == evolve(full_record(), history=(), inbox=())

    @promise
    async def test_what_is_recent_is_everything_but_the_history(
        self, repository: SagaRepository
    ) -> None:
        assert await repository.load_recent(PARCEL, "p-1") is None
        await store(repository, encode_record(full_record()))
        found = await repository.load_recent(PARCEL, "p-1")
        assert found is not None
        assert decode_record(found) == evolve(full_record(), history=())

    @promise
    async def test_only_the_id_that_is_asked_for_is_read_from_the_inbox(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, encode_record(full_record()))
        assert (await load_for(repository, "m-1")).inbox == ("m-1",)

    @promise
    async def test_wake_is_stored_to_the_millisecond(self, repository: SagaRepository) -> None:
        wake = NOW + timedelta(milliseconds=1)
        await store(repository, document(wake=wake))
        assert (await load(repository)).wake == wake
