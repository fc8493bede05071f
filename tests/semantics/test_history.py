"""The history says what kind each of its entries is, whatever steps and events are called."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby

import pytest
from attrs import frozen

from sagaflow import (
    Context,
    HistoryKind,
    MemoryBus,
    Orchestrator,
    RetryPolicy,
    Saga,
    SagaRepository,
    State,
    compensates,
    during,
    during_any,
    initially,
)
from sagaflow._codec.documents import decode_record
from sagaflow.diagrams import trail_of
from sagaflow.inspection.explanation import explain
from sagaflow.testing import ManualClock

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


@frozen
class Opened:
    key: str


@frozen
class Reported:
    key: str
    step: str


@frozen
class Used:
    """What its handler cannot do."""

    key: str


@frozen
class Undone:
    key: str


@frozen
class Later:
    key: str


class Words(Saga, correlate_by="key"):
    """Each of its steps is called by a word of the history."""

    open = State()
    waiting = State()
    done = State(final=True)

    compensation = initially.on(Opened).goto(open)
    failed = during(open).on(Reported).when(lambda _, e: e.step == "failed").stay()
    parked = during(open).on(Reported).when(lambda _, e: e.step == "parked").stay()
    suspended = during(open).on(Reported).when(lambda _, e: e.step == "suspended").stay()
    unhandled = during(open).on(Reported).when(lambda _, e: e.step == "unhandled").stay()
    ignored = during(open).on(Reported).when(lambda _, e: e.step == "ignored").stay()
    skip = during(open).on(Reported).when(lambda _, e: e.step == "skip").stay()
    operator = during(open).on(Reported).when(lambda _, e: e.step == "operator").stay()
    keep = during(open).on(Later).defer()
    timeout = during(open).after(30 * MINUTE).goto(waiting)
    cancel = during_any.on(Undone).compensate().goto(done)

    @compensates(compensation)
    def close(self, event: Opened, ctx: Context) -> None: ...

    @during(open).on(Used).stay()
    def use(self, event: Used, ctx: Context) -> None:
        raise LookupError("not there")


WORDS = ("failed", "parked", "suspended", "unhandled", "ignored", "skip", "operator")


@pytest.mark.parametrize("step", WORDS)
async def test_steps_may_be_called_by_the_words_of_the_history(
    step: str, repository: SagaRepository, clock: ManualClock
) -> None:
    """Around each there are entries of those words that are none of its transitions."""
    bus = MemoryBus()
    retry = RetryPolicy(max_age=5 * MINUTE)
    async with Orchestrator(
        [Words], repository, bus=bus, clock=clock, background=False, retry=retry
    ) as orchestrator:
        await orchestrator.handle(Opened("w"))
        await orchestrator.handle(Reported("w", step))
        await orchestrator.handle(Later("w"))
        await bus.publish(Used("w"), message_id="used")
        for _ in range(3):
            clock.advance(3 * MINUTE)
            await orchestrator.run_due()
        await orchestrator.skip(Words, "w")
        history = await told(repository, clock, step)
        assert history == [
            HistoryKind.EVENT,
            HistoryKind.PARKED,
            HistoryKind.ATTEMPT,
            HistoryKind.DROPPED,  # the event that is skipped
            HistoryKind.OPERATOR,
        ]
        clock.advance(30 * MINUTE)
        await orchestrator.run_due()
        history = await told(repository, clock, "timeout")
        assert history[-2:] == [HistoryKind.TIMEOUT, HistoryKind.DROPPED]
        await orchestrator.handle(Undone("w"))
        history = await told(repository, clock, "cancel")
        assert history[-2:] == [HistoryKind.EVENT, HistoryKind.COMPENSATION]


async def told(repository: SagaRepository, clock: ManualClock, step: str) -> list[HistoryKind]:
    """Return the kinds of what is stored, equal neighbours once.

    Whoever explains it names *step* as the last transition.
    """
    document = await repository.load_document("Words", "w", message_id=None)
    assert document is not None
    record = decode_record(document)
    said = explain(Words, record, {"Later": Later, "Used": Used}.get, clock.now())
    assert said.here[1].startswith(f"the last transition was {step!r}: ")
    trail = trail_of(Words.table, "w", record.history, record.state, record.goal)
    assert trail.steps[-1].step == step
    return [kind for kind, _ in groupby(entry.kind for entry in record.history)]
