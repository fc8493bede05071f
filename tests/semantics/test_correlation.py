"""Which saga an event is for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from attrs import frozen
from bson import ObjectId

from sagaflow import (
    Context,
    CorrelationError,
    MemoryBus,
    Orchestrator,
    OutcomeKind,
    Saga,
    SagaflowError,
    SagaId,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow.testing import ManualClock
from tests.semantics.support import stored

pytestmark = pytest.mark.anyio


@frozen
class Asked:
    """Names every place where an id may be found."""

    own: SagaId | None = None
    usual: SagaId | None = None
    correlation_id: SagaId | None = None


@frozen
class Answered:
    usual: SagaId | None = None
    correlation_id: SagaId | None = None


@frozen
class Withdrawn:
    """Says nowhere which saga it is for."""


def from_answer(event: Answered) -> SagaId | None:
    if event.usual == "broken":
        raise ZeroDivisionError("no answer")
    return event.usual


class Question(Saga, correlate_by="usual"):
    asked = State()
    closed = State(final=True)

    @initially.on(Asked, by="own").goto(asked)
    async def ask(self, event: Asked, ctx: Context) -> None: ...

    answer = during(asked).on(Answered, by=from_answer).goto(closed)
    withdraw = during(asked).on(Withdrawn).goto(closed)


async def test_event_without_id_is_uncorrelated_and_stores_nothing(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    orchestrator = Orchestrator([Question], repository, clock=clock)
    outcome = await orchestrator.handle(Asked(), message_id="m-1")
    assert outcome.kind is OutcomeKind.UNCORRELATED
    assert outcome.saga_type is Question
    assert (outcome.correlation_id, outcome.state, outcome.version) == (None, None, 0)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("sagaflow.delivery", "WARNING")
    assert "Question" in record.message
    assert "Asked" in record.message
    assert "correlation_id=" in record.message
    assert await repository.count_states("Question") == {}


@pytest.mark.parametrize(
    ("event", "given", "found"),
    [
        (Asked("own", "usual", "attribute"), "argument", "argument"),
        (Asked("own", "usual", "attribute"), None, "own"),
        (Asked(None, "usual", "attribute"), None, "usual"),
        (Asked(None, None, "attribute"), None, "attribute"),
    ],
)
async def test_order_of_the_places_where_an_id_is_looked_for(
    event: Asked, given: SagaId | None, found: SagaId, clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Question], memory, clock=clock)
    outcome = await orchestrator.handle(event, correlation_id=given)
    assert (outcome.kind, outcome.correlation_id) == (OutcomeKind.STARTED, found)
    assert await orchestrator.find(Question, found) is not None


@pytest.mark.parametrize(
    ("event", "kinds"),
    [
        (Asked(), []),
        (Answered(), []),
        (Withdrawn(), [Question.closed]),
    ],
    ids=["its places are empty", "by= says None", "it has no place"],
)
async def test_event_from_the_bus_is_for_its_senders_saga_only_if_it_has_no_place_for_an_id(
    event: object, kinds: list[State], repository: SagaRepository, clock: ManualClock
) -> None:
    """Whoever sends it on behalf of one saga does not make it an event of that saga."""
    bus = MemoryBus()
    async with Orchestrator(
        [Question], repository, clock=clock, bus=bus, background=False
    ) as orchestrator:
        await orchestrator.handle(Asked("sender"))
        await bus.publish(event, correlation_id="sender")
        found = await orchestrator.find(Question, "sender")
        assert found is not None
        assert found.state == (kinds[0] if kinds else Question.asked)
        assert found.version == 1 + len(kinds)
        assert await repository.count_states("Question") == {found.state.name: 1}


async def test_by_callable_is_asked(clock: ManualClock, memory: SagaRepository) -> None:
    orchestrator = Orchestrator([Question], memory, clock=clock)
    await orchestrator.handle(Asked("q"))
    outcome = await orchestrator.handle(Answered(usual="q", correlation_id="x"))
    assert (outcome.kind, outcome.correlation_id) == (OutcomeKind.TRANSITIONED, "q")


async def test_by_callable_that_raises_reaches_the_caller(
    clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Question], memory, clock=clock)
    with pytest.raises(
        SagaflowError, match="by= callable of Answered raised ZeroDivisionError"
    ) as e:
        await orchestrator.handle(Answered(usual="broken"))
    assert isinstance(e.value.__cause__, ZeroDivisionError)


async def test_correlate_by_may_be_a_callable(clock: ManualClock, memory: SagaRepository) -> None:
    class Poll(Saga, correlate_by=lambda event: f"poll-{event.usual}"):
        asked = State()
        closed = State(final=True)
        start = initially.on(Asked).goto(asked)
        finish = during(asked).on(Answered).goto(closed)

    orchestrator = Orchestrator([Poll], memory, clock=clock)
    assert (await orchestrator.handle(Asked(usual="1"))).correlation_id == "poll-1"
    assert (await orchestrator.handle(Answered(usual="1"))).kind is OutcomeKind.TRANSITIONED


async def test_id_of_the_envelope_is_the_last_resort(
    clock: ManualClock, memory: SagaRepository
) -> None:
    bus = MemoryBus()
    async with Orchestrator([Question], memory, clock=clock, bus=bus) as orchestrator:
        await bus.publish(Asked(correlation_id="attribute"), correlation_id="envelope")
        assert await orchestrator.find(Question, "attribute") is not None
        assert await orchestrator.find(Question, "envelope") is None
        await bus.publish(Asked(), correlation_id="envelope")  # has places, and says nothing there
        assert await orchestrator.find(Question, "envelope") is None
        await orchestrator.handle(Asked("envelope"))
        await bus.publish(Withdrawn(), correlation_id="envelope")  # has none
        found = await orchestrator.find(Question, "envelope")
        assert found is not None
        assert found.state == Question.closed


async def test_event_from_the_bus_without_any_id_is_dropped_with_a_warning(
    clock: ManualClock, memory: SagaRepository, caplog: pytest.LogCaptureFixture
) -> None:
    bus = MemoryBus()
    async with Orchestrator([Question], memory, clock=clock, bus=bus):
        await bus.publish(Withdrawn())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert await memory.count_states("Question") == {}


@pytest.mark.parametrize(
    "refused", [{"$ne": None}, ["q"], ("q",), 1.5, b"q", True, "", 2**63, object(), "\udc00"]
)
async def test_what_is_no_id_is_refused(
    refused: Any, clock: ManualClock, memory: SagaRepository
) -> None:
    orchestrator = Orchestrator([Question], memory, clock=clock)
    with pytest.raises(CorrelationError, match="cannot be a correlation id") as given:
        await orchestrator.handle(Asked(), correlation_id=refused)
    assert given.value.value == refused
    with pytest.raises(CorrelationError, match="cannot be a correlation id"):
        await orchestrator.handle(Asked(own=refused))
    with pytest.raises(CorrelationError, match="cannot be a correlation id"):
        await orchestrator.find(Question, refused)
    with pytest.raises(CorrelationError, match="cannot be a message id"):
        await orchestrator.handle(Asked("q"), message_id=refused)
    assert await memory.count_states("Question") == {}


async def test_operator_is_never_an_id(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = Orchestrator([Question], repository, clock=clock)
    await orchestrator.handle(Asked("q"))
    anything: Any = {"$ne": None}
    with pytest.raises(CorrelationError, match="it is a dict"):
        await orchestrator.handle(Answered(), correlation_id=anything)
    instance = await orchestrator.find(Question, "q")
    assert instance is not None
    assert instance.state == Question.asked


async def test_number_and_text_are_two_ids(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = Orchestrator([Question], repository, clock=clock)
    ids: tuple[SagaId, ...] = (7, "7")
    for own in ids:
        assert (await orchestrator.handle(Asked(own))).kind is OutcomeKind.STARTED
    outcome = await orchestrator.handle(Answered(7))
    assert (outcome.kind, outcome.correlation_id) == (OutcomeKind.TRANSITIONED, 7)
    number, text = await orchestrator.find(Question, 7), await orchestrator.find(Question, "7")
    assert number is not None
    assert text is not None
    assert (number.correlation_id, number.state) == (7, Question.closed)
    assert (text.correlation_id, text.state) == ("7", Question.asked)


@pytest.mark.parametrize(
    "own",
    ["q", 7, 2**62, UUID(int=7), ObjectId("0123456789abcdef01234567"), "$where", "a.b", "O'Neill"],
    ids=repr,
)
async def test_every_kind_of_id_finds_its_saga_again(
    own: SagaId, repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Question], repository, clock=clock)
    await orchestrator.handle(Asked(own), message_id=own)
    assert (await orchestrator.handle(Asked(own), message_id=own)).kind is OutcomeKind.DUPLICATE
    document = await stored(repository, Question, own)
    assert document is not None
    assert document["_id"] == own
    instance = await orchestrator.find(Question, own)
    assert instance is not None
    assert type(instance.correlation_id) is type(own)
