"""Questions that a test can ask about a saga, and what it can assert."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar

import attrs

from sagaflow._codec.instance import Instance
from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._engine.outcome import Outcome, OutcomeKind
from sagaflow._model.envelope import COMMAND, EVENT
from sagaflow._model.errors import SagaflowError
from sagaflow._model.record import RecordedCompensation, Status
from sagaflow.testing._clock import ManualClock
from sagaflow.testing._expected import (
    Containing,
    InAnyOrder,
    Messages,
    are_as_expected,
    resolved,
)
from sagaflow.testing._participants import Participant
from sagaflow.testing._report import difference, explained
from sagaflow.testing._stage import Stage

SagaT = TypeVar("SagaT", bound=Saga)
MessageT = TypeVar("MessageT")

SagaStep: TypeAlias = str | Callable[..., object]
"""A step of a saga, or what undoes one: the method, the named transition, or its name."""


class SagaChecks(Generic[SagaT]):
    """What `SagaTest` and `AsyncSagaTest` have in common: scripts, results and assertions.

    Messages count as sent or published, and steps as undone, if that has happened since the last
    ``given``, or since the first ``when`` or ``advance`` after the last `then`.
    """

    def __init__(self, stage: Stage[SagaT]) -> None:
        self._stage = stage

    def on(self, message_type: type[MessageT]) -> Participant[MessageT]:
        """Script what becomes of the messages of a class that the saga sends or publishes.

        A message that no script is for is taken and not answered. Asked for the same class again,
        the script starts anew.
        """
        return self._stage.participants.on(message_type)

    @property
    def clock(self) -> ManualClock:
        """The clock of this test; moving it by hand fires no timer, `advance` does."""
        return self._stage.clock

    @property
    def instance(self) -> Instance[SagaT]:
        """The saga as it is stored.

        :raises AssertionError: if there is none.
        """
        found = self._stage.instance
        if found is None:
            raise AssertionError(explained(self._stage, ["there is no such saga"]))
        return found

    @property
    def saga(self) -> SagaT:
        """The data of the saga: a copy."""
        return self.instance.saga

    @property
    def state(self) -> State:
        """The state that the saga is in."""
        return self.instance.state

    @property
    def outcome(self) -> Outcome | None:
        """What became of the last event of ``when``; None if there was none."""
        return self._stage.outcome

    @property
    def sent(self) -> list[object]:
        """The commands that the saga has sent, in order."""
        return [told.body for told in self._stage.told if told.kind == COMMAND]

    @property
    def published(self) -> list[object]:
        """The events that the saga has published, in order."""
        return [told.body for told in self._stage.told if told.kind == EVENT]

    @property
    def unanswered(self) -> list[object]:
        """The commands that no script of `on` was for, in order."""
        return [t.body for t in self._stage.told if t.kind == COMMAND and not t.fate]

    def then(  # noqa: C901, PLR0912, PLR0913 - one for each thing that can be asserted
        self,
        *holds: Callable[[SagaT], bool],
        exists: bool | None = None,
        state: State | None = None,
        status: Status | None = None,
        outcome: OutcomeKind | None = None,
        data: SagaT | Mapping[str, object] | None = None,
        sent: Messages | None = None,
        published: Messages | None = None,
        messages: Messages | None = None,
        unanswered: Messages | None = None,
        scheduled: Messages | None = None,
        timers: Mapping[str, timedelta] | None = None,
        parked: Messages | None = None,
        compensated: Sequence[SagaStep] | None = None,
    ) -> None:
        """Assert how things are, and what has happened; parameters left out are not looked at.

        Messages are given as a sequence, which is exactly these in this order, as `in_any_order`
        or as `containing`; a class stands for any instance of it. ``[]`` is nothing.

        :param holds: predicates of the saga's data.
        :param exists: whether there is such a saga.
        :param state: the state that it is in.
        :param status: what it is doing.
        :param outcome: what became of the last event of ``when``.
        :param data: the data of the saga as a whole, or the values of some fields by name.
        :param sent: the commands that it has sent.
        :param published: the events that it has published.
        :param messages: both, in the order in which they left.
        :param unanswered: the commands that no script of `on` was for.
        :param scheduled: the events that it has scheduled and that are to come, the next first.
        :param timers: everything that is to come by itself: how long from now, by the name of the
            timeout's step or the name of the schedule.
        :param parked: the events that it keeps for later.
        :param compensated: the steps that were undone, in order: each the step, or what undoes it.
        :raises AssertionError: if anything is otherwise; it says what was expected, what was found
            and how the saga got there.
        :raises SagaflowError: if the class has no such field, step or state.
        """
        __tracebackhide__ = True
        self._stage.asserted = True
        stage, found = self._stage, self._stage.instance
        wrong: list[str] = []
        if exists is not None and exists is not (found is not None):
            wrong.append(f"there is {'no' if exists else 'a'} saga")
        if outcome is not None and (stage.outcome is None or stage.outcome.kind is not outcome):
            kind = None if stage.outcome is None else stage.outcome.kind
            wrong.append(difference("outcome", *_names(outcome, kind)))
        for what, expected, actual in (
            ("sent", sent, self.sent),
            ("published", published, self.published),
            ("messages", messages, [told.body for told in stage.told]),
            ("unanswered", unanswered, self.unanswered),
        ):
            _compare(wrong, what, expected, actual)
        if compensated is not None and not self._are_undone(compensated):
            names = [stage.name_of(step) for step in compensated]
            done = [_undone(entry, names) for entry in stage.undone]
            wrong.append(difference("compensated", map(Line, names), map(Line, done)))
        needed = (state, status, data, scheduled, timers, parked)
        if found is None:
            if holds or any(expected is not None for expected in needed):
                wrong.append("there is no such saga")
        else:
            if state is not None and found.state != self._known(state):
                wrong.append(difference("state", *_names(state, found.state)))
            if status is not None and found.status is not status:
                wrong.append(difference("status", *_names(status, found.status)))
            if data is not None:
                self._compare_data(wrong, found.saga, data)
            timed = sorted(found.timers, key=lambda timer: timer.due)
            coming = [stage.decode(timer.event) for timer in timed if timer.event is not None]
            _compare(wrong, "scheduled", scheduled, coming)
            kept = [stage.decode(event.message) for event in found.parked]
            _compare(wrong, "parked", parked, kept)
            if timers is not None:
                armed = {timer.name: timer.due - stage.clock.now() for timer in timed}
                if armed != dict(timers):
                    wrong.append(difference("timers", _spans(timers), _spans(armed)))
            wrong += [_said(hold) for hold in holds if not hold(found.saga)]
        if wrong:
            raise AssertionError(explained(stage, wrong))

    def _are_undone(self, steps: Sequence[SagaStep]) -> bool:
        names, undone = [self._stage.name_of(step) for step in steps], self._stage.undone
        return len(names) == len(undone) and all(
            name in (entry.step, entry.method) for name, entry in zip(names, undone, strict=True)
        )

    def _known(self, state: State) -> State:
        if self._stage.saga_type.table.state(state.name) is None:
            raise SagaflowError(f"{self._stage.saga_type.__name__} has no {state!r}")
        return state

    def _compare_data(
        self, wrong: list[str], found: SagaT, expected: SagaT | Mapping[str, object]
    ) -> None:
        names = [attribute.name for attribute in attrs.fields(type(found))]
        if not isinstance(expected, Mapping):
            if found != expected:
                old, new = ({n: getattr(saga, n) for n in names} for saga in (expected, found))
                wrong.append(difference("data", _values(old), _values(new)))
            return
        unknown = ", ".join(repr(name) for name in expected if name not in names)
        if unknown:
            raise SagaflowError(
                f"{type(found).__name__} has no field {unknown}; it has: {', '.join(names)}"
            )
        part = {name: getattr(found, name) for name in expected}
        if part != dict(expected):
            wrong.append(difference("data", _values(expected), _values(part)))


class Line:
    """A line of a difference as it stands."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _compare(
    wrong: list[str], what: str, expected: Messages | None, found: Sequence[object]
) -> None:
    if expected is None or are_as_expected(expected, found):
        return
    wrong.append(difference(f"{what}{_how(expected)}", resolved(expected, found), found))


def _how(expected: Messages) -> str:
    if isinstance(expected, InAnyOrder):
        return ", in any order"
    return ", among others" if isinstance(expected, Containing) else ""


def _undone(entry: RecordedCompensation, expected: Sequence[str]) -> str:
    """Return the name of a step that was undone, as the test calls it."""
    return entry.method if entry.method in expected else entry.step


def _names(*values: State | Enum | None) -> list[list[object]]:
    return [[] if value is None else [Line(value.name)] for value in values]


def _values(data: Mapping[str, object]) -> list[object]:
    return [Line(f"{name} = {value!r}") for name, value in data.items()]


def _spans(timers: Mapping[str, timedelta]) -> list[object]:
    return [Line(f"{name} in {due}") for name, due in sorted(timers.items(), key=lambda t: t[1])]


def _said(hold: Callable[[Any], bool]) -> str:
    """Return the source of a predicate that does not hold."""
    try:
        lines, number = inspect.getsourcelines(hold)
    except (OSError, TypeError):
        return f"{hold!r} does not hold"
    return f"this does not hold, line {number}:\n  {lines[0].strip()}"
