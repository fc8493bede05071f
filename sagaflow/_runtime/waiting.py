"""Waits until a saga has come as far as somebody wants, whichever process takes it there."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypeVar

import anyio
from attrs import frozen

from sagaflow._codec.instance import Instance
from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._engine.backoff import bound
from sagaflow._model.errors import (
    SagaflowError,
    ServerUnavailableError,
    WaitError,
    WaitTimeoutError,
)
from sagaflow._model.ids import SagaId, check_id, saga_key
from sagaflow._model.record import SagaRecord, Status
from sagaflow._runtime.process import Process
from sagaflow._runtime.store import Store

SagaT = TypeVar("SagaT", bound=Saga)

_FIRST_PAUSE: Final = timedelta(milliseconds=10)
_LONGEST_PAUSE: Final = timedelta(milliseconds=250)


@frozen
class Goal:
    """What somebody waits for.

    :ivar state: the name of the state; None for any final one.
    """

    state: str | None

    def is_met(self, state: str, status: Status) -> bool:
        """Tell whether a saga is there."""
        return status is Status.FINISHED if self.state is None else state == self.state

    def __str__(self) -> str:
        return "finished" if self.state is None else f"in the state {self.state!r}"


def goal_of(saga_type: type[Saga], *, finished: bool, state: State | str | None) -> Goal:
    """Return what a caller waits for.

    :raises ValueError: if it says nothing of that, or two things.
    :raises SagaflowError: if the class has no such state.
    """
    if finished == (state is not None):
        raise ValueError("wait_for() takes either finished=True or state=")
    if state is None:
        return Goal(None)
    name = state.name if isinstance(state, State) else state
    if saga_type.table.state(name) is None:
        states = ", ".join(known.name for known in saga_type.table.states)
        raise SagaflowError(f"{saga_type.__name__} has no state {name!r}; it has: {states}")
    return Goal(name)


@frozen
class Waiting:
    """Looks at sagas for those who wait for them."""

    process: Process
    store: Store

    async def wait_for(
        self,
        saga_type: type[SagaT],
        correlation_id: SagaId,
        goal: Goal,
        timeout: timedelta,  # noqa: ASYNC109 - tells what took too long
    ) -> Instance[SagaT]:
        """Return a saga once it has come as far as *goal* says; see `Orchestrator.wait_for`."""
        saga, known = saga_type.table.saga, check_id(correlation_id)
        seen: Instance[SagaT] | None = None
        outage: ServerUnavailableError | None = None
        looks = 0

        def concerns(record: SagaRecord) -> bool:
            return record.suspension is not None or (
                record.status is Status.FINISHED or goal.is_met(record.state, record.status)
            )

        with (
            self.store.watches.watch(saga_key(saga, known), concerns) as watch,
            anyio.move_on_after(timeout.total_seconds()),
        ):
            while True:
                watch.rearm()
                try:
                    seen, outage = await self._look(saga_type, known), None
                except ServerUnavailableError as exc:
                    outage = exc
                if seen is not None and outage is None:
                    if goal.is_met(seen.state.name, seen.status):
                        return seen
                    _refuse_if_hopeless(saga, seen, goal)
                pause = bound(_FIRST_PAUSE, _LONGEST_PAUSE, looks) * (
                    0.5 + self.process.random() / 2
                )
                looks += 1
                with anyio.move_on_after(pause.total_seconds()):
                    await watch.wait()
        raise WaitTimeoutError(
            saga, known, str(goal), timeout, _told(seen), None if seen is None else seen.state.name
        ) from outage

    async def _look(self, saga_type: type[SagaT], correlation_id: SagaId) -> Instance[SagaT] | None:
        return await self.store.repository.find(
            saga_type, correlation_id, now=self.process.clock.now()
        )


def _refuse_if_hopeless(saga: str, seen: Instance[Saga], goal: Goal) -> None:
    """Refuse to wait for what will not come by itself.

    :raises WaitError: if the saga is suspended, or has ended elsewhere.
    """
    if seen.status is Status.FINISHED or seen.suspension is not None:
        raise WaitError(saga, seen.correlation_id, str(goal), _told(seen), seen.state.name)


def _told(seen: Instance[Saga] | None) -> str:
    """Say how a saga is."""
    if seen is None:
        return "there is no such saga, or it has been removed"
    where = f"the state {seen.state.name!r}"
    if seen.suspension is not None:
        return (
            f"it is suspended in {where} ({seen.suspension.reason.value}) until an operator "
            "retries, skips or cancels it"
        )
    if seen.status is Status.FINISHED:
        return f"it has ended in {where}"
    return f"it is {seen.status.value} in {where}"
