"""Turns that several processes take from their parent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream

from sagaflow.bus import Rate
from sagaflow.bus.rate import Terms
from sagaflow.commands.running.shared_turns import Asked, Caller, SharedTurns, TurnsOfProcess
from sagaflow.testing import ManualClock

pytestmark = pytest.mark.anyio

ONE = Terms(rate=None, concurrency=1)


@asynccontextmanager
async def process(shared: SharedTurns) -> AsyncGenerator[tuple[Caller, TaskGroup]]:
    """A process that asks for turns; killing it is cancelling what it is given."""
    send, receive = anyio.create_memory_object_stream[bytes](100)
    async with send, receive, anyio.create_task_group() as tasks:
        caller = Caller(send.send_nowait)

        async def answer(line: bytes) -> None:
            await checkpoint()
            caller.hear(line)

        turns = TurnsOfProcess(shared, answer, tasks)
        tasks.start_soon(_hear, turns, receive)
        yield caller, tasks
        tasks.cancel_scope.cancel()


async def _hear(turns: TurnsOfProcess, receive: MemoryObjectReceiveStream[bytes]) -> None:
    async for line in receive:
        assert turns.hear(line)


@pytest.mark.parametrize(
    "terms",
    [ONE, Terms(rate=Rate(3, per=timedelta(days=2, microseconds=1001)), concurrency=None)],
)
def test_what_is_asked_for_arrives_as_it_was(terms: Terms) -> None:
    asked = Asked(7, "subscribe(Ping, µ)", terms)
    assert Asked.of_line(asked.to_line()) == asked


async def test_report_is_not_about_turns() -> None:
    async with anyio.create_task_group() as tasks:

        async def answer(line: bytes) -> None:
            raise AssertionError

        assert not TurnsOfProcess(SharedTurns(), answer, tasks).hear(b'{"live": true}\n')


async def test_processes_wait_in_one_queue() -> None:
    shared, order = SharedTurns(), list[str]()

    async def take(caller: Caller, name: str) -> None:
        async with caller.turns("pay", ONE).take() as begin:
            begin()
            order.append(name)
            await anyio.wait_all_tasks_blocked()
            order.append(name)

    async with process(shared) as (first, _), process(shared) as (second, _):
        async with anyio.create_task_group() as tasks:
            for name, caller in (("a", first), ("b", second), ("c", first), ("d", second)):
                tasks.start_soon(take, caller, name)
                await anyio.wait_all_tasks_blocked()
    assert order[::2] == order[1::2]
    assert sorted(order[::2]) == ["a", "b", "c", "d"]


async def test_other_names_and_other_limits_are_other_turns() -> None:
    shared = SharedTurns()
    two = Terms(rate=None, concurrency=2)
    async with process(shared) as (caller, _):
        with anyio.fail_after(5):
            async with caller.turns("pay", ONE).take(), caller.turns("refund", ONE).take():
                async with caller.turns("pay", two).take():
                    pass


async def test_process_that_ends_lets_go_of_its_turns_and_its_calls_count() -> None:
    """One was killed in a call, and another one waits; a second call is an hour later."""
    clock = ManualClock()
    shared = SharedTurns(clock)
    hourly = Terms(rate=Rate(1, per=timedelta(hours=1)), concurrency=1)
    async with process(shared) as (caller, _):
        async with process(shared) as (killed, life):
            held = killed.turns("pay", hourly).take()
            begin = await held.__aenter__()
            begin()
            await anyio.wait_all_tasks_blocked()
            life.cancel_scope.cancel()
        with pytest.raises(anyio.ClosedResourceError):  # a dead process says nothing
            await held.__aexit__(None, None, None)
        with anyio.move_on_after(0.2) as early:
            async with caller.turns("pay", hourly).take():
                raise AssertionError
        assert early.cancelled_caught
        clock.advance(timedelta(hours=1))
        with anyio.fail_after(5):
            async with caller.turns("pay", hourly).take():
                pass


async def test_who_gives_up_is_passed_over() -> None:
    shared = SharedTurns()
    async with process(shared) as (caller, _):
        turns = caller.turns("pay", ONE)
        async with turns.take():
            with anyio.move_on_after(0.05):
                async with turns.take():
                    raise AssertionError
            async with anyio.create_task_group() as tasks:
                entered = anyio.Event()

                async def third() -> None:
                    async with turns.take():
                        entered.set()

                tasks.start_soon(third)
                await anyio.wait_all_tasks_blocked()
                assert not entered.is_set()
                tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            async with turns.take():
                pass
        caller.hear(b"1\n")  # an answer that came too late
