"""The public queries: find, find_by_state, find_stale, count_by_state and delete."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from sagaflow._codec.documents import encode_record
from sagaflow._codec.instance import Instance
from sagaflow._definition.state import State
from sagaflow._model.errors import SagaflowError
from sagaflow._model.record import Status
from sagaflow.abc import SagaRepository
from sagaflow.testing._contract.kit import Contract, promise, raises
from sagaflow.testing._contract.records import (
    NOW,
    PARCEL,
    SECOND,
    Parcel,
    document,
    full_record,
    store,
)


async def in_state(repository: SagaRepository, state: State | str) -> list[Instance[Parcel]]:
    return [found async for found in repository.find_by_state(Parcel, state)]


async def stale(repository: SagaRepository, older_than: Any) -> list[Instance[Parcel]]:
    return [found async for found in repository.find_stale(Parcel, older_than)]


def ids(found: list[Instance[Parcel]]) -> list[object]:
    return [instance.correlation_id for instance in found]


class QueryContract(Contract):
    """The public queries."""

    @promise
    async def test_find_gives_all_there_is_to_know_about_a_saga(
        self, repository: SagaRepository
    ) -> None:
        full = full_record()
        await store(repository, encode_record(full))
        found = await repository.find(Parcel, "p-1")
        assert found == Instance(
            saga=Parcel(weight=7, stops=["here", "there"], price=Decimal("9.90")),
            correlation_id="p-1",
            state=Parcel.moving,
            status=Status.SUSPENDED,
            suspension=full.suspension,
            version=3,
            created_at=full.created_at,
            updated_at=full.updated_at,
            finished_at=full.finished_at,
            history=full.history,
            outbox=full.outbox,
            compensations=full.compensations,
            timers=full.timers,
            parked=full.parked,
        )

    @promise
    async def test_instants_of_a_found_saga_are_aware_and_in_utc(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document())
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        assert found.created_at == NOW
        assert found.created_at.utcoffset() == timedelta(0)

    @promise
    async def test_find_gives_none_for_a_saga_that_is_not_there(
        self, repository: SagaRepository
    ) -> None:
        assert await repository.find(Parcel, "p-1") is None

    @promise
    async def test_found_sagas_are_copies(self, repository: SagaRepository) -> None:
        await store(repository, document(data={"stops": ["here"]}))
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        found.saga.stops.append("nowhere")
        again = await repository.find(Parcel, "p-1")
        assert again is not None
        assert again.saga.stops == ["here"]

    @promise
    async def test_find_by_state_finds_the_sagas_in_that_state(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(1), document(2, state="waiting"), document(3))
        assert sorted(map(str, ids(await in_state(repository, Parcel.moving)))) == ["1", "3"]
        assert ids(await in_state(repository, "waiting")) == [2]
        assert await in_state(repository, Parcel.delivered) == []

    @promise
    async def test_every_one_of_very_many_sagas_is_found(self, repository: SagaRepository) -> None:
        """There are more sagas than a server might return by default."""
        many, old = range(1200), NOW - timedelta(hours=1)
        await store(repository, *(document(number, updated_at=old, wake=NOW) for number in many))
        await store(repository, document("another", state="waiting"))
        assert set(ids(await in_state(repository, Parcel.moving))) == set(many)
        assert set(ids(await stale(repository, timedelta(minutes=59)))) == set(many)
        assert {found async for found in repository.due(PARCEL, NOW, unclaimed=True)} == set(many)
        assert (await repository.count_by_state(Parcel))[Parcel.moving] == len(many)

    @promise
    async def test_documents_in_one_of_several_states_are_scanned(
        self, repository: SagaRepository
    ) -> None:
        await store(
            repository, document(1), document(2, state="waiting"), document(3, state="delivered")
        )
        for states, expected in (
            ("moving", {1}),
            (("moving", "waiting"), {1, 2}),
            ((), set[int]()),
        ):
            scanned = repository.scan_documents(PARCEL, state=states)
            assert {found["_id"] async for found in scanned} == expected

    @promise
    async def test_find_by_state_begins_with_the_one_that_changed_longest_ago(
        self, repository: SagaRepository
    ) -> None:
        order = [3, 1, 5, 4, 2]
        await store(
            repository, *(document(number, updated_at=NOW + number * SECOND) for number in order)
        )
        assert ids(await in_state(repository, "moving")) == [1, 2, 3, 4, 5]

    @promise
    async def test_find_by_state_finds_finished_sagas_as_well(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(state="delivered", status=Status.FINISHED))
        assert ids(await in_state(repository, Parcel.delivered)) == ["p-1"]

    @promise
    async def test_find_by_state_may_be_left_early(self, repository: SagaRepository) -> None:
        await store(repository, *(document(number) for number in range(5)))
        async with aclosing(repository.find_by_state(Parcel, "moving")) as found:
            async for instance in found:
                assert instance.state == Parcel.moving
                break
        async with aclosing(repository.find_stale(Parcel, -SECOND)) as found:
            async for instance in found:
                assert instance.state == Parcel.moving
                break
        assert len(await in_state(repository, "moving")) == 5

    @promise
    async def test_state_that_the_class_does_not_have_is_refused(
        self, repository: SagaRepository
    ) -> None:
        for state in ("lost", State("lost"), ""):
            with raises(SagaflowError, match=r"Parcel has no state .*waiting, moving, delivered"):
                await in_state(repository, state)

    @promise
    async def test_find_stale_begins_with_the_one_that_changed_longest_ago(
        self, repository: SagaRepository
    ) -> None:
        order = [3, 1, 5, 4, 2]
        await store(
            repository, *(document(number, updated_at=NOW - number * SECOND) for number in order)
        )
        assert ids(await stale(repository, 2 * SECOND)) == [5, 4, 3]

    @promise
    async def test_how_long_ago_is_told_by_the_clock_of_the_repository(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document())
        assert await stale(repository, timedelta(hours=1)) == []
        self.clock.advance(timedelta(hours=1))
        assert await stale(repository, timedelta(hours=1)) == []
        self.clock.advance(timedelta(milliseconds=1))
        assert ids(await stale(repository, timedelta(hours=1))) == ["p-1"]

    @promise
    async def test_instant_may_be_given_in_any_zone(self, repository: SagaRepository) -> None:
        await store(repository, document())
        east = timezone(timedelta(hours=5))
        assert await stale(repository, NOW.astimezone(east)) == []
        assert ids(await stale(repository, (NOW + SECOND).astimezone(east))) == ["p-1"]

    @promise
    async def test_finished_sagas_are_not_stale(self, repository: SagaRepository) -> None:
        old = NOW - timedelta(days=1)
        await store(
            repository,
            document("finished", updated_at=old, state="delivered", status=Status.FINISHED),
            document("compensating", updated_at=old, status=Status.COMPENSATING),
            document("active", updated_at=old + SECOND),
            document("suspended", updated_at=old + 2 * SECOND, status=Status.SUSPENDED),
        )
        found = ids(await stale(repository, timedelta(hours=1)))
        assert found == ["compensating", "active", "suspended"]

    @promise
    async def test_what_is_neither_a_span_nor_an_aware_instant_is_refused(
        self, repository: SagaRepository
    ) -> None:
        for older_than in (datetime(2026, 1, 1), 60, "1h"):  # noqa: DTZ001 - what is wrong with it
            with raises(SagaflowError, match=r"older_than=.* aware datetime$"):
                await stale(repository, older_than)

    @promise
    async def test_span_that_reaches_beyond_the_calendar_finds_nothing(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document())
        assert await stale(repository, timedelta.max) == []
        assert ids(await stale(repository, timedelta.min)) == ["p-1"]

    @promise
    async def test_states_are_counted_with_those_that_no_saga_is_in(
        self, repository: SagaRepository
    ) -> None:
        await store(
            repository,
            *(document(number) for number in range(3)),
            document("p", state="delivered", status=Status.FINISHED),
        )
        counted = await repository.count_by_state(Parcel)
        assert counted == {Parcel.waiting: 0, Parcel.moving: 3, Parcel.delivered: 1}
        assert list(counted) == [Parcel.waiting, Parcel.moving, Parcel.delivered]

    @promise
    async def test_state_that_is_no_longer_declared_is_counted(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(state="on_hold"))
        counted = await repository.count_by_state(Parcel)
        assert counted[State("on_hold")] == 1
        assert sum(counted.values()) == 1

    @promise
    async def test_saga_in_a_state_that_is_no_longer_declared_is_found(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(state="on_hold"))
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        assert found.state == State("on_hold")

    @promise
    async def test_document_that_only_keeps_early_events_is_not_seen(
        self, repository: SagaRepository
    ) -> None:
        """The saga of such a document has not started."""
        old = NOW - timedelta(days=1)
        await store(repository, document(state="", status=Status.EMBRYO, updated_at=old))
        assert await repository.find(Parcel, "p-1") is None
        assert await stale(repository, timedelta(hours=1)) == []
        assert sum((await repository.count_by_state(Parcel)).values()) == 0
        assert await repository.count_states(PARCEL) == {}
        assert await repository.load_document(PARCEL, "p-1", message_id="m-1") is not None

    @promise
    async def test_delete_removes_one_saga_and_says_so(self, repository: SagaRepository) -> None:
        await store(repository, document(), document("p-2"))
        assert await repository.delete(Parcel, "p-1")
        assert not await repository.delete(Parcel, "p-1")
        assert await repository.find(Parcel, "p-1") is None
        assert await repository.find(Parcel, "p-2") is not None

    @promise
    async def test_indexes_may_be_made_twice_and_change_no_answer(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(wake=NOW), document("p-2", state="waiting"))
        await repository.create_indexes(Parcel)
        await repository.create_indexes(Parcel)
        assert ids(await in_state(repository, "waiting")) == ["p-2"]
        assert sorted(map(str, ids(await stale(repository, -SECOND)))) == ["p-1", "p-2"]
        assert [found async for found in repository.due(PARCEL, NOW, unclaimed=True)] == ["p-1"]
