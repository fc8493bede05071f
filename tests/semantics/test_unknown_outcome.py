"""The answer to a write is lost: whether it took place is found out, and the event told truly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest

from sagaflow import (
    Orchestrator,
    Outcome,
    OutcomeKind,
    RepositoryError,
    SagaRepository,
    ServerUnavailableError,
    UnknownOutcomeError,
)
from sagaflow._codec.documents import DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._runtime.pace import Pace
from sagaflow.testing import ManualClock
from tests.semantics.sagas import (
    BEFORE_THE_CAR,
    Account,
    Apologise,
    CancelFlight,
    CancelHotel,
    Deposited,
    FlightBooked,
    GivenUp,
    Opened,
    Probe,
    Trip,
    agency,
)
from tests.semantics.support import (
    Gate,
    Interrupted,
    LosesAnswers,
    Passing,
    RecordingBus,
    stored,
    stored_bytes,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("applies", [True, False])
async def test_lost_answer_to_a_start(
    applies: bool, repository: SagaRepository, clock: ManualClock
) -> None:
    losing, bus = LosesAnswers(repository, applies=applies), RecordingBus()
    orchestrator = agency(losing, clock, bus=bus)
    outcome = await orchestrator.handle(BEFORE_THE_CAR[0], message_id="m-1")
    assert outcome == Outcome(OutcomeKind.STARTED, Trip, "t", Trip.booking_flight, 1)
    assert losing.lost == 1
    assert len(bus.bodies) == 1
    document = await stored(repository, Trip, "t")
    assert document is not None
    assert (document["version"], document["inbox"], document["outbox"]) == (1, ["m-1"], [])


@pytest.mark.parametrize("applies", [True, False])
async def test_lost_answer_to_an_update(
    applies: bool, repository: SagaRepository, clock: ManualClock
) -> None:
    await Orchestrator([Account], repository, clock=clock).handle(Opened("a"))
    losing = LosesAnswers(repository, applies=applies)
    outcome = await Orchestrator([Account], losing, clock=clock).handle(Deposited("a", 5))
    assert outcome == Outcome(OutcomeKind.STAYED, Account, "a", Account.active, 2)
    assert losing.lost == 1
    instance = await repository.find(Account, "a")
    assert instance is not None
    assert (instance.version, instance.saga.entries) == (2, [5])


async def test_lost_answer_to_a_compensation_that_was_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    for event in BEFORE_THE_CAR:
        await agency(repository, clock).handle(event)
    losing, probe = LosesAnswers(repository, applies=True, times=3), Probe()
    outcome = await agency(losing, clock, probe).handle(GivenUp("t"))
    assert outcome == Outcome(OutcomeKind.TRANSITIONED, Trip, "t", Trip.given_up, 6)
    assert losing.lost == 3
    assert probe.calls == ["cancel_hotel", "cancel_flight"]


async def test_lost_answer_to_a_compensation_that_was_not_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """The step has to run again; that is due at once."""
    for event in BEFORE_THE_CAR:
        await agency(repository, clock).handle(event)
    bus, probe = RecordingBus(), Probe()
    losing = LosesAnswers(repository, applies=False, skip=1)
    outcome = await agency(losing, clock, probe, bus=bus).handle(GivenUp("t"))
    assert (outcome.kind, losing.lost) == (OutcomeKind.TRANSITIONED, 1)
    instance = await repository.find(Trip, "t")
    assert instance is not None
    assert (instance.state, instance.saga.undone) == (Trip.given_up, ["h-1", "f-1"])
    assert bus.bodies[-3:] == [Apologise("t"), CancelHotel("h-1"), CancelFlight("f-1")]
    assert probe.calls == ["cancel_hotel", "cancel_hotel", "cancel_flight"]


async def test_event_whose_compensation_cannot_be_stored_is_stored_all_the_same(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not reported as failed: delivered again it would be a duplicate."""

    class FailsLater(Passing):
        writes = 0

        async def update_document(self, saga: str, change: DocumentChange) -> bool:
            self.writes += 1
            if self.writes > 1:
                raise ServerUnavailableError("nobody there")
            return await super().update_document(saga, change)

    for event in BEFORE_THE_CAR:
        await agency(repository, clock).handle(event)
    outcome = await agency(FailsLater(repository), clock).handle(GivenUp("t"))
    assert outcome == Outcome(OutcomeKind.COMPENSATING, Trip, "t", Trip.booking_car, 4)
    assert "the store fails; work is tried again until it is back: nobody there" in caplog.text
    assert await agency(repository, clock).run_due() == 1
    instance = await repository.find(Trip, "t")
    assert instance is not None
    assert instance.state == Trip.given_up


async def test_several_lost_answers_in_a_row(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await Orchestrator([Account], repository, clock=clock).handle(Opened("a"))
    losing = LosesAnswers(repository, applies=False, times=4)
    outcome = await Orchestrator([Account], losing, clock=clock).handle(Deposited("a", 5))
    assert (outcome.kind, outcome.version, losing.lost) == (OutcomeKind.STAYED, 2, 4)


async def test_read_that_fails_as_well_is_tried_again(
    repository: SagaRepository, clock: ManualClock
) -> None:
    await Orchestrator([Account], repository, clock=clock).handle(Opened("a"))
    losing = LosesAnswers(
        repository,
        applies=True,
        failing_read=lambda: ServerUnavailableError("nobody there"),
        failing_reads=3,
    )
    outcome = await Orchestrator([Account], losing, clock=clock).handle(Deposited("a", 5))
    assert outcome == Outcome(OutcomeKind.STAYED, Account, "a", Account.active, 2)


@pytest.mark.parametrize("applies", [True, False])
async def test_outcome_that_cannot_be_found_out_is_an_error(
    applies: bool, clock: ManualClock, memory: SagaRepository
) -> None:
    await Orchestrator([Account], memory, clock=clock).handle(Opened("a"))
    losing = LosesAnswers(
        memory,
        applies=applies,
        failing_read=lambda: ServerUnavailableError("nobody there"),
        failing_reads=1_000_000,
    )
    with pytest.raises(UnknownOutcomeError, match="the connection was lost"):
        await Hasty([Account], losing, clock=clock).handle(Deposited("a", 5), message_id="m-2")
    # Delivered again, it is applied once, whether or not it had been.
    outcome = await Orchestrator([Account], memory, clock=clock).handle(
        Deposited("a", 5), message_id="m-2"
    )
    assert outcome.kind is (OutcomeKind.DUPLICATE if applies else OutcomeKind.STAYED)
    instance = await memory.find(Account, "a")
    assert instance is not None
    assert instance.saga.entries == [5]


class Hasty(Orchestrator):
    """Does not try for half a minute to find out what became of a write."""

    _pace = Pace(resolution=timedelta(milliseconds=20))


async def test_write_that_another_overtook_meanwhile_is_still_found(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """The saga has another version and another token by the time it is read again."""

    class Overtaken(Passing):
        async def update_document(self, saga: str, change: DocumentChange) -> bool:
            await super().update_document(saga, change)
            await Orchestrator([Account], repository, clock=clock).handle(Deposited("a", 7))
            raise UnknownOutcomeError("the connection was lost")

    await Orchestrator([Account], repository, clock=clock).handle(Opened("a"))
    overtaken = Orchestrator([Account], Overtaken(repository), clock=clock)
    outcome = await overtaken.handle(Deposited("a", 5))
    assert (outcome.kind, outcome.version) == (OutcomeKind.STAYED, 2)
    instance = await repository.find(Account, "a")
    assert instance is not None
    assert (instance.version, instance.saga.entries) == (3, [5, 7])


async def test_other_write_at_the_same_version_is_not_taken_for_the_lost_one(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Beaten(Passing):
        beaten = False

        async def update_document(self, saga: str, change: DocumentChange) -> bool:
            if self.beaten:
                return await super().update_document(saga, change)
            self.beaten = True
            await Orchestrator([Account], repository, clock=clock).handle(Deposited("a", 7))
            raise UnknownOutcomeError("the connection was lost")

    await Orchestrator([Account], repository, clock=clock).handle(Opened("a"))
    outcome = await Orchestrator([Account], Beaten(repository), clock=clock).handle(
        Deposited("a", 5)
    )
    assert (outcome.kind, outcome.version) == (OutcomeKind.STAYED, 3)
    instance = await repository.find(Account, "a")
    assert instance is not None
    assert instance.saga.entries == [7, 5]


async def test_other_start_is_not_taken_for_the_lost_one(
    repository: SagaRepository, clock: ManualClock
) -> None:
    class Beaten(Passing):
        async def insert_document(self, saga: str, document: Document) -> bool:
            await Orchestrator([Account], repository, clock=clock).handle(Opened("a", "first"))
            raise UnknownOutcomeError("the connection was lost")

    outcome = await Orchestrator([Account], Beaten(repository), clock=clock).handle(
        Opened("a", "second")
    )
    assert outcome.kind is OutcomeKind.UNHANDLED
    instance = await repository.find(Account, "a")
    assert instance is not None
    assert instance.saga.owner == "first"


@pytest.mark.parametrize(
    "error",
    [lambda: RepositoryError("refused"), lambda: ServerUnavailableError("nobody there")],
    ids=["refused", "unavailable"],
)
async def test_write_that_surely_failed_is_an_error_and_nothing_is_sent(
    error: Callable[[], Exception], clock: ManualClock, memory: SagaRepository
) -> None:
    class Refuses(Passing):
        async def update_document(self, saga: str, change: DocumentChange) -> bool:
            raise error()

    bus = RecordingBus()
    await agency(memory, clock, bus=bus).handle(BEFORE_THE_CAR[0])
    before = await stored_bytes(memory, Trip, "t")
    with pytest.raises(RepositoryError, match=r"refused|nobody there"):
        await agency(Refuses(memory), clock, bus=bus).handle(FlightBooked("t"))
    assert await stored_bytes(memory, Trip, "t") == before
    assert len(bus.attempts) == 1


@pytest.mark.parametrize("starting", [True, False])
async def test_cancelled_commit_is_completed_and_the_cancellation_goes_on(
    starting: bool, repository: SagaRepository, clock: ManualClock
) -> None:
    if not starting:
        await agency(repository, clock).handle(BEFORE_THE_CAR[0])
    gate, bus = Gate(), RecordingBus()
    slow = Interrupted(repository, insert=gate.hold, update=gate.hold)
    orchestrator = agency(slow, clock, bus=bus)
    returned: list[Outcome] = []
    reached: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def handle() -> None:
            event = BEFORE_THE_CAR[0] if starting else FlightBooked("t")
            returned.append(await orchestrator.handle(event, message_id="m"))
            await anyio.lowlevel.checkpoint()
            reached.append("went on")

        tasks.start_soon(handle)
        await gate.begun.wait()
        tasks.cancel_scope.cancel()
        gate.go_on.set()
    assert reached == []
    document = await stored(repository, Trip, "t")
    assert document is not None
    assert document["version"] == (1 if starting else 2)
    # What it sent is not lost: it is due.
    fresh = RecordingBus()
    await agency(repository, clock, bus=fresh).run_due()
    assert len({m.message_id for m in (*bus.published, *fresh.published)}) == document["version"]
