"""Goes through all histories of a saga, breadth first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from attrs import define, evolve, field, frozen

from sagaflow._definition.saga import Saga
from sagaflow.testing._exploring.checks import Checks, Problem
from sagaflow.testing._exploring.findings import Exploration, Finding, Happened
from sagaflow.testing._exploring.runner import Ran, Runner
from sagaflow.testing._exploring.steps import Advance, Deliver, Retry, Silence, Step
from sagaflow.testing._exploring.telling import Teller, said_of_time
from sagaflow.testing._exploring.world import Move, World, moves, without


@frozen(kw_only=True)
class Subject:
    """A saga class to explore, with all that runs it, checks it and describes it."""

    saga: type[Saga]
    runner: Runner
    checks: Checks
    teller: Teller


@frozen
class _Node:
    world: World
    path: tuple[Happened, ...]
    faults: int


@define
class _Found:
    """The shortest path to one problem so far."""

    problem: Problem
    path: tuple[Happened, ...]
    world: World
    nothing_else_comes: bool
    paths: int = 1

    @property
    def length(self) -> tuple[int, int]:
        """How long the path is, and how much goes wrong on it."""
        return len(self.path), sum(_is_troubled(happened.step) for happened in self.path)


@define
class Notebook:
    """Keeps the shortest path to each problem."""

    teller: Teller
    _found: dict[Problem, _Found] = field(factory=dict[Problem, _Found], init=False)

    def note(
        self,
        problem: Problem,
        path: tuple[Happened, ...],
        world: World,
        *,
        nothing_else_comes: bool = False,
    ) -> None:
        """Keep a path, if there is none as short."""
        found = _Found(problem, path, world, nothing_else_comes)
        known = self._found.get(problem)
        if known is not None:
            found.paths = known.paths + 1
        if known is None or found.length < known.length:
            self._found[problem] = found
        else:
            known.paths = found.paths

    def findings(self) -> tuple[Finding, ...]:
        """Return all problems, the one with the shortest path first."""
        return tuple(
            self.teller.finding(
                found.problem,
                found.path,
                found.world,
                paths=found.paths,
                nothing_else_comes=found.nothing_else_comes,
            )
            for found in sorted(self._found.values(), key=lambda found: found.length)
        )


@define(kw_only=True)
class Search:
    """Explores a saga within bounds.

    :ivar depth: how many steps a history may have.
    :ivar budget: how many histories are run.
    """

    subject: Subject
    depth: int
    budget: int
    _notes: Notebook = field(init=False)
    _paths: int = field(default=0, init=False)
    _too_long: int = field(default=0, init=False)
    _finished: int = field(default=0, init=False)
    _seen: dict[str, int] = field(factory=dict[str, int], init=False)
    _queue: deque[_Node] = field(factory=deque["_Node"], init=False)

    def __attrs_post_init__(self) -> None:
        self._notes = Notebook(self.subject.teller)

    async def run(self, start: World, faults: int, made_up: tuple[object, ...]) -> Exploration:
        """Explore what may come of *start*.

        :param faults: how many things may go wrong in one history.
        """
        self._visit(_Node(start, (), faults))
        while self._queue and self._paths < self.budget:
            node = self._queue.popleft()
            if len(node.path) >= self.depth:
                self._too_long += not node.world.is_finished
            else:
                await self._expand(node)
        return Exploration(
            saga=self.subject.saga.__name__,
            findings=self._notes.findings(),
            paths=self._paths,
            worlds=len(self._seen),
            finished=self._finished,
            too_long=self._too_long,
            left=len(self._queue),
            budget=self.budget,
            depth=self.depth,
            made_up=made_up,
        )

    async def _expand(self, node: _Node) -> None:
        """Take every step that is possible, and have each go wrong."""
        ran = [
            (move, await self._step(node, move)) for move in moves(self.subject.saga, node.world)
        ]
        if not any(leads_on(move, one) for move, one in ran):
            for problem, came in self.subject.checks.stuck(node.world, nothing_else_comes=True):
                self._notes.note(problem, node.path, node.world, nothing_else_comes=not came)
        if not node.faults:
            return
        for delivered in node.world.delivered:
            again = Move(Deliver(delivered.event, delivered.message_id))
            await self._step(evolve(node, faults=node.faults - 1), again)
        for move, one in ran:
            for step in troubled(move.step, one):
                await self._step(evolve(node, faults=node.faults - 1), evolve(move, step=step))

    async def _step(self, node: _Node, move: Move) -> Ran:
        """Take one step; go on from there later, if that is anywhere new."""
        self._paths += 1
        ran = await self.subject.runner.run(node.world, move.step)
        happened = (*node.path, happening(node.world, move.step, ran))
        for problem in self.subject.checks.after(ran):
            self._notes.note(problem, happened, ran.world)
        after = following(move, node.world, ran, node.faults)
        if after is not None:
            self._visit(_Node(after[0], happened, after[1]))
        return ran

    def _visit(self, node: _Node) -> None:
        key = node.world.key()
        if self._seen.get(key, -1) >= node.faults:
            return
        if key not in self._seen and node.world.is_finished:
            self._finished += 1
        self._seen[key] = node.faults
        self._queue.append(node)


def happening(world: World, step: Step, ran: Ran) -> Happened:
    """Return a step and what became of it."""
    again = isinstance(step, Deliver) and any(
        delivered.message_id == step.message_id for delivered in world.delivered
    )
    time = said_of_time(world) if isinstance(step, Advance) else ""
    return Happened(step, ran.said, time, again)


def following(move: Move, before: World, ran: Ran, faults: int) -> tuple[World, int] | None:
    """Return what comes after a step and how much may go wrong from then on.

    :return: None if it is not to be looked at.
    """
    if not _is_taken(move, before, ran):
        return ran.world, faults
    after = without(ran.world, move)
    if not move.is_unasked or ran.is_handled or isinstance(move.step, Silence):
        return after, faults
    # An event from outside that is out of place is trouble, too.
    return (after, faults - 1) if faults and not after.is_finished else None


def troubled(step: Step, ran: Ran) -> Iterator[Step]:
    """Yield *step* as it may go wrong: a method raises, or the process is gone at a write."""
    if isinstance(step, Deliver | Advance):
        for name in dict.fromkeys(ran.called):
            yield evolve(step, fails=name)
            yield evolve(step, fails=name, always=True)
        for write in range(1, ran.writes + 1):
            yield evolve(step, crash_before=write)
            yield evolve(step, crash_after=write)


def _is_troubled(step: Step) -> bool:
    return isinstance(step, Deliver | Advance) and step.is_troubled


def _is_taken(move: Move, before: World, ran: Ran) -> bool:
    """Tell whether the event was taken; otherwise it is delivered again."""
    return isinstance(move.step, Silence) or len(ran.world.delivered) > len(before.delivered)


def leads_on(move: Move, ran: Ran) -> bool:
    """Tell whether a step, which the world will take some time, changes anything."""
    if isinstance(move.step, Silence):
        return True
    return (
        move.is_counted_on and not isinstance(move.step, Retry) and bool(ran.changed or ran.errors)
    )
