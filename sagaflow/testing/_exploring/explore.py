"""Tries what may happen to a saga, and replays what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

import anyio
from attrs import evolve

from sagaflow._definition.saga import Saga
from sagaflow._model.errors import SagaflowError
from sagaflow._model.services import svcs
from sagaflow.testing._clock import ManualClock
from sagaflow.testing._exploring.checks import Checks
from sagaflow.testing._exploring.examples import checked, made_up
from sagaflow.testing._exploring.findings import Exploration, Happened
from sagaflow.testing._exploring.runner import Runner
from sagaflow.testing._exploring.search import Notebook, Search, Subject, happening
from sagaflow.testing._exploring.steps import Deliver, Step
from sagaflow.testing._exploring.telling import Teller
from sagaflow.testing._exploring.world import AnswersByClass, Invariant, World, to_come

SagaT = TypeVar("SagaT", bound=Saga)

NOBODY: Final[AnswersByClass] = {}


def explore(  # noqa: PLR0913
    saga: type[SagaT],
    *,
    events: Iterable[object] = (),
    optional: Iterable[object] = (),
    participants: AnswersByClass = NOBODY,
    invariants: Sequence[Invariant[SagaT]] = (),
    nothing_to_undo: Sequence[Callable[..., object]] = (),
    faults: int = 1,
    depth: int = 12,
    budget: int = 20_000,
    services: svcs.Registry | None = None,
    messages: Iterable[type] | Mapping[str, type] = (),
    backend: str = "asyncio",
) -> Exploration:
    """Try what may happen to a saga: short histories, the shortest first.

    The real orchestrator runs each step, on a store in memory and in virtual time: events in any
    order, the next timer, and up to *faults* things that go wrong: an event delivered again, or
    where the saga does not take it; a method that raises, once or until an operator says retry; a
    process that is gone before or after any of its writes, with a fresh one on the same store.
    Situations in which the same may still happen are explored once.

    :param events: what comes from outside: an example each. An event of the transition table that
        has none is made up from its fields; with *participants*, only the one that starts the saga.
    :param optional: events from outside that may come at any time or never: a saga that only such
        an event could move is stuck.
    :param participants: for each class of commands, what answers one: an event, a list of which
        one comes, or None; in such a list, None stands for no answer and a tuple for several.
    :param invariants: predicates of an `Instance` and the messages that it has sent so far, in
        order, which hold if they return anything but a false value, None excepted.
    :param nothing_to_undo: steps that the saga need not undo when it compensates.
    :param faults: how many things may go wrong in one history.
    :param depth: how many steps a history may have.
    :param budget: how many histories are run; the report says so if there were more.
    :param services: what ``ctx.services`` offers to the handlers.
    :param messages: message classes, as for `Orchestrator`.
    :param backend: the runtime, ``asyncio`` or ``trio``.
    :return: what was found; `Exploration.check` raises if that is anything.
    :raises SagaflowError: if an example is of no use, or is missing and cannot be made up.
    """
    subject = subject_of(saga, participants, invariants, nothing_to_undo, services, messages)
    start, made = world_of(saga, events, optional, participants)
    search = Search(subject=subject, depth=depth, budget=budget)
    return anyio.run(partial(search.run, start, faults, made), backend=backend)


def replay(  # noqa: PLR0913
    saga: type[SagaT],
    steps: Sequence[Step],
    *,
    invariants: Sequence[Invariant[SagaT]] = (),
    nothing_to_undo: Sequence[Callable[..., object]] = (),
    nothing_else_comes: bool = False,
    services: svcs.Registry | None = None,
    messages: Iterable[type] | Mapping[str, type] = (),
    backend: str = "asyncio",
) -> Exploration:
    """Run one history, as `explore` found it, and check what it checks.

    A saga that has not ended after the last step is stuck if it waits for an event that it has
    refused before.

    :param nothing_else_comes: whether it is also stuck if it waits for any other event.
    :return: what was found; `Exploration.check` raises if that is anything.
    """
    subject = subject_of(saga, NOBODY, invariants, nothing_to_undo, services, messages)
    run = partial(_replayed, subject, _with_ids(steps), nothing_else_comes=nothing_else_comes)
    return anyio.run(run, backend=backend)


async def _replayed(
    subject: Subject, steps: Sequence[Step], *, nothing_else_comes: bool
) -> Exploration:
    world, path = World(now=ManualClock().now()), tuple[Happened, ...]()
    notes = Notebook(subject.teller)
    for step in steps:
        ran = await subject.runner.run(world, step)
        path = (*path, happening(world, step, ran))
        world = ran.world
        for problem in subject.checks.after(ran):
            notes.note(problem, path, world)
    for problem, came in subject.checks.stuck(world, nothing_else_comes=nothing_else_comes):
        notes.note(problem, path, world, nothing_else_comes=not came)
    return Exploration(
        saga=subject.saga.__name__,
        findings=notes.findings(),
        paths=1,
        worlds=len(path) + 1,
        finished=int(world.is_finished),
        budget=1,
        depth=len(path),
    )


def subject_of(
    saga: type[Saga],
    participants: AnswersByClass,
    invariants: Sequence[Invariant[Any]],
    nothing_to_undo: Sequence[Callable[..., object]],
    services: svcs.Registry | None,
    messages: Iterable[type] | Mapping[str, type],
) -> Subject:
    """Return *saga* with all that is needed to explore it; see `explore`."""
    known: tuple[type, ...] | Mapping[str, type]
    names: dict[type, str] = {}
    if isinstance(messages, Mapping):
        known = cast("Mapping[str, type]", messages)
        names = {cls: name for name, cls in known.items()}
    else:
        known = tuple(messages)
    steps = tuple(_step_name(saga, step) for step in nothing_to_undo)
    return Subject(
        saga=saga,
        runner=Runner(saga=saga, participants=participants, services=services, messages=known),
        checks=Checks(
            saga=saga, invariants=invariants, nothing_to_undo=frozenset(steps), names=names
        ),
        teller=Teller(
            saga=saga,
            invariants=invariants,
            nothing_to_undo=steps,
            is_configured=services is not None or bool(known),
        ),
    )


def world_of(
    saga: type[Saga],
    events: Iterable[object],
    optional: Iterable[object],
    participants: AnswersByClass,
) -> tuple[World, tuple[object, ...]]:
    """Return where exploring begins, and the events that were made up for it."""
    given, perhaps = checked(saga, events), checked(saga, optional)
    wanted = saga.table.events
    if participants:
        initial = [row.event for row in saga.table.initial if row.event is not None]
        known = any(isinstance(event, tuple(initial)) for event in (*given, *perhaps))
        wanted = () if known else tuple(initial[:1])
    made = made_up(saga, (*given, *perhaps), wanted)
    return World(now=ManualClock().now(), pending=to_come((*given, *made), perhaps)), made


def _step_name(saga: type[Saga], step: Callable[..., object]) -> str:
    name = getattr(step, "__name__", None)
    if name is None or all(row.step != name for row in saga.table.rows):
        raise SagaflowError(
            f"nothing_to_undo takes steps of {saga.__name__}, such as "
            f"{saga.__name__}.{saga.table.rows[0].step}, not {step!r}"
        )
    return str(name)


def _with_ids(steps: Sequence[Step]) -> list[Step]:
    """Return *steps*, with an id for each message that has none."""
    return [
        evolve(step, message_id=f"message-{number}")
        if isinstance(step, Deliver) and step.message_id is None
        else step
        for number, step in enumerate(steps, 1)
    ]
