"""Where a transition starts: ``initially``, ``during(State)``, ``during_any``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar, overload

from sagaflow._definition.arguments import check_event_class, check_state, may_correlate
from sagaflow._definition.chain import Declaration, EventChain, Link, Sources
from sagaflow._definition.origin import Origin
from sagaflow._definition.state import State
from sagaflow._definition.timeout import TimeoutChain
from sagaflow._model.ids import SagaId

E1 = TypeVar("E1")
E2 = TypeVar("E2")
E3 = TypeVar("E3")
E4 = TypeVar("E4")


class Source(Link):
    """The states that a transition starts from."""

    _remedy = "go on with .on(Event)"

    def __init__(self, sources: Sources, states: tuple[State, ...], origin: Origin | None) -> None:
        self._sources = sources
        self._states = states
        if origin is not None:
            super().__init__(Declaration(origin=origin, sources=sources, states=states))

    def __repr__(self) -> str:
        match self._sources:
            case Sources.INITIAL:
                return "initially"
            case Sources.ANY:
                return "during_any"
            case Sources.NAMED:
                return f"during({', '.join(state.name for state in self._states)})"

    def _origin(self) -> Origin:
        return super()._origin() if self._sources is Sources.NAMED else Origin.of_caller()

    @overload
    def on(
        self, e1: type[E1], /, *, by: str | Callable[[E1], SagaId | None] | None = None
    ) -> EventChain[E1]: ...

    @overload
    def on(
        self,
        e1: type[E1],
        e2: type[E2],
        /,
        *,
        by: str | Callable[[E1 | E2], SagaId | None] | None = None,
    ) -> EventChain[E1 | E2]: ...

    @overload
    def on(
        self,
        e1: type[E1],
        e2: type[E2],
        e3: type[E3],
        /,
        *,
        by: str | Callable[[E1 | E2 | E3], SagaId | None] | None = None,
    ) -> EventChain[E1 | E2 | E3]: ...

    @overload
    def on(
        self,
        e1: type[E1],
        e2: type[E2],
        e3: type[E3],
        e4: type[E4],
        /,
        *more: type[Any],
        by: str | Callable[[Any], SagaId | None] | None = None,
    ) -> EventChain[E1 | E2 | E3 | E4]: ...

    def on(
        self, *events: type[Any], by: str | Callable[[Any], SagaId | None] | None = None
    ) -> EventChain[Any]:
        """Name the events that the transition takes; an event of a subclass matches too.

        :param events: classes of events.
        :param by: where an event of these classes keeps the correlation id: the name of an
            attribute, or a callable that is given the event.
        :raises SagaDefinitionError: if an event is no class, or has no attribute of that name.
        """
        origin = Origin.of_caller()
        if self._sources is Sources.NAMED:
            origin.end(self)
        if not events:
            raise origin.error("on() needs a class of events: .on(OrderPlaced)")
        for event in events:
            check_event_class(event, by, origin)
        if not may_correlate(by):
            raise origin.error(f"by= takes an attribute's name or a callable, not {by!r}")
        return EventChain(
            Declaration(
                origin=origin, sources=self._sources, states=self._states, events=events, by=by
            )
        )


class WaitingSource(Source):
    """States in which a saga waits, so that a timeout may end the waiting."""

    _remedy = "go on with .on(Event) or .after(delay)"

    def after(self, delay: timedelta) -> TimeoutChain:
        """Name how long after entering the state the transition is taken.

        The timeout is stored in the write that enters the state, and is gone once the state is
        left; ``stay()`` neither ends nor prolongs it. Its handler takes ``(self, ctx)``.

        :param delay: more than nothing.
        :raises SagaDefinitionError: if *delay* is not a positive timedelta.
        """
        origin = Origin.of_caller()
        if self._sources is Sources.NAMED:
            origin.end(self)
        given: object = delay
        if not _is_positive(given):
            raise origin.error(f"after() takes a positive timedelta, not {delay!r}")
        return TimeoutChain(
            Declaration(origin=origin, sources=self._sources, states=self._states, after=delay)
        )


def _is_positive(given: object) -> bool:
    return isinstance(given, timedelta) and given > timedelta(0)


def during(*states: State) -> WaitingSource:
    """Begin a transition that starts from these states.

    :param states: at least one.
    :raises SagaDefinitionError: if there is none, or one of them is no state.
    """
    origin = Origin.of_caller()
    if not states:
        raise origin.error("during() needs a state: name one, or use during_any for all of them")
    for state in states:
        check_state(state, "during", origin)
    return WaitingSource(Sources.NAMED, states, origin)


initially: Final = Source(Sources.INITIAL, (), None)
"""Begin a transition that starts a saga."""

during_any: Final = WaitingSource(Sources.ANY, (), None)
"""Begin a transition from every state that is not final; one that names its state wins over it."""
