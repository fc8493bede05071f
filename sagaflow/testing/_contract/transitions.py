"""What every repository does with a document, in memory and in MongoDB with every driver."""

from __future__ import annotations

from typing import Any

import anyio
from attrs import evolve

from sagaflow._codec.documents import (
    Bookkeeping,
    encode_change,
    encode_record,
)
from sagaflow._model.record import CompensationStatus, Status, StoredMessage
from sagaflow.abc import SagaRepository
from sagaflow.testing._contract.kit import Contract, promise
from sagaflow.testing._contract.records import (
    FAILING,
    NOW,
    PARCEL,
    SECOND,
    change,
    compensation,
    document,
    full_record,
    load,
    outgoing,
    past,
    plain_change,
    record,
    store,
    timer,
)


class TransitionContract(Contract):
    """Reading, inserting and updating one document."""

    @promise
    async def test_everything_of_a_saga_is_read_back(self, repository: SagaRepository) -> None:
        await store(repository, encode_record(full_record()))
        assert await load(repository) == full_record()

    @promise
    async def test_what_is_not_stored_is_not_found(self, repository: SagaRepository) -> None:
        assert await repository.load_document(PARCEL, "p-1", message_id=None) is None
        assert await repository.load_document(PARCEL, "p-1", message_id="m-1") is None

    @promise
    async def test_sagas_of_another_class_are_not_found(self, repository: SagaRepository) -> None:
        await store(repository, document())
        assert await repository.load_document("Letter", "p-1", message_id=None) is None
        assert await repository.insert_document("Letter", document())

    @promise
    async def test_insert_never_replaces(self, repository: SagaRepository) -> None:
        assert await repository.insert_document(PARCEL, document(token="first"))
        assert not await repository.insert_document(PARCEL, document(token="second", version=9))
        assert (await load(repository)).token == "first"

    @promise
    async def test_one_of_two_simultaneous_starts_inserts(self, repository: SagaRepository) -> None:
        won: list[str] = []

        async def start(token: str) -> None:
            if await repository.insert_document(PARCEL, document(token=token)):
                won.append(token)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(start, f"t-{number}")
        assert len(won) == 1
        assert (await load(repository)).token == won[0]

    @promise
    async def test_deleted_saga_is_gone_and_can_be_inserted_again(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(), document("p-2"))
        assert await repository.delete_document(PARCEL, "p-1")
        assert await repository.load_document(PARCEL, "p-1", message_id=None) is None
        assert await repository.insert_document(PARCEL, document(incarnation="i-2"))
        assert (await load(repository, "p-2")).incarnation == "i-1"

    @promise
    async def test_deleting_nothing_says_so(self, repository: SagaRepository) -> None:
        assert not await repository.delete_document(PARCEL, "p-1")

    @promise
    async def test_update_changes_what_it_names_and_nothing_else(
        self, repository: SagaRepository
    ) -> None:
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
        assert await repository.update_document(
            PARCEL, encode_change(before, written, inbox_size=9)
        )
        found = await load(repository)
        assert found == evolve(
            after, inbox=(*before.inbox, "m-4"), history=(*before.history, past(4))
        )

    @promise
    async def test_update_removes_what_is_gone(self, repository: SagaRepository) -> None:
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

    @promise
    async def test_update_appends_messages_and_steps(self, repository: SagaRepository) -> None:
        before = record(outbox=(outgoing(1),), sequence=1, compensations=(compensation("1.1"),))
        await store(repository, encode_record(before))
        done = (*before.compensations, compensation("2.1", arguments=(1,)))
        sent = (*before.outbox, outgoing(2), outgoing(3))
        assert await repository.update_document(
            PARCEL, change(before, outbox=sent, sequence=3, compensations=done)
        )
        found = await load(repository)
        assert (found.outbox, found.compensations, found.sequence) == (sent, done, 3)

    @promise
    async def test_update_amends_single_steps(self, repository: SagaRepository) -> None:
        steps = tuple(compensation(f"{number}.1") for number in range(12))
        before = record(compensations=steps)
        await store(repository, encode_record(before))
        amended = list(steps)
        amended[11] = evolve(steps[11], status=CompensationStatus.DONE)
        amended[3] = evolve(steps[3], failing=FAILING)
        assert await repository.update_document(
            PARCEL, change(before, compensations=tuple(amended))
        )
        assert (await load(repository)).compensations == tuple(amended)

    @promise
    async def test_update_amends_and_appends_steps_at_once(
        self, repository: SagaRepository
    ) -> None:
        before = record(compensations=(compensation("1.1"), compensation("1.2")))
        await store(repository, encode_record(before))
        after = (
            compensation("1.1"),
            compensation("1.2", status=CompensationStatus.DONE),
            compensation("2.1", event=StoredMessage(type="Sent", body={"parcel": "p-1"})),
        )
        assert await repository.update_document(PARCEL, change(before, compensations=after))
        assert (await load(repository)).compensations == after

    @promise
    async def test_update_replaces_timers_and_parked_events(
        self, repository: SagaRepository
    ) -> None:
        before = full_record()
        await store(repository, encode_record(before))
        timers = (timer("t-3"), before.timers[0])
        parked = before.parked[1:]
        assert await repository.update_document(
            PARCEL, change(before, timers=timers, parked=parked)
        )
        found = await load(repository)
        assert (found.timers, found.parked) == (timers, parked)

    @promise
    async def test_update_appends_parked_events(self, repository: SagaRepository) -> None:
        before = full_record()
        await store(repository, encode_record(before))
        parked = (*before.parked, evolve(before.parked[0], id="m-9"))
        assert await repository.update_document(PARCEL, change(before, parked=parked))
        assert (await load(repository)).parked == parked

    @promise
    async def test_update_leaves_alone_what_was_removed_from_the_outbox_meanwhile(
        self, repository: SagaRepository
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

    @promise
    async def test_update_never_inserts(self, repository: SagaRepository) -> None:
        assert not await repository.update_document(PARCEL, change(record()))
        assert await repository.count_states(PARCEL) == {}

    @promise
    async def test_another_version_is_not_updated(self, repository: SagaRepository) -> None:
        await store(repository, document())
        for version in (0, 2):
            mine = plain_change("p-1", version, token="mine")
            assert not await repository.update_document(PARCEL, mine)
        assert await load(repository) == record()

    @promise
    async def test_another_incarnation_is_not_updated(self, repository: SagaRepository) -> None:
        """The saga was deleted and started again, and is at the very same version."""
        await store(repository, document())
        await repository.delete_document(PARCEL, "p-1")
        await store(repository, document(incarnation="i-2"))
        assert not await repository.update_document(PARCEL, change(record(), token="late"))
        assert await load(repository) == record(incarnation="i-2")

    @promise
    async def test_one_of_two_writers_at_one_version_wins(self, repository: SagaRepository) -> None:
        await store(repository, document())
        first, second = (plain_change("p-1", 1, token=token) for token in ("first", "second"))
        assert await repository.update_document(PARCEL, first)
        assert not await repository.update_document(PARCEL, second)
        found = await load(repository)
        assert (found.version, found.token) == (2, "first")

    @promise
    async def test_one_of_many_simultaneous_writers_wins(self, repository: SagaRepository) -> None:
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

    @promise
    async def test_every_writer_gets_its_turn_when_it_reads_again(
        self, repository: SagaRepository
    ) -> None:
        """20 writers, each of which retries until it wins: none is lost and none counts twice."""
        await store(repository, document())

        async def write(number: int) -> None:
            for _ in range(1000):
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
