"""Values of every kind in a real store, with every driver."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from attrs import asdict, field, frozen
from bson import ObjectId

from sagaflow import (
    Context,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaRepository,
    SerializationError,
    State,
    compensates,
    during,
    initially,
)
from sagaflow._forms.forms import form_of
from sagaflow.testing import ManualClock
from tests.codec.test_values import assert_same
from tests.codec.types import (
    A_UUID,
    AN_OBJECT_ID,
    DECLARED,
    DOCUMENTS,
    DYNAMIC,
    EAST,
    INSTANT,
    TEXTS,
    Colour,
    Level,
    Line,
    Mode,
    Place,
    Right,
    Stop,
)
from tests.contract.records import PARCEL, document, load, plain_change, store

pytestmark = pytest.mark.anyio


@frozen(kw_only=True)
class Everything:
    """One field of every kind."""

    key: str
    texts: list[str] = field(factory=lambda: list(TEXTS))
    documents: list[dict[str, Any]] = field(factory=lambda: list(DOCUMENTS))
    anything: object = field(factory=lambda: list(DYNAMIC))
    number: int = 2**40
    ratio: float = 0.1
    flag: bool = True
    content: bytes = b"\0\xff"
    total: Decimal = Decimal("1E+400")
    at: datetime = INSTANT
    day: date = date(2026, 1, 2)
    hour: time = time(1, 2, 3, 4)
    span: timedelta = timedelta(days=-1, microseconds=1)
    identity: UUID = A_UUID
    reference: ObjectId = AN_OBJECT_ID
    colour: Colour = Colour.BLUE
    place: Place = Place.THERE
    mode: Mode = Mode.FAST
    level: Level = Level.HIGH
    right: Right = Right.READ | Right.WRITE
    line: Line = field(factory=lambda: Line("$tea", Decimal("1.10"), ("a.b",)))
    stop: Stop | None = field(factory=lambda: Stop("here", INSTANT))
    nothing: Line | None = None
    amount: int | Decimal = Decimal("1.0")
    when: datetime | date = date(2026, 1, 2)
    mixed: list[Line | Stop | int] = field(factory=lambda: [Stop("a"), 1, Line("b")])
    colours: frozenset[Colour] = frozenset(Colour)
    pairs: tuple[tuple[int, str], ...] = ((1, "a"), (2, "$b"))
    by_number: dict[int, Line] = field(factory=lambda: {2**40: Line("a")})
    by_identity: dict[UUID, Decimal] = field(factory=lambda: {A_UUID: Decimal("0.10")})
    by_colour: dict[Colour, str] = field(factory=lambda: {Colour.BLUE: "$blue"})


@frozen
class Stored:
    content: Everything


@frozen
class Dropped:
    key: str


@frozen
class Keep:
    content: Everything


undone: list[tuple[Everything, object]] = []


class Archive(Saga):
    kept = State()
    gone = State(final=True)

    content: Everything | None = None
    anything: object = None
    lookup: dict[str, Any] = field(factory=dict[str, Any])

    @initially.on(Stored, by=lambda event: event.content.key).goto(kept)
    def keep(self, event: Stored, ctx: Context) -> None:
        self.content = event.content
        self.anything = DYNAMIC
        self.lookup = DOCUMENTS[3]
        ctx.add_compensation(self.forget, DYNAMIC)
        ctx.send(Keep(event.content))

    def forget(self, anything: object, ctx: Context) -> None:
        assert self.content is not None
        undone.append((self.content, anything))

    @compensates(keep)
    def release(self, event: Stored, ctx: Context) -> None:
        undone.append((event.content, None))

    drop = during(kept).on(Dropped, by="key").compensate().goto(gone)


@pytest.fixture(autouse=True)
def _nothing_undone() -> None:
    undone.clear()


async def test_every_declared_value_survives_the_store(repository: SagaRepository) -> None:
    data = {
        f"v{n}": form_of(declared).encode(value) for n, (declared, value) in enumerate(DECLARED)
    }

    async def check() -> None:
        found = (await load(repository)).data
        assert found.keys() == data.keys()
        for number, (declared, value) in enumerate(DECLARED):
            decode = form_of(declared).decode
            assert_same(decode(found[f"v{number}"]), value)

    await store(repository, document(data=data))
    await check()
    await repository.delete_document(PARCEL, "p-1")
    await store(repository, document(data=dict.fromkeys(data)))
    changed = {f"data.{name}": value for name, value in data.items()}
    assert await repository.update_document(PARCEL, plain_change("p-1", 1, **changed))
    await check()


async def test_saga_its_messages_and_its_compensations_survive_the_store(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Each step by an orchestrator of its own: nothing is left but what is stored."""
    wanted = Everything(key="$o.1")

    def fresh(bus: MemoryBus | None = None) -> Orchestrator:
        return Orchestrator([Archive], repository, clock=clock, bus=bus)

    await fresh().handle(Stored(wanted))
    found = await fresh().find(Archive, "$o.1")
    assert found is not None
    assert found.saga == Archive(content=wanted, anything=DYNAMIC, lookup=DOCUMENTS[3])
    assert_same_fields(found.saga.content, wanted)

    bus, sent = MemoryBus(), list[Keep]()
    bus.subscribe(Keep, sent.append)
    await fresh(bus).run_due()
    assert sent == [Keep(wanted)]
    assert_same_fields(sent[0].content, wanted)

    outcome = await fresh().handle(Dropped("$o.1"))
    assert outcome.kind is OutcomeKind.TRANSITIONED
    assert undone == [(wanted, DYNAMIC), (wanted, None)]


def assert_same_fields(found: Everything | None, wanted: Everything) -> None:
    assert found is not None
    for name, value in asdict(wanted, recurse=False).items():
        assert_same(getattr(found, name), value)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (Everything(key="x", number=2**63), "Archive.content.number"),
        (Everything(key="x", texts=["fine", "\ud800"]), "Archive.content.texts[1]"),
        (Everything(key="x", anything={"a": [{1}]}), "Archive.content.anything['a'][0]"),
        (Everything(key="x", at=datetime(2026, 1, 1)), "Archive.content.at"),  # noqa: DTZ001
        (Everything(key="x", stop=Stop("a", datetime(2026, 1, 1))), "Archive.content.stop.at"),  # noqa: DTZ001
        (Everything(key="x", by_number={1: 5}), "Archive.content.by_number[1]"),  # type: ignore[dict-item]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_saga_with_a_value_that_cannot_be_stored_is_not_stored(
    content: Everything, path: str, clock: ManualClock
) -> None:
    repository = MemoryRepository(clock=clock)
    orchestrator = Orchestrator([Archive], repository, clock=clock)
    with pytest.raises(SerializationError, match="cannot be stored") as caught:
        await orchestrator.handle(Stored(content))
    assert caught.value.path == path
    assert await repository.count_states("Archive") == {}


async def test_naive_and_foreign_instants_do_not_mix(repository: SagaRepository) -> None:
    """What goes in with any zone comes out in UTC, with every driver."""
    local = datetime(2026, 1, 1, 5, 30, 0, 1_999, tzinfo=EAST)
    await store(repository, document(data={"at": form_of(datetime).encode(local)}))
    found = (await load(repository)).data["at"]
    assert found == datetime(2026, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC)
