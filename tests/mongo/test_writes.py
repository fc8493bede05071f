"""Writes that share a round trip, and how each finds out what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pymongo
import pytest
from attrs import evolve
from pymongo.monitoring import CommandSucceededEvent

from sagaflow import (
    RepositoryError,
    SagaflowError,
    SerializationError,
    ServerUnavailableError,
    UnknownOutcomeError,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange, encode_change
from sagaflow._codec.elements import HISTORY
from sagaflow.mongo import MongoRepository
from tests.contract.records import PARCEL, document, load, outgoing, past, plain_change, record
from tests.contract.records import store as stored
from tests.mongo.support import Commands, repository_of

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024
Client = pymongo.MongoClient[dict[str, Any]]


class Interference(Commands):
    """Does something behind the repository's back between a write and the read that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.after_update: Callable[[], object] = lambda: None

    def succeeded(self, event: CommandSucceededEvent) -> None:
        super().succeeded(event)
        if event.command_name == "update":
            self.after_update()


@pytest.fixture
def commands() -> Interference:
    """What the client notes its commands in, and others act in."""
    return Interference()


@pytest.fixture
async def repository(
    anyio_backend: str, store: str, mongodb_uri: str, database: str, commands: Interference
) -> AsyncIterator[MongoRepository]:
    """A repository with each driver, whose commands are noted."""
    async with repository_of(store, mongodb_uri, database, event_listeners=[commands]) as made:
        await stored(made, document("a"), document("b"), document("c"))
        commands.sent.clear()
        yield made


def to_version_2(correlation_id: str, *, version: int = 1, **fields: Any) -> DocumentChange:
    """Return the change from *version* to the next, as a commit makes it."""
    before = record(correlation_id, version=version)
    new = version + 1
    entry = evolve(past(new), token=f"{correlation_id}-{new}")
    after = evolve(before, version=new, token=entry.token, inbox=(), history=(entry,))
    return encode_change(before, evolve(after, **fields), inbox_size=9)


Fates = dict[str, "bool | SagaflowError"]


async def at_once(writes: dict[str, Callable[[], Awaitable[bool]]]) -> Fates:
    """Make these writes at the same time and return what each was told."""
    told: Fates = {}

    async def make(name: str, write: Callable[[], Awaitable[bool]]) -> None:
        try:
            told[name] = await write()
        except SagaflowError as exc:
            told[name] = exc

    async with anyio.create_task_group() as tasks:
        for name, write in writes.items():
            tasks.start_soon(make, name, write)
    return told


async def update(repository: MongoRepository, *changes: DocumentChange) -> Fates:
    """Apply these changes at the same time."""
    return await at_once(
        {
            str(change.correlation_id): lambda change=change: repository.update_document(  # type: ignore[misc]
                PARCEL, change
            )
            for change in changes
        }
    )


# Round trips


async def test_updates_that_all_match_are_one_round_trip(
    repository: MongoRepository, commands: Interference
) -> None:
    told = await update(repository, *(to_version_2(name) for name in "abc"))
    assert told == {"a": True, "b": True, "c": True}
    assert commands.names == ["update"]
    assert commands.sent[0]["ordered"] is False
    assert commands.sent[0]["writeConcern"] == {"w": "majority", "j": True}
    for statement in commands.sent[0]["updates"]:
        assert statement.get("upsert", False) is False
        assert statement.get("multi", False) is False


async def test_updates_of_which_some_match_are_one_more_read(
    repository: MongoRepository, commands: Interference
) -> None:
    told = await update(repository, *(to_version_2(name) for name in "abx"))
    assert told == {"a": True, "b": True, "x": False}
    assert commands.names == ["update", "find"]
    assert commands.sent[1]["readConcern"] == {"level": "majority"}
    assert not commands.sent[1]["projection"].keys() & {"data", "outbox", "inbox"}


async def test_updates_of_which_none_matches_are_one_round_trip(
    repository: MongoRepository, commands: Interference
) -> None:
    told = await update(repository, *(to_version_2(name, version=7) for name in "abx"))
    assert told == {"a": False, "b": False, "x": False}
    assert commands.names == ["update"]


async def test_starts_are_one_round_trip(
    repository: MongoRepository, commands: Interference
) -> None:
    told = await at_once(
        {
            name: lambda name=name: repository.insert_document(PARCEL, document(name))  # type: ignore[misc]
            for name in ("a", "x", "y")
        }
    )
    assert told == {"a": False, "x": True, "y": True}
    assert commands.names == ["insert"]
    assert commands.sent[0]["writeConcern"] == {"w": "majority", "j": True}


async def test_notes_and_transitions_share_a_round_trip(
    repository: MongoRepository, commands: Interference
) -> None:
    note = Bookkeeping(correlation_id="b", incarnation="i-1", version=1, unset=("wake",))
    told = await at_once(
        {
            "a": lambda: repository.update_document(PARCEL, to_version_2("a")),
            "b": lambda: repository.bookkeep(PARCEL, note),
        }
    )
    assert told == {"a": True, "b": True}
    assert commands.names == ["update"]


async def test_single_write_is_one_plain_command(
    repository: MongoRepository, commands: Interference
) -> None:
    assert not await repository.update_document(PARCEL, to_version_2("x"))
    assert await repository.update_document(PARCEL, to_version_2("a"))
    assert not await repository.insert_document(PARCEL, document("a"))
    assert commands.names == ["update", "update", "insert"]


async def test_note_of_another_version_removes_what_was_sent_with_a_second_write(
    repository: MongoRepository, commands: Interference
) -> None:
    await stored(repository, document("d", version=2, outbox=(outgoing(1), outgoing(2))))
    commands.sent.clear()
    note = Bookkeeping(correlation_id="d", incarnation="i-1", version=1, sent=("i-1-1",))
    assert not await repository.bookkeep(PARCEL, note)
    assert commands.names == ["update", "update"]
    assert (await load(repository, "d")).outbox == (outgoing(2),)


async def test_change_that_leaves_no_trace_travels_alone(
    repository: MongoRepository, commands: Interference
) -> None:
    told = await update(repository, *(plain_change(name, 1) for name in "abx"))
    assert told == {"a": True, "b": True, "x": False}
    assert commands.names == ["update"] * 3


# Mixed fates


async def test_each_member_of_a_batch_gets_its_own_fate(
    repository: MongoRepository,
    commands: Interference,
    mongodb_client: Client,
    database: str,
) -> None:
    """One wins, one loses its race, one grows too large, one is refused, one cannot be encoded."""
    collection = mongodb_client[database][PARCEL]
    note = "x" * (MEGABYTE // 5)
    collection.insert_one(document("large") | {"fill": "y" * (16 * MEGABYTE - 60_000)})
    collection.insert_one(document("odd") | {"data": "no document"})
    unfit = to_version_2("c")
    told = await update(
        repository,
        to_version_2("a", data={"weight": 2}),
        to_version_2("b", version=7),
        to_version_2("large", data={"weight": 2, "note": note}),
        to_version_2("odd", data={"weight": 2}),
        evolve(unfit, set={**unfit.set, "data.weight": object()}, growth=None),
    )
    assert commands.names == ["update", "find"]
    assert len(commands.sent[0]["updates"]) == 4
    assert told["a"] is True
    assert told["b"] is False
    large, odd, c = told["large"], told["odd"], told["c"]
    assert isinstance(large, SerializationError)
    assert large.path.endswith("note")
    assert type(odd) is RepositoryError
    assert str(odd).startswith("cannot store Parcel 'odd': the server refused (")
    assert isinstance(c, SerializationError)
    assert "store Parcel 'c'" in str(c)
    assert (await load(repository, "a")).version == 2
    assert (await load(repository, "c")).version == 1


async def test_each_start_of_a_batch_gets_its_own_fate(
    repository: MongoRepository, commands: Interference
) -> None:
    large = document("large", data={"weight": 1, "note": "x" * (17 * MEGABYTE)})
    unfit = document("unfit") | {"data": {"weight": {1}}}
    given = [document("a"), document("x"), document("x", token="second"), large, unfit]
    told = await at_once(
        {
            f"{number} {one['_id']}": lambda one=one: repository.insert_document(PARCEL, one)  # type: ignore[misc]
            for number, one in enumerate(given)
        }
    )
    assert told["0 a"] is False
    assert sorted((told["1 x"], told["2 x"]), key=str) == [False, True]
    assert isinstance(told["3 large"], SerializationError)
    assert isinstance(told["4 unfit"], SerializationError)
    assert len([name for name in commands.names if name == "insert"]) <= 2
    assert await repository.load_document(PARCEL, "large", message_id=None) is None


async def test_large_write_travels_alone(
    repository: MongoRepository, commands: Interference
) -> None:
    """Else a batch might not fit into one message, and some of it would be sent before the rest."""
    large = {"weight": 1, "note": "x" * MEGABYTE}
    told = await update(repository, to_version_2("a", data=large), *map(to_version_2, "bc"))
    assert told == {"a": True, "b": True, "c": True}
    assert sorted(len(command["updates"]) for command in commands.sent) == [1, 2]
    commands.sent.clear()
    uncounted = evolve(to_version_2("a", version=2, data=large), growth=None)
    told = await update(repository, uncounted, *(to_version_2(name, version=2) for name in "bc"))
    assert told == {"a": True, "b": True, "c": True}
    assert sorted(len(command["updates"]) for command in commands.sent) == [1, 2]
    commands.sent.clear()
    starts = [document(name, data=large) for name in ("x", "y")]
    assert await at_once(
        {one["_id"]: lambda one=one: repository.insert_document(PARCEL, one) for one in starts}  # type: ignore[misc]
    ) == {"x": True, "y": True}
    assert commands.names == ["insert", "insert"]


# Others in between


async def test_update_that_others_have_overtaken_is_known_by_its_history(
    repository: MongoRepository, commands: Interference, mongodb_client: Client, database: str
) -> None:
    collection = mongodb_client[database][PARCEL]

    def overtake() -> None:
        for name in ("a", "b"):
            entry = HISTORY.encode(evolve(past(3), token="other"))
            update = {"$set": {"version": 3, "token": "other"}, "$push": {"history": entry}}
            collection.update_one({"_id": name, "version": 2}, update)

    commands.after_update = overtake
    told = await update(repository, *(to_version_2(name) for name in "abx"))
    assert told == {"a": True, "b": True, "x": False}
    assert (await load(repository, "a")).token == "other"


async def test_update_that_lost_against_a_write_that_was_overtaken_is_not_taken_for_the_winner(
    repository: MongoRepository, mongodb_client: Client, database: str
) -> None:
    other = MongoRepository(mongodb_client[database])
    overtaken = to_version_2("a")
    assert await other.update_document(PARCEL, to_version_2("a", data={"weight": 9}))
    foreign = evolve(overtaken, set=dict(overtaken.set) | {"token": "mine"})
    told = await update(repository, foreign, to_version_2("b"), to_version_2("c"))
    assert told == {"a": False, "b": True, "c": True}
    assert (await load(repository, "a")).data["weight"] == 9


async def test_saga_that_is_deleted_before_the_read_is_known_by_the_number_that_matched(
    repository: MongoRepository, commands: Interference, mongodb_client: Client, database: str
) -> None:
    collection = mongodb_client[database][PARCEL]
    commands.after_update = lambda: collection.delete_one({"_id": "a"})
    told = await update(
        repository, to_version_2("a"), to_version_2("b"), to_version_2("c", version=7)
    )
    assert told == {"a": True, "b": True, "c": False}


async def test_what_cannot_be_told_any_more_is_an_unknown_outcome(
    repository: MongoRepository, commands: Interference, mongodb_client: Client, database: str
) -> None:
    """One of two matched, and both are gone: nobody knows which."""
    collection = mongodb_client[database][PARCEL]
    commands.after_update = lambda: collection.delete_many({"_id": {"$in": ["a", "b"]}})
    told = await update(
        repository, to_version_2("a"), to_version_2("b", version=7), to_version_2("c")
    )
    assert told["c"] is True
    for name in "ab":
        error = told[name]
        assert isinstance(error, UnknownOutcomeError)
        assert str(error) == (
            f"cannot tell whether it was possible to store Parcel '{name}': "
            "the saga was deleted or has changed too often since"
        )


async def test_error_of_a_batch_is_told_to_each_with_its_own_operation(store: str) -> None:
    uri = "mongodb://127.0.0.1:1/"
    async with repository_of(store, uri, "shop", serverSelectionTimeoutMS=20) as nowhere:
        told = await update(nowhere, *(to_version_2(name) for name in "ab"))
    for name in "ab":
        error = told[name]
        assert isinstance(error, ServerUnavailableError)
        assert str(error).startswith(f"cannot store Parcel '{name}': no MongoDB server")


async def test_asynchronous_driver_on_trio_is_refused_in_a_batch_as_well(
    anyio_backend: str,
) -> None:
    if anyio_backend != "trio":
        pytest.skip("about trio")
    client: pymongo.AsyncMongoClient[dict[str, Any]] = pymongo.AsyncMongoClient(
        "mongodb://127.0.0.1:1", connect=False
    )
    told = await update(MongoRepository(client["shop"]), *(to_version_2(name) for name in "ab"))
    for error in told.values():
        assert "runs on asyncio only" in str(error)


async def test_one_repository_serves_the_event_loops_of_several_threads(
    mongodb_client: Client, database: str, anyio_backend: str
) -> None:
    repository = MongoRepository(mongodb_client[database])

    async def starts(first: int) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(first, first + 20):
                tasks.start_soon(repository.insert_document, PARCEL, document(number))

    def run(first: int) -> None:
        anyio.run(starts, first, backend=anyio_backend)

    async with anyio.create_task_group() as tasks:
        for first in (0, 20, 40):
            tasks.start_soon(anyio.to_thread.run_sync, run, first)
    assert mongodb_client[database][PARCEL].count_documents({}) == 60
