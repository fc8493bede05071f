"""Documents that are older than the code, from elsewhere, or damaged."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sagaflow._codec.documents import Bookkeeping
from sagaflow._model.errors import RepositoryError, SerializationError
from sagaflow._model.record import Lease
from sagaflow.abc import SagaRepository
from sagaflow.orchestrator import Orchestrator
from sagaflow.testing._contract.kit import Contract, promise, raises
from sagaflow.testing._contract.records import (
    NOW,
    PARCEL,
    SECOND,
    Arrived,
    Parcel,
    Sent,
    change,
    document,
    outgoing,
    record,
    store,
)

NEEDED = ("incarnation", "version", "token", "state", "status", "created_at", "updated_at")

DAMAGES: list[tuple[str, Any, str]] = [
    ("status", "sleeping", "'sleeping' is not a valid Status"),
    ("status", None, "None is not a valid Status"),
    ("inbox", 5, "its inbox is a int"),
    ("outbox", ["x"], "an element of its outbox is a str"),
    ("compensations", [5], "an element of its compensations is a int"),
    ("compensations", [{"id": "1.1"}], "the field 'step' is missing"),
    ("history", [{}], "the field 'at' is missing"),
    ("timers", [{"id": "t-1"}], "the field 'name' is missing"),
    ("parked", [{"id": "m-1"}], "the field 'type' is missing"),
    ("lease", {}, "the field 'owner' is missing"),
    ("suspension", {"reason": "boredom"}, "'boredom' is not a valid SuspensionReason"),
    ("data", ["x"], "its data is a list"),
    ("version", "1", "its version is '1'"),
    ("state", 5, "its state is 5"),
    ("schema", 0, "its schema is 0"),
    ("schema", {"gt": 0}, "its schema is {"),
    ("updated_at", "today", "its updated_at is 'today'"),
]

WRONG_DATA: list[tuple[dict[str, Any], str, str]] = [
    ({"weight": "heavy"}, "Parcel.weight", "expected int, found 'heavy'"),
    ({"weight": None}, "Parcel.weight", "expected int, found None"),
    ({"weight": True}, "Parcel.weight", "expected int, found True"),
    ({"price": 9.9}, "Parcel.price", "expected a stored str, found 9.9"),
    ({"price": "cheap"}, "Parcel.price", "'cheap' is no Decimal"),
    ({"stops": ["here", 5]}, "Parcel.stops[1]", "expected str, found 5"),
    ({"stops": 5}, "Parcel.stops", "expected a stored list, found 5"),
]


class DocumentContract(Contract):
    """Documents of any age and origin."""

    @promise
    async def test_field_that_is_missing_has_its_default(self, repository: SagaRepository) -> None:
        await store(repository, document(data={"weight": 3}), document("p-2", data={}))
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        assert found.saga == Parcel(weight=3, price=Decimal("9.90"), stops=[])
        other = await repository.find(Parcel, "p-2")
        assert other is not None
        assert other.saga == Parcel()

    @promise
    async def test_field_that_is_missing_is_stored_with_the_next_event(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(data={"weight": 3}))
        await Orchestrator([Parcel], repository, clock=self.clock).handle(Arrived("p-1"))
        whole = await repository.load_document(PARCEL, "p-1", message_id=None)
        assert whole is not None
        assert whole["data"] == {"weight": 3, "price": "9.90", "stops": []}

    @promise
    async def test_field_that_the_class_no_longer_has_is_left_where_it_is(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(data={"weight": 3, "colour": "red"}))
        await Orchestrator([Parcel], repository, clock=self.clock).handle(Arrived("p-1"))
        whole = await repository.load_document(PARCEL, "p-1", message_id=None)
        assert whole is not None
        assert whole["data"]["colour"] == "red"
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        assert found.saga.weight == 3

    @promise
    async def test_document_with_the_least_that_there_must_be_is_read(
        self, repository: SagaRepository
    ) -> None:
        whole = document()
        await store(repository, {name: whole[name] for name in ("_id", *NEEDED)})
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        assert found.saga == Parcel()
        assert (found.history, found.outbox, found.compensations) == ((), (), ())

    @promise
    async def test_document_of_somebody_else_is_refused_with_what_is_missing(
        self, repository: SagaRepository
    ) -> None:
        orchestrator = Orchestrator([Parcel], repository, clock=self.clock)
        for missing in NEEDED:
            foreign = document(wake=NOW)
            del foreign[missing]
            await store(repository, foreign)
            says = rf"'p-1' is not one that sagaflow wrote: the field '{missing}' is missing"
            with raises(RepositoryError, match=says):
                await repository.find(Parcel, "p-1")
            with raises(RepositoryError, match=says):
                await orchestrator.handle(Arrived("p-1"), message_id="m-1")
            with raises(RepositoryError, match=says):
                await orchestrator.run_due()
            if missing != "state":
                with raises(RepositoryError, match=says):
                    [found async for found in repository.find_by_state(Parcel, "moving")]
            await repository.delete(Parcel, "p-1")

    @promise
    async def test_document_that_has_nothing_is_refused_by_every_reader(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, {"_id": "p-1"})
        with raises(RepositoryError, match="is missing"):
            await repository.find(Parcel, "p-1")
        with raises(RepositoryError, match="is missing"):
            await Orchestrator([Parcel], repository, clock=self.clock).handle(
                Arrived("p-1"), message_id="m-1"
            )

    @promise
    async def test_document_that_has_nothing_is_in_nobodys_way(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, {"_id": "p-0"}, document())
        found = [one.correlation_id async for one in repository.find_by_state(Parcel, "moving")]
        assert found == ["p-1"]
        self.clock.advance(SECOND)
        old = [one.correlation_id async for one in repository.find_stale(Parcel, self.clock.now())]
        assert old == ["p-1"]
        assert [one async for one in repository.due(PARCEL, NOW, unclaimed=False)] == []
        assert sum((await repository.count_by_state(Parcel)).values()) == 1
        noted = Bookkeeping(correlation_id="p-0", incarnation="i-1", version=1, sent=("i-1-1",))
        assert not await repository.bookkeep(PARCEL, noted)
        assert not await repository.claim(PARCEL, "p-0", Lease(owner="me", until=NOW), NOW)
        assert not await repository.update_document(PARCEL, change(record("p-0")))
        assert [one async for one in repository.scan_documents(PARCEL)] == [
            {"_id": "p-0"},
            document(),
        ]
        assert await repository.delete(Parcel, "p-0")

    @promise
    async def test_damaged_document_is_refused(self, repository: SagaRepository) -> None:
        for number, (field, value, says) in enumerate(DAMAGES):
            await store(repository, document(number) | {field: value})
            refused = rf"the document {number} is not one that sagaflow wrote: .*{says}"
            with raises(RepositoryError, match=refused):
                await repository.find(Parcel, number)

    @promise
    async def test_stored_value_of_the_wrong_type_is_refused_with_its_path(
        self, repository: SagaRepository
    ) -> None:
        orchestrator = Orchestrator([Parcel], repository, clock=self.clock)
        for number, (data, path, says) in enumerate(WRONG_DATA):
            await store(repository, document(number, data=data))
            with raises(SerializationError, match=says) as found:
                await repository.find(Parcel, number)
            with raises(SerializationError, match=says) as handled:
                await orchestrator.handle(Arrived(number))
            assert (found.error.path, handled.error.path) == (path, path)
        assert await repository.count_states(PARCEL) == {"moving": len(WRONG_DATA)}

    @promise
    async def test_outgoing_messages_of_a_broken_saga_can_still_be_seen(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document(outbox=(outgoing(1),)))
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        assert found.outbox == (outgoing(1),)

    @promise
    async def test_tombstone_is_stored_with_the_instant_at_which_it_may_go(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document())
        await Orchestrator([Parcel], repository, clock=self.clock).handle(Arrived("p-1"))
        whole = await repository.load_document(PARCEL, "p-1", message_id=None)
        assert whole is not None
        assert whole["expire_at"] == NOW + timedelta(days=30)

    @promise
    async def test_saga_that_is_not_finished_never_expires(
        self, repository: SagaRepository
    ) -> None:
        await Orchestrator([Parcel], repository, clock=self.clock).handle(Sent("p-1"))
        whole = await repository.load_document(PARCEL, "p-1", message_id=None)
        assert whole is not None
        assert "expire_at" not in whole
