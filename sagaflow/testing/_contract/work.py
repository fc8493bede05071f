"""What workers note about a saga: sent messages, wakes and leases; and what is due."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
from attrs import evolve

from sagaflow._codec import elements
from sagaflow._codec.documents import Bookkeeping, encode_record
from sagaflow._model.ids import SagaId
from sagaflow._model.record import Lease
from sagaflow.abc import SagaRepository
from sagaflow.testing._contract.kit import Contract, promise
from sagaflow.testing._contract.records import (
    FAILING,
    NOW,
    PARCEL,
    SECOND,
    change,
    document,
    full_record,
    load,
    outgoing,
    plain_change,
    record,
    store,
)

OUTBOX = (outgoing(1), outgoing(2), outgoing(3))


def note(*sent: str, version: int = 1, incarnation: str = "i-1", **given: Any) -> Bookkeeping:
    return Bookkeeping(
        correlation_id="p-1", incarnation=incarnation, version=version, sent=sent, **given
    )


async def due(
    repository: SagaRepository, now: datetime = NOW, *, unclaimed: bool = True
) -> list[SagaId]:
    return [found async for found in repository.due(PARCEL, now, unclaimed=unclaimed)]


def lease(owner: str = "me", until: datetime = NOW + SECOND) -> Lease:
    return Lease(owner=owner, until=until)


class WorkContract(Contract):
    """Bookkeeping, what is due, and leases."""

    @promise
    async def test_sent_messages_are_removed_and_no_others(
        self, repository: SagaRepository
    ) -> None:
        before = record(outbox=OUTBOX, wake=NOW)
        await store(repository, encode_record(before), document("p-2", outbox=OUTBOX))
        assert await repository.bookkeep(PARCEL, note("i-1-3", "i-1-1", "unknown"))
        assert await load(repository) == evolve(before, outbox=(outgoing(2),))
        assert (await load(repository, "p-2")).outbox == OUTBOX

    @promise
    async def test_note_sets_and_unsets_fields_and_nothing_else(
        self, repository: SagaRepository
    ) -> None:
        before = evolve(full_record(), sending=None)
        await store(repository, encode_record(before))
        fields = {"wake": NOW + 5 * SECOND, "sending": elements.FAILING.encode_any(FAILING)}
        assert await repository.bookkeep(PARCEL, note(version=3, set=fields, unset=("lease",)))
        after = evolve(before, wake=NOW + 5 * SECOND, sending=FAILING, lease=None)
        assert await load(repository) == after

    @promise
    async def test_note_can_do_all_at_once(self, repository: SagaRepository) -> None:
        before = full_record()
        await store(repository, encode_record(before))
        wanted = note("i-1-1", version=3, set={"wake": NOW}, unset=("lease", "sending"))
        assert await repository.bookkeep(PARCEL, wanted)
        after = evolve(before, outbox=(outgoing(2),), wake=NOW, lease=None, sending=None)
        assert await load(repository) == after

    @promise
    async def test_field_that_is_not_there_may_be_unset(self, repository: SagaRepository) -> None:
        await store(repository, document(outbox=OUTBOX))
        assert await repository.bookkeep(PARCEL, note("i-1-1", unset=("wake", "lease")))
        assert (await load(repository)).outbox == OUTBOX[1:]

    @promise
    async def test_note_of_another_version_only_removes_sent_messages(
        self, repository: SagaRepository
    ) -> None:
        """A transition has come in between, and its wake must not be overwritten."""
        before = record(version=2, outbox=OUTBOX, wake=NOW)
        await store(repository, encode_record(before))
        later = {"wake": NOW + SECOND}
        for number, version in enumerate((1, 3), 1):
            mine = note(f"i-1-{number}", version=version, set=later)
            assert not await repository.bookkeep(PARCEL, mine)
            assert not await repository.bookkeep(PARCEL, note(version=version, unset=("wake",)))
            assert await load(repository) == evolve(before, outbox=OUTBOX[number:])

    @promise
    async def test_note_about_another_incarnation_does_nothing(
        self, repository: SagaRepository
    ) -> None:
        before = record(outbox=OUTBOX, wake=NOW)
        await store(repository, encode_record(before))
        assert not await repository.bookkeep(
            PARCEL, note("i-1-1", incarnation="i-0", set={"wake": NOW + SECOND})
        )
        assert await load(repository) == before

    @promise
    async def test_note_about_a_deleted_saga_does_nothing(self, repository: SagaRepository) -> None:
        assert not await repository.bookkeep(PARCEL, note("i-1-1", set={"wake": NOW}))
        assert await repository.load_document(PARCEL, "p-1", message_id=None) is None

    @promise
    async def test_note_keeps_nothing_of_what_it_was_given(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document())
        failing = elements.FAILING.encode_any(FAILING)
        assert failing is not None
        await repository.bookkeep(PARCEL, note(set={"sending": failing}))
        failing["attempts"] = 99
        assert (await load(repository)).sending == FAILING

    @promise
    async def test_note_does_not_get_in_the_way_of_a_transition(
        self, repository: SagaRepository
    ) -> None:
        """The transition was decided on before the messages were removed."""
        before = record(outbox=OUTBOX[:2], sequence=2)
        await store(repository, encode_record(before))
        await repository.bookkeep(PARCEL, note("i-1-1", "i-1-2", unset=("wake",)))
        decided = change(before, outbox=OUTBOX, sequence=3, wake=NOW)
        assert await repository.update_document(PARCEL, decided)
        found = await load(repository)
        assert (found.outbox, found.version, found.wake) == (OUTBOX[2:], 2, NOW)

    @promise
    async def test_wake_that_was_moved_meanwhile_is_set_by_the_next_transition(
        self, repository: SagaRepository
    ) -> None:
        """The transition wants the wake that it has read, but another wake is stored by then."""
        before = record(outbox=OUTBOX, wake=NOW)
        await store(repository, encode_record(before))
        await repository.bookkeep(PARCEL, note(set={"wake": NOW + timedelta(days=1)}))
        assert await repository.update_document(PARCEL, change(before, wake=NOW))
        assert (await load(repository)).wake == NOW

    @promise
    async def test_notes_and_transitions_at_once_are_all_stored(
        self, repository: SagaRepository
    ) -> None:
        messages = tuple(outgoing(number) for number in range(1, 11))
        await store(repository, document(outbox=messages))

        async def move(number: int) -> None:
            for _ in range(1000):
                seen = await load(repository)
                mine = plain_change("p-1", seen.version, inbox=[f"m-{number}"])
                if await repository.update_document(PARCEL, mine):
                    return

        async def remove(message_id: str) -> None:
            await repository.bookkeep(PARCEL, note(message_id, version=1, unset=("wake",)))

        async with anyio.create_task_group() as tasks:
            for number, message in enumerate(messages):
                tasks.start_soon(move, number)
                tasks.start_soon(remove, message.id)
        found = await load(repository)
        assert (found.version, found.outbox, len(found.inbox)) == (11, (), 10)

    @promise
    async def test_sagas_are_due_at_their_wake_and_not_before(
        self, repository: SagaRepository
    ) -> None:
        millisecond = timedelta(milliseconds=1)
        await store(
            repository,
            document("past", wake=NOW - SECOND),
            document("now", wake=NOW),
            document("soon", wake=NOW + millisecond),
        )
        for unclaimed in (True, False):
            assert await due(repository, unclaimed=unclaimed) == ["past", "now"]
            assert await due(repository, NOW - SECOND - millisecond, unclaimed=unclaimed) == []
            found = await due(repository, NOW + SECOND, unclaimed=unclaimed)
            assert found == ["past", "now", "soon"]

    @promise
    async def test_longest_due_comes_first(self, repository: SagaRepository) -> None:
        order = [5, 2, 9, 1, 7]
        await store(repository, *(document(number, wake=NOW + number * SECOND) for number in order))
        assert await due(repository, NOW + 8 * SECOND) == [1, 2, 5, 7]

    @promise
    async def test_no_more_are_read_than_are_asked_for(self, repository: SagaRepository) -> None:
        await store(
            repository,
            document("held", wake=NOW - 3 * SECOND, lease=lease()),
            *(document(number, wake=NOW - number * SECOND / 10) for number in range(5)),
        )
        for limit in (1, 3):
            found = repository.due(PARCEL, NOW, unclaimed=True, limit=limit)
            assert [one async for one in found] == [4, 3, 2][:limit]
        found = repository.due(PARCEL, NOW, unclaimed=False, limit=2)
        assert [one async for one in found] == ["held", 4]
        found = repository.due(PARCEL, NOW, unclaimed=True, limit=99)
        assert len([one async for one in found]) == 5

    @promise
    async def test_saga_without_wake_is_never_due(self, repository: SagaRepository) -> None:
        await store(repository, document(outbox=OUTBOX))
        assert await due(repository, NOW + timedelta(days=1000)) == []
        assert await due(repository, NOW + timedelta(days=1000), unclaimed=False) == []

    @promise
    async def test_saga_whose_wake_was_cleared_is_not_due(self, repository: SagaRepository) -> None:
        await store(repository, document(wake=NOW), document("p-2", wake=NOW))
        assert await repository.update_document(PARCEL, change(record(wake=NOW), wake=None))
        assert await due(repository) == ["p-2"]

    @promise
    async def test_sagas_of_another_class_are_not_due(self, repository: SagaRepository) -> None:
        await repository.insert_document("Letter", document(wake=NOW))
        assert await due(repository) == []

    @promise
    async def test_time_of_another_zone_is_the_same_instant(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(wake=NOW))
        east = timezone(timedelta(hours=5))
        assert await due(repository, NOW.astimezone(east)) == ["p-1"]
        assert await due(repository, (NOW - SECOND).astimezone(east)) == []

    @promise
    async def test_large_id_that_is_due_is_a_plain_int(self, repository: SagaRepository) -> None:
        await store(repository, document(2**40, wake=NOW))
        (found,) = await due(repository)
        assert (found, type(found)) == (2**40, int)

    @promise
    async def test_saga_that_is_due_can_be_claimed_by_one(self, repository: SagaRepository) -> None:
        before = record(wake=NOW, outbox=OUTBOX)
        await store(repository, encode_record(before))
        assert await repository.claim(PARCEL, "p-1", lease("me"), NOW)
        assert not await repository.claim(PARCEL, "p-1", lease("you"), NOW)
        assert not await repository.claim(PARCEL, "p-1", lease("me"), NOW)
        assert await load(repository) == evolve(before, lease=lease("me"))

    @promise
    async def test_one_of_many_simultaneous_claims_wins(self, repository: SagaRepository) -> None:
        await store(repository, document(wake=NOW))
        won: list[str] = []

        async def claim(owner: str) -> None:
            if await repository.claim(PARCEL, "p-1", lease(owner), NOW):
                won.append(owner)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(claim, f"w-{number}")
        assert len(won) == 1
        assert (await load(repository)).lease == lease(won[0])

    @promise
    async def test_lease_can_be_taken_over_when_it_has_run_out(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(wake=NOW, lease=lease("gone")))
        millisecond = timedelta(milliseconds=1)
        mine = lease("me", NOW + 9 * SECOND)
        assert not await repository.claim(PARCEL, "p-1", mine, NOW + SECOND - millisecond)
        assert await repository.claim(PARCEL, "p-1", mine, NOW + SECOND)
        assert (await load(repository)).lease == mine

    @promise
    async def test_saga_that_is_not_due_cannot_be_claimed(self, repository: SagaRepository) -> None:
        await store(repository, document("early", wake=NOW + SECOND), document("idle"))
        for correlation_id in ("early", "idle", "missing"):
            assert not await repository.claim(PARCEL, correlation_id, lease(), NOW)
        assert (await load(repository, "early")).lease is None
        assert await repository.load_document(PARCEL, "missing", message_id=None) is None

    @promise
    async def test_claimed_sagas_are_left_out_of_what_is_due_for_others(
        self, repository: SagaRepository
    ) -> None:
        await store(
            repository,
            document("held", wake=NOW - SECOND, lease=lease("you")),
            document("run out", wake=NOW, lease=lease("gone", NOW)),
            document("free", wake=NOW - 2 * SECOND),
        )
        assert await due(repository, unclaimed=True) == ["free", "run out"]
        assert await due(repository, unclaimed=False) == ["free", "held", "run out"]

    @promise
    async def test_claim_does_not_get_in_the_way_of_a_transition(
        self, repository: SagaRepository
    ) -> None:
        before = record(wake=NOW)
        await store(repository, encode_record(before))
        assert await repository.claim(PARCEL, "p-1", lease(), NOW)
        assert await repository.update_document(PARCEL, change(before, wake=NOW + SECOND))
        found = await load(repository)
        assert (found.version, found.wake, found.lease) == (2, NOW + SECOND, None)

    @promise
    async def test_sagas_of_a_later_schema_are_left_alone(self, repository: SagaRepository) -> None:
        await store(
            repository,
            *(document(number, wake=NOW, schema=number) for number in (1, 2, 3)),
        )
        for schema in (1, 2, 3):
            found = repository.due(PARCEL, NOW, unclaimed=True, schema=schema)
            assert {one async for one in found} == {1, 2, 3} - {*range(schema + 1, 4)}
        for number in (1, 2, 3):
            claimed = await repository.claim(PARCEL, number, lease(), NOW, schema=2)
            assert claimed is (number <= 2)
        assert (await load(repository, 3)).lease is None
        assert await repository.claim(PARCEL, 3, lease(), NOW)
