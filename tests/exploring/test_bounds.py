"""What the explorer says about its own bounds, and about examples that it cannot use."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from attrs import field, frozen
from attrs.validators import gt
from svcs import Registry

from examples.orders import OrderSaga
from sagaflow import Context, Instance, Saga, SagaflowError, State, during, initially
from sagaflow.testing import Advance, Deliver, FindingKind, Retry, explore, replay
from sagaflow.testing._exploring.examples import made_up
from sagaflow.testing._exploring.source import SourceText
from sagaflow.testing._exploring.steps import Step
from sagaflow.testing._exploring.telling import spoken
from tests.exploring import sagas
from tests.exploring.sagas import Begun, Do, Left, Right, Stopped


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Size:
    width: int
    height: float = 2.0


@frozen
class Everything:
    key: str
    colour: Colour
    size: Size
    amount: Decimal
    at: dt.datetime
    day: dt.date
    hour: dt.time
    span: dt.timedelta
    number: UUID
    flag: bool
    raw: bytes
    kind: Literal["a", "b"]
    perhaps: str | None
    either: int | str
    names: list[str]
    counts: dict[str, int]
    tags: set[str]
    fixed: frozenset[str]
    pair: tuple[int, str]
    many: tuple[int, ...]
    some: Sequence[int]
    by_name: Mapping[str, int]
    noted: str = "as it is"
    made: str = field(init=False, default="by itself")


class Taking(Saga, correlate_by="key"):
    done = State(final=True)
    take = initially.on(Everything).goto(done)


@frozen
class Numbered:
    key: str
    number: int = field(validator=gt(5))


@frozen
class Odd:
    key: str
    call: Callable[[], None]


@frozen
class Elsewhere:
    place: str


class Choosy(Saga, correlate_by="key"):
    waiting = State()
    done = State(final=True)
    begin = initially.on(Numbered).goto(waiting)
    end = during(waiting).on(Odd).goto(done)
    other = during(waiting).on(Elsewhere, by=lambda event: None).goto(done)


def test_example_is_made_up_of_its_fields() -> None:
    (made,) = made_up(Taking, (), Taking.table.events)
    assert isinstance(made, Everything)
    assert (made.key, made.colour, made.size) == ("key", Colour.RED, Size(1))
    assert (made.perhaps, made.either, made.kind, made.noted) == (None, 1, "a", "as it is")
    assert (made.pair, made.many, made.fixed, made.some) == ((1, "pair"), (), frozenset(), [])
    explore(Taking).check()


def test_example_is_made_up_for_the_saga_of_the_given_ones() -> None:
    report = explore(sagas.Join, events=[Left("my-own")])
    assert report.made_up == (Begun("my-own"), Right("my-own"))


def test_examples_that_cannot_be_made_up_are_all_named() -> None:
    with pytest.raises(SagaflowError) as caught:
        explore(Choosy)
    text = str(caught.value)
    assert "explore(Choosy, events=[...])" in text
    assert "Numbered: ValueError" in text
    assert "Odd: nothing can be made up for its field 'call'" in text
    assert "Elsewhere: Elsewhere(place='place') is not for the saga" in text


def test_unreadable_annotations_are_said() -> None:
    @frozen
    class Unreadable:
        key: "Nowhere"  # type: ignore[name-defined] # noqa: F821, UP037 # pyright: ignore[reportUndefinedVariable]

    class Reading(Saga, correlate_by="key"):
        done = State(final=True)
        take = initially.on(Unreadable).goto(done)

    with pytest.raises(SagaflowError, match="its annotations cannot be read"):
        explore(Reading)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"events": [Do()]}, "does not take Do"),
        ({"optional": [Do()]}, "does not take Do"),
        ({"events": [Begun(None)]}, "does not say which saga it is for"),  # type: ignore[arg-type]
        ({"nothing_to_undo": [len]}, "nothing_to_undo takes steps of Undoing"),
        ({"nothing_to_undo": [Decimal(1)]}, "nothing_to_undo takes steps of Undoing"),
        (
            {"events": [Begun(), Left()], "participants": {Do: repr}},
            "the participant of Do answers .+ which Undoing does not take",
        ),
    ],
)
def test_useless_arguments_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SagaflowError, match=said):
        explore(sagas.Undoing, **given)


def test_budget_that_is_used_up_is_said() -> None:
    report = explore(OrderSaga, budget=20)
    assert not report.is_complete
    assert report.left > 0
    assert "budget=20 paths are used up" in str(report)
    with pytest.warns(UserWarning, match="OrderSaga was not explored to the end"):
        report.check()


def test_depth_that_is_reached_is_said() -> None:
    report = explore(OrderSaga, depth=2)
    assert report.is_complete
    assert report.too_long > 0
    assert f"{report.too_long} situations at depth=2 were not looked beyond" in str(report)
    report.check()


def test_more_faults_make_more_paths() -> None:
    paths = [explore(sagas.Join, faults=faults).paths for faults in range(3)]
    assert paths == sorted(set(paths))


def test_several_answers_come_in_any_order_and_silence_is_one() -> None:
    class Counting(sagas.Join):
        def keep_left(self, event: Left, ctx: Context) -> None:
            orders.append("left first")
            self.left = True

        def keep_right(self, event: Right, ctx: Context) -> None:
            orders.append("right first")
            self.right = True

        @initially.on(Begun).goto(sagas.Join.waiting)
        def ask(self, event: Begun, ctx: Context) -> None:
            ctx.send(Do())

    orders: list[str] = []
    participants: dict[type, Callable[[Any], object]] = {Do: lambda _: [(Left(), Right())]}
    explore(Counting, participants=participants, faults=0).check()
    assert set(orders) == {"left first", "right first"}
    (finding,) = explore(Counting, participants={object: lambda _: [()]}, faults=0).findings
    assert finding.kind is FindingKind.STUCK


def test_answer_that_does_not_name_its_saga_is_for_the_one_that_asked() -> None:
    @frozen
    class Nameless:
        text: str = ""

    class Asked(sagas.Asking):
        nameless = during(sagas.Asking.asked).on(Nameless).goto(sagas.Asking.done)

    class Bad(sagas.Asking):
        @during(sagas.Asking.asked).on(Nameless).goto(sagas.Asking.done)
        def take(self, event: Nameless, ctx: Context) -> None:
            raise LookupError(event.text)

    participants: dict[type, Callable[[Any], object]] = {Do: lambda _: Nameless()}
    explore(Asked, participants=participants).check()
    finding = explore(Bad, participants=participants, faults=0).findings[0]
    assert "correlation_id='k'" in finding.snippet


def test_whatever_the_steps_are_they_can_be_replayed() -> None:
    steps: list[Step] = [
        Deliver(Begun()),
        Deliver(Left(), fails="first", always=True),
        Advance(),
        Deliver(Right()),
        Retry("k"),
        Deliver(Stopped(), crash_before=2),
        Advance(fails="undo_first"),
    ]
    report = replay(sagas.Undoing, steps)
    report.check()
    assert (report.paths, report.finished) == (1, 1)
    assert replay(sagas.Undoing, steps, backend="trio") == report


def test_values_are_written_as_they_are_made() -> None:
    (made,) = made_up(Taking, (), Taking.table.events)
    source = SourceText()
    text = source.value([made, {1: (2,)}, {3}, frozenset({4}), ...])
    namespace: dict[str, Any] = {}
    exec("\n".join(source.imports()), namespace)  # noqa: S102
    assert eval(text, namespace) == [made, {1: (2,)}, {3}, frozenset({4}), ...]  # noqa: S307
    assert SourceText().value(object).startswith("<class")


def test_snippet_says_all_that_it_needs() -> None:
    def is_never_retried(instance: Instance[Saga], sent: Sequence[object]) -> bool:
        return all(entry.event != "operator" for entry in instance.history)

    report = explore(
        sagas.Undoing,
        invariants=[is_never_retried],
        nothing_to_undo=[sagas.Undoing.first],
        services=Registry(),
        messages={"Do": Do},
    )
    (finding,) = report.findings
    assert "            Retry('k')," in finding.snippet
    assert "        nothing_to_undo=[Undoing.first]," in finding.snippet
    assert "# pass services= and messages= as they were passed to explore()" in finding.snippet
    assert "# is_never_retried was made within a function" in finding.snippet
    assert finding.told[-1].startswith("an operator repairs what failed and says retry")


@pytest.mark.parametrize(
    ("delay", "said"),
    [
        (dt.timedelta(days=1), "1 day"),
        (dt.timedelta(hours=36), "36 hours"),
        (dt.timedelta(minutes=30), "30 minutes"),
        (dt.timedelta(seconds=90.5), "90.5 seconds"),
    ],
)
def test_spans_are_spoken(delay: dt.timedelta, said: str) -> None:
    assert spoken(delay) == said
