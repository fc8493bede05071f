from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pymongo
import pytest
from attrs import frozen
from pymongo import ReadPreference, WriteConcern

from sagaflow import (
    Context,
    Limits,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    RepositoryError,
    Saga,
    SagaflowError,
    SerializationError,
    ServerUnavailableError,
    State,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, encode_record
from sagaflow._concurrency.generators import closing
from sagaflow._model.record import Lease
from sagaflow.mongo import MongoRepository
from sagaflow.testing import ManualClock
from tests.contract.records import (
    NOW,
    PARCEL,
    SECOND,
    Arrived,
    Parcel,
    Sent,
    change,
    document,
    full_record,
    load,
    outgoing,
    plain_change,
    record,
)
from tests.contract.records import (
    store as stored,
)
from tests.mongo.support import Clients, Commands, repository_of

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024
NOWHERE = "127.0.0.1:1"
"""Where nobody listens."""

Client = pymongo.MongoClient[dict[str, Any]]


# What it is made of


@pytest.mark.parametrize("wrong", [None, "shop", {}, object(), "client", "collection"])
async def test_what_is_no_database_is_refused(wrong: Any) -> None:
    client: Client = pymongo.MongoClient(connect=False)
    given: Any = wrong
    if isinstance(wrong, str) and wrong != "shop":
        given = client if wrong == "client" else client["shop"]["orders"]
    with pytest.raises(SagaflowError, match=r'such as client\["shop"\], not ') as caught:
        MongoRepository(given)
    assert str(caught.value).endswith(f"not {type(given).__qualname__}")
    client.close()


async def test_passed_client_is_not_closed(mongodb_client: Client, database: str) -> None:
    repository = MongoRepository(mongodb_client[database])
    await stored(repository, document())
    assert mongodb_client[database][PARCEL].count_documents({}) == 1


# Connecting


async def test_connect_picks_a_driver_for_the_runtime_and_closes_it(
    mongodb_uri: str, database: str
) -> None:
    clients = Clients()
    async with MongoRepository.connect(
        mongodb_uri, database=database, event_listeners=[clients]
    ) as repository:
        await stored(repository, document())
        assert clients.open == 1
    assert clients.open == 0
    with pytest.raises(RepositoryError, match="after close"):
        await load(repository)


async def test_connection_is_closed_when_its_user_fails(mongodb_uri: str, database: str) -> None:
    clients = Clients()
    with pytest.raises(LookupError):
        async with MongoRepository.connect(
            mongodb_uri, database=database, event_listeners=[clients]
        ):
            raise LookupError
    assert clients.open == 0


async def test_connection_is_closed_when_its_user_is_cancelled(
    mongodb_uri: str, database: str
) -> None:
    clients = Clients()
    with anyio.CancelScope() as scope:
        async with MongoRepository.connect(
            mongodb_uri, database=database, event_listeners=[clients]
        ):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert clients.open == 0


@pytest.mark.parametrize("credentials", ["", "user:s3cret%40word@"])
async def test_unreachable_server_is_one_clear_error_at_once(credentials: str) -> None:
    uri = f"mongodb://{credentials}{NOWHERE}/?serverSelectionTimeoutMS=200"
    clients = Clients()
    with anyio.fail_after(10):
        with pytest.raises(ServerUnavailableError) as caught:
            async with MongoRepository.connect(uri, database="shop", event_listeners=[clients]):
                pass
    said = str(caught.value)
    assert "no MongoDB server was reached in time" in said
    assert NOWHERE in said
    assert "Check the address and that the server runs" in said
    assert "s3cret" not in said
    assert "Topology" not in said
    assert clients.open == 0


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "Empty host"),
        ("http://localhost", "Invalid URI scheme"),
        ("mongodb://", "at least one hostname"),
        ("mongodb://localhost:port", "Port contains non-digit characters"),
        ("mongodb://localhost:99999", "Port must be an integer between 0 and 65535"),
        ("mongodb://[::1", "IPv6"),
        ("mongodb://user:s3cret@localhost:port", "Port contains non-digit"),
        ("mongodb://user:s3cr:et@localhost", "must be escaped"),
        ("mongodb://user:s3cr%et@localhost", "must be escaped"),
        ("mongodb://user:pa/s3cret@localhost/shop", "percent-encode"),
        ("mongodb://user:p@ss/s3cret@localhost", "percent-encode"),
        ("mongodb://user:pa?s3cret@localhost", "percent-encode"),
        ("mongodb://localhost/?tls=true&tlsCAFile=/no/such/file", "Errno 2"),
        (None, "such as 'mongodb://localhost', not by NoneType"),
        (27017, "such as 'mongodb://localhost', not by int"),
    ],
)
async def test_malformed_uri_is_refused_without_repeating_a_password(uri: Any, says: str) -> None:
    with pytest.raises(RepositoryError) as caught:
        async with MongoRepository.connect(uri, database="shop"):
            pass
    assert says in str(caught.value)
    for secret in ("s3cr", "pa/", "p@"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "$shop", 5])
async def test_name_that_no_database_can_have_is_refused(name: Any) -> None:
    clients = Clients()
    with pytest.raises(RepositoryError, match="cannot connect"):
        async with MongoRepository.connect(
            f"mongodb://{NOWHERE}", database=name, event_listeners=[clients]
        ):
            pass
    assert clients.open == 0


async def test_option_that_no_client_has_is_refused(mongodb_uri: str) -> None:
    with pytest.raises(RepositoryError, match="cannot connect: "):
        async with MongoRepository.connect(mongodb_uri, database="shop", maxPoolSize="many"):
            pass


# What is said to the server


@pytest.fixture
async def careless(
    anyio_backend: str,
    store: str,
    mongodb_uri: str,
    database: str,
    commands: Commands,
    clock: ManualClock,
) -> AsyncIterator[MongoRepository]:
    """A repository whose client was told to read anywhere and not to wait for answers."""
    async with repository_of(
        store,
        mongodb_uri,
        database,
        clock=clock,
        event_listeners=[commands],
        w=0,
        journal=False,
        readPreference="secondaryPreferred",
        readConcernLevel="local",
    ) as made:
        yield made


async def test_writes_wait_for_a_majority_and_its_journals_whatever_the_client_says(
    careless: MongoRepository, commands: Commands
) -> None:
    assert await careless.insert_document(PARCEL, document(wake=NOW, outbox=(outgoing(1),)))
    assert not await careless.insert_document(PARCEL, document())
    assert await careless.claim(PARCEL, "p-1", Lease(owner="me", until=NOW), NOW)
    sent = Bookkeeping(correlation_id="p-1", incarnation="i-1", version=1, sent=("i-1-1",))
    assert await careless.bookkeep(PARCEL, sent)
    assert await careless.update_document(PARCEL, change(record()))
    assert await careless.delete_document(PARCEL, "p-1")
    assert commands.names == ["insert", "insert", "update", "update", "update", "delete"]
    for command in commands.sent:
        assert command["writeConcern"] == {"w": "majority", "j": True}


async def test_reads_see_what_a_majority_has_whatever_the_client_says(
    careless: MongoRepository, commands: Commands
) -> None:
    await load_nothing(careless)
    [found async for found in careless.find_by_state(Parcel, "moving")]
    [found async for found in careless.find_stale(Parcel, timedelta(0))]
    [found async for found in careless.due(PARCEL, NOW, unclaimed=True)]
    await careless.count_by_state(Parcel)
    assert commands.names == ["find", "find", "find", "find", "find", "aggregate"]
    for command in commands.sent:
        assert command["readConcern"] == {"level": "majority"}
        mode = command.get("$readPreference", {"mode": "primary"})["mode"]
        assert mode in {"primary", "primaryPreferred"}  # the latter is how one server is asked


async def load_nothing(repository: MongoRepository) -> None:
    assert await repository.load_document(PARCEL, "p-1", message_id="m-1") is None
    assert await repository.load_document(PARCEL, "p-1", message_id=None) is None


@frozen
class Weighed:
    parcel: str


@frozen
class Weigh:
    parcel: str


class Scales(Saga, correlate_by="parcel"):
    waiting = State()
    done = State(final=True)

    weight: int = 0
    note: str = ""

    @initially.on(Sent).goto(waiting)
    def start(self, event: Sent, ctx: Context) -> None:
        self.weight = event.weight

    @during(waiting).on(Arrived).stay()
    def ask(self, event: Arrived, ctx: Context) -> None:
        ctx.send(Weigh(str(event.parcel)))

    weighed = during(waiting).on(Weighed).goto(done)


async def test_event_costs_one_write_and_one_more_to_remove_what_was_sent(
    careless: MongoRepository, commands: Commands, clock: ManualClock
) -> None:
    bus = MemoryBus()
    bus.subscribe(Weigh, lambda _: None)
    orchestrator = Orchestrator([Scales], careless, clock=clock, bus=bus)

    async def cost(event: object, **given: Any) -> list[str]:
        commands.sent.clear()
        await orchestrator.handle(event, **given)
        return commands.names

    assert await cost(Sent("p")) == ["insert"]
    assert await cost(Arrived("p"), message_id="m-1") == ["update", "update"]
    assert await cost(Arrived("p"), message_id="m-1") == ["find"]
    assert await cost(Arrived("unknown")) == ["find"]
    assert await cost(Weighed("p")) == ["update"]
    assert await cost(Weighed("p")) == ["find"]


async def test_history_and_inbox_are_not_read_to_handle_an_event(
    careless: MongoRepository, commands: Commands, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Scales], careless, clock=clock, hot_sagas=0)
    await orchestrator.handle(Sent("p"))
    commands.sent.clear()
    await orchestrator.handle(Weighed("p"), message_id="m-1")
    (read, write) = commands.sent
    assert "history" not in read["projection"]
    assert read["projection"]["inbox"] == {"$elemMatch": {"$eq": "m-1"}}
    (update,) = write["updates"]
    assert update["q"].keys() == {"_id", "incarnation", "version"}
    assert update.get("upsert", False) is False
    assert update.get("multi", False) is False
    assert not any(path.startswith("data") for path in update["u"]["$set"])


async def test_saga_that_is_not_known_yet_is_read_without_its_history(
    careless: MongoRepository, commands: Commands, clock: ManualClock
) -> None:
    await Orchestrator([Scales], careless, clock=clock).handle(Sent("p"))
    orchestrator = Orchestrator([Scales], careless, clock=clock)
    commands.sent.clear()
    await orchestrator.handle(Weighed("p"))
    (read, _) = commands.sent
    assert read["projection"] == {"history": 0}


async def test_events_make_no_indexes(
    careless: MongoRepository, commands: Commands, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Scales], careless, clock=clock)
    await orchestrator.handle(Sent("p"))
    await orchestrator.run_due()
    assert "createIndexes" not in commands.names


# Indexes


async def test_indexes_are_made_with_their_names_and_filters(
    store: str, mongodb_uri: str, mongodb_client: Client, database: str
) -> None:
    async with repository_of(store, mongodb_uri, database) as repository:
        await repository.create_indexes(Parcel)
        await repository.create_indexes(Parcel)
    made = mongodb_client[database][PARCEL].index_information()
    assert made.keys() == {
        "_id_",
        "sagaflow_wake",
        "sagaflow_state",
        "sagaflow_expire",
    }
    assert made["sagaflow_wake"]["key"] == [("wake", 1)]
    assert made["sagaflow_wake"]["sparse"] is True
    keys = [("state", 1), ("status", 1), ("updated_at", 1)]
    assert made["sagaflow_state"]["key"] == keys
    assert made["sagaflow_expire"]["key"] == [("expire_at", 1)]
    assert made["sagaflow_expire"]["expireAfterSeconds"] == 0
    assert made["sagaflow_expire"]["sparse"] is True


async def test_index_of_another_kind_with_that_name_is_refused(
    store: str, mongodb_uri: str, mongodb_client: Client, database: str
) -> None:
    mongodb_client[database][PARCEL].create_index([("state", -1)], name="sagaflow_wake")
    async with repository_of(store, mongodb_uri, database) as repository:
        with pytest.raises(RepositoryError, match=r"cannot make the indexes of Parcel: .*refused"):
            await repository.create_indexes(Parcel)


# What is too large


@pytest.fixture
async def repository(
    anyio_backend: str, store: str, mongodb_uri: str, database: str, clock: ManualClock
) -> AsyncIterator[MongoRepository]:
    """A repository with each driver."""
    async with repository_of(store, mongodb_uri, database, clock=clock) as made:
        yield made


async def test_document_that_is_too_large_is_refused_with_its_field_and_sizes(
    repository: MongoRepository,
) -> None:
    large = document(data={"weight": 1, "note": "x" * (17 * MEGABYTE)})
    with pytest.raises(SerializationError) as caught:
        await repository.insert_document(PARCEL, large)
    assert caught.value.path == "Parcel.note"
    assert "larger than the 16,777,216 bytes that MongoDB allows" in str(caught.value)
    assert "this part has 17,825,8" in str(caught.value)
    assert await repository.load_document(PARCEL, "p-1", message_id=None) is None


async def test_change_that_makes_a_document_too_large_is_refused_with_its_field(
    repository: MongoRepository,
) -> None:
    before = record(data={"weight": 1, "note": "x" * (9 * MEGABYTE)})
    await stored(repository, encode_record(before))
    grown = plain_change("p-1", 1, **{"data.label": "y" * (9 * MEGABYTE), "data.weight": 2})
    with pytest.raises(SerializationError) as caught:
        await repository.update_document(PARCEL, grown)
    assert caught.value.path == "Parcel.label"
    assert "this part has 9,437,2" in str(caught.value)
    assert await load(repository) == before
    assert await repository.update_document(PARCEL, plain_change("p-1", 1, token="t-2"))


async def test_messages_that_make_a_document_too_large_are_named(
    repository: MongoRepository,
) -> None:
    before = record(data={"weight": 1, "note": "x" * (9 * MEGABYTE)})
    await stored(repository, encode_record(before))
    headers = {"trace": "y" * (9 * MEGABYTE)}
    after = change(before, outbox=(outgoing(1, headers=headers),), sequence=1)
    with pytest.raises(SerializationError) as caught:
        await repository.update_document(PARCEL, after)
    assert caught.value.path == "Parcel outbox"
    assert await load(repository) == before


async def test_event_that_makes_a_saga_too_large_sends_nothing_and_the_saga_goes_on(
    repository: MongoRepository, clock: ManualClock
) -> None:
    bus, sent = MemoryBus(), list[Weigh]()
    bus.subscribe(Weigh, sent.append)
    no_limits = Limits(max_bytes=2**40, warn_bytes=2**40)
    orchestrator = Orchestrator([Hoard], repository, clock=clock, bus=bus, limits=no_limits)
    with pytest.raises(SerializationError) as caught:
        await orchestrator.handle(Grown("p", 17 * MEGABYTE))
    assert caught.value.path == "Hoard.content"
    assert await repository.find(Hoard, "p") is None
    await orchestrator.handle(Grown("p", 1))
    with pytest.raises(SerializationError) as caught:
        await orchestrator.handle(Grown("p", 17 * MEGABYTE))
    assert caught.value.path == "Hoard.content"
    assert [weigh.parcel for weigh in sent] == ["p"]
    outcome = await orchestrator.handle(Grown("p", 2))
    assert (outcome.kind, outcome.version) == (OutcomeKind.STAYED, 2)
    found = await repository.find(Hoard, "p")
    assert found is not None
    assert len(found.saga.content) == 3
    assert len(sent) == 2


@frozen
class Grown:
    parcel: str
    by: int


class Hoard(Saga, correlate_by="parcel"):
    waiting = State()
    done = State(final=True)

    content: str = ""
    weight: int = 0

    @initially.on(Grown).goto(waiting)
    @during(waiting).on(Grown).stay()
    def grow(self, event: Grown, ctx: Context) -> None:
        self.content += "x" * event.by
        self.weight += 1
        ctx.send(Weigh(event.parcel))

    empty = during(waiting).on(Weighed).goto(done)


async def test_value_that_the_driver_cannot_encode_is_refused(repository: MongoRepository) -> None:
    """The codec makes no such value; another user of the port may."""
    for value in ({1}, 2**70, object(), Decimal(1), "\ud800", {5: 1}):
        given = document() | {"data": {"weight": value}}
        with pytest.raises(SerializationError, match=r"store Parcel 'p-1'.*cannot encode"):
            await repository.insert_document(PARCEL, given)
        with pytest.raises(SerializationError, match=r"store Parcel 'p-1'.*cannot encode"):
            await repository.update_document(PARCEL, plain_change("p-1", 1, weight=value))
    assert await repository.count_states(PARCEL) == {}


# A server that is not there


async def test_every_operation_says_that_the_server_is_not_there(
    store: str, clock: ManualClock
) -> None:
    uri = f"mongodb://user:s3cret@{NOWHERE}/"
    async with repository_of(
        store, uri, "shop", clock=clock, serverSelectionTimeoutMS=20
    ) as nowhere:
        note = Bookkeeping(correlation_id="p-1", incarnation="i", version=1, unset=("wake",))
        lease = Lease(owner="me", until=NOW + SECOND)

        async def all_of(found: AsyncIterator[object]) -> None:
            async with closing(found):
                async for _ in found:
                    pass

        operations: list[Callable[[], Awaitable[object]]] = [
            lambda: nowhere.load_document(PARCEL, "p-1", message_id=None),
            lambda: nowhere.insert_document(PARCEL, encode_record(full_record())),
            lambda: nowhere.update_document(PARCEL, change(record())),
            lambda: nowhere.bookkeep(PARCEL, note),
            lambda: nowhere.claim(PARCEL, "p-1", lease, NOW),
            lambda: nowhere.delete_document(PARCEL, "p-1"),
            lambda: nowhere.count_states(PARCEL),
            lambda: nowhere.create_indexes(Parcel),
            nowhere.ping,
            lambda: all_of(nowhere.due(PARCEL, NOW, unclaimed=True)),
            lambda: all_of(nowhere.find_by_state(Parcel, "moving")),
        ]
        said: list[str] = []

        async def attempt(operation: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(ServerUnavailableError, match="no MongoDB server was") as caught:
                await operation()
            said.append(str(caught.value))

        async with anyio.create_task_group() as tasks:
            for operation in operations:
                tasks.start_soon(attempt, operation)
        assert len(said) == len(operations)
        assert "s3cret" not in "".join(said)


async def test_settings_of_the_database_that_is_passed_do_not_count(
    mongodb_client: Client, database: str
) -> None:
    careless = mongodb_client[database].with_options(
        write_concern=WriteConcern(w=0), read_preference=ReadPreference.SECONDARY
    )
    repository = MongoRepository(careless)
    assert await repository.insert_document(PARCEL, document())
    assert not await repository.insert_document(PARCEL, document())
    assert await repository.delete_document(PARCEL, "p-1")
