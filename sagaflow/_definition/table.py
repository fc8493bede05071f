"""The transition table: what a saga class comes to, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeAlias

from attrs import Factory, field, frozen

from sagaflow._definition.state import State
from sagaflow._model.ids import SagaId

Guard: TypeAlias = Callable[[Any, Any], bool]
Correlator: TypeAlias = str | Callable[[Any], SagaId | None]


class Action(Enum):
    """What a transition does with the state."""

    GOTO = "goto"
    BRANCH = "branch"
    STAY = "stay"
    IGNORE = "ignore"
    DEFER = "defer"


@frozen(kw_only=True)
class TransitionRow:
    """One transition: for one event or one timeout, in one state.

    :ivar source: the state it leaves; None where a saga starts.
    :ivar event: the class of the event; instances of a subclass match too. None for a timeout.
    :ivar after: how long after entering the state the timeout elapses; None for an event.
    :ivar action: what it does with the state.
    :ivar targets: the states it may enter.
    :ivar guards: predicates of (saga, event) that must all hold.
    :ivar compensates: whether the completed steps are undone first.
    :ivar step: the name of its method, or of the attribute that it was assigned to.
    :ivar from_any: whether it was declared with ``during_any``.
    :ivar filename: where it was declared.
    :ivar line: where it was declared.
    """

    source: State | None
    event: type | None
    after: timedelta | None = None
    action: Action
    targets: tuple[State, ...]
    guards: tuple[Guard, ...]
    compensates: bool
    step: str
    from_any: bool
    filename: str = field(eq=False)
    line: int = field(eq=False)


def _read_only(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(dict(mapping))


@frozen(kw_only=True)
class TransitionTable:
    """Everything that a saga class says about its states. Frozen and checked.

    :ivar saga: the name of the saga, under which it is stored.
    :ivar states: every state, in the order of declaration.
    :ivar rows: every transition, in the order in which it is considered.
    :ivar compensations: the name of the method that undoes a step, by the name of the step.
    :ivar correlators: how to find the correlation id of an event, by its class (``by=``).
    :ivar correlate_by: how to find it for any other event of this saga.
    """

    saga: str
    states: tuple[State, ...]
    rows: tuple[TransitionRow, ...]
    compensations: Mapping[str, str] = field(converter=_read_only)
    correlators: Mapping[type, Correlator] = field(converter=_read_only)
    correlate_by: Correlator | None = None
    _by_name: dict[str, State] = field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(lambda self: {state.name: state for state in self.states}, takes_self=True),
    )
    _rows_of: dict[tuple[str | None, type], tuple[TransitionRow, ...]] = field(
        init=False, eq=False, repr=False, factory=dict[Any, Any]
    )
    _timeouts_of: dict[str, tuple[TransitionRow, ...]] = field(
        init=False, eq=False, repr=False, factory=dict[Any, Any]
    )
    _taken: dict[type, bool] = field(init=False, eq=False, repr=False, factory=dict[Any, Any])
    _only_starts: dict[type, bool] = field(init=False, eq=False, repr=False, factory=dict[Any, Any])

    @property
    def events(self) -> tuple[type, ...]:
        """The declared classes of events, in the order of declaration."""
        return tuple(dict.fromkeys(row.event for row in self.rows if row.event is not None))

    @property
    def initial(self) -> tuple[TransitionRow, ...]:
        """The transitions that start a saga."""
        return tuple(
            row
            for row in self.rows
            if row.source is None and row.action not in (Action.IGNORE, Action.DEFER)
        )

    def timeouts(self, state: str) -> tuple[TransitionRow, ...]:
        """Return the timeouts that are armed on entering a state; those that name it come first.

        Of several with one delay, the one that names the state is taken.
        """
        known = self._timeouts_of.get(state)
        if known is not None:
            return known
        found: dict[timedelta, TransitionRow] = {}
        for from_any in (False, True):
            for row in self.rows:
                if (
                    row.after is not None
                    and row.source is not None
                    and row.source.name == state
                    and row.from_any is from_any
                ):
                    found.setdefault(row.after, row)
        rows = self._timeouts_of[state] = tuple(found.values())
        return rows

    def state(self, name: str) -> State | None:
        """Return the state of that name, if the saga has it."""
        return self._by_name.get(name)

    def takes(self, event_type: type) -> bool:
        """Tell whether any transition takes events of this class."""
        taken = self._taken.get(event_type)
        if taken is None:
            taken = any(event in event_type.__mro__ for event in self.events)
            self._taken[event_type] = taken
        return taken

    def candidates(self, state: str | None, event_type: type) -> tuple[TransitionRow, ...]:
        """Return the transitions to consider, the first whose guards hold being the one to take.

        Those that name the state come before those of ``during_any``; within each, those of the
        most specific class of event come first, and then those declared first.

        :param state: the name of the current state; None for a saga that does not exist.
        :param event_type: the class of the event.
        """
        key = (state, event_type)
        rows = self._rows_of.get(key)
        if rows is None:
            rows = tuple(self._ranked(state, event_type))
            self._rows_of[key] = rows
        return rows

    def starts_with(self, event_type: type) -> bool:
        """Tell whether an event of this class may start a saga, or is ignored before its start."""
        return bool(self.candidates(None, event_type))

    def only_starts_with(self, event_type: type) -> bool:
        """Tell whether an event of this class may start a saga and no saga takes it later on."""
        only = self._only_starts.get(event_type)
        if only is None:
            taken = [row for row in self.rows if row.event in event_type.__mro__]
            only = all(row.source is None for row in taken) and any(
                row in self.initial for row in taken
            )
            self._only_starts[event_type] = only
        return only

    def correlator(self, event_type: type) -> Correlator | None:
        """Return how to find the correlation id of an event: ``by=``, then ``correlate_by=``."""
        for ancestor in event_type.__mro__:
            if ancestor in self.correlators:
                return self.correlators[ancestor]
        return self.correlate_by

    def _ranked(self, state: str | None, event_type: type) -> Iterator[TransitionRow]:
        here = [
            row for row in self.rows if (None if row.source is None else row.source.name) == state
        ]
        for from_any in (False, True):
            for ancestor in event_type.__mro__:
                for row in here:
                    if row.from_any is from_any and row.event is ancestor:
                        yield row
