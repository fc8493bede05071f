from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from examples.orders import OrderSaga
from sagaflow import Saga, Status
from sagaflow._model.record import (
    CompensationStatus,
    Failing,
    HistoryKind,
    Lease,
    ParkedEvent,
    SagaRecord,
    StoredMessage,
    Suspension,
    SuspensionReason,
    Timer,
    TimerKind,
)
from sagaflow._model.spans import relative, roughly, span
from sagaflow.inspection.explanation import Explanation, explain
from sagaflow.inspection.shown import shown_error
from tests.commands import sagas
from tests.commands.sagas import Loan
from tests.commands.support import AGO, ERROR, NOW, failed_event, loan, opened, outgoing, past
from tests.diagrams.sagas import Hard

KNOWN = {"Granted": sagas.Granted, "Withdrawn": sagas.Withdrawn}
FAILING = Failing(attempts=3, since=AGO, due=NOW + timedelta(minutes=1), error=ERROR)
AGAIN = "; it has failed 3 times since 2 h and is tried again in 1 min: OSError: the till is jammed"


def said(record: SagaRecord, saga: type[Saga] = Loan) -> Explanation:
    return explain(saga, record, KNOWN.get, NOW)


def suspended(reason: SuspensionReason, subject: Any, **given: Any) -> SagaRecord:
    suspension = Suspension(reason=reason, subject=subject, error=ERROR, since=AGO)
    return loan(status=Status.SUSPENDED, suspension=suspension, **given)


# here


def test_it_is_where_its_last_transition_led() -> None:
    first, second = said(loan()).here
    assert first.startswith("in held since ")
    assert first.endswith("Z (1 h 59 min ago)")
    assert second == "the last transition was 'hold': Granted, message 'm-2'"


def test_without_a_history_it_says_since_when_it_exists() -> None:
    (only,) = said(loan(history=())).here
    assert only.endswith("(2 h ago)")


def test_undone_steps_are_no_transitions() -> None:
    entry = past("compensation", "hold", "held", "refused", 4, HistoryKind.COMPENSATION)
    undone = (*loan().history, entry)
    record = loan(state="refused", history=undone, status=Status.FINISHED, finished_at=NOW)
    assert said(record).here[1:] == (
        "the last transition was 'hold': Granted, message 'm-2'",
        "it has ended 0 ms ago",
    )


@pytest.mark.parametrize("kind", HistoryKind)
def test_last_transition_is_told_by_its_kind_and_not_by_its_words(kind: HistoryKind) -> None:
    """A step may be called as the history calls an attempt, or what an operator did."""
    record = loan(history=(*loan().history, past("Granted", "hold", "held", "held", 4, kind)))
    is_transition = kind in (HistoryKind.EVENT, HistoryKind.TIMEOUT)
    last = "m-4" if is_transition else "m-2"
    assert said(record).here[1] == f"the last transition was 'hold': Granted, message {last!r}"


def test_it_has_not_started() -> None:
    explanation = said(loan(state="", status=Status.EMBRYO, history=()))
    assert explanation.here == (
        "it has not started: it only keeps events that came before the one that starts it",
    )
    assert explanation.can == ()
    assert explanation.waits_for == ("Asked: 'ask' enters open",)


def test_a_state_that_the_class_does_not_have_is_told() -> None:
    assert "the class has no state 'lent': this code does not fit what is stored" in (
        said(loan(state="lent")).here
    )


def test_an_operator_ended_it() -> None:
    record = loan(status=Status.FINISHED, finished_at=NOW - timedelta(seconds=5), cancelled=True)
    assert said(record).here[-1] == "an operator ended it 5 s ago"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (
            failed_event(),
            "a handler kept failing (Granted, message 'm-9')",
        ),
        (
            suspended(SuspensionReason.COMPENSATION, "2.1"),
            "undoing a step kept failing (undoing 'hold' with 'release')",
        ),
        (
            suspended(SuspensionReason.MESSAGE, "i-1-1", outbox=(outgoing(1),)),
            "the bus kept refusing a message (Remind, message 'i-1-1')",
        ),
        (
            suspended(SuspensionReason.HANDLER, "i-1-1-timer-1", timers=opened().timers),
            "a handler kept failing (the timer 'late')",
        ),
        (
            suspended(SuspensionReason.TIMEOUT, "gone"),
            "it waited for longer than the class's timeout= ('gone')",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_why_it_is_suspended(record: SagaRecord, why: str) -> None:
    explanation = said(record)
    assert f"suspended 2 h ago: {why}" in explanation.here
    assert "the last failure said: OSError: the till is jammed" in explanation.here
    assert [verb for verb, _ in explanation.can] == ["resume", "skip", "cancel"]
    assert all(line.endswith("kept for later") for line in explanation.waits_for)


def test_how_far_it_is_undone() -> None:
    (step,) = loan().compensations
    steps = (evolve(step, failing=FAILING), evolve(step, id="2.2", status=CompensationStatus.DONE))
    record = loan(status=Status.COMPENSATING, goal="refused", compensations=steps)
    explanation = said(record)
    assert explanation.here[-1] == "it undoes its steps, 1 of 2 so far, and then enters refused"
    assert explanation.next == (f"undo 'hold' with 'release'{AGAIN}",)
    assert explanation.waits_for[0].endswith("; while it undoes its steps, they are kept for later")
    assert explanation.can == (("cancel", "undo 1 completed step, and end it"),)


# waits for


def test_it_waits_for_what_its_table_takes() -> None:
    assert said(opened()).waits_for == (
        "Granted: 'hold' enters held",
        "Withdrawn: 'stop' undoes its steps and then enters refused",
    )
    assert said(loan(status=Status.FINISHED, state="closed", finished_at=NOW)).waits_for == ()


def test_guards_and_what_does_not_leave_are_told() -> None:
    first, third = Hard.first.name, "third"
    lines = said(loan(state=first, history=()), Hard).waits_for
    assert f"Again: 'loop' enters {first}, if is_a_predicate_with_a_rather_long_name" in lines
    assert "Begun: 'note', and it stays here" in lines
    assert "Again: kept until the state changes" in said(loan(state=third), Hard).waits_for
    assert said(loan(state="ended", status=Status.ACTIVE), Hard).waits_for == ("Next: ignored",)


def test_what_is_never_asked_is_not_told() -> None:
    record = loan(state="awaiting_payment", history=())
    (line,) = (s for s in said(record, OrderSaga).waits_for if s.startswith("OrderCancelled: "))
    assert line == "OrderCancelled: 'withdraw' enters failed"


def test_a_saga_that_has_ended_waits_for_nothing_even_if_a_message_is_stuck() -> None:
    record = suspended(SuspensionReason.MESSAGE, "i-1-1", outbox=(outgoing(1),), finished_at=AGO)
    explanation = said(evolve(record, sending=FAILING))
    assert explanation.waits_for == ()
    (line,) = explanation.next
    assert line.startswith("1 outgoing message waits, the first Remind for 2 h; it has failed 3")
    assert "again" not in line
    assert [verb for verb, _ in explanation.can] == ["resume", "skip"]


def test_what_cancelling_undoes_is_told() -> None:
    assert said(opened()).can == (("cancel", "end it; there is nothing to undo"),)
    (step,) = loan().compensations
    twice = loan(compensations=(step, evolve(step, id="2.2")))
    assert said(twice).can == (("cancel", "undo 2 completed steps, last first, and end it"),)


# next


def test_timers_come_in_their_order() -> None:
    event = StoredMessage(type="Withdrawn", body={})
    (late,) = opened().timers
    timers = (
        late,
        Timer(id="t", name="wish", due=NOW, kind=TimerKind.EVENT, event=event, causation_id="m"),
        Timer(
            id="d",
            name="timeout",
            due=NOW + timedelta(days=1),
            kind=TimerKind.DEFAULT,
            causation_id="m",
            failing=FAILING,
        ),
    )
    wish, timeout, default = said(opened(timers=timers)).next
    assert wish.endswith("Z (0 ms ago): the scheduled Withdrawn ('wish')")
    assert timeout.endswith("Z (in 3 h): the timeout 'late' after 5 min")
    assert default.endswith(f"Z (in 1 d): it is suspended, unless something happens before{AGAIN}")


def test_messages_and_parked_events_come_next() -> None:
    event = ParkedEvent(id="m-5", message=StoredMessage(type="Granted", body={}), parked_at=AGO)
    record = opened(
        timers=(), parked=(event,), outbox=(outgoing(1), outgoing(2)), sending=FAILING, wake=None
    )
    assert said(record).next == (
        f"2 outgoing messages wait, the first Remind for 2 h{AGAIN}",
        "take the parked Granted 'm-5'",
    )
    waiting = evolve(record, status=Status.SUSPENDED, outbox=())
    assert said(waiting).next == ("1 parked event waits, the first Granted",)


def test_work_that_nobody_does_is_told() -> None:
    (line,) = said(loan(wake=AGO)).next
    assert line.startswith("there has been work to do for 2 h and nobody does it: does a worker")
    (line,) = said(loan(wake=AGO, lease=Lease(owner="w", until=NOW + timedelta(seconds=5)))).next
    assert line.startswith("a worker is at it, until ")


# words


@pytest.mark.parametrize(
    ("delay", "exact", "rough"),
    [
        (timedelta(0), "0 s", "0 ms"),
        (timedelta(milliseconds=250), "0.25 s", "250 ms"),
        (timedelta(minutes=30), "30 min", "30 min"),
        (timedelta(days=1, hours=2, minutes=3), "1 d 2 h 3 min", "1 d 2 h"),
        (timedelta(minutes=1, milliseconds=500), "60.5 s", "1 min"),
    ],
)
def test_spans_are_said_exactly_and_roughly(delay: timedelta, exact: str, rough: str) -> None:
    assert roughly(delay) == rough
    assert span(delay) == exact


def test_an_instant_is_before_or_after_now() -> None:
    assert relative(NOW + timedelta(hours=1), NOW) == "in 1 h"
    assert relative(NOW - timedelta(hours=1), NOW) == "1 h ago"


def test_a_failure_is_said_in_its_last_line() -> None:
    assert shown_error(ERROR) == "OSError: the till is jammed"
    assert shown_error("\n \n") == "nothing"
