"""Whatever is written: an event that waited still waits, or the history says what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from sagaflow import HistoryKind, RetryPolicy, Status, Suspension, SuspensionReason
from sagaflow._codec.documents import HISTORY_SIZE, encode_change
from sagaflow._engine.conclusion import concluded, dropped, parked, undone
from sagaflow._engine.failure import (
    cancelled,
    failed,
    resumed,
    skipped,
    timed_out,
    undeliverable,
)
from sagaflow._engine.work import Fire, Offer
from sagaflow._model.record import SagaRecord, TimerKind
from tests.engine.support import (
    HOUR,
    NOW,
    Order,
    failing,
    machine,
    outgoing,
    record,
    run,
    step,
    timer,
    waiting,
    write,
)

WAITS = tuple(waiting(number) for number in range(1, 4))
FIRST, FIRED = Offer(WAITS[0]), Fire(timer())
DEFAULT = Fire(timer("timeout", kind=TimerKind.DEFAULT, delay=HOUR, event=None))
TO_THE_END = run(target=Order.done)
MACHINE = machine()


def busy(**changes: Any) -> SagaRecord:
    return record(parked=WAITS, timers=(timer(), DEFAULT.timer), outbox=(outgoing(),), **changes)


def undoing(**changes: Any) -> SagaRecord:
    return busy(status=Status.COMPENSATING, goal="done", compensations=(step(1),), **changes)


def stuck(before: SagaRecord, subject: object) -> SagaRecord:
    reason = SuspensionReason.HANDLER
    why: Any = Suspension(reason=reason, subject=subject, error="no", since=NOW)  # type: ignore[arg-type]
    return evolve(before, status=Status.SUSPENDED, suspension=why)


POLICY = RetryPolicy()
WRITES: dict[str, Callable[[], tuple[SagaRecord, SagaRecord]]] = {}


def _write(name: str, before: SagaRecord, after: SagaRecord) -> None:
    WRITES[name] = lambda: (before, after)


for _name, _source in {"an event": None, "a parked event": FIRST, "a timer": FIRED}.items():
    _write(f"{_name} ends it", busy(), concluded(busy(), TO_THE_END, _source, MACHINE, write()))
    _write(f"{_name} leaves it", busy(), concluded(busy(), run(), _source, MACHINE, write()))
_write("dropped", busy(), dropped(busy(), FIRST, "unhandled", MACHINE, write()))
_write("parked", busy(), parked(busy(), waiting(9), None, MACHINE, write()))
_write("deferred", busy(), parked(busy(), WAITS[0], FIRST, MACHINE, write()))
_write(
    "undone",
    undoing(),
    undone(undoing(), step(1), {}, (), Order.done, MACHINE, write()),
)
_write("an attempt", busy(), failed(busy(), FIRST, "no", POLICY, 0, MACHINE, write()))
_write("timed out", busy(), timed_out(busy(), DEFAULT, MACHINE, write()))
_write("undeliverable", busy(), undeliverable(busy(), failing(), MACHINE, write()))
_write("cancelled", busy(), cancelled(busy(), Order.done, MACHINE, write()))
_write("undone first", undoing(), cancelled(undoing(), Order.done, MACHINE, write()))
for _subject in ("p1", "timer-Paid", "1.1"):
    _stuck = stuck(undoing() if _subject == "1.1" else busy(), _subject)
    _goal = Order.done if _subject == "1.1" else None
    _write(f"{_subject} resumed", _stuck, resumed(_stuck, "resume", MACHINE, write()))
    _write(f"{_subject} skipped", _stuck, skipped(_stuck, _goal, MACHINE, write()))


@pytest.mark.parametrize("name", WRITES)
def test_what_was_accepted_waits_or_is_in_the_history(name: str) -> None:
    before, after = WRITES[name]()
    told = {entry.message_id for entry in after.history}
    left = {event.id for event in after.parked}
    for event in before.parked:
        assert event.id in left or event.id in told or _is_handled(name, event.id), name
    assert {entry.version for entry in after.history} == {before.version + 1}
    assert {entry.token for entry in after.history} == {after.token}
    assert after.history[-1].kind is not HistoryKind.DROPPED or name == "dropped"
    if after.finished_at is not None:
        assert not left


def _is_handled(name: str, event_id: object) -> bool:
    """Tell whether its handler has run; the run that is used here says another id."""
    return name.startswith("a parked event") and event_id == "p1"


def test_history_says_why_the_events_that_waited_came_to_nothing() -> None:
    _, ended = WRITES["an event ends it"]()
    assert [(entry.kind, entry.event, entry.step, entry.message_id) for entry in ended.history] == [
        *((HistoryKind.DROPPED, "Paid", "the saga has ended", f"p{n}") for n in (1, 2, 3)),
        (HistoryKind.EVENT, "Paid", "pay", "m"),
    ]
    assert {(entry.source, entry.target) for entry in ended.history[:-1]} == {("done", "done")}
    _, stopped = WRITES["undone first"]()
    assert [entry.step for entry in stopped.history] == [*["the saga is cancelled"] * 3, "cancel"]
    _, left_out = WRITES["p1 skipped"]()
    assert [(e.event, e.step, e.message_id) for e in left_out.history] == [
        ("Paid", "skipped", "p1"),
        ("operator", "skip", "second"),
    ]


def test_history_takes_no_more_than_it_holds_and_the_write_itself_is_the_last() -> None:
    many = record(parked=tuple(waiting(number) for number in range(1_000)))
    ended = concluded(many, TO_THE_END, None, MACHINE, write())
    assert len(ended.history) == 1_001
    pushed = encode_change(many, ended, inbox_size=128).push["history"].items
    assert len(pushed) == HISTORY_SIZE
    assert pushed[-1]["step"] == "pay"
