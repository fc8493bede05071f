"""Tells a path: as numbered steps, as the saga's history, and as a test to paste."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._model.record import Status, TimerKind
from sagaflow.testing._exploring.checks import Problem
from sagaflow.testing._exploring.findings import Finding, FindingKind, Happened
from sagaflow.testing._exploring.source import SourceText
from sagaflow.testing._exploring.steps import Advance, Deliver, Retry, Silence, Step
from sagaflow.testing._exploring.world import World

_WIDTH = 96


@frozen(kw_only=True)
class Teller:
    """Tells what has happened to one saga class.

    :ivar saga: the class.
    :ivar invariants: predicates of the user.
    :ivar nothing_to_undo: steps that need no compensation.
    :ivar is_configured: whether the orchestrator needs more than the saga class.
    """

    saga: type[Saga]
    invariants: Sequence[Any]
    nothing_to_undo: Sequence[Any]
    is_configured: bool

    def finding(
        self,
        problem: Problem,
        path: Sequence[Happened],
        world: World,
        *,
        paths: int,
        nothing_else_comes: bool,
    ) -> Finding:
        """Return all that is to be said about *problem* at the end of *path*."""
        return Finding(
            kind=problem.kind,
            problem=problem.text + problem.detail,
            path=tuple(happened.step for happened in path),
            history=tuple(_history(world)),
            sent=tuple(message.body for message in world.sent),
            paths=paths,
            snippet=self._snippet(problem, path, nothing_else_comes=nothing_else_comes),
            told=tuple(_line(happened) for happened in path),
        )

    def _snippet(
        self, problem: Problem, path: Sequence[Happened], *, nothing_else_comes: bool
    ) -> str:
        source = SourceText()
        steps = [self._step(h.step, source) for h in path if not isinstance(h.step, Silence)]
        saga = source.name(self.saga)
        arguments: list[str] = []
        if problem.kind is FindingKind.INVARIANT:
            names = ", ".join(source.name(invariant) for invariant in self.invariants)
            arguments.append(f"invariants=[{names}],")
        if self.nothing_to_undo:
            names = ", ".join(f"{saga}.{name}" for name in self.nothing_to_undo)
            arguments.append(f"nothing_to_undo=[{names}],")
        if nothing_else_comes:
            arguments.append("nothing_else_comes=True,")
        source.names.setdefault("sagaflow.testing", set()).add("replay")
        lines = source.imports()
        lines += [f"# {name} was made within a function" for name in sorted(source.missing)]
        if self.is_configured:
            lines.append("# pass services= and messages= as they were passed to explore()")
        call = [f"{saga},", "[", *(f"    {step}," for step in steps), "],", *arguments]
        lines += ["", "", f"def {_test_name(problem)}() -> None:", "    replay("]
        lines += [*(f"        {line}" for line in call), "    ).check()"]
        return "\n".join(lines)

    def _step(self, step: Step, source: SourceText) -> str:
        source.names.setdefault("sagaflow.testing", set()).add(type(step).__name__)
        arguments: list[str] = []
        match step:
            case Deliver(event, message_id):
                arguments += [source.value(event), source.value(message_id)]
                if step.correlation_id is not None:
                    arguments.append(f"correlation_id={source.value(step.correlation_id)}")
            case Retry(correlation_id):
                arguments.append(source.value(correlation_id))
            case _:
                pass
        if isinstance(step, Deliver | Advance):
            for name, default in (
                ("fails", None),
                ("always", False),
                ("crash_before", 0),
                ("crash_after", 0),
            ):
                value = getattr(step, name)
                if value != default:
                    arguments.append(f"{name}={value!r}")
        return f"{type(step).__name__}({', '.join(arguments)})"


def said_of_time(world: World) -> str:
    """Say what happens when time passes until something is due."""
    for record in world.records:
        if record.wake is None or record.wake != world.wake:
            continue
        timers = [timer for timer in record.timers if timer.due == record.wake]
        if record.wake <= world.now or not timers:
            return "a fresh process does what is due"
        timer = timers[0]
        if timer.kind is TimerKind.EVENT:
            return f"advance to what was scheduled as {timer.name}"
        return f"advance {spoken(timer.delay or timedelta(0))} to the timeout {timer.name}"
    return "advance"


def spoken(delay: timedelta) -> str:
    """Return a span of time in its largest unit that is whole."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        number, rest = divmod(delay.total_seconds(), size)
        if number and not rest:
            return f"{number:.0f} {unit}{'s' * (number != 1)}"
    return f"{delay.total_seconds():g} seconds"


def _line(happened: Happened) -> str:
    step = happened.step
    match step:
        case Deliver(event):
            text = f"deliver {event!r}{' again' * happened.again}"
        case Advance():
            text = happened.time
        case Retry():
            text = "an operator repairs what failed and says retry"
        case Silence(answer_to):
            return f"{answer_to} is never answered"
    if isinstance(step, Deliver | Advance):
        if step.fails is not None:
            text += f", while {step.fails} raises{' whenever it is called' if step.always else ''}"
        if step.crash_before:
            text += f", and crash before write {step.crash_before}"
        if step.crash_after:
            text += f", and crash after write {step.crash_after}"
    return f"{text} -> {happened.said}"


def _history(world: World) -> list[str]:
    lines: list[str] = []
    for record in world.records:
        lines += [
            f"{record.correlation_id!r} version {entry.version}: {entry.event} took "
            f"{entry.step}, {entry.source or 'no saga'} -> {entry.target or 'not started'}"
            for entry in record.history
        ]
        if record.status is Status.SUSPENDED and record.suspension is not None:
            lines.append(
                f"{record.correlation_id!r} is suspended: {record.suspension.reason.value}"
            )
    return lines


def _test_name(problem: Problem) -> str:
    words = re.findall(r"\w+", problem.text.lower())[:8]
    return "_".join(["test", *words])
