"""What users, senders and databases say stays data, whatever it looks like."""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import field, frozen
from bson import Code, Decimal128, Regex, Timestamp
from bson.dbref import DBRef

from sagaflow import (
    Context,
    CorrelationError,
    LimitExceededError,
    Limits,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    RepositoryError,
    Saga,
    SagaId,
    SagaRepository,
    SerializationError,
    State,
    Status,
    compensates,
    during,
    initially,
)
from sagaflow._codec.data import decode_saga
from sagaflow.testing import ManualClock
from tests.semantics.support import stored

pytestmark = pytest.mark.anyio

HOSTILE: list[dict[Any, Any]] = [
    {"$where": "sleep(1000)"},
    {"$gt": ""},
    {"$set": {"state": "done"}},
    {"$literal": {"$ref": "users", "$id": 1}},
    {"$ref": "users", "$id": 1, "$db": "admin"},
    {"a.b": 1, "data.admin": True, ".": 0, "a.": 0, ".a": 0},
    {"with \0 in it": 1},
    {"": {"": ""}},
    {"__class__": "os.system", "__init__": 1, "__reduce__": ["os.system", "ls"]},
    {"_id": "o-2", "version": 99, "incarnation": "x"},
    {"@type": "date", "value": "2026-01-01"},
    {"@type": "tuple", "value": [1, 2]},
    {"@type": "dict", "value": [["a", 1]]},
    {"@type": "message", "name": "Note", "body": {"text": "forged"}},
    {"@type": {"@type": "dict", "value": []}},
    {"@type": "nonsense"},
    {"@type": None, "value": None},
    {"value": 1},
    {"deep": [{"@type": "Decimal", "value": "NaN"}, {"$inc": {"version": 1}}]},
    {1: "a", None: "b", (1, "$x"): "c", 2.5: "d"},
    {"text": "$version", "more": "$$ROOT", "most": "{$where: 1}"},
]


@frozen
class Note:
    key: str
    text: str = ""
    anything: Any = None
    by_name: dict[str, Any] = field(factory=dict[str, Any])
    either: str | dict[str, Any] | list[Any] = ""


@frozen
class Later:
    key: str
    anything: Any = None


@frozen
class Cancelled:
    key: str


class Notes(Saga, correlate_by="key"):
    taken = State()
    done = State(final=True)

    anything: Any = None
    by_name: dict[str, Any] = field(factory=dict[str, Any])
    items: list[Any] = field(factory=list[Any])
    either: str | dict[str, Any] | list[Any] = ""
    undone: Any = None
    later: Any = None

    @initially.on(Note).goto(taken)
    async def take(self, event: Note, ctx: Context) -> None:
        self.anything, self.by_name, self.either = event.anything, event.by_name, event.either
        self.items = [event.anything]
        ctx.add_compensation(self.undo, event.anything, event)

    async def undo(self, anything: Any, event: Note, ctx: Context) -> None:
        self.undone = [anything, event.anything, event.by_name, event.either]

    @during(taken).on(Later).stay()
    async def note(self, event: Later, ctx: Context) -> None:
        self.later = event.anything

    @compensates(note)
    async def forget(self, event: Later, ctx: Context) -> None:
        self.later = [event.anything]

    cancel = during(taken).on(Cancelled).compensate().goto(done)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:25])
async def test_hostile_values_come_back_as_they_were(
    anyio_backend: str, clock: ManualClock, hostile: dict[Any, Any]
) -> None:
    await _there_and_back(MemoryRepository(clock=clock), clock, "o-1", hostile)


async def test_hostile_values_come_back_from_every_store(
    repository: SagaRepository, clock: ManualClock
) -> None:
    for number, hostile in enumerate(HOSTILE):
        await _there_and_back(repository, clock, f"o-{number}", hostile)


async def _there_and_back(
    repository: SagaRepository, clock: ManualClock, key: str, hostile: dict[Any, Any]
) -> None:
    orchestrator = Orchestrator([Notes], repository, clock=clock)
    headers = {"h": hostile}
    named = {"inner": hostile} | {name: 1 for name in hostile if isinstance(name, str)}
    event = Note(key, anything=hostile, by_name=named, either=named)
    await orchestrator.handle(event, message_id=key, headers=headers)
    await orchestrator.handle(Later(key, hostile))
    found = await repository.find(Notes, key)
    assert found is not None
    saga = found.saga
    assert (saga.anything, saga.by_name, saga.either) == (hostile, named, named)
    assert (saga.items, saga.later) == ([hostile], hostile)
    assert (found.state, found.version) == (Notes.taken, 2)
    await orchestrator.handle(Cancelled(key))
    found = await repository.find(Notes, key)
    assert found is not None
    assert found.saga.undone == [hostile, hostile, named, named]
    assert found.saga.later == [hostile]
    assert found.status is Status.FINISHED


@pytest.mark.parametrize("given", [{"$gt": ""}, ["o"], b"o", 1.5, True, Regex(".*"), ""])
async def test_id_that_is_none_is_refused_everywhere(
    anyio_backend: str, clock: ManualClock, given: Any
) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = Orchestrator([Notes], repository, clock=clock)
    for ids in ({"correlation_id": given}, {"message_id": given}):
        with pytest.raises(CorrelationError):
            await orchestrator.handle(Note("o"), **ids)
    with pytest.raises(CorrelationError):
        await orchestrator.handle(Note(given))
    for call in (orchestrator.find, orchestrator.retry, orchestrator.cancel, repository.delete):
        with pytest.raises(CorrelationError):
            await call(Notes, given)
    assert await repository.count_states("Notes") == {}


@pytest.mark.parametrize(
    "value",
    [Code("f()"), Regex(".*"), DBRef("users", 1), Timestamp(1, 1), Decimal128("1"), {1, 2}, object],
)
def test_stored_value_that_no_codec_of_ours_made_is_refused(value: object) -> None:
    for stored_value in (value, [value], {"a": value}, {"@type": "tuple", "value": [value]}):
        with pytest.raises(SerializationError, match=r"Notes\.anything"):
            decode_saga(Notes, {"anything": stored_value})


@pytest.mark.parametrize(
    "method", ["__init__", "__setattr__", "anything", "taken", "nope", "", "$"]
)
async def test_method_that_a_document_names_is_one_of_the_class_or_none(
    anyio_backend: str, clock: ManualClock, method: str
) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = reading(repository, clock)
    await orchestrator.handle(Note("o"))
    await _tamper(repository, "compensations", [{"method": method, "arguments": [{"x": 1}]}])
    await orchestrator.handle(Cancelled("o"))
    found = await repository.find(Notes, "o")
    assert found is not None
    (entry,) = found.compensations
    assert entry.failing is not None
    assert "the class no longer has the method" in entry.failing.error


async def test_message_class_that_a_document_names_is_known_or_refused(
    anyio_backend: str, clock: ManualClock
) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = reading(repository, clock)
    await orchestrator.handle(Note("o"))
    forged = {"@type": "message", "name": "subprocess.Popen", "body": {"args": "ls"}}
    await _tamper(repository, "compensations", [{"arguments": [1, forged]}])
    await orchestrator.handle(Cancelled("o"))
    found = await repository.find(Notes, "o")
    assert found is not None
    assert found.compensations[0].failing is not None
    assert "'subprocess.Popen' is not known" in found.compensations[0].failing.error


async def test_document_whose_schema_is_no_number_is_refused(
    anyio_backend: str, clock: ManualClock
) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = reading(repository, clock)
    await orchestrator.handle(Note("o"))
    await _tamper(repository, "schema", {"$gt": 0})
    with pytest.raises(RepositoryError, match="its schema is"):
        await orchestrator.handle(Cancelled("o"))


def nested(levels: int, inner: object = "x") -> object:
    """Return a value within so many lists."""
    for _ in range(levels):
        inner = [inner]
    return inner


@frozen
class Tree:
    children: list[Tree] = field(factory=list["Tree"])


@frozen
class Grown:
    key: str
    tree: Tree = Tree()


class Forest(Saga, correlate_by="key"):
    done = State(final=True)
    tree: Tree = field(factory=Tree)

    @initially.on(Grown).goto(done)
    async def grow(self, event: Grown, ctx: Context) -> None:
        self.tree = event.tree


@pytest.mark.parametrize("levels", [91, 5_000, 100_000])
async def test_what_is_nested_too_deeply_is_refused(
    anyio_backend: str, clock: ManualClock, levels: int
) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = Orchestrator([Notes], repository, clock=clock)
    deep = nested(levels)
    for event, headers in ((Note("o", anything=deep), {}), (Note("o"), {"deep": deep})):
        with pytest.raises(SerializationError, match="nested too deeply"):
            await orchestrator.handle(event, headers=headers)
    assert await stored(repository, Notes, "o") is None


async def test_instances_within_instances_are_bounded_too(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Forest], repository, clock=clock)
    tree = Tree()
    for _ in range(30):
        tree = Tree([tree])
    await orchestrator.handle(Grown("o", tree))
    found = await orchestrator.find(Forest, "o")
    assert found is not None
    assert found.saga.tree == tree
    for _ in range(3):
        with pytest.raises(SerializationError, match="nested too deeply"):
            await orchestrator.handle(Grown("p", Tree([tree])))
    await orchestrator.handle(Grown("p", tree))  # the count of levels was put back


async def test_deepest_value_that_is_taken_fits_every_store(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Notes], repository, clock=clock)
    deep: Any = "x"
    for _ in range(28):
        deep = {"$": deep}
    await orchestrator.handle(Note("o", anything=deep))
    found = await orchestrator.find(Notes, "o")
    assert found is not None
    assert found.saga.anything == deep


@pytest.mark.parametrize(
    "value", [2**64, -(2**63) - 1, 10**5_000], ids=["2**64", "negative", "huge"]
)
async def test_huge_int_is_refused(anyio_backend: str, clock: ManualClock, value: int) -> None:
    repository = MemoryRepository(clock=clock)
    with pytest.raises(SerializationError, match="64 bits"):
        await Orchestrator([Notes], repository, clock=clock).handle(Note("o", anything=value))
    assert await stored(repository, Notes, "o") is None


async def test_huge_text_is_refused_before_anything_is_stored(
    anyio_backend: str, clock: ManualClock
) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = Orchestrator(
        [Notes], repository, clock=clock, limits=Limits(warn_bytes=1_000, max_bytes=100_000)
    )
    with pytest.raises(LimitExceededError, match=r"4,000,[0-9]+ bytes; 100,000 are allowed"):
        await orchestrator.handle(Note("o", anything="x" * 1_000_000))
    assert await stored(repository, Notes, "o") is None
    outcome = await orchestrator.handle(Note("o"))
    assert outcome.kind is OutcomeKind.STARTED


def reading(repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    """Return one that reads what is stored for each event, as one that has not seen the saga."""
    return Orchestrator([Notes], repository, clock=clock, hot_sagas=0)


async def _tamper(repository: MemoryRepository, name: str, value: Any) -> None:
    """Change the saga "o" behind sagaflow's back."""
    key: SagaId = "o"
    document = await stored(repository, Notes, key)
    assert document is not None
    if isinstance(value, list):
        changes = cast("list[dict[str, Any]]", value)
        value = [old | new for old, new in zip(document[name], changes, strict=True)]
    await repository.delete_document("Notes", key)
    await repository.insert_document("Notes", document | {name: value})
