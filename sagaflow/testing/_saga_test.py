"""Given, when, then: a saga under test, without a server, a thread or a sleep."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Literal, Self, TypeVar

import anyio

from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.services import svcs
from sagaflow.abc import SagaRepository
from sagaflow.testing._checks import SagaChecks
from sagaflow.testing._clock import ManualClock
from sagaflow.testing._report import explained
from sagaflow.testing._stage import build_stage

SagaT = TypeVar("SagaT", bound=Saga)


class AsyncSagaTest(SagaChecks[SagaT]):
    """One saga under test, for asynchronous tests, on asyncio and trio.

    It runs the real orchestrator on a repository in memory, with a clock that stands still and
    participants that follow a script; nothing runs in the background.

    :param saga_type: the class of the saga.
    :param correlation_id: which saga it is about, by default that of its first event. Events that
        do not say which saga they mean go to this one.
    :param clock: the clock to use.
    :param repository: where to store the saga.
    :param services: what ``ctx.services`` offers.
    :param messages: message classes that the saga's own code does not mention.
    :param retry: how failing work is tried again.
    """

    def __init__(
        self,
        saga_type: type[SagaT],
        correlation_id: SagaId | None = None,
        *,
        clock: ManualClock | None = None,
        repository: SagaRepository | None = None,
        services: svcs.Registry | None = None,
        messages: Iterable[type] = (),
        retry: RetryPolicy | None = None,
    ) -> None:
        super().__init__(
            build_stage(
                saga_type,
                correlation_id,
                clock=clock,
                repository=repository,
                services=services,
                messages=messages,
                retry=retry,
            )
        )

    async def given(self, *events: object) -> Self:
        """Have the saga take events that are past: nobody answers what it sends because of them.

        :raises SagaflowError: if the saga does not act on one of them.
        """
        await self._stage.given(events)
        return self

    async def given_state(
        self,
        state: State,
        saga: SagaT | None = None,
        *,
        completed: Iterable[tuple[Callable[..., object], object]] = (),
    ) -> Self:
        """Put a saga into a state, as if it had just entered it.

        :param saga: its data, by default that of a new one.
        :param completed: the steps that would be undone, first one first, each with its event.
        :raises SagaflowError: if it cannot be like that, or nothing says which saga it is.
        """
        await self._stage.put(state, saga, completed)
        return self

    async def when(
        self,
        event: object,
        *,
        message_id: MessageId | None = None,
        correlation_id: SagaId | None = None,
        raises: type[Exception] | None = None,
        match: str | None = None,
    ) -> Self:
        """Have the saga take an event, and all that follows at this instant, answers included.

        :param message_id: what a second delivery is recognised by.
        :param correlation_id: which saga it is for, if the event does not say.
        :param raises: the error that its handler is expected to raise; it is not raised here.
        :param match: a regular expression to find in what the error says.
        :raises AssertionError: if the expected error is not raised.
        :raises Exception: whatever the handler raises otherwise.
        """
        with self._expecting(raises, match):
            await self._stage.when(event, message_id=message_id, correlation_id=correlation_id)
        return self

    async def advance(self, by: timedelta) -> Self:
        """Move the clock forward, stopping wherever a timer, an answer or a retry is due.

        :raises SagaflowError: if *by* is negative, or things happen without end until then.
        """
        await self._stage.advance(by)
        return self

    async def retry(self) -> Self:
        """Do as an operator who has what suspended the saga tried again."""
        await self._stage.operate(self._stage.orchestrator.retry)
        return self

    async def skip(self) -> Self:
        """Do as an operator who has what suspended the saga left out."""
        await self._stage.operate(self._stage.orchestrator.skip)
        return self

    async def cancel(self, *, state: State | None = None) -> Self:
        """Do as an operator who has the saga undo its steps and end.

        :param state: the final state it ends in; the one it is in by default.
        """
        await self._stage.operate(partial(self._stage.orchestrator.cancel, state=state))
        return self

    @contextmanager
    def _expecting(self, raises: type[Exception] | None, match: str | None) -> Generator[None]:
        if raises is None:
            yield
            return
        try:
            yield
        except raises as exc:
            if match is not None and re.search(match, str(exc)) is None:
                wrong = f"{raises.__name__} says {str(exc)!r}, in which {match!r} is not found"
                raise AssertionError(explained(self._stage, [wrong])) from exc
        else:
            wrong = f"{raises.__name__} was expected, and nothing was raised"
            raise AssertionError(explained(self._stage, [wrong]))


class SagaTest(SagaChecks[SagaT]):
    """One saga under test, for plain functions: each call runs an event loop of its own.

    :param runtime: on which library it runs.

    The other parameters, and everything that it does, are those of `AsyncSagaTest`.
    """

    def __init__(  # noqa: PLR0913 - those of the orchestrator, by name
        self,
        saga_type: type[SagaT],
        correlation_id: SagaId | None = None,
        *,
        clock: ManualClock | None = None,
        repository: SagaRepository | None = None,
        services: svcs.Registry | None = None,
        messages: Iterable[type] = (),
        retry: RetryPolicy | None = None,
        runtime: Literal["asyncio", "trio"] = "asyncio",
    ) -> None:
        self._inner = AsyncSagaTest(
            saga_type,
            correlation_id,
            clock=clock,
            repository=repository,
            services=services,
            messages=messages,
            retry=retry,
        )
        self._runtime = runtime
        super().__init__(self._inner._stage)  # noqa: SLF001 - two ways to play on one stage

    def given(self, *events: object) -> Self:
        """Have the saga take events that are past; see `AsyncSagaTest.given`."""
        return self._run(partial(self._inner.given, *events))

    def given_state(
        self,
        state: State,
        saga: SagaT | None = None,
        *,
        completed: Iterable[tuple[Callable[..., object], object]] = (),
    ) -> Self:
        """Put a saga into a state; see `AsyncSagaTest.given_state`."""
        return self._run(partial(self._inner.given_state, state, saga, completed=completed))

    def when(
        self,
        event: object,
        *,
        message_id: MessageId | None = None,
        correlation_id: SagaId | None = None,
        raises: type[Exception] | None = None,
        match: str | None = None,
    ) -> Self:
        """Have the saga take an event; see `AsyncSagaTest.when`."""
        return self._run(
            partial(
                self._inner.when,
                event,
                message_id=message_id,
                correlation_id=correlation_id,
                raises=raises,
                match=match,
            )
        )

    def advance(self, by: timedelta) -> Self:
        """Move the clock forward; see `AsyncSagaTest.advance`."""
        return self._run(partial(self._inner.advance, by))

    def retry(self) -> Self:
        """Have what suspended the saga tried again; see `AsyncSagaTest.retry`."""
        return self._run(self._inner.retry)

    def skip(self) -> Self:
        """Have what suspended the saga left out; see `AsyncSagaTest.skip`."""
        return self._run(self._inner.skip)

    def cancel(self, *, state: State | None = None) -> Self:
        """Have the saga undo its steps and end; see `AsyncSagaTest.cancel`."""
        return self._run(partial(self._inner.cancel, state=state))

    def _run(self, act: Callable[[], Awaitable[object]]) -> Self:
        __tracebackhide__ = True
        running = False

        async def main() -> None:
            nonlocal running
            running = True
            await act()

        try:
            anyio.run(main, backend=self._runtime)
        except RuntimeError as exc:
            if running:
                raise
            raise SagaflowError(
                "SagaTest runs an event loop of its own, and there is one already: use "
                "AsyncSagaTest in asynchronous tests"
            ) from exc
        return self
