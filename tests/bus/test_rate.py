"""How often a handler is called at most, and how many messages it has at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from attrs import frozen

from sagaflow import BusError, MemoryBus
from sagaflow.bus import Rate
from sagaflow.bus.admission import Admission, NoTurnError, Room
from sagaflow.bus.rate import StartLog, Terms
from sagaflow.bus.subscriptions import Subscription
from sagaflow.bus.turns import OwnTurns
from sagaflow.testing import ManualClock
from tests.virtual_time import run_in_virtual_time

SECOND = timedelta(seconds=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


@frozen
class Ping:
    number: int = 0


@frozen
class Pong:
    number: int = 0


class LoopClock:
    """The time of the event loop."""

    def now(self) -> datetime:
        return START + timedelta(seconds=anyio.current_time() - self.began)

    def __init__(self) -> None:
        self.began = anyio.current_time()


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Runs a program in which no time passes but that for which it waits."""
    return lambda program: run_in_virtual_time(request.param, program)


Run = Callable[[Callable[[], Awaitable[Any]]], Any]


# What is refused


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "50", 100_001, None])
def test_count_is_a_whole_number(count: Any) -> None:
    with pytest.raises(BusError, match=r"Rate\(count, per=\.\.\.\) .* not "):
        Rate(count, per=SECOND)


@pytest.mark.parametrize("per", [timedelta(0), -SECOND, timedelta(microseconds=999), 1, None])
def test_span_is_a_millisecond_or_more(per: Any) -> None:
    with pytest.raises(BusError, match=r"takes a timedelta of a millisecond or more"):
        Rate(1, per=per)


@pytest.mark.parametrize("given", [{"rate": 50}, {"concurrency": 0}, {"concurrency": 1.0}])
def test_subscription_says_which_limit_is_wrong(given: dict[str, Any]) -> None:
    name = next(iter(given))
    with pytest.raises(BusError, match=rf"subscribe\(Ping, .*print\): {name}= .*, not "):
        MemoryBus().subscribe(Ping, print, **given)
    with pytest.raises(BusError, match=f"{name}="):
        bus: Any = MemoryBus()
        bus.subscribe(Ping, **given)(print)


def test_rate_is_a_value() -> None:
    assert Rate(1, per=SECOND) == Rate(1, per=timedelta(milliseconds=1000))
    assert len({Rate(1, per=SECOND), Rate(1, per=SECOND)}) == 1


# The log of starts


def test_no_window_has_more_starts_than_the_rate_allows() -> None:
    """Whenever one asks: here every 70 ms, for 20 s."""
    log, clock, starts = StartLog(Rate(5, per=SECOND)), ManualClock(), list[datetime]()
    for _ in range(300):
        if not log.wait(clock.now()):
            log.note(clock.now())
            starts.append(clock.now())
        clock.advance(timedelta(milliseconds=70))
    assert len(starts) > 80
    assert all(later - first >= SECOND for first, later in zip(starts, starts[5:], strict=False))


def test_after_a_pause_all_may_start_at_once_and_the_next_one_a_span_later() -> None:
    log, clock = StartLog(Rate(3, per=SECOND)), ManualClock()
    for _ in range(3):
        assert not log.wait(clock.now())
        log.note(clock.now())
    clock.advance(timedelta(milliseconds=400))
    assert log.wait(clock.now()) == timedelta(milliseconds=600)


def test_clock_that_is_set_back_holds_nobody_up_for_longer_than_a_span() -> None:
    log, now = StartLog(Rate(2, per=SECOND)), ManualClock().now()
    for _ in range(2):
        log.note(now)
    assert log.wait(now - timedelta(hours=1)) == SECOND


# Turns


def test_turns_are_had_in_the_order_in_which_they_were_asked_for(run: Run) -> None:
    async def program() -> list[float]:
        turns = OwnTurns(Terms(rate=Rate(2, per=SECOND), concurrency=None), LoopClock())
        began, order = anyio.current_time(), list[float]()

        async def take() -> None:
            async with turns.take() as begin:
                begin()
                order.append(round(anyio.current_time() - began, 3))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(take)
        return order

    assert run(program) == [0, 0, 1, 1, 2]


def test_turn_that_is_not_used_counts_for_nothing(run: Run) -> None:
    async def program() -> float:
        terms = Terms(rate=Rate(1, per=timedelta(hours=1)), concurrency=1)
        turns = OwnTurns(terms, LoopClock())
        async with turns.take():
            pass
        async with turns.take() as begin:
            begin()
        began = anyio.current_time()
        with anyio.move_on_after(1):
            async with turns.take():
                raise AssertionError
        async with turns.take():
            return anyio.current_time() - began

    assert run(program) == pytest.approx(3600, abs=0.01)


def test_calls_do_not_bunch_while_they_wait_for_something_else(run: Run) -> None:
    """Nobody else has a turn while one that has it has not begun."""

    async def program() -> list[float]:
        turns = OwnTurns(Terms(rate=Rate(1, per=SECOND), concurrency=None), LoopClock())
        began, starts = anyio.current_time(), list[float]()

        async def take() -> None:
            async with turns.take() as begin:
                if not starts:
                    await anyio.sleep(10)
                begin()
                starts.append(round(anyio.current_time() - began, 3))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(take)
        return starts

    assert run(program) == [10, 11, 12]


# The room


def test_messages_that_find_no_place_come_back_one_after_another() -> None:
    room = Room(places=4, pace=1.0)
    assert [room.next_chance(100.0).total_seconds() for _ in range(3)] == [4, 5, 6]
    assert [room.next_chance(100.0).total_seconds() for _ in range(9)][-1] == 10
    quick = Room(places=1, pace=0.0001)
    assert quick.next_chance(100.0).total_seconds() == pytest.approx(0.05)


def test_pace_is_learned_while_messages_wait() -> None:
    room = Room(places=4, waiting=1)
    for second in range(100):
        room.note_begun(second * 2.0)
    assert room.pace == pytest.approx(2, abs=0.01)
    room.waiting = 0
    room.note_begun(200.0)
    room.note_begun(5000.0)  # nobody has waited meanwhile
    assert room.pace == pytest.approx(2, abs=0.01)


def subscription(turns: OwnTurns | None) -> Subscription:
    return Subscription(Ping, print, False, "print", True, turns)


def test_message_waits_for_some_time_and_then_goes_back(run: Run) -> None:
    async def program() -> None:
        turns = OwnTurns(Terms(rate=None, concurrency=1), LoopClock())
        admission, limited = Admission(concurrency=1), subscription(turns)
        assert admission.open(1) == 2
        async with turns.take():
            began = anyio.current_time()
            with admission.visit([limited]) as visit:
                with pytest.raises(NoTurnError):
                    with admission.visit([limited]):
                        raise AssertionError
                with pytest.raises(NoTurnError):
                    async with visit.turn(limited):
                        raise AssertionError
            assert anyio.current_time() - began == pytest.approx(30)
        with admission.visit([limited]) as visit:
            async with visit.turn(limited):
                pass

    run(program)


def test_message_that_one_handler_has_had_waits_for_the_other(run: Run) -> None:
    """It would be handled twice by the first."""

    async def program() -> None:
        turns = OwnTurns(Terms(rate=None, concurrency=1), LoopClock())
        admission = Admission(concurrency=2)
        takers = [subscription(None), subscription(turns)]
        admission.open(1)

        async def be_busy(*, task_status: TaskStatus[None]) -> None:
            async with turns.take():
                task_status.started()
                await anyio.sleep(100)

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            await tasks.start(be_busy)
            with admission.visit(takers) as visit:
                for taker in takers:
                    async with visit.turn(taker):
                        pass
        assert anyio.current_time() - began == pytest.approx(100)

    run(program)


def test_what_waits_goes_back_at_once_when_the_bus_closes(run: Run) -> None:
    async def program() -> None:
        turns = OwnTurns(Terms(rate=None, concurrency=1), LoopClock())
        admission, limited = Admission(concurrency=1), subscription(turns)
        admission.open(1)
        began = anyio.current_time()

        async def close() -> None:
            await anyio.sleep(1)
            admission.close()

        async with turns.take(), anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            for _ in range(2):
                with admission.visit([limited]) as visit, pytest.raises(NoTurnError):
                    async with visit.turn(limited):
                        raise AssertionError
        assert anyio.current_time() - began == pytest.approx(1)

    run(program)


# In one process


def test_memory_bus_keeps_a_rate_and_a_number_of_calls(run: Run) -> None:
    async def program() -> tuple[list[float], int]:
        bus, starts, now, most = MemoryBus(clock=LoopClock()), list[float](), 0, 0
        began = anyio.current_time()

        @bus.subscribe(Ping, rate=Rate(3, per=SECOND), concurrency=2)
        async def take(ping: Ping) -> None:
            nonlocal now, most
            starts.append(round(anyio.current_time() - began, 3))
            now += 1
            most = max(most, now)
            await anyio.sleep(0.25)
            now -= 1

        async with anyio.create_task_group() as tasks:
            for number in range(7):
                tasks.start_soon(bus.publish, Ping(number))
        return starts, most

    assert run(program) == ([0, 0, 0.25, 1, 1, 1.25, 2], 2)


def test_handler_with_a_limit_may_cause_a_message_for_itself(run: Run) -> None:
    """It is handled when the first turn has ended, and in the order of its saga."""

    async def program() -> list[object]:
        bus, seen = MemoryBus(clock=LoopClock()), list[object]()

        @bus.subscribe(Ping, concurrency=1)
        async def take(ping: Ping) -> Pong:
            seen.append(ping)
            if ping.number:
                await bus.publish(Ping(ping.number - 1), correlation_id="another")
                await bus.publish(Pong(ping.number), correlation_id="another")
                await bus.publish(Ping(0))
            return Pong(100 + ping.number)

        bus.subscribe(Pong, seen.append)
        with anyio.fail_after(1):
            await bus.publish(Ping(1), correlation_id="one")
        return seen

    # The saga of each message has its order: what it has caused is behind what was there.
    assert run(program) == [Ping(1), Ping(0), Pong(1), Pong(100), Ping(0), Pong(101), Pong(100)]


def test_what_a_handler_with_a_limit_has_published_fails_with_its_cancellation(run: Run) -> None:
    async def program() -> None:
        bus, seen = MemoryBus(clock=LoopClock()), list[object]()

        @bus.subscribe(Ping, concurrency=1)
        async def take(ping: Ping) -> None:
            await bus.publish(Pong(), correlation_id="another")
            await anyio.sleep_forever()

        bus.subscribe(Pong, seen.append)
        with anyio.move_on_after(1):
            await bus.publish(Ping(), correlation_id="one")
        assert seen == []
        await bus.publish(Pong(1), correlation_id="another")
        assert seen == [Pong(1)]

    run(program)


def test_error_of_what_a_handler_with_a_limit_has_published_is_raised(run: Run) -> None:
    async def program() -> None:
        bus = MemoryBus(clock=LoopClock())

        @bus.subscribe(Ping, concurrency=1, envelope=True)
        async def take(ping: object) -> None:
            await bus.publish(Pong())
            raise ValueError("of the handler")

        @bus.subscribe(Pong)
        def fail(pong: Pong) -> None:
            raise ValueError("of the other")

        with pytest.raises(ValueError, match="of the other"):
            await bus.publish(Ping())
        with pytest.raises(ValueError, match="of the other"):
            await bus.publish(Ping())

    run(program)
