"""For each kind of finding: a saga that has it, and one that has not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sagaflow import Context, Instance, Saga, Status, during
from sagaflow.testing import Advance, Deliver, Exploration, Finding, FindingKind, Retry, explore
from tests.exploring import sagas
from tests.exploring.sagas import Begun, Do, Left, Right, Stopped
from tests.exploring.support import run

ALL = (Begun(), Left(), Right())


def only(report: Exploration, kind: FindingKind) -> Finding:
    """Return the only finding of that kind; the snippet that it gives finds it again."""
    (finding,) = [finding for finding in report.findings if finding.kind is kind]
    with pytest.raises(AssertionError, match="as a test"):
        report.check()
    with pytest.raises(AssertionError) as caught:
        run(finding.snippet)
    assert finding.problem in str(caught.value)
    return finding


def passes(report: Exploration) -> None:
    report.check()
    assert report.findings == ()
    assert report.is_complete
    assert report.finished > 0


def delivered(finding: Finding) -> list[object]:
    return [step.event for step in finding.path if isinstance(step, Deliver)]


def test_stuck_where_no_event_was_refused() -> None:
    finding = only(explore(sagas.ForgetfulJoin), FindingKind.STUCK)
    assert "nothing_else_comes=True" in finding.snippet
    assert delivered(finding) == [Begun(), Left(), Right()]
    passes(explore(sagas.Join))


def test_stuck_where_an_early_event_was_refused() -> None:
    class Early(sagas.Deferring):
        early = during(sagas.Deferring.waiting).on(Right).ignore()

    (finding,) = explore(Early, events=ALL).findings
    assert delivered(finding) == [Begun(), Right(), Left()]
    assert finding.problem.endswith("Right came before and was ignored")
    assert "# Early was made within a function" in finding.snippet
    passes(explore(sagas.Deferring, events=ALL))


def test_event_that_comes_before_its_saga_is_taken_to_come_again() -> None:
    passes(explore(sagas.Asking, events=[Begun(), Left()]))


def test_stuck_where_nobody_answers() -> None:
    report = explore(sagas.Asking, events=[Begun()], participants={Do: lambda _: [None, Left()]})
    finding = only(report, FindingKind.STUCK)
    assert finding.told[-1] == "Do-1 is never answered"
    participants: dict[type, Callable[[Any], object]] = {Do: lambda _: [Left(), None]}
    passes(explore(sagas.Patient, events=[Begun()], participants=participants))


def test_stuck_where_only_an_optional_event_leads_on() -> None:
    finding = only(explore(sagas.Join, events=ALL[:2], optional=[Right()]), FindingKind.STUCK)
    assert delivered(finding) == [Begun(), Left()]


def test_suspended_by_the_timeout_of_the_class_is_stuck() -> None:
    finding = only(
        explore(sagas.Overdue, events=[Begun()], participants={Do: lambda _: None}),
        FindingKind.STUCK,
    )
    assert isinstance(finding.path[-1], Advance)
    assert finding.history[-1] == "'k' is suspended: timeout"
    passes(explore(sagas.Overdue, events=[Begun()], participants={Do: lambda _: Left()}))


def test_deferred_event_that_is_dropped_at_the_end_is_lost() -> None:
    finding = only(explore(sagas.Dropping, optional=[Stopped()]), FindingKind.LOST_EVENT)
    assert finding.problem == (
        "Dropping accepted Right, and it is neither handled nor kept in done"
    )
    assert delivered(finding) == [Begun(), Right(), Stopped()]
    passes(explore(sagas.Deferring))


def test_deferred_event_that_is_of_no_use_later_is_lost() -> None:
    found = explore(sagas.Unprepared).findings
    lost = [finding for finding in found if finding.kind is FindingKind.LOST_EVENT]
    assert [finding.problem for finding in lost] == [
        "Unprepared kept Right and then dropped it as unhandled in other"
    ]


def test_steps_that_are_not_undone_where_others_undo() -> None:
    finding = only(explore(sagas.Unundone), FindingKind.COMPENSATION)
    assert finding.problem == "the saga ended in failed and has not undone first, second"
    assert delivered(finding)[-1] == Stopped()
    passes(explore(sagas.Undoing))


def test_step_that_is_undone_twice() -> None:
    finding = only(explore(sagas.UndoneTwice), FindingKind.COMPENSATION)
    assert finding.problem == "undoing second sends Undo(key='second'), which was sent 2 times"


def test_step_without_compensation_may_be_declared_to_need_none() -> None:
    class Careless(sagas.Undoing):
        @during(sagas.Undoing.doing).on(Right).goto(sagas.Undoing.ready)
        def other(self, event: Right, ctx: Context) -> None:
            pass

    (finding,) = explore(Careless).findings
    assert finding.problem.startswith("other was completed, and nothing undoes it")
    passes(explore(Careless, nothing_to_undo=[Careless.other]))


def test_step_that_compensates_itself_needs_no_compensation() -> None:
    """At run time or in its chain: it has the others undone, and is not one of them."""

    class AtRunTime(sagas.Undoing):
        @during(sagas.Undoing.doing).on(Right).goto(sagas.Undoing.ready)
        def other(self, event: Right, ctx: Context) -> None:
            ctx.compensate()

    class InTheChain(sagas.Undoing):
        @during(sagas.Undoing.doing).on(Right).compensate().goto(sagas.Undoing.ready)
        def other(self, event: Right, ctx: Context) -> None: ...

    passes(explore(AtRunTime))
    passes(explore(InTheChain))


def test_method_that_raises_of_its_own_accord() -> None:
    finding = only(explore(sagas.Unchecked), FindingKind.ERROR)
    assert finding.problem == "use raised LookupError: nothing was found"
    assert delivered(finding) == [Begun(), Right()]
    passes(explore(sagas.Checked, faults=0))


def is_never_compensating(instance: Instance[Saga], sent: Sequence[object]) -> bool:
    """Only a process that is gone in the middle of a compensation leaves it for all to see."""
    return instance.status is not Status.COMPENSATING


def is_never_suspended(instance: Instance[Saga], sent: Sequence[object]) -> bool:
    return instance.status is not Status.SUSPENDED


def counts_each_once(instance: Instance[sagas.ShortMemory], sent: Sequence[object]) -> None:
    assert instance.saga.lefts <= 1, "a message was handled twice"


def never_asks_for_help(instance: Instance[Saga], sent: Sequence[object]) -> bool:
    return sagas.Help() not in sent


def test_invariant_that_only_a_crash_breaks() -> None:
    report = explore(sagas.Undoing, invariants=[is_never_compensating])
    finding = only(report, FindingKind.INVARIANT)
    assert finding.problem == "is_never_compensating does not hold"
    last = finding.path[-1]
    assert isinstance(last, Deliver)
    assert (last.event, last.crash_after) == (Stopped(), 1)
    assert "and crash after write 1 -> the process is gone; doing (compensating)" in str(finding)
    passes(explore(sagas.Undoing, invariants=[is_never_compensating], faults=0))


def test_invariant_that_only_a_method_that_always_raises_breaks() -> None:
    report = explore(sagas.Undoing, invariants=[is_never_suspended])
    finding = only(report, FindingKind.INVARIANT)
    last = finding.path[-1]
    assert isinstance(last, Deliver)
    assert (last.event, last.fails, last.always) == (Stopped(), "undo_first", True)
    assert "while undo_first raises whenever it is called" in finding.told[-1]
    passes(explore(sagas.Undoing, invariants=[is_never_suspended], faults=0))


def is_undone_at_once(instance: Instance[Saga], sent: Sequence[object]) -> bool:
    """A step that was undone at the second attempt has failed once; an operator makes it three."""
    undone = [entry for entry in instance.history if entry.event == "compensation"]
    return all(entry.attempt != 2 for entry in undone)


def is_not_sent_twice(instance: Instance[Saga], sent: Sequence[object]) -> bool:
    """What was sent is still kept only by a process that was gone before it could remove it."""
    return not (instance.outbox and sent)


def test_invariant_that_only_a_method_that_raises_once_breaks() -> None:
    report = explore(sagas.Undoing, invariants=[is_undone_at_once])
    last = only(report, FindingKind.INVARIANT).path[-1]
    assert isinstance(last, Deliver)
    assert (last.event, last.fails, last.always) == (Stopped(), "undo_first", False)


def test_invariant_that_only_a_crash_before_a_write_breaks() -> None:
    report = explore(sagas.Undoing, invariants=[is_not_sent_twice])
    last = only(report, FindingKind.INVARIANT).path[-1]
    assert isinstance(last, Deliver)
    assert (last.event, last.crash_before) == (Left(), 2)


def test_invariant_that_only_a_second_delivery_breaks() -> None:
    report = explore(sagas.ShortMemory, events=[*ALL, Stopped()], invariants=[counts_each_once])
    finding = only(report, FindingKind.INVARIANT)
    assert finding.problem == "counts_each_once: a message was handled twice does not hold"
    assert finding.told[-1].startswith("deliver Left(key='k') again")
    found = explore(sagas.LongMemory, events=[*ALL, Stopped()], invariants=[counts_each_once])
    assert FindingKind.INVARIANT not in [finding.kind for finding in found.findings]


def test_invariant_over_what_was_sent() -> None:
    participants: dict[type, Callable[[Any], object]] = {Do: lambda _: Left()}
    report = explore(
        sagas.Patient,
        events=[Begun()],
        participants=participants,
        invariants=[never_asks_for_help],
    )
    finding = only(report, FindingKind.INVARIANT)
    assert finding.told[-1] == "advance 2 days to the timeout give_up -> done; done"
    assert finding.sent == (Do(), sagas.Help())


def test_scheduled_event_is_waited_for() -> None:
    finding = only(
        explore(sagas.Scheduling, events=[Begun()], optional=[Right()], faults=0), FindingKind.STUCK
    )
    assert finding.told[-1] == "advance to what was scheduled as reminder -> done; reminded"
    passes(explore(sagas.Scheduling, faults=0))


def test_suspended_saga_is_retried() -> None:
    suspended: list[Status] = []

    def watched(instance: Instance[Saga], sent: Sequence[object]) -> None:
        suspended.append(instance.status)

    passes(explore(sagas.Undoing, invariants=[watched]))
    assert Status.SUSPENDED in suspended
    assert Retry("k") != Retry("other")
