"""Events that come at once to one saga, within one process: many of them share a write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    Instance,
    LimitExceededError,
    Limits,
    MemoryBus,
    MemoryRepository,
    MessageId,
    Orchestrator,
    Outcome,
    OutcomeKind,
    Saga,
    SagaId,
    SagaRepository,
    ServerUnavailableError,
    State,
    compensates,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._codec.elements import Document
from sagaflow._forms.size import document_size
from sagaflow._runtime.pace import Pace
from sagaflow.testing import ManualClock
from tests.conftest import RUNTIMES
from tests.semantics.support import Passing, RecordingBus, stored
from tests.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.anyio


class Patient(Orchestrator):
    """Does not take a slow machine for a slow handler."""

    _pace = Pace(batch=timedelta(seconds=5))


class Impatient(Orchestrator):
    """Waits for a slow handler no longer than a test does."""

    _pace = Pace(batch=timedelta(milliseconds=10))


@frozen
class Begun:
    key: str


@frozen
class Counted:
    key: str
    number: int


@frozen
class Added:
    key: str
    number: int


@frozen
class Stopped:
    key: str


@frozen
class Tell:
    number: int


class WrongError(Exception):
    """What a handler raises."""


class Meanwhile:
    """What else happens within a handler, by the number that it counts."""

    def __init__(self) -> None:
        self.happens: dict[int, Exception | Callable[[], Awaitable[object]]] = {}
        self.ran: list[int] = []


MEANWHILE = Meanwhile()


class Counter(Saga, correlate_by="key"):
    counting = State()
    stopped = State(final=True)

    numbers: list[int] = field(factory=list[int])
    total: int = 0

    begin = initially.on(Begun).goto(counting)

    @during(counting).on(Counted).stay()
    async def count(self, event: Counted, ctx: Context) -> None:
        MEANWHILE.ran.append(event.number)
        what = MEANWHILE.happens.get(event.number)
        if isinstance(what, Exception):
            raise what
        if what is not None:
            await what()
        self.numbers.append(event.number)
        ctx.send(Tell(event.number))

    @compensates(count)
    def uncount(self, event: Counted, ctx: Context) -> None:
        self.numbers.remove(event.number)

    @during(counting).on(Added).stay()
    def add(self, event: Added, ctx: Context) -> None:
        self.total += event.number
        ctx.send(Tell(event.number))

    stop = during(counting).on(Stopped).goto(stopped)


@pytest.fixture(autouse=True)
def _nothing_happens_meanwhile() -> None:
    MEANWHILE.happens.clear()
    MEANWHILE.ran.clear()


class Slow(Passing):
    """Lets others go on during each write, as a server far away does; counts the writes."""

    def __init__(self, inner: SagaRepository) -> None:
        super().__init__(inner)
        self.changes: list[DocumentChange] = []
        self.notes: list[Bookkeeping] = []
        self.reads = 0
        self.go_on: anyio.Event | None = None
        self.refuses: Exception | None = None
        self.loses = 0

    @property
    def writes(self) -> int:
        return len(self.changes) + len(self.notes)

    async def load_document(
        self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
    ) -> Document | None:
        self.reads += 1
        return await super().load_document(saga, correlation_id, message_id=message_id)

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        self.changes.append(change)
        if self.go_on is not None:
            await self.go_on.wait()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        if self.loses:
            self.loses -= 1
            return False
        return await super().update_document(saga, change)

    async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
        self.notes.append(note)
        return await super().bookkeep(saga, note)


async def begun(
    repository: SagaRepository,
    clock: ManualClock,
    kind: type[Orchestrator] = Patient,
    **options: Any,
) -> Orchestrator:
    orchestrator = kind([Counter], repository, clock=clock, **options)
    await orchestrator.handle(Begun("c"))
    return orchestrator


async def numbers(repository: SagaRepository) -> list[int]:
    instance = await repository.find(Counter, "c")
    assert instance is not None
    return instance.saga.numbers


async def count_at_once(
    orchestrator: Orchestrator, slow: Slow, several: range
) -> dict[int, Outcome | Exception]:
    """Hand over the first; once it is being written, all the others; then go on."""
    found: dict[int, Outcome | Exception] = {}

    async def count(number: int) -> None:
        try:
            found[number] = await orchestrator.handle(Counted("c", number), message_id=number)
        except (WrongError, LimitExceededError, ServerUnavailableError) as exc:
            found[number] = exc

    slow.go_on = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for number in several:
            tasks.start_soon(count, number)
            await anyio.wait_all_tasks_blocked()
        slow.go_on.set()
    slow.go_on = None
    return found


async def test_events_that_wait_share_one_write(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    found = await count_at_once(orchestrator, slow, range(10))
    assert [change.version for change in slow.changes] == [1, 2]
    outcomes = [found[number] for number in range(10)]
    assert outcomes == [
        Outcome(OutcomeKind.STAYED, Counter, "c", Counter.counting, version)
        for version in range(2, 12)
    ]
    assert await numbers(repository) == list(range(10))
    document = await stored(repository, Counter, "c")
    assert document is not None
    assert document["version"] == 11
    assert document["inbox"][1:] == list(range(10))
    assert [entry["version"] for entry in document["history"]] == list(range(1, 12))
    assert len({entry["token"] for entry in document["history"]}) == 11
    assert [message["seq"] for message in document["outbox"]] == list(range(1, 11))


@pytest.mark.parametrize("hot_sagas", [0, 10])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_thousand_events_from_fifty_tasks_need_few_writes(
    runtime: str, clock: ManualClock, hot_sagas: int
) -> None:
    """However slow the machine is: what waits a little for company does so in virtual time."""
    slow = Slow(MemoryRepository(clock=clock))
    bus = RecordingBus()

    async def program() -> tuple[Instance[Counter] | None, int, Document | None]:
        orchestrator = await begun(slow, clock, bus=bus, hot_sagas=hot_sagas)

        async def count(first: int) -> None:
            for number in range(first, first + 20):
                outcome = await orchestrator.handle(Added("c", number), message_id=number)
                assert outcome.kind is OutcomeKind.STAYED

        async with anyio.create_task_group() as tasks:
            for task in range(50):
                tasks.start_soon(count, task * 20)
        instance, writes = await slow.inner.find(Counter, "c"), slow.writes
        await orchestrator.run_due()
        return instance, writes, await stored(slow.inner, Counter, "c")

    instance, writes, document = run_in_virtual_time(runtime, program)
    assert instance is not None
    assert instance.saga.total == sum(range(1000))
    assert instance.version == 1001
    assert writes <= 1000 // 8
    assert len({message.message_id for message in bus.published}) == 1000
    assert document is not None
    assert document["outbox"] == []
    assert "wake" not in document


async def test_event_that_fails_takes_nobody_with_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    MEANWHILE.happens[3] = error = WrongError("3")
    found = await count_at_once(orchestrator, slow, range(6))
    assert found.pop(3) is error
    assert {type(outcome) for outcome in found.values()} == {Outcome}
    assert await numbers(repository) == [0, 1, 2, 4, 5]
    assert MEANWHILE.ran.count(3) == 1


async def test_same_message_twice_among_those_that_wait_is_a_duplicate(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    kinds: list[OutcomeKind] = []

    async def count(message_id: str, number: int) -> None:
        outcome = await orchestrator.handle(Counted("c", number), message_id=message_id)
        kinds.append(outcome.kind)

    slow.go_on = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for message_id in ("a", "b", "b", "a"):
            tasks.start_soon(count, message_id, ord(message_id))
            await anyio.wait_all_tasks_blocked()
        slow.go_on.set()
    assert sorted(kind.value for kind in kinds) == ["duplicate", "duplicate", "stayed", "stayed"]
    assert await numbers(repository) == [97, 98]


async def test_what_comes_after_the_end_is_told_so(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    found: list[OutcomeKind] = []

    async def hand_over(event: object) -> None:
        found.append((await orchestrator.handle(event)).kind)

    slow.go_on = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for event in (Counted("c", 1), Counted("c", 2), Stopped("c"), Counted("c", 3)):
            tasks.start_soon(hand_over, event)
            await anyio.wait_all_tasks_blocked()
        slow.go_on.set()
    assert sorted(kind.value for kind in found) == ["finished", "stayed", "stayed", "transitioned"]
    assert await numbers(repository) == [1, 2]
    assert [change.version for change in slow.changes] == [1, 2]


async def test_lost_race_has_all_of_them_decided_again(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    slow.go_on = anyio.Event()
    found: dict[int, OutcomeKind] = {}

    async def count(number: int) -> None:
        outcome = await orchestrator.handle(Counted("c", number), message_id=number)
        found[number] = outcome.kind

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(count, number)
            await anyio.wait_all_tasks_blocked()
        other = Patient([Counter], repository, clock=clock)
        await other.handle(Counted("c", 99))
        slow.go_on.set()
    assert set(found.values()) == {OutcomeKind.STAYED}
    assert sorted(await numbers(repository)) == [0, 1, 2, 3, 4, 99]
    slow.loses = 1  # of a write of several: the first is alone
    slow.changes.clear()
    await count_at_once(orchestrator, slow, range(10, 16))
    assert sorted(await numbers(repository)) == [0, 1, 2, 3, 4, *range(10, 16), 99]


class RackAwayError(ServerUnavailableError):
    """An error of a user's own repository, made from values as sagaflow's are."""

    def __init__(self, rack: int, *, since: str) -> None:
        self.rack, self.since = rack, since
        super().__init__(f"rack {rack} is away since {since}")


async def test_each_is_told_that_the_store_has_failed(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    slow.refuses = RackAwayError(7, since="noon")
    found = await count_at_once(orchestrator, slow, range(5))
    errors = list(found.values())
    assert {(type(error), str(error)) for error in errors} == {
        (RackAwayError, "rack 7 is away since noon")
    }
    assert len({id(error) for error in errors}) == 5
    slow.refuses = None
    again = await count_at_once(orchestrator, slow, range(5))
    assert {type(outcome) for outcome in again.values()} == {Outcome}
    assert await numbers(repository) == [0, 1, 2, 3, 4]


async def test_what_is_too_much_together_is_stored_one_by_one(
    anyio_backend: str, clock: ManualClock
) -> None:
    del anyio_backend
    repository = MemoryRepository(clock=clock)  # which removes what was sent at once
    slow = Slow(repository)
    bus = RecordingBus()
    orchestrator = await begun(slow, clock, bus=bus, limits=Limits(max_outbox=2))
    found = await count_at_once(orchestrator, slow, range(6))
    # One is refused as well while messages of those before it are still being removed.
    refused = [number for number, what in found.items() if isinstance(what, LimitExceededError)]
    assert len(refused) < 5, "all of those that waited were refused together"
    for number in refused:
        await orchestrator.handle(Counted("c", number), message_id=number)
    assert sorted(await numbers(repository)) == [0, 1, 2, 3, 4, 5]


async def test_cancelled_event_that_waits_is_taken_out(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    slow.go_on = anyio.Event()
    scope = anyio.CancelScope()

    async def count(number: int) -> None:
        with scope if number == 2 else anyio.CancelScope():
            await orchestrator.handle(Counted("c", number))

    async with anyio.create_task_group() as tasks:
        for number in (1, 2, 3):
            tasks.start_soon(count, number)
            await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        slow.go_on.set()
    assert await numbers(repository) == [1, 3]
    assert 2 not in MEANWHILE.ran


async def test_cancelled_event_that_is_being_written_takes_nobody_with_it(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Whoever writes for the others may be cancelled as well as any of those."""
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)
    scopes = [anyio.CancelScope() for _ in range(5)]
    slow.go_on = first = anyio.Event()
    kept: list[int] = []

    async def count(number: int) -> None:
        with scopes[number]:
            await orchestrator.handle(Counted("c", number))
            kept.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(count, number)
            await anyio.wait_all_tasks_blocked()
        slow.go_on = anyio.Event()
        first.set()
        while len(slow.changes) < 2:  # until the other four are being written
            await anyio.lowlevel.checkpoint()
        scopes[1].cancel()
        scopes[4].cancel()
        await anyio.wait_all_tasks_blocked()
        slow.go_on.set()
    assert await numbers(repository) == [0, 1, 2, 3, 4]
    assert {0, 2, 3} <= set(kept)
    assert len(slow.changes) == 2


async def test_slow_handler_does_not_keep_those_before_it_from_being_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock, Impatient)
    goes_on = anyio.Event()
    MEANWHILE.happens[3] = goes_on.wait
    slow.go_on = anyio.Event()
    done: list[int] = []

    async def count(number: int) -> None:
        await orchestrator.handle(Counted("c", number))
        done.append(number)
        if number == 2:
            goes_on.set()  # or it would never go on

    async with anyio.create_task_group() as tasks:
        for number in (1, 2, 3):
            tasks.start_soon(count, number)
            await anyio.wait_all_tasks_blocked()
        slow.go_on.set()
    assert sorted(done) == [1, 2, 3]
    assert await numbers(repository) == [1, 2, 3]
    assert MEANWHILE.ran == [1, 2, 3]


async def test_handler_may_hand_an_event_to_its_own_saga(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It goes past the line; the event that is being handled is decided on again after it."""
    orchestrator = await begun(repository, clock)

    async def nested() -> None:
        with anyio.fail_after(0.9):  # it does not wait for the limit of a turn
            await orchestrator.handle(Counted("c", 2), message_id="inner")

    MEANWHILE.happens[1] = nested
    outcome = await orchestrator.handle(Counted("c", 1))
    assert outcome.version == 3
    assert await numbers(repository) == [2, 1]
    assert MEANWHILE.ran == [1, 2, 1]


async def test_handler_may_hand_an_event_to_its_own_saga_while_others_wait(
    repository: SagaRepository, clock: ManualClock
) -> None:
    slow = Slow(repository)
    orchestrator = await begun(slow, clock)

    async def nested() -> None:
        await orchestrator.handle(Counted("c", 100), message_id="inner")

    MEANWHILE.happens[3] = nested
    found = await count_at_once(orchestrator, slow, range(6))
    assert {type(outcome) for outcome in found.values()} == {Outcome}
    assert sorted(await numbers(repository)) == [0, 1, 2, 3, 4, 5, 100]


async def test_handlers_that_wait_for_one_another_do_not_do_so_for_ever(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """No look at the task tells that one waits for the other: there is a limit to a turn."""
    orchestrator = await begun(repository, clock)
    second = anyio.Event()
    MEANWHILE.happens[1] = second.wait

    async def count_second() -> None:
        await orchestrator.handle(Counted("c", 2))
        second.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(orchestrator.handle, Counted("c", 1))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(count_second)
    assert await numbers(repository) == [2, 1]


async def test_events_from_the_bus_within_a_delivery_do_not_wait_for_themselves(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = MemoryBus()
    answers: list[int] = []

    @bus.subscribe(Tell)
    async def answer(told: Tell) -> None:
        answers.append(told.number)
        if told.number < 5:
            await bus.publish(Counted("c", told.number + 1))

    async with Patient([Counter], repository, bus=bus, clock=clock) as orchestrator:
        await orchestrator.handle(Begun("c"))
        with anyio.fail_after(30):
            await orchestrator.handle(Counted("c", 1), correlation_id="c")
    assert answers == [1, 2, 3, 4, 5]
    assert await numbers(repository) == [1, 2, 3, 4, 5]


async def test_saga_with_a_thousand_steps_is_not_measured_again_for_each(
    anyio_backend: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    del anyio_backend
    measured: list[int] = []

    def noted(document: Document) -> int:
        measured.append(document_size(document))
        return measured[-1]

    monkeypatch.setattr("sagaflow._runtime.store.document_size", noted)
    orchestrator = await begun(MemoryRepository(clock=clock), clock)
    for number in range(200):
        await orchestrator.handle(Counted("c", number))
    # What is encoded to learn its size is what has changed: it does not grow with the saga.
    assert max(measured[-50:]) < 2 * max(measured[:20]) + 8 * 200


async def test_sent_messages_are_removed_by_the_next_write(
    anyio_backend: str, clock: ManualClock
) -> None:
    """While further events wait, what was sent needs no write of its own to be removed."""
    del anyio_backend
    repository = MemoryRepository(clock=clock)  # which removes what was sent at once
    slow = Slow(repository)
    bus = RecordingBus()
    async with await begun(slow, clock, bus=bus) as orchestrator:
        await count_at_once(orchestrator, slow, range(8))
    first, second = slow.changes
    assert "outbox" in first.push
    assert [message["seq"] for message in second.set["outbox"]] == list(range(2, 9))
    assert len(slow.notes) == 1
    assert len(bus.published) == 8
    document = await stored(repository, Counter, "c")
    assert document is not None
    assert document["outbox"] == []
    assert "wake" not in document
