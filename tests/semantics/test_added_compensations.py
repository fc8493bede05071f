"""ctx.add_compensation(): how to undo what only the handler knows."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from attrs import define, field, frozen
from bson import ObjectId

from sagaflow import (
    CompensationStatus,
    Context,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaDefinitionError,
    SagaRepository,
    SerializationError,
    State,
    Status,
    compensates,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.naming import named
from tests.semantics.support import Crash, DiesAfterUpdate, RecordingBus, stored

pytestmark = pytest.mark.anyio


@frozen
class Invited:
    party: str


@frozen
class Rained:
    party: str


@frozen
class Uninvite:
    guest: object


@define
class Wish:
    """What the handlers of these tests add; nothing that is stored."""

    add: Callable[[Party, Context], None] = lambda party, ctx: None


wish = Wish()
told_of: list[object] = []


class Party(Saga, correlate_by="party"):
    planned = State()
    cancelled = State(final=True)

    undone: list[object] = field(factory=list[object])

    @initially.on(Invited).goto(planned)
    async def invite(self, event: Invited, ctx: Context) -> None:
        wish.add(self, ctx)

    @compensates(invite)
    async def apologise(self, event: Invited, ctx: Context) -> None:
        self.undone.append("apologised")

    def uninvite(self, guest: object, ctx: Context) -> None:
        self.undone.append(guest)
        ctx.send(Uninvite(guest))

    async def uninvite_all(self, first: object, second: object, ctx: Context) -> None:
        told_of[:] = [first, second]
        self.undone.append(None if type(first).__name__ == "Guest" else [first, second])

    @classmethod
    def of_class(cls, guest: object, ctx: Context) -> None: ...

    @staticmethod
    def of_nobody(saga: object, guest: object, ctx: Context) -> None: ...

    rain = during(planned).on(Rained).compensate().goto(cancelled)


class Other(Saga):
    def uninvite(self, guest: object, ctx: Context) -> None: ...

    def elsewhere(self, guest: object, ctx: Context) -> None: ...


def uninvite(party: Party, guest: object, ctx: Context) -> None:
    """Has the name of a method of the saga, but is none."""


UNNAMED: Callable[[Party, Context], None] = lambda party, ctx: None  # noqa: E731


async def undone(repository: SagaRepository) -> list[object]:
    """Return what the compensations were called with."""
    instance = await repository.find(Party, "p")
    assert instance is not None
    return instance.saga.undone


VALUES: list[object] = [
    None,
    True,
    7,
    2**62,
    1.5,
    "guest",
    "$where.it",
    b"\x00\xff",
    Decimal("9.50"),
    date(2026, 2, 28),
    time(23, 59, 1),
    timedelta(days=-1, microseconds=1),
    datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    UUID(int=9),
    ObjectId("0123456789abcdef01234567"),
    (1, ("two", Decimal(3))),
    [],
    [1, [2, (3,)]],
    {},
    {"$set": {"a.b": (1, 2)}, "@type": "date"},
]


@pytest.mark.parametrize("value", VALUES, ids=named)
async def test_argument_comes_back_as_it_was(
    value: object, clock: ManualClock, memory: SagaRepository
) -> None:
    wish.add = lambda party, ctx: ctx.add_compensation(party.uninvite, value)
    orchestrator = Orchestrator([Party], memory, clock=clock)
    await orchestrator.handle(Invited("p"))
    await orchestrator.handle(Rained("p"))
    (found, _) = await undone(memory)
    assert found == value
    assert type(found) is type(value)


async def test_all_arguments_survive_a_restart(
    repository: SagaRepository, clock: ManualClock
) -> None:
    wish.add = lambda party, ctx: ctx.add_compensation(party.uninvite_all, VALUES, tuple(VALUES))
    await Orchestrator([Party], repository, clock=clock).handle(Invited("p"))
    await Orchestrator([Party], repository, clock=clock).handle(Rained("p"))
    assert await undone(repository) == [[VALUES, tuple(VALUES)], "apologised"]


@frozen
class Guest:
    name: str
    paid: Decimal


async def test_message_may_be_an_argument(repository: SagaRepository, clock: ManualClock) -> None:
    lookalike: object = {"@type": "message", "name": "Guest", "body": {}}
    guest = Guest("Ada", Decimal("9.50"))
    wish.add = lambda party, ctx: ctx.add_compensation(party.uninvite_all, guest, lookalike)
    await Orchestrator([Party], repository, clock=clock).handle(Invited("p"))
    wish.add = lambda party, ctx: None
    # Its class is not mentioned by the saga's own code, so a new process has to be told.
    stranger = Orchestrator([Party], repository, clock=clock)
    assert (await stranger.handle(Rained("p"))).kind is OutcomeKind.COMPENSATING
    instance = await stranger.find(Party, "p")
    assert instance is not None
    failing = instance.compensations[1].failing
    assert failing is not None
    assert "Party: compensation of invite: the message class 'Guest' is not known" in failing.error
    clock.advance(timedelta(seconds=1))
    told = Orchestrator([Party], repository, clock=clock, messages=[Guest])
    assert await told.run_due() == 1
    instance = await told.find(Party, "p")
    assert instance is not None
    assert instance.state == Party.cancelled
    assert told_of == [guest, lookalike]


async def test_added_compensations_run_before_the_declared_one_last_first(
    repository: SagaRepository, clock: ManualClock
) -> None:
    def add(party: Party, ctx: Context) -> None:
        ctx.add_compensation(party.uninvite, "Ada")
        ctx.add_compensation(Party.uninvite, "Ben")  # as a function of the class
        ctx.add_compensation(party.uninvite_all, "Cleo", "Dan")

    wish.add = add
    bus = RecordingBus()
    orchestrator = Orchestrator([Party], repository, clock=clock, bus=bus)
    await orchestrator.handle(Invited("p"), message_id="m-1")
    instance = await orchestrator.find(Party, "p")
    assert instance is not None
    assert [(c.step, c.method, c.message_id) for c in instance.compensations] == [
        ("invite", "apologise", "m-1"),
        ("invite", "uninvite", "m-1"),
        ("invite", "uninvite", "m-1"),
        ("invite", "uninvite_all", "m-1"),
    ]
    outcome = await orchestrator.handle(Rained("p"))
    assert outcome.kind is OutcomeKind.TRANSITIONED
    assert await undone(repository) == [["Cleo", "Dan"], "Ben", "Ada", "apologised"]
    assert bus.bodies == [Uninvite("Ben"), Uninvite("Ada")]


async def test_added_compensations_are_continued_after_a_crash(
    repository: SagaRepository, clock: ManualClock
) -> None:
    def add(party: Party, ctx: Context) -> None:
        for guest in range(3):
            ctx.add_compensation(party.uninvite, guest)

    wish.add = add
    await Orchestrator([Party], repository, clock=clock).handle(Invited("p"))
    with pytest.raises(Crash):
        await Orchestrator([Party], DiesAfterUpdate(repository, 2), clock=clock).handle(Rained("p"))
    assert await undone(repository) == [2]
    assert await Orchestrator([Party], repository, clock=clock).run_due() == 1
    assert await undone(repository) == [2, 1, 0, "apologised"]


async def test_compensation_of_a_compensating_transition_is_undone_with_the_rest(
    clock: ManualClock, memory: SagaRepository
) -> None:
    class Shy(Saga, correlate_by="party"):
        planned = State()
        cancelled = State(final=True)

        undone: list[str] = field(factory=list[str])

        plan = initially.on(Invited).goto(planned)

        @during(planned).on(Rained).compensate().goto(cancelled)
        def rain(self, event: Rained, ctx: Context) -> None:
            ctx.add_compensation(self.dry, "garden")

        def dry(self, place: str, ctx: Context) -> None:
            self.undone.append(place)

    orchestrator = Orchestrator([Shy], memory, clock=clock)
    await orchestrator.handle(Invited("p"))
    await orchestrator.handle(Rained("p"))
    instance = await orchestrator.find(Shy, "p")
    assert instance is not None
    assert (instance.saga.undone, instance.status) == (["garden"], Status.FINISHED)


async def test_start_that_asks_for_compensation_at_once_is_undone(
    repository: SagaRepository, clock: ManualClock
) -> None:
    def add(party: Party, ctx: Context) -> None:
        ctx.add_compensation(party.uninvite, "Ada")
        ctx.compensate()

    wish.add = add
    orchestrator = Orchestrator([Party], repository, clock=clock)
    outcome = await orchestrator.handle(Invited("p"))
    assert (outcome.kind, outcome.state) == (OutcomeKind.STARTED, Party.planned)
    instance = await orchestrator.find(Party, "p")
    assert instance is not None
    assert (instance.status, instance.saga.undone) == (Status.ACTIVE, ["Ada", "apologised"])
    assert {entry.status for entry in instance.compensations} == {CompensationStatus.DONE}


def adding(method: object, *args: object) -> Callable[[Party, Context], None]:
    """Return a wish for a compensation, which may depend on the saga itself."""

    def add(party: Party, ctx: Context) -> None:
        found: Any = method(party) if isinstance(method, OfSaga) else method
        ctx.add_compensation(found, *args)

    return add


@frozen
class OfSaga:
    """A method that is looked up on the saga which is handled."""

    name: str

    def __call__(self, party: Party) -> object:
        return getattr(party, self.name)


@pytest.mark.parametrize(
    ("method", "args", "says"),
    [
        (OfSaga("uninvite"), (), "missing a required argument: 'ctx'"),
        (OfSaga("uninvite"), (1, 2), "too many positional arguments"),
        (OfSaga("uninvite_all"), (1,), "missing a required argument: 'ctx'"),
        (Other().elsewhere, (1,), "takes a method of Party, not"),
        (Other().uninvite, (1,), "takes a method of Party, not"),
        (Other.uninvite, (1,), "takes a method of Party, not"),
        (uninvite, (1,), "takes a method of Party, not"),
        (Party().uninvite, (1,), "a method of this saga, not of another instance: self.uninvite"),
        (UNNAMED, (), "takes a method of Party, not"),
        (OfSaga("of_class"), (1,), "takes a method of"),
        (Party.of_nobody, (1,), "takes a method of Party, not"),
        (print, ("x",), "takes a method of Party, not"),
        ("uninvite", (1,), "takes a method of Party, not 'uninvite'"),
        (None, (), "takes a method of Party, not None"),
    ],
)
async def test_what_cannot_be_called_later_is_refused_when_it_is_registered(
    method: object, args: tuple[object, ...], says: str, clock: ManualClock, memory: SagaRepository
) -> None:
    wish.add = adding(method, *args)
    bus = RecordingBus()
    orchestrator = Orchestrator([Party], memory, clock=clock, bus=bus)
    with pytest.raises(SagaDefinitionError) as caught:
        await orchestrator.handle(Invited("p"))
    assert caught.value.saga == "Party"
    assert "ctx.add_compensation()" in str(caught.value)
    assert says in str(caught.value)
    assert "invite" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert await memory.count_states("Party") == {}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "a value of type object cannot be stored"),
        ([1, object()], "a value of type object cannot be stored"),
        ({1, 2}, "a value of type set cannot be stored"),
        (2**64, "needs more than 64 bits"),
        (datetime(2026, 1, 1), "has no time zone"),  # noqa: DTZ001
        (Status.ACTIVE, "cannot be read back without a declared type"),
        ("\udc00", "is not valid Unicode"),
    ],
    ids=named,
)
async def test_argument_that_cannot_be_stored_is_refused_when_it_is_registered(
    value: object, says: str, repository: SagaRepository, clock: ManualClock
) -> None:
    wish.add = lambda party, ctx: ctx.add_compensation(party.uninvite_all, "fine", value)
    orchestrator = Orchestrator([Party], repository, clock=clock)
    with pytest.raises(SerializationError, match=says) as caught:
        await orchestrator.handle(Invited("p"))
    assert caught.value.path.startswith("Party: ctx.add_compensation(uninvite_all), argument 2")
    assert "invite" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert await stored(repository, Party, "p") is None


async def test_argument_is_stored_as_it_was_when_it_was_registered(
    clock: ManualClock, memory: SagaRepository
) -> None:
    def add(party: Party, ctx: Context) -> None:
        guests = ["Ada"]
        ctx.add_compensation(party.uninvite, guests)
        guests.append("Ben")

    wish.add = add
    orchestrator = Orchestrator([Party], memory, clock=clock)
    await orchestrator.handle(Invited("p"))
    await orchestrator.handle(Rained("p"))
    assert await undone(memory) == [["Ada"], "apologised"]


async def test_method_of_a_base_class_is_looked_up_in_the_class_of_the_saga(
    clock: ManualClock, memory: SagaRepository
) -> None:
    class LoudParty(Party):
        def uninvite(self, guest: object, ctx: Context) -> None:
            self.undone.append(f"{guest}!")

    wish.add = lambda party, ctx: ctx.add_compensation(Party.uninvite, "Ada")
    orchestrator = Orchestrator([LoudParty], memory, clock=clock)
    await orchestrator.handle(Invited("p"))
    await orchestrator.handle(Rained("p"))
    instance = await orchestrator.find(LoudParty, "p")
    assert instance is not None
    assert instance.saga.undone == ["Ada!", "apologised"]
