"""What loses every race waits between its attempts, and gives up at its deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise

import anyio
import pytest

from sagaflow import (
    ConcurrencyError,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    OutcomeKind,
    SagaRepository,
)
from sagaflow._codec.documents import DocumentChange
from sagaflow.testing import ManualClock
from tests.conftest import RUNTIMES
from tests.semantics.patient import (
    FAULTS,
    MINUTE,
    SOON,
    Booking,
    Failed,
    Noted,
    Opened,
    Paid,
    Reserved,
    suspended_by_a_note,
)
from tests.semantics.patient import orchestrator as patient
from tests.semantics.support import Passing, stored_bytes
from tests.virtual_time import run_in_virtual_time

DEADLINE = timedelta(seconds=30)
LONGEST_DELAY = 0.25

Attempting = Callable[[Orchestrator], Awaitable[object]]
ATTEMPTING: dict[str, Attempting] = {
    "event": lambda runner: runner.handle(Noted("b", "3")),
    "retry": lambda runner: runner.retry(Booking, "b"),
    "resume": lambda runner: runner.resume(Booking, "b"),
    "skip": lambda runner: runner.skip(Booking, "b"),
    "cancel": lambda runner: runner.cancel(Booking, "b"),
}


class Overtaken(Passing):
    """Others are faster, always or a number of times.

    :ivar at: when something was to be written.
    :ivar spares: how many writes nobody interferes with before that.
    """

    def __init__(self, inner: SagaRepository, times: int | None = None, spares: int = 0) -> None:
        super().__init__(inner)
        self._times = times
        self.spares = spares
        self.at: list[float] = []

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        if self.spares:
            self.spares -= 1
            return await super().update_document(saga, change)
        self.at.append(anyio.current_time())
        if self._times is not None and len(self.at) > self._times:
            return await super().update_document(saga, change)
        return False


async def suspended(repository: SagaRepository, clock: ManualClock) -> None:
    """Store a booking that is suspended: every operation can be done to it."""
    bus = MemoryBus()
    async with patient(repository, clock, bus=bus, retry=SOON) as runner:
        await suspended_by_a_note(runner, bus, clock, FAULTS)


def racing(repository: SagaRepository, clock: ManualClock) -> Orchestrator:
    return Orchestrator(
        [Booking], repository, clock=clock, background=False, conflict_deadline=DEADLINE
    )


@pytest.mark.parametrize("what", ATTEMPTING)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_always_overtaken_waits_longer_and_longer_until_its_deadline(
    runtime: str, what: str, clock: ManualClock
) -> None:
    memory = MemoryRepository(clock=clock)
    overtaken = Overtaken(memory)

    async def program() -> tuple[ConcurrencyError, bool]:
        await suspended(memory, clock)
        before = await stored_bytes(memory, Booking, "b")
        with pytest.raises(ConcurrencyError) as caught:
            await ATTEMPTING[what](racing(overtaken, clock))
        return caught.value, await stored_bytes(memory, Booking, "b") == before

    error, is_unchanged = run_in_virtual_time(runtime, program)
    assert is_unchanged
    pauses = [later - earlier for earlier, later in pairwise(overtaken.at)]
    longest = [min(0.002 * 2**number, LONGEST_DELAY) for number in range(len(pauses))]
    assert all(pause <= most + 1e-6 for pause, most in zip(pauses, longest, strict=True))
    seconds = overtaken.at[-1] - overtaken.at[0]
    assert DEADLINE.total_seconds() <= seconds <= DEADLINE.total_seconds() + LONGEST_DELAY
    # Told is what has really happened.
    assert (error.saga, error.correlation_id) == ("Booking", "b")
    assert error.attempts == len(overtaken.at)
    assert error.seconds == pytest.approx(seconds)
    told = f"Booking 'b': {error.attempts} attempts were each overtaken"
    assert str(error).startswith(told)
    assert f"the last {seconds:.3g} s after the first" in str(error)
    again = "deliver the event again" if what == "event" else f"call {what}() again"
    assert f"Nothing was stored; {again}" in str(error)


@pytest.mark.parametrize("what", ATTEMPTING)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_overtaken_many_times_is_done_within_its_deadline(
    runtime: str, what: str, clock: ManualClock
) -> None:
    memory = MemoryRepository(clock=clock)

    async def program() -> bool:
        await suspended(memory, clock)
        before = await stored_bytes(memory, Booking, "b")
        await ATTEMPTING[what](racing(Overtaken(memory, times=60), clock))
        return await stored_bytes(memory, Booking, "b") == before

    assert not run_in_virtual_time(runtime, program)


async def reserved(repository: SagaRepository, clock: ManualClock) -> None:
    """Store a booking of which a timer is due in ten minutes."""
    runner = racing(repository, clock)
    await runner.handle(Opened("b"))
    await runner.handle(Reserved("b"))


def is_within_deadline(overtaken: Overtaken) -> bool:
    seconds = overtaken.at[-1] - overtaken.at[0]
    return DEADLINE.total_seconds() <= seconds <= DEADLINE.total_seconds() + LONGEST_DELAY


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_due_work_that_is_always_overtaken_is_left_for_later_at_its_deadline(
    runtime: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryRepository(clock=clock)
    overtaken = Overtaken(memory)

    async def program() -> bool:
        await reserved(memory, clock)
        clock.advance(10 * MINUTE)
        before = await stored_bytes(memory, Booking, "b")
        with anyio.fail_after(10 * DEADLINE.total_seconds()):
            await racing(overtaken, clock).run_due()
        unchanged = await stored_bytes(memory, Booking, "b") == before
        await racing(memory, clock).run_due()
        return unchanged and await stored_bytes(memory, Booking, "b") != before

    assert run_in_virtual_time(runtime, program)
    assert is_within_deadline(overtaken)
    (told,) = [record for record in caplog.records if "left to the background" in record.message]
    assert told.levelname == "WARNING"
    assert f"Booking 'b': {len(overtaken.at)} attempts to store what is due" in told.message


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_event_behind_due_work_that_is_always_overtaken_gives_up_at_its_deadline(
    runtime: str, clock: ManualClock
) -> None:
    memory = MemoryRepository(clock=clock)
    overtaken = Overtaken(memory)

    async def program() -> bool:
        await reserved(memory, clock)
        clock.advance(11 * MINUTE)
        before = await stored_bytes(memory, Booking, "b")
        with (
            anyio.fail_after(10 * DEADLINE.total_seconds()),
            pytest.raises(ConcurrencyError, match="Nothing was stored; deliver the event again"),
        ):
            await racing(overtaken, clock).handle(Paid("b"))
        return await stored_bytes(memory, Booking, "b") == before

    assert run_in_virtual_time(runtime, program)
    assert is_within_deadline(overtaken)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_event_is_stored_though_what_follows_from_it_is_always_overtaken(
    runtime: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryRepository(clock=clock)
    overtaken = Overtaken(memory, spares=1)

    async def program() -> OutcomeKind:
        await reserved(memory, clock)
        with anyio.fail_after(10 * DEADLINE.total_seconds()):
            outcome = await racing(overtaken, clock).handle(Failed("b"))
        return outcome.kind

    assert run_in_virtual_time(runtime, program) is OutcomeKind.COMPENSATING
    assert is_within_deadline(overtaken)
    assert "left to the background or the next run_due()" in caplog.text
