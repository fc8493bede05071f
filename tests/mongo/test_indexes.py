"""What the queries and the sweep read: by an index, and no more than they need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pymongo
import pytest

from sagaflow import MemoryBus, Orchestrator
from sagaflow._model.record import Lease
from sagaflow.mongo import MongoRepository
from sagaflow.testing import ManualClock
from tests.contract.records import NOW, PARCEL, SECOND, Parcel, document, plain_change
from tests.mongo.support import Commands, repository_of

pytestmark = pytest.mark.anyio

Client = pymongo.MongoClient[dict[str, Any]]
Document = dict[str, Any]

IDLE, DUE = 40, 10


@pytest.fixture
async def repository(
    anyio_backend: str,
    store: str,
    mongodb_uri: str,
    mongodb_client: Client,
    database: str,
    commands: Commands,
    clock: ManualClock,
) -> AsyncIterator[MongoRepository]:
    """A repository with its indexes, idle sagas, and some with work to do."""
    async with repository_of(
        store, mongodb_uri, database, clock=clock, event_listeners=[commands]
    ) as made:
        await made.create_indexes(Parcel)
        collection = mongodb_client[database][PARCEL]
        collection.insert_many(document(number) for number in range(IDLE))
        collection.insert_many(
            document(number, wake=NOW - number * SECOND, updated_at=NOW - number * SECOND)
            for number in range(IDLE, IDLE + DUE)
        )
        commands.sent.clear()
        yield made


class Explained:
    """Asks the server how it carries out what a repository has sent to it."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._is_embedded = "secantus" in str(
            database.command("explain", {"find": "none"})["serverInfo"]
        )

    def index_of(self, command: Mapping[str, Any]) -> str | None:
        """Return the index that *command* uses, or None if it looks at every document."""
        names = ("find", "aggregate", "filter", "pipeline", "sort", "limit", "projection")
        plain = {name: command[name] for name in names if name in command}
        if "aggregate" in plain:
            plain["cursor"] = {}
        if not self._is_embedded or "aggregate" in plain:
            return self._explain(plain)
        # The embedded server takes the first condition that has an index, if none is an operator
        # at the top; it explains single conditions alone.
        if any(name.startswith("$") for name in plain["filter"]):
            return None
        for name, condition in plain["filter"].items():
            found = self._explain({"find": plain["find"], "filter": {name: condition}})
            if found is not None:
                return found
        return None

    def _explain(self, command: Mapping[str, Any]) -> str | None:
        plan = self._database.command("explain", command, verbosity="queryPlanner")
        if "stages" in plan:
            plan = plan["stages"][0]["$cursor"]
        (index,) = {
            stage.get("indexName") for stage in _leaves(plan["queryPlanner"]["winningPlan"])
        }
        return index


def _leaves(stage: Document) -> Iterator[Document]:
    """Yield the stages of a plan that read: an index, or everything."""
    if stage["stage"] in {"EXPRESS_IXSCAN", "IDHACK"}:
        yield {"indexName": "_id_"}
        return
    below = [stage[name] for name in ("inputStage", "queryPlan") if name in stage]
    below += stage.get("inputStages", [])
    for one in below:
        yield from _leaves(one)
    if not below:
        yield stage


@pytest.fixture
def explained(mongodb_client: Client, database: str) -> Explained:
    """What the server says about the commands of the repository."""
    return Explained(mongodb_client[database])


@pytest.mark.parametrize("unclaimed", [True, False])
async def test_what_is_due_is_found_by_the_index_on_wake(
    unclaimed: bool, repository: MongoRepository, commands: Commands, explained: Explained
) -> None:
    found = [one async for one in repository.due(PARCEL, NOW, unclaimed=unclaimed)]
    assert found == list(range(IDLE + DUE - 1, IDLE - 1, -1))
    (command,) = commands.sent
    assert explained.index_of(command) == "sagaflow_wake"


async def test_idle_saga_is_not_in_the_index_on_wake(
    repository: MongoRepository, mongodb_client: Client, database: str
) -> None:
    in_index = mongodb_client[database][PARCEL].find({}, hint="sagaflow_wake")
    assert sorted(one["_id"] for one in in_index) == list(range(IDLE, IDLE + DUE))


async def test_sweep_reads_no_more_than_it_takes(
    repository: MongoRepository, commands: Commands
) -> None:
    due = repository.due(PARCEL, NOW, unclaimed=True, limit=3)
    assert [one async for one in due] == [49, 48, 47]
    (command,) = commands.sent
    assert command["limit"] == 3
    assert command["projection"] == {"_id": 1}
    assert not commands.open_cursors


async def test_workers_and_health_ask_for_no_more_than_they_take(
    repository: MongoRepository,
    commands: Commands,
    clock: ManualClock,
    mongodb_client: Client,
    database: str,
) -> None:
    waiting = partial(mongodb_client[database][PARCEL].count_documents, {"wake": {"$lte": NOW}})
    async with Orchestrator([Parcel], repository, bus=MemoryBus(), clock=clock) as orchestrator:
        await orchestrator.health()
        with anyio.fail_after(10):
            while await anyio.to_thread.run_sync(waiting):
                await anyio.sleep(0.01)
    questions = [command for command in commands.sent if "find" in command]
    swept = [command for command in questions if "wake" in command["filter"]]
    assert any("lease.until" in command["filter"] for command in swept)
    assert any("lease.until" not in command["filter"] for command in swept)
    assert all(0 < command["limit"] <= 1000 for command in questions)


async def test_claim_finds_its_saga_by_its_id(
    repository: MongoRepository, commands: Commands, explained: Explained
) -> None:
    assert await repository.claim(PARCEL, 45, Lease(owner="me", until=NOW + SECOND), NOW)
    (command,) = commands.sent
    (statement,) = command["updates"]
    index = explained.index_of({"find": PARCEL, "filter": statement["q"]})
    assert index in {"_id_", "sagaflow_wake"}
    assert next(iter(statement["q"])) == "_id"


async def test_transition_finds_its_saga_by_its_id(
    repository: MongoRepository, commands: Commands, explained: Explained
) -> None:
    assert await repository.update_document(PARCEL, plain_change(45, 1))
    (command,) = commands.sent
    (statement,) = command["updates"]
    assert explained.index_of({"find": PARCEL, "filter": statement["q"]}) == "_id_"
    assert list(statement["q"].items()) == [("_id", 45), ("incarnation", "i-1"), ("version", 1)]


async def test_sagas_in_a_state_are_found_by_the_index_on_state(
    repository: MongoRepository, commands: Commands, explained: Explained
) -> None:
    assert len([one async for one in repository.find_by_state(Parcel, "moving")]) == IDLE + DUE
    assert explained.index_of(commands.sent[0]) == "sagaflow_state"


async def test_stale_sagas_are_found_by_the_index_on_state(
    repository: MongoRepository, commands: Commands, explained: Explained
) -> None:
    stale = [one async for one in repository.find_stale(Parcel, timedelta(seconds=45))]
    assert [one.correlation_id for one in stale] == [49, 48, 47, 46]
    assert explained.index_of(commands.sent[0]) == "sagaflow_state"


async def test_states_are_counted_by_the_index_on_state(
    repository: MongoRepository, commands: Commands, explained: Explained
) -> None:
    assert (await repository.count_by_state(Parcel))[Parcel.moving] == IDLE + DUE
    assert explained.index_of(commands.sent[0]) == "sagaflow_state"


async def test_without_the_index_every_document_would_be_read(
    repository: MongoRepository,
    commands: Commands,
    explained: Explained,
    mongodb_client: Client,
    database: str,
) -> None:
    """What the other tests would say then."""
    mongodb_client[database][PARCEL].drop_index("sagaflow_wake")
    assert len([one async for one in repository.due(PARCEL, NOW, unclaimed=True)]) == DUE
    assert explained.index_of(commands.sent[0]) is None
