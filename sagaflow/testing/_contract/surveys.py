"""Lists and counts for operators: `summaries` and `survey`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from attrs import evolve

from sagaflow._codec.documents import encode_record
from sagaflow._codec.selection import Part, Selection, Summary, Trait
from sagaflow._model.errors import (
    DamagedDocumentError,
    NewerSchemaError,
    SerializationError,
    UnknownStateError,
)
from sagaflow._model.ids import SagaId
from sagaflow._model.record import Status, StoredMessage, SuspensionReason, TimerKind
from sagaflow.abc import SagaRepository
from sagaflow.testing._contract.kit import Contract, promise
from sagaflow.testing._contract.records import (
    NOW,
    SECOND,
    Parcel,
    document,
    full_record,
    outgoing,
    store,
)

UUID_ID = UUID(int=7)
WAITING = frozenset({"waiting", "gone"})


async def ids(repository: SagaRepository, **said: Any) -> list[SagaId]:
    selection = Selection(**said)
    return [found.correlation_id async for found in repository.summaries(Parcel, selection)]


async def traits(repository: SagaRepository, part: Part, *, finished: bool = False) -> list[Trait]:
    survey = repository.survey(Parcel, finished=finished)
    found = [trait async for trait in survey if trait.part is part]
    return sorted(found, key=lambda trait: (trait.state, trait.message or "", trait.name or ""))


def trait(part: Part, **given: Any) -> Trait:
    fields: dict[str, Any] = {"state": "moving", "status": Status.ACTIVE, "schema": 1}
    return Trait(part=part, **(fields | given))


class SurveyContract(Contract):
    """Lists and counts for operators."""

    @promise
    async def test_a_summary_says_what_a_list_shows(self, repository: SagaRepository) -> None:
        await store(repository, encode_record(full_record()))
        (found,) = [summary async for summary in repository.summaries(Parcel, Selection())]
        assert found == Summary(
            correlation_id="p-1",
            state="moving",
            status=Status.SUSPENDED,
            version=3,
            created_at=NOW - SECOND,
            updated_at=NOW,
            finished_at=NOW,
            wake=NOW + SECOND,
            reason=SuspensionReason.HANDLER,
        )

    @promise
    async def test_unfinished_sagas_are_listed_the_oldest_change_first(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document("new", updated_at=NOW))
        await store(repository, document(7, updated_at=NOW - 2 * SECOND))
        await store(repository, document("7", updated_at=NOW - SECOND, status=Status.COMPENSATING))
        await store(repository, document("done", status=Status.FINISHED, finished_at=NOW))
        await store(repository, document("early", state="", status=Status.EMBRYO))
        found = await ids(repository)
        assert found == [7, "7", "new"]
        assert [type(one) for one in found] == [int, str, str]
        assert await ids(repository, statuses=tuple(Status)[:4]) == [7, "7", "new", "done"]
        assert await ids(repository, statuses=(Status.COMPENSATING,)) == ["7"]

    @promise
    async def test_a_list_may_be_of_a_state_and_an_age(self, repository: SagaRepository) -> None:
        await store(repository, document("a", updated_at=NOW - SECOND))
        await store(repository, document("b", updated_at=NOW - SECOND, state="waiting"))
        await store(repository, document("c", updated_at=NOW, state="waiting"))
        assert await ids(repository, states=WAITING) == ["b", "c"]
        assert await ids(repository, unchanged_since=NOW) == ["a", "b"]
        assert await ids(repository, states=WAITING, unchanged_since=NOW) == ["b"]

    @promise
    async def test_what_is_overdue_comes_the_longest_due_first(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document("idle", updated_at=NOW - 9 * SECOND))
        await store(repository, document("second", updated_at=NOW - 9 * SECOND, wake=NOW - SECOND))
        await store(repository, document("first", wake=NOW - 2 * SECOND))
        await store(repository, document("later", wake=NOW + SECOND))
        assert await ids(repository, due_before=NOW) == ["first", "second"]

    @promise
    async def test_a_survey_counts_states_of_what_has_something_to_do(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document("a"))
        await store(repository, document("b"))
        await store(repository, document("c"))
        await store(repository, document("d", state="waiting", schema=2))
        await store(repository, document("done", status=Status.FINISHED, state="delivered"))
        sending = document("sending", status=Status.FINISHED, state="delivered", wake=NOW)
        await store(repository, sending)
        assert await traits(repository, Part.STATE) == [
            trait(Part.STATE, state="delivered", status=Status.FINISHED, examples=("sending",)),
            trait(Part.STATE, count=3, examples=("a", "c")),
            trait(Part.STATE, state="waiting", schema=2, examples=("d",)),
        ]
        delivered, *_ = await traits(repository, Part.STATE, finished=True)
        assert (delivered.count, delivered.examples) == (2, ("done", "sending"))

    @promise
    async def test_a_survey_counts_what_is_in_the_sagas(self, repository: SagaRepository) -> None:
        label = StoredMessage(type="PrintLabel", body={})
        await store(repository, encode_record(evolve(full_record(), schema=2)))
        await store(repository, document("z", outbox=(outgoing(1),)))
        suspended: dict[str, Any] = {"status": Status.SUSPENDED, "schema": 2, "examples": ("p-1",)}
        assert await traits(repository, Part.GOAL) == [
            trait(Part.GOAL, name="delivered", **suspended),
        ]
        assert await traits(repository, Part.TIMER) == [
            trait(
                Part.TIMER,
                name="remind",
                kind=TimerKind.TIMEOUT,
                delay=timedelta(days=30, microseconds=1),
                **suspended,
            ),
            trait(Part.TIMER, name="remind", kind=TimerKind.EVENT, message=label.type, **suspended),
        ]
        assert await traits(repository, Part.COMPENSATION) == [
            trait(Part.COMPENSATION, name="recall", message=label.type, **suspended),
        ]
        assert await traits(repository, Part.PARKED) == [
            trait(Part.PARKED, message=label.type, count=2, **suspended),
        ]
        found = await traits(repository, Part.OUTGOING)
        assert sorted(found, key=lambda one: one.count) == [
            trait(Part.OUTGOING, message=label.type, examples=("z",)),
            trait(Part.OUTGOING, message=label.type, count=2, **suspended),
        ]

    @promise
    async def test_ids_of_several_kinds_are_examples(self, repository: SagaRepository) -> None:
        await store(repository, document(7))
        await store(repository, document(UUID_ID))
        (found,) = await traits(repository, Part.STATE)
        assert found.count == 2
        assert set(found.examples) == {7, UUID_ID}
        assert {type(one) for one in found.examples} == {int, UUID}

    @promise
    async def test_damaged_documents_are_listed_beside_all_others(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document("good"))
        await store(repository, document("changed") | {"updated_at": "today"})
        await store(repository, document("timer") | {"version": "1"})
        await store(repository, document("lost") | {"status": "sleeping"})
        await store(repository, document("nowhere") | {"state": 5})
        selected = repository.summaries(Parcel, Selection())
        found = {summary.correlation_id: summary.damaged async for summary in selected}
        assert found == {
            "good": None,
            "changed": "its updated_at is 'today'",
            "timer": "its version is '1'",
        }

    @promise
    async def test_damaged_documents_are_counted_beside_all_others(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document("good"))
        await store(repository, document("a") | {"status": "sleeping"})
        await store(repository, document("b") | {"schema": "new"})
        await store(repository, document("c") | {"outbox": [{"id": "m-1"}]})
        await store(repository, {"_id": "d", "wake": NOW})
        found = await traits(repository, Part.STATE, finished=True)
        assert [(one.state, one.count) for one in found] == [("moving", 2)]
        damaged = await traits(repository, Part.DAMAGED, finished=True)
        assert sum(one.count for one in damaged) == 4
        assert {example for one in damaged for example in one.examples} == {"a", "b", "c", "d"}

    @promise
    async def test_what_is_left_alone_is_listed_with_why(self, repository: SagaRepository) -> None:
        await store(repository, document("good"))
        await store(repository, document("ended", state="gone", status=Status.FINISHED))
        await store(repository, document("newer", schema=2))
        await store(repository, document("gone", state="gone"))
        await store(repository, document("unfit", data={"weight": "heavy"}))
        await store(repository, document("damaged") | {"wake": "soon"})
        found = {one.correlation_id: one async for one in repository.unreadable(Parcel)}
        assert {name: type(one.error) for name, one in found.items()} == {
            "ended": UnknownStateError,
            "newer": NewerSchemaError,
            "gone": UnknownStateError,
            "unfit": SerializationError,
            "damaged": DamagedDocumentError,
        }
        assert found["damaged"].shown_id == "'damaged'"
