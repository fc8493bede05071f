"""What may identify a saga or a message, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

from bson import ObjectId
from bson.int64 import Int64

from sagaflow._engine.outcome import OutcomeKind
from sagaflow._model.errors import CorrelationError
from sagaflow._model.ids import SagaId
from sagaflow.abc import SagaRepository
from sagaflow.orchestrator import Orchestrator
from sagaflow.testing._contract.kit import Contract, promise, raises
from sagaflow.testing._contract.records import (
    PARCEL,
    Arrived,
    Parcel,
    Sent,
    document,
    load_for,
    store,
)

A_UUID = UUID("12345678-1234-5678-1234-567812345678")

AN_OBJECT_ID = ObjectId("0123456789abcdef01234567")

IDS: list[SagaId] = [
    "p-1",
    "$gt",
    "$version",
    "a.b",
    "with \0 in it",
    "Zoë \U0001f4e6",
    " ",
    7,
    "7",
    0,
    -7,
    2**40,
    2**63 - 1,
    -(2**63),
    A_UUID,
    str(A_UUID),
    AN_OBJECT_ID,
    str(AN_OBJECT_ID),
]

NO_IDS: list[Any] = [
    {"$gt": ""},
    {},
    [],
    ("p", 1),
    b"p-1",
    True,
    False,
    7.0,
    float("nan"),
    Decimal(7),
    "",
    "\ud800",
    2**63,
    -(2**63) - 1,
    10**5000,
    object(),
]


class Key(StrEnum):
    FIRST = "p-1"


class Number(IntEnum):
    SEVEN = 7


class ForeignUUID(UUID):
    """A UUID of another class, as drivers of other databases return."""


SAME: list[tuple[SagaId, SagaId]] = [
    (Key.FIRST, "p-1"),
    (Number.SEVEN, 7),
    (Int64(2**40), 2**40),
    (ForeignUUID(A_UUID.hex), A_UUID),
]


class IdContract(Contract):
    """Ids of sagas and of messages."""

    @promise
    async def test_every_kind_of_id_identifies_a_saga_of_its_own(
        self, repository: SagaRepository
    ) -> None:
        orchestrator = Orchestrator([Parcel], repository, clock=self.clock)
        for number, correlation_id in enumerate(IDS):
            outcome = await orchestrator.handle(Sent(correlation_id, number))
            assert outcome.kind is OutcomeKind.STARTED
            assert outcome.correlation_id == correlation_id
        for number, correlation_id in enumerate(IDS):
            found = await orchestrator.find(Parcel, correlation_id)
            assert found is not None
            assert found.saga.weight == number
            assert found.correlation_id == correlation_id
            assert type(found.correlation_id) is type(correlation_id)
        assert sum((await repository.count_states(PARCEL)).values()) == len(IDS)
        for correlation_id in IDS:
            outcome = await orchestrator.handle(Arrived(correlation_id))
            assert outcome.kind is OutcomeKind.TRANSITIONED
            assert await repository.delete(Parcel, correlation_id)
        assert await repository.count_states(PARCEL) == {}

    @promise
    async def test_every_kind_of_message_id_is_recognised_and_no_other(
        self, repository: SagaRepository
    ) -> None:
        for seen in IDS:
            await store(repository, document(inbox=tuple(IDS)), document("p-2", inbox=(seen,)))
            assert (await load_for(repository, seen)).inbox == (seen,)
            for other in IDS:
                alone = await load_for(repository, other, "p-2")
                assert alone.inbox == ((seen,) if other is seen else ())
            await repository.delete(Parcel, "p-1")
            await repository.delete(Parcel, "p-2")

    @promise
    async def test_event_with_the_message_id_of_a_handled_one_is_a_duplicate(
        self, repository: SagaRepository
    ) -> None:
        orchestrator = Orchestrator([Parcel], repository, clock=self.clock)
        for number, message_id in enumerate(IDS):
            first = await orchestrator.handle(Sent(number), message_id=message_id)
            assert first.kind is OutcomeKind.STARTED
            again = await orchestrator.handle(Arrived(number), message_id=message_id)
            assert again.kind is OutcomeKind.DUPLICATE

    @promise
    async def test_number_and_its_text_are_two_message_ids(
        self, repository: SagaRepository
    ) -> None:
        orchestrator = Orchestrator([Parcel], repository, clock=self.clock)
        await orchestrator.handle(Sent("p-1"), message_id=7)
        other = await orchestrator.handle(Arrived("p-1"), message_id="7")
        assert other.kind is OutcomeKind.TRANSITIONED

    @promise
    async def test_anything_else_is_refused_and_nothing_is_written(
        self, repository: SagaRepository
    ) -> None:
        await store(repository, document())
        orchestrator = Orchestrator([Parcel], repository, clock=self.clock)
        for wrong in NO_IDS:
            with raises(CorrelationError, match=r"cannot be a correlation id: .* an ObjectId"):
                await orchestrator.handle(Sent("p-2"), correlation_id=wrong)
            with raises(CorrelationError, match=r"cannot be a correlation id"):
                await orchestrator.handle(Arrived(wrong))
            with raises(CorrelationError, match=r"cannot be a message id: .* an ObjectId"):
                await orchestrator.handle(Arrived("p-1"), message_id=wrong)
            with raises(CorrelationError):
                await orchestrator.find(Parcel, wrong)
            with raises(CorrelationError):
                await repository.delete(Parcel, wrong)
        found = await repository.find(Parcel, "p-1")
        assert found is not None
        assert found.version == 1
        assert await repository.count_states(PARCEL) == {"moving": 1}

    @promise
    async def test_nothing_is_no_id(self, repository: SagaRepository) -> None:
        nothing: Any = None
        with raises(CorrelationError, match="None cannot be a correlation id"):
            await repository.find(Parcel, nothing)
        with raises(CorrelationError, match="None cannot be a correlation id"):
            await repository.delete(Parcel, nothing)

    @promise
    async def test_member_of_an_enum_or_of_a_subclass_is_the_same_id_as_its_value(
        self, repository: SagaRepository
    ) -> None:
        orchestrator = Orchestrator([Parcel], repository, clock=self.clock)
        for given, plain in SAME:
            outcome = await orchestrator.handle(Sent("x"), correlation_id=given, message_id=given)
            assert outcome.kind is OutcomeKind.STARTED
            assert type(outcome.correlation_id) is type(plain)
            again = await orchestrator.handle(Sent("x"), correlation_id=plain, message_id=plain)
            assert again.kind is OutcomeKind.DUPLICATE
            found = await orchestrator.find(Parcel, given)
            assert found is not None
            assert (found.correlation_id, type(found.correlation_id)) == (plain, type(plain))
            assert await repository.delete(Parcel, plain)
