"""What a failed assertion says: what differs, and how the saga got there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from difflib import ndiff
from pprint import pformat
from typing import Any, Final

import attrs

from sagaflow._codec.instance import Instance
from sagaflow._engine.outcome import OutcomeKind
from sagaflow._model.record import Failing, Status
from sagaflow.testing._participants import Told
from sagaflow.testing._stage import Stage, Taken

_WIDTH: Final = 88
_NOT_IN_HISTORY: Final = frozenset(
    {
        OutcomeKind.DEFERRED,
        OutcomeKind.SUSPENDED,
        OutcomeKind.DUPLICATE,
        OutcomeKind.IGNORED,
        OutcomeKind.UNHANDLED,
        OutcomeKind.FINISHED,
        OutcomeKind.NOT_FOUND,
        OutcomeKind.UNCORRELATED,
    }
)


def lines_of(value: object) -> list[str]:
    """Return a value as a report shows it."""
    if isinstance(value, type):
        return [f"any {value.__name__}"]
    cls: type = type(value)
    if len(repr(value)) <= _WIDTH or not attrs.has(cls):
        return pformat(value, width=_WIDTH, sort_dicts=False).splitlines()
    parts: list[str] = []
    for field in attrs.fields(cls):
        first, *rest = lines_of(getattr(value, field.name))
        parts += [f"    {line}" for line in (f"{field.name}={first}", *rest)]
        parts[-1] += ","
    return [f"{cls.__name__}(", *parts, ")"]


def difference(what: str, expected: Iterable[object], found: Iterable[object]) -> str:
    """Return how two lists of values differ: ``-`` was expected, ``+`` was found."""
    old = [line for value in expected for line in lines_of(value)]
    new = [line for value in found for line in lines_of(value)]
    shown = [line.rstrip() for line in ndiff(old, new) if not line.startswith("?")]
    note = "" if old and new else " nothing was found" if old else " nothing was expected"
    return "\n".join([f"{what}:{note}", *_indented(shown)])


def explained(stage: Stage[Any], differences: Sequence[str]) -> str:
    """Return the whole text of a failed assertion."""
    name = stage.saga_type.__name__
    which = "" if stage.correlation_id is None else f" {stage.correlation_id!r}"
    parts = [
        f"{name}{which} is not as expected ( - expected, + found )",
        *differences,
        *_history(stage),
        *_messages(stage),
        *_untaken(stage.taken),
        *_waiting(stage),
    ]
    return "\n\n".join("\n".join(_indented(part.splitlines())) for part in parts).strip()


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _history(stage: Stage[Any]) -> list[str]:
    found = stage.instance
    if found is None:
        return ["its history: there is no such saga"]
    rows = [("after", "event", "step", "state")]
    for entry in found.history:
        source = "" if entry.source in (None, entry.target) else f"{entry.source} -> "
        rows.append((_since(entry.at, found), entry.event, entry.step, f"{source}{entry.target}"))
    return ["\n".join(["its history:", *_indented(table(rows))])]


def _messages(stage: Stage[Any]) -> list[str]:
    told = stage.participants.told
    if not told:
        return ["what it sent: nothing"]
    return ["\n".join(["what it sent:", *_indented(table([_row(one, stage) for one in told]))])]


def _row(one: Told, stage: Stage[Any]) -> tuple[str, ...]:
    fate = one.fate or ("nobody answers" if one.kind == "command" else "")
    return (_since(one.at, stage.instance), one.kind, repr(one.body), fate)


def _untaken(taken: Sequence[Taken]) -> list[str]:
    rows = [
        (repr(one.event), one.outcome.kind.value)
        for one in taken
        if one.outcome.kind in _NOT_IN_HISTORY
    ]
    return ["\n".join(["events that it did not act on:", *_indented(table(rows))])] if rows else []


def _waiting(stage: Stage[Any]) -> list[str]:
    """Say what is still to come, and what has failed."""
    found, now = stage.instance, stage.clock.now()
    lines: list[str] = []
    if found is not None:
        timers = sorted(found.timers, key=lambda timer: timer.due)
        lines += [f"{t.name} in {t.due - now}{_failure(t.failing)}" for t in timers]
        lines += [f"parked: {p.message.type}{_failure(p.failing)}" for p in found.parked]
        lines += [f"in the outbox: {message.message.type}" for message in found.outbox]
        lines += [
            f"to undo: {c.step}{_failure(c.failing)}"
            for c in found.compensations
            if c.failing is not None
        ]
        if found.suspension is not None and found.status is Status.SUSPENDED:
            reason, error = found.suspension.reason.value, _last(found.suspension.error)
            lines.append(f"suspended: {reason}: {error}")
    lines += [
        f"answer {type(answer.event).__name__} in {answer.due - now}"
        for answer in stage.participants.answers
    ]
    return ["\n".join(["what waits:", *_indented(lines)])] if lines else []


def _failure(failing: Failing | None) -> str:
    if failing is None:
        return ""
    return f" (failed {failing.attempts} times: {_last(failing.error)})"


def _last(error: str) -> str:
    """Return the last line of a traceback."""
    return error.strip().rpartition("\n")[2]


def _since(at: datetime, found: Instance[Any] | None) -> str:
    return str(at - found.created_at) if found is not None else f"{at:%H:%M:%S}"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" if line else line for line in lines]
