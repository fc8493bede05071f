"""The rules of the state machine: each a step of a history, chosen at random."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import anyio
from attrs import evolve, field, frozen
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from sagaflow.testing._exploring.checks import Problem
from sagaflow.testing._exploring.findings import Happened
from sagaflow.testing._exploring.runner import Ran
from sagaflow.testing._exploring.search import (
    Notebook,
    Subject,
    following,
    happening,
    leads_on,
    troubled,
)
from sagaflow.testing._exploring.steps import Advance, Deliver, Retry, Silence, Step
from sagaflow.testing._exploring.world import Move, World, moves

_MOST_STEPS = 200
_REMEMBERED = 10_000
_CHOICE = strategies.integers(min_value=0, max_value=255)


@frozen(kw_only=True)
class Rest:
    """Where every run of a machine begins, and what has been run already.

    :ivar faults: how many things may go wrong in one run.
    :ivar backend: the runtime.
    """

    subject: Subject
    start: World
    faults: int
    backend: str
    _known: dict[str, Ran] = field(factory=dict[str, Ran], init=False)

    def run(self, world: World, path: tuple[Happened, ...], step: Step) -> Ran:
        """Run a step at the end of a path; Hypothesis goes the same ways again and again."""
        key = repr(([happened.step for happened in path], step))
        ran = self._known.get(key)
        if ran is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            ran = anyio.run(partial(self.subject.runner.run, world, step), backend=self.backend)
            self._known[key] = ran
        return ran


class SagaMachine(RuleBasedStateMachine):
    """One saga and the world around it.

    :ivar path: what has happened so far.
    """

    rest: Rest

    def __init__(self) -> None:
        super().__init__()
        self._enter(self.rest.start)
        self._faults = self.rest.faults
        self.path: tuple[Happened, ...] = ()
        self._has_failed = False

    @precondition(lambda self: self._of(Deliver))
    @rule(choice=_CHOICE)
    def deliver(self, choice: int) -> None:
        """Deliver one of the events that are to come."""
        self._take(_chosen(self._of(Deliver), choice))

    @precondition(lambda self: self._of(Silence))
    @rule(choice=_CHOICE)
    def never_answer(self, choice: int) -> None:
        """Leave one of the commands without an answer."""
        self._take(_chosen(self._of(Silence), choice))

    @precondition(lambda self: self._of(Advance))
    @rule()
    def advance(self) -> None:
        """Let time pass until something is due."""
        self._take(Move(Advance()))

    @precondition(lambda self: self._of(Retry))
    @rule(choice=_CHOICE)
    def retry(self, choice: int) -> None:
        """Have an operator repair what failed."""
        self._take(_chosen(self._of(Retry), choice))

    @precondition(lambda self: self._faults and self._world.delivered)
    @rule(choice=_CHOICE)
    def deliver_again(self, choice: int) -> None:
        """Deliver an event a second time."""
        earlier = self._world.delivered[choice % len(self._world.delivered)]
        self._faults -= 1
        self._take(Move(Deliver(earlier.event, earlier.message_id)))

    @precondition(lambda self: self._faults and self._of(Deliver, Advance))
    @rule(choice=_CHOICE, trouble=_CHOICE)
    def go_wrong(self, choice: int, trouble: int) -> None:
        """Take a step in which a method raises or the process is gone."""
        move = _chosen(self._of(Deliver, Advance), choice)
        steps = list(troubled(move.step, self._run(move)))
        if steps:
            self._faults -= 1
            self._take(evolve(move, step=steps[trouble % len(steps)]))

    @precondition(lambda self: self._is_at_rest())
    @rule()
    def rest_a_while(self) -> None:
        """Do nothing, since nothing can happen."""

    def teardown(self) -> None:
        """Let happen what is still to come: the saga must not get stuck on the way."""
        for _ in range(_MOST_STEPS):
            going = [move for move in self._still_to_come() if self._goes_on(move)]
            if self._has_failed or not going:
                break
            self._take(going[0])

    def _is_at_rest(self) -> bool:
        may_fail = self._faults and self._world.delivered
        return not may_fail and not self._of(Deliver, Silence, Advance, Retry)

    def _of(self, *kinds: type) -> list[Move]:
        return [move for move in self._moves if isinstance(move.step, kinds)]

    def _enter(self, world: World) -> None:
        self._world = world
        self._moves = list(moves(self.rest.subject.saga, world))

    def _still_to_come(self) -> list[Move]:
        """Return the steps that the world will take, answers before silence."""
        possible = [move for move in self._moves if move.is_counted_on]
        return sorted(possible, key=lambda move: isinstance(move.step, Silence))

    def _run(self, move: Move) -> Ran:
        return self.rest.run(self._world, self.path, move.step)

    def _take(self, move: Move) -> None:
        self._go_on(move, self._run(move))

    def _go_on(self, move: Move, ran: Ran) -> None:
        self.path = (*self.path, happening(self._world, move.step, ran))
        after = following(move, self._world, ran, self._faults)
        problems = list(self.rest.subject.checks.after(ran))
        if after is not None:
            self._faults = after[1]
            self._enter(after[0])
        self._fail(problems)
        self._check_that_it_goes_on()

    def _check_that_it_goes_on(self) -> None:
        """Fail if the saga waits, and nothing that the world will do leads on."""
        checks = self.rest.subject.checks
        stuck = list(checks.stuck(self._world, nothing_else_comes=True))
        if not stuck or any(leads_on(move, self._run(move)) for move in self._still_to_come()):
            return
        for problem, came in stuck:
            self._fail([problem], nothing_else_comes=not came)

    def _goes_on(self, move: Move) -> bool:
        return isinstance(move.step, Retry) or leads_on(move, self._run(move))

    def _fail(self, problems: Iterable[Problem], *, nothing_else_comes: bool = False) -> None:
        notes = Notebook(self.rest.subject.teller)
        for problem in problems:
            notes.note(problem, self.path, self._world, nothing_else_comes=nothing_else_comes)
        for finding in notes.findings():
            self._has_failed = True
            raise AssertionError(str(finding))


def _chosen(possible: list[Move], choice: int) -> Move:
    return possible[choice % len(possible)]


def machine(rest: Rest) -> type[RuleBasedStateMachine]:
    """Return the machine for one saga class."""
    name = f"{rest.subject.saga.__name__}Machine"
    body: dict[str, Any] = {
        "rest": rest,
        "__module__": rest.subject.saga.__module__,
        "__doc__": f"Looks for a history that breaks {rest.subject.saga.__name__}.",
    }
    return type(name, (SagaMachine,), body)
