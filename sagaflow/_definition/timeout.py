"""The chains of timeouts: ``during(State).after(delay).goto(Next)``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, overload

import attrs

from sagaflow._definition.arguments import TIMEOUT_HANDLER
from sagaflow._definition.chain import Finished, Link
from sagaflow._definition.context import Context
from sagaflow._definition.state import State
from sagaflow._definition.table import Action

ResultT_co = TypeVar("ResultT_co", covariant=True)
SagaT = TypeVar("SagaT")


class Timeout(Finished, Generic[ResultT_co]):
    """What happens when the saga has waited too long: a decorator, or a class attribute."""

    @overload
    def __call__(
        self, handler: Callable[[SagaT, Context], Coroutine[Any, Any, ResultT_co]], /
    ) -> Callable[[SagaT, Context], Coroutine[object, object, ResultT_co]]: ...

    @overload
    def __call__(
        self, handler: Callable[[SagaT, Context], ResultT_co], /
    ) -> Callable[[SagaT, Context], ResultT_co]: ...

    def __call__(self, handler: Any, /) -> Any:
        """Mark *handler* with this timeout and return it unchanged."""
        return self.mark(handler, TIMEOUT_HANDLER)


class CompensatingTimeoutChain(Link):
    """A timeout that undoes the completed steps before it enters the next state."""

    _remedy = "end it with .goto(state) or .branch(a, b)"

    def goto(self, state: State) -> Timeout[None]:
        """Undo the completed steps, last first, and then enter *state*.

        :param state: the next state.
        :raises SagaDefinitionError: if *state* is no state.
        """
        return Timeout(self._ended(Action.GOTO, state), self)

    def branch(self, first: State, *others: State) -> Timeout[State]:
        """Undo the completed steps, last first, and then enter the state the handler returns.

        :param first: one state that the handler may return.
        :param others: the further states that it may return.
        :raises SagaDefinitionError: if one of them is no state.
        """
        return Timeout(self._ended(Action.BRANCH, first, *others), self)


class TimeoutChain(Link):
    """A chain that knows its delay and waits for its end."""

    _remedy = "end it with .goto(state), .stay() or .branch(a, b)"

    def goto(self, state: State) -> Timeout[None]:
        """Enter *state* once the handler has run.

        :param state: the next state.
        :raises SagaDefinitionError: if *state* is no state.
        """
        return Timeout(self._ended(Action.GOTO, state), self)

    def stay(self) -> Timeout[None]:
        """Run the handler, once, and stay in the state."""
        return Timeout(self._ended(Action.STAY), self)

    def branch(self, first: State, *others: State) -> Timeout[State]:
        """Enter the one of these states that the handler returns.

        :param first: one state that the handler may return.
        :param others: the further states that it may return.
        :raises SagaDefinitionError: if one of them is no state.
        """
        return Timeout(self._ended(Action.BRANCH, first, *others), self)

    def compensate(self) -> CompensatingTimeoutChain:
        """Undo the completed steps, last first, before the next state is entered."""
        return CompensatingTimeoutChain(attrs.evolve(self._declaration, compensates=True), self)
