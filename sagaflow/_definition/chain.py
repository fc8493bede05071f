"""The chains that a saga class is written with: ``during(State).on(Event).goto(Next)``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Protocol, TypeVar, overload

import attrs
from attrs import frozen

from sagaflow._definition.arguments import (
    EVENT_HANDLER,
    check_guard,
    check_handler,
    check_state,
)
from sagaflow._definition.context import Context
from sagaflow._definition.origin import Origin
from sagaflow._definition.state import State
from sagaflow._definition.table import Action, Correlator, Guard
from sagaflow._model.errors import SagaDefinitionError

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)
EventT_contra = TypeVar("EventT_contra", contravariant=True)
HandledT = TypeVar("HandledT")
HandledT_contra = TypeVar("HandledT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)
SagaT = TypeVar("SagaT")
SagaT_contra = TypeVar("SagaT_contra", contravariant=True)

TRANSITIONS: Final = "__sagaflow_transitions__"
COMPENSATED: Final = "__sagaflow_compensates__"


class Handler(Protocol[SagaT_contra, EventT_contra, HandledT_contra, ResultT_co]):
    """A method that takes the events of its chain, and possibly more.

    The type of the method's own parameter is kept beside that of the chain, because a method may
    stand under several chains. In what a decorator returns, the parts of a Coroutine that nobody
    uses are `object`: with `Any` there mypy would give up on the overloads of the next decorator.
    """

    @overload
    def __call__(
        self, saga: SagaT_contra, event: HandledT_contra, ctx: Context, /
    ) -> ResultT_co: ...

    @overload
    def __call__(self, saga: SagaT_contra, event: EventT_contra, ctx: Context, /) -> ResultT_co: ...


class Sources(Enum):
    """The kinds of states that a transition starts from."""

    INITIAL = "initially"
    NAMED = "during"
    ANY = "during_any"


@frozen(kw_only=True)
class Declaration:
    """What one chain says, before the class is known."""

    origin: Origin
    sources: Sources
    states: tuple[State, ...] = ()
    events: tuple[type, ...] = ()
    after: timedelta | None = None
    by: Correlator | None = None
    guards: tuple[Guard, ...] = ()
    action: Action = Action.STAY
    targets: tuple[State, ...] = ()
    compensates: bool = False


class Link:
    """A part of a chain. The class body remembers which chains have no end yet."""

    _remedy = "end it with .goto(state), .stay(), .branch(a, b), .ignore() or .defer()"

    def __init__(self, declaration: Declaration, previous: Link | None = None) -> None:
        self._declaration = declaration
        origin = declaration.origin
        if previous is not None:
            origin.end(previous)
        origin.begin(self)

    @property
    def problem(self) -> str:
        """What is wrong if the chain ends here, and what to do."""
        return f"this chain is not finished: {self._remedy}"

    def unused(self) -> SagaDefinitionError:
        """Return the error for a chain that leads nowhere."""
        return self._declaration.origin.error(self.problem)

    if not TYPE_CHECKING:  # pragma: no branch

        def __call__(self, handler: object = None, /, *_: object) -> NoReturn:
            raise self._origin().error(self.problem, method=getattr(handler, "__name__", None))

    def _origin(self) -> Origin:
        return self._declaration.origin

    def _ended(self, action: Action, *targets: State) -> Declaration:
        """Return what the chain says once it ends like this.

        :raises SagaDefinitionError: if a target is no state.
        """
        for target in targets:
            check_state(target, action.value, self._declaration.origin)
        return attrs.evolve(self._declaration, action=action, targets=targets)


class Finished(Link):
    """A finished chain: a decorator for its handler, or a class attribute if there is no code."""

    _handler: str | None = None

    @property
    def declaration(self) -> Declaration:
        """What the chain says."""
        return self._declaration

    def unused(self) -> SagaDefinitionError:
        """Return the error for a transition with neither handler nor name."""
        if self._handler is not None:
            return lost(self._declaration.origin, self._handler, "transition")
        return self._declaration.origin.error(
            "this transition has neither a handler nor a name of its own: decorate a method with "
            "it (@...), or assign it to a class attribute that nothing else is assigned to"
        )

    def mark(self, handler: Any, expected: str) -> Any:
        """Mark *handler* with this transition and return it unchanged."""
        origin, action = self._declaration.origin, self._declaration.action
        if action in (Action.IGNORE, Action.DEFER):
            raise origin.error(
                f"{action.value}() runs no code: assign the chain to a class attribute, "
                "or end it with .stay() to keep the handler",
                method=getattr(handler, "__name__", None),
            )
        check_handler(handler, origin, expected)
        self._handler = handler.__name__
        marks: list[Finished] = handler.__dict__.setdefault(TRANSITIONS, [])
        marks.insert(0, self)  # decorators apply from the bottom up
        return handler


class Transition(Finished, Generic[EventT_co, ResultT_co]):
    """What an event does: a decorator for its handler, or a class attribute."""

    @overload
    def __call__(
        self, handler: Handler[SagaT, EventT_co, HandledT, Coroutine[Any, Any, ResultT_co]], /
    ) -> Callable[[SagaT, HandledT, Context], Coroutine[object, object, ResultT_co]]: ...

    @overload
    def __call__(
        self, handler: Handler[SagaT, EventT_co, HandledT, ResultT_co], /
    ) -> Callable[[SagaT, HandledT, Context], ResultT_co]: ...

    def __call__(self, handler: Any, /) -> Any:
        """Mark *handler* with this transition and return it unchanged."""
        return self.mark(handler, EVENT_HANDLER)


class CompensatingChain(Link, Generic[EventT]):
    """A chain that undoes the completed steps before it enters the next state."""

    _remedy = "end it with .goto(state) or .branch(a, b)"

    def goto(self, state: State) -> Transition[EventT, None]:
        """Undo the completed steps, last first, and then enter *state*.

        :param state: the next state.
        :raises SagaDefinitionError: if *state* is no state.
        """
        return Transition(self._ended(Action.GOTO, state), self)

    def branch(self, first: State, *others: State) -> Transition[EventT, State]:
        """Undo the completed steps, last first, and then enter the state the handler returns.

        :param first: one state that the handler may return.
        :param others: the further states that it may return.
        :raises SagaDefinitionError: if one of them is no state.
        """
        return Transition(self._ended(Action.BRANCH, first, *others), self)


class EventChain(Link, Generic[EventT]):
    """A chain that knows its events and waits for its end."""

    def when(self, predicate: Callable[[Any, EventT], bool]) -> EventChain[EventT]:
        """Take the transition only if ``predicate(saga, event)`` holds.

        The first transition whose predicates hold is taken, in the order of declaration. A
        predicate is asked once at most, and about a copy: what it changes is not stored.

        :param predicate: a plain function. The result of an async function would always count as
            true, so such a function is refused.
        :raises SagaDefinitionError: if *predicate* cannot be called like that.
        """
        check_guard(predicate, self._declaration.origin)
        guards = (*self._declaration.guards, predicate)
        return EventChain(attrs.evolve(self._declaration, guards=guards), self)

    def goto(self, state: State) -> Transition[EventT, None]:
        """Enter *state* once the handler has run. Entering the current state again counts.

        :param state: the next state.
        :raises SagaDefinitionError: if *state* is no state.
        """
        return Transition(self._ended(Action.GOTO, state), self)

    def stay(self) -> Transition[EventT, None]:
        """Run the handler and stay in the state.

        :raises SagaDefinitionError: if the transition starts the saga, which has no state yet.
        """
        self._refuse_at_start("stay() leaves the new saga without a state: use .goto(state)")
        return Transition(self._ended(Action.STAY), self)

    def branch(self, first: State, *others: State) -> Transition[EventT, State]:
        """Enter the one of these states that the handler returns.

        :param first: one state that the handler may return.
        :param others: the further states that it may return.
        :raises SagaDefinitionError: if one of them is no state.
        """
        return Transition(self._ended(Action.BRANCH, first, *others), self)

    def ignore(self) -> Transition[EventT, None]:
        """Say that the event means nothing here: no code, no write, no warning."""
        return Transition(self._ended(Action.IGNORE), self)

    def defer(self) -> Transition[EventT, None]:
        """Keep the event in the saga and offer it again after the next transition.

        From ``initially``: keep an event that arrives before its saga, for a while, and offer it
        once the saga has started.
        """
        return Transition(self._ended(Action.DEFER), self)

    def compensate(self) -> CompensatingChain[EventT]:
        """Undo the completed steps, last first, before the next state is entered.

        :raises SagaDefinitionError: if the transition starts the saga: there is nothing to undo.
        """
        self._refuse_at_start("a saga that starts has no steps to undo: leave out .compensate()")
        return CompensatingChain(attrs.evolve(self._declaration, compensates=True), self)

    def _refuse_at_start(self, problem: str) -> None:
        if self._declaration.sources is Sources.INITIAL:
            raise self._declaration.origin.error(problem)


@frozen
class Compensated:
    """What one ``@compensates(step)`` says."""

    step: object
    origin: Origin


class Compensation(Link, Generic[EventT_co]):
    """A decorator for the method that undoes a step."""

    _method: str | None = None

    def __init__(self, step: object, origin: Origin) -> None:
        self._compensated = Compensated(step, origin)
        super().__init__(Declaration(origin=origin, sources=Sources.NAMED))

    @property
    def compensated(self) -> Compensated:
        """What the decorator says."""
        return self._compensated

    @property
    def problem(self) -> str:
        """What is wrong if the decorator stands above no method, and what to do."""
        return (
            "compensates(step) decorates the method that undoes the step: write "
            "@compensates(step) above that method"
        )

    def unused(self) -> SagaDefinitionError:
        """Return the error for a compensation without a method."""
        if self._method is not None:
            return lost(self._declaration.origin, self._method, "compensation")
        return super().unused()

    @overload
    def __call__(
        self, method: Handler[SagaT, EventT_co, HandledT, Coroutine[Any, Any, None]], /
    ) -> Callable[[SagaT, HandledT, Context], Coroutine[object, object, None]]: ...

    @overload
    def __call__(
        self, method: Handler[SagaT, EventT_co, HandledT, None], /
    ) -> Callable[[SagaT, HandledT, Context], None]: ...

    def __call__(self, method: Any, /) -> Any:
        """Mark *method* as what undoes the step and return it unchanged."""
        check_handler(method, self._declaration.origin)
        self._method = method.__name__
        marks: list[Compensation[Any]] = method.__dict__.setdefault(COMPENSATED, [])
        marks.insert(0, self)
        return method


def compensates(
    step: Callable[[Any, EventT, Context], object] | Transition[EventT, Any],
) -> Compensation[EventT]:
    """Declare the method that undoes *step*.

    The write that stores the step also records the method and the event that the step handled. When
    the saga is compensated, the method is called with that event.

    :param step: the step itself, not its name.
    :raises SagaDefinitionError: if *step* is a name.
    """
    origin = Origin.of_caller()
    if isinstance(step, str):
        raise origin.error(
            f"compensates() takes the step itself, not its name: write @compensates({step})"
        )
    return Compensation(step, origin)


def lost(origin: Origin, handler: str, what: str) -> SagaDefinitionError:
    """Return the error for a mark on a method that is not in the class in the end."""
    return origin.error(
        f"its {what} would be lost, because the class has no such method in the end: give every "
        f"method a name of its own, and put the @... of a {what} above all other decorators",
        method=handler,
    )
