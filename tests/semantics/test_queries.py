"""What an orchestrator finds of what is stored: by id, by state, and what has not changed."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import pytest

from sagaflow import MemoryRepository, Orchestrator, SagaflowError, SagaRepository, State
from sagaflow.testing import ManualClock
from tests.semantics.sagas import Account, Closed, Deposited, Opened

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


async def in_state(orchestrator: Orchestrator, state: State | str) -> list[object]:
    return [found.correlation_id async for found in orchestrator.find_by_state(Account, state)]


async def stale(orchestrator: Orchestrator, older_than: timedelta | datetime) -> list[object]:
    return [found.correlation_id async for found in orchestrator.find_stale(Account, older_than)]


async def opened(repository: SagaRepository, clock: ManualClock, *accounts: str) -> Orchestrator:
    """Open accounts, an hour from one to the next."""
    orchestrator = Orchestrator([Account], repository, clock=clock)
    for account in accounts:
        await orchestrator.handle(Opened(account))
        clock.advance(HOUR)
    return orchestrator


async def test_sagas_are_found_by_their_state(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = await opened(repository, clock, "a", "b", "c")
    await orchestrator.handle(Closed("b"))
    await orchestrator.handle(Deposited("a", 1))  # it has changed last
    assert await in_state(orchestrator, Account.active) == ["c", "a"]
    assert await in_state(orchestrator, Account.closed.name) == ["b"]


async def test_sagas_that_have_not_changed_are_found(
    repository: SagaRepository, clock: ManualClock
) -> None:
    begun = clock.now()
    orchestrator = await opened(repository, clock, "a", "b", "c")
    assert await stale(orchestrator, 2 * HOUR) == ["a"]
    assert await stale(orchestrator, begun + 2 * HOUR) == ["a", "b"]
    await orchestrator.handle(Closed("a"))
    assert await stale(orchestrator, timedelta(0)) == ["b", "c"]


async def test_clock_of_the_orchestrator_tells_what_is_stale(clock: ManualClock) -> None:
    """The repository has another one, by which all of them are from long ago, or still to come."""
    for elsewhere in (clock.now() - 1000 * HOUR, clock.now() + 1000 * HOUR):
        repository = MemoryRepository(clock=ManualClock(elsewhere))
        orchestrator = await opened(repository, clock, "a", "b", "c")
        assert await stale(orchestrator, 2 * HOUR) == ["a"]
        assert await stale(orchestrator, -HOUR) == ["a", "b", "c"]


async def test_query_may_be_left_early(repository: SagaRepository, clock: ManualClock) -> None:
    orchestrator = await opened(repository, clock, "a", "b", "c")
    for query in (
        orchestrator.find_by_state(Account, Account.active),
        orchestrator.find_stale(Account, timedelta(0)),
    ):
        async with aclosing(query) as instances:
            async for instance in instances:
                assert instance.correlation_id == "a"
                break


async def test_wrong_question_is_refused(clock: ManualClock, memory: SagaRepository) -> None:
    orchestrator = Orchestrator([Account], memory, clock=clock)
    with pytest.raises(SagaflowError, match="no state 'missing'; it has: "):
        await in_state(orchestrator, "missing")
    wrong: Any = 7
    with pytest.raises(SagaflowError, match="neither a timedelta nor an aware datetime"):
        await stale(orchestrator, wrong)
