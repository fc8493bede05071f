"""What several writes in one message are told when that message or its answer is harmed."""

from __future__ import annotations

from typing import Any, Final

import anyio
import pytest
from pymongo.collection import Collection
from pymongo.database import Database

from sagaflow import (
    Orchestrator,
    Outcome,
    OutcomeKind,
    RepositoryError,
    SagaflowError,
    ServerUnavailableError,
    UnknownOutcomeError,
)
from sagaflow._codec.documents import DocumentChange
from sagaflow.mongo import MongoRepository
from tests.reliability.proxy import DONE, Fault, Harm, Proxy
from tests.reliability.shop import Counted, Opened, Tally
from tests.reliability.test_wire_faults import CUTS, FORBIDDEN, NOT_REPLICATED, tally

pytestmark = pytest.mark.anyio

Document = dict[str, Any]
Fates = dict[str, "bool | SagaflowError"]

NAMES: Final = ("a", "b", "c")


@pytest.fixture
def collection(database: Database[Document]) -> Collection[Document]:
    """The documents of tallies, with three in it, behind the library's back."""
    collection = database["Tally"]
    collection.insert_many(tally(_id=name) for name in NAMES)
    return collection


async def update(repository: MongoRepository, *names: str) -> Fates:
    """Change these sagas to version 2 at the same time and return what each write was told."""
    told: Fates = {}

    async def change(name: str) -> None:
        given = DocumentChange(
            correlation_id=name,
            incarnation="i",
            version=1,
            set={"version": 2, "token": f"t-{name}"},
        )
        try:
            told[name] = await repository.update_document("Tally", given)
        except SagaflowError as exc:
            told[name] = exc

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(change, name)
    return told


async def insert(repository: MongoRepository, *names: str) -> Fates:
    """Start these sagas at the same time and return what each write was told."""
    told: Fates = {}

    async def start(name: str) -> None:
        try:
            told[name] = await repository.insert_document("Tally", tally(_id=name, data={}))
        except SagaflowError as exc:
            told[name] = exc

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(start, name)
    return told


@pytest.mark.parametrize("harm", CUTS)
async def test_batch_without_an_answer_has_an_unknown_outcome_for_each(
    harm: Harm, wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    fault = proxy.plant(Fault(harm, "update"))
    told = await update(wired, *NAMES)
    assert fault.seen == 1
    for name in NAMES:
        error = told[name]
        assert isinstance(error, UnknownOutcomeError)
        assert str(error).startswith(f"cannot store Tally '{name}': the connection was lost")
    assert collection.count_documents({"version": 2}) == (3 if harm in DONE else 0)


@pytest.mark.parametrize("harm", CUTS)
async def test_starts_without_an_answer_have_an_unknown_outcome_each(
    harm: Harm, wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    proxy.plant(Fault(harm, "insert"))
    told = await insert(wired, "x", "y")
    assert {type(error) for error in told.values()} == {UnknownOutcomeError}
    assert collection.count_documents({}) == (5 if harm in DONE else 3)


async def test_batch_that_is_forbidden_has_failed_for_each(
    wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    proxy.plant(Fault(Harm.REFUSE, "update", answer=FORBIDDEN))
    told = await update(wired, *NAMES)
    for error in told.values():
        assert type(error) is RepositoryError
        assert "not authorized" in str(error)
    assert collection.count_documents({"version": 2}) == 0


async def test_batch_that_is_not_replicated_in_time_has_an_unknown_outcome_for_each(
    wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    proxy.plant(Fault(Harm.AMEND, "update", answer=NOT_REPLICATED))
    told = await update(wired, *NAMES)
    for error in told.values():
        assert isinstance(error, UnknownOutcomeError)
        assert "the acknowledgement was lost" in str(error)
    assert collection.count_documents({"version": 2}) == 3


async def test_start_that_was_refused_is_known_though_the_others_are_not_replicated_in_time(
    wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    proxy.plant(Fault(Harm.AMEND, "insert", answer=NOT_REPLICATED))
    told = await insert(wired, "a", "x")
    assert told["a"] is False
    assert isinstance(told["x"], UnknownOutcomeError)
    assert collection.count_documents({}) == 4


@pytest.mark.parametrize("harm", [Harm.CUT_BEFORE, Harm.CUT_AFTER, Harm.REFUSE])
async def test_batch_whose_outcome_cannot_be_read_has_an_unknown_outcome_for_each(
    harm: Harm, wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    """Also if the read was refused: the writes were not."""
    collection.delete_one({"_id": "c"})
    proxy.plant(Fault(harm, "find", times=2, answer=FORBIDDEN))
    told = await update(wired, *NAMES)
    for name in NAMES:
        error = told[name]
        assert isinstance(error, UnknownOutcomeError)
        assert f"to store Tally '{name}': reading which of several" in str(error)
    assert collection.count_documents({"version": 2}) == 2


@pytest.mark.parametrize("harm", CUTS)
@pytest.mark.parametrize("command", ["insert", "update"])
async def test_events_whose_common_answer_is_lost_are_each_stored_once_and_told_truly(
    command: str, harm: Harm, wired: MongoRepository, proxy: Proxy
) -> None:
    orchestrator = Orchestrator([Tally], wired)
    keys = [f"k-{number}" for number in range(8)]
    told: dict[str, list[Outcome]] = {key: [] for key in keys}

    async def take(event: Opened | Counted, message_id: str) -> None:
        for _ in range(9):
            try:
                outcome = await orchestrator.handle(event, message_id=message_id)
            except ServerUnavailableError:  # a read fails as well while the driver reconnects
                continue
            told[event.tally_id].append(outcome)
            return

    proxy.plant(Fault(harm, command))
    for event_type, message_id in ((Opened, "m-1"), (Counted, "m-2")):
        async with anyio.create_task_group() as tasks:
            for key in keys:
                event = Opened(key) if event_type is Opened else Counted(key, 5)
                tasks.start_soon(take, event, message_id)
    for key in keys:
        kinds = [outcome.kind for outcome in told[key]]
        assert kinds == [OutcomeKind.STARTED, OutcomeKind.STAYED]
        found = await orchestrator.find(Tally, key)
        assert found is not None
        assert (found.version, found.saga.total) == (2, 5)
