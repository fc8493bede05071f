from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from examples.orders import OrderSaga
from sagaflow import HistoryEntry, HistoryKind
from sagaflow.diagrams import Step, Trail, diagram_of, trail_of
from sagaflow.diagrams.model import Diagram, Edge, Label, Shape
from tests.diagrams.sagas import Hard


def edge(diagram: Diagram, source: str, target: str) -> Edge:
    ids = {node.text or node.id: node.id for node in diagram.nodes}
    (found,) = (e for e in diagram.edges if (e.source, e.target) == (ids[source], ids[target]))
    return found


def test_each_state_is_a_node_and_any_state_is_another() -> None:
    nodes = diagram_of(OrderSaga.table).nodes
    assert [(node.text, node.shape) for node in nodes] == [
        ("", Shape.START),
        ("awaiting_payment", Shape.STATE),
        ("awaiting_inventory", Shape.STATE),
        ("awaiting_shipment", Shape.STATE),
        ("completed", Shape.FINAL),
        ("failed", Shape.FINAL),
        ("expired", Shape.FINAL),
        ("any state", Shape.ANY),
    ]
    assert not any(node.passed or node.current for node in nodes)


def test_a_line_says_what_takes_it_and_what_undoes_it() -> None:
    diagram = diagram_of(OrderSaga.table)
    assert edge(diagram, "awaiting_payment", "awaiting_inventory").labels == (
        Label(trigger="PaymentProcessed", step="reserve, undone by refund"),
    )
    assert edge(diagram, "awaiting_payment", "expired").labels == (
        Label(trigger="after 30 min", step="give_up"),
    )
    assert edge(diagram, "awaiting_payment", "failed").labels == (
        Label(trigger="PaymentDeclined", step="fail"),
        Label(trigger="OrderCancelled", step="withdraw"),
    )


def test_what_during_any_declares_is_one_line() -> None:
    found = edge(diagram_of(OrderSaga.table), "any state", "failed")
    assert found.labels == (Label(trigger="OrderCancelled", step="fail"),)
    assert found.compensates
    stale = edge(diagram_of(Hard.table), "any state", "ended")
    assert stale.labels == (Label(trigger="after 1 d 2 h", step="stale"),)


def test_what_does_not_leave_a_state_stands_in_it() -> None:
    within = {node.text: node.within for node in diagram_of(Hard.table).nodes}
    assert within["second"] == (
        Label(
            trigger="AnEventWithANameThatIsLongerThanAnybodyWouldLikeToReadInAPicture, Begun",
            step="keep",
        ),
    )
    assert within["third"] == (Label(trigger="Again", step="deferred"),)
    assert within["ended"] == (Label(trigger="Next", step="ignored"),)
    assert within["any state"] == (Label(trigger="Begun", step="note"),)


def test_a_guard_is_named() -> None:
    diagram = diagram_of(Hard.table)
    (loop,) = (e for e in diagram.edges if e.source == e.target)
    (label,) = loop.labels
    assert label.guards == "[is_a_predicate_with_a_rather_long_name]"


def test_the_path_of_a_saga_is_marked_and_nothing_else() -> None:
    trail = Trail(
        "o-1",
        (
            Step(None, "OrderPlaced", "place", "awaiting_payment"),
            Step("awaiting_payment", "PaymentProcessed", "reserve", "awaiting_inventory"),
            Step("awaiting_inventory", "InventoryFailed", "fail", "failed"),
        ),
        "failed",
    )
    diagram = diagram_of(OrderSaga.table, trail)
    assert [n.text for n in diagram.nodes if n.passed] == [
        "",
        "awaiting_payment",
        "awaiting_inventory",
        "failed",
    ]
    assert [n.text for n in diagram.nodes if n.current] == ["failed"]
    passed = [
        (diagram.node(e.source).text, diagram.node(e.target).text)
        for e in diagram.edges
        if e.passed
    ]
    assert ("awaiting_payment", "awaiting_inventory") in passed
    assert ("awaiting_inventory", "failed") in passed
    assert ("awaiting_payment", "failed") not in passed
    assert ("awaiting_shipment", "failed") not in passed
    assert ("any state", "failed") not in passed  # the same step, of another event


def test_a_state_that_the_class_no_longer_has_marks_nothing() -> None:
    diagram = diagram_of(OrderSaga.table, Trail("o-1", (), "gone"))
    assert not any(node.current for node in diagram.nodes)


# trail_of


def entry(
    event: str,
    step: str,
    source: str | None,
    target: str,
    kind: HistoryKind = HistoryKind.EVENT,
    **compensates: bool,
) -> HistoryEntry:
    given: dict[str, Any] = {
        "kind": kind,
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "message_id": "m",
        "token": "t",
        **compensates,
    }
    return HistoryEntry(event=event, step=step, source=source, target=target, version=1, **given)


PAID = (
    entry("OrderPlaced", "place", None, "awaiting_payment"),
    entry("PaymentProcessed", "reserve", "awaiting_payment", "awaiting_inventory"),
)
UNDONE = ("compensation", "reserve", "awaiting_inventory", "failed", HistoryKind.COMPENSATION)
CANCELLED = (
    "operator",
    "cancel",
    "awaiting_inventory",
    "awaiting_inventory",
    HistoryKind.OPERATOR,
)
TURNED = entry("InventoryFailed", "fail", "awaiting_inventory", "awaiting_inventory")
STEPS = (
    Step(None, "OrderPlaced", "place", "awaiting_payment"),
    Step("awaiting_payment", "PaymentProcessed", "reserve", "awaiting_inventory"),
)


@pytest.mark.parametrize(
    ("history", "goal", "steps"),
    [
        ((), None, ()),
        (PAID, None, STEPS),
        (
            (*PAID, TURNED),
            "failed",
            (*STEPS, Step("awaiting_inventory", "InventoryFailed", "fail", "failed")),
        ),
        (
            (*PAID, TURNED, entry(*UNDONE)),
            None,
            (*STEPS, Step("awaiting_inventory", "InventoryFailed", "fail", "failed")),
        ),
        (
            (*PAID, entry(*CANCELLED)),
            None,
            STEPS,
        ),
        (
            (*PAID, entry(*UNDONE)),
            None,
            STEPS,
        ),
    ],
    ids=["empty", "forwards", "being undone", "undone", "operator", "cause no longer known"],
)
def test_a_trail_is_read_off_the_history(
    history: tuple[HistoryEntry, ...], goal: str | None, steps: tuple[Step, ...]
) -> None:
    found = trail_of(OrderSaga.table, "o-1", history, "somewhere", goal)
    assert found == Trail("o-1", steps, "somewhere")


@pytest.mark.parametrize("kind", HistoryKind)
def test_a_trail_goes_by_the_kind_of_an_entry_and_not_by_its_words(kind: HistoryKind) -> None:
    """A step may be called as the history calls an attempt, or what an operator did."""
    told = entry("PaymentProcessed", "reserve", "awaiting_payment", "awaiting_inventory", kind)
    found = trail_of(OrderSaga.table, "o-1", (PAID[0], told), "awaiting_inventory")
    is_transition = kind in (HistoryKind.EVENT, HistoryKind.TIMEOUT)
    assert found.steps == (STEPS if is_transition else STEPS[:1])


def test_a_step_that_asked_for_compensation_at_run_time_leads_to_its_end() -> None:
    asked = entry(
        "InventoryReserved", "ship", "awaiting_inventory", "awaiting_inventory", compensates=True
    )
    end = Step("awaiting_inventory", "InventoryReserved", "ship", "failed")
    found = trail_of(OrderSaga.table, "o-1", (*PAID, asked, entry(*UNDONE)), "failed")
    assert found.steps == (*STEPS, end)
    found = trail_of(OrderSaga.table, "o-1", (*PAID, asked), "awaiting_inventory", "failed")
    assert found.steps == (*STEPS, end)


def test_a_step_that_undid_the_others_and_stayed_is_on_the_trail_where_it_was() -> None:
    stayed = entry(
        "InventoryReserved", "ship", "awaiting_inventory", "awaiting_inventory", compensates=True
    )
    undone = entry(*UNDONE[:3], "awaiting_inventory", HistoryKind.COMPENSATION)
    later = entry("OrderCancelled", "fail", "awaiting_inventory", "failed")
    here = Step("awaiting_inventory", "InventoryReserved", "ship", "awaiting_inventory")
    found = trail_of(OrderSaga.table, "o-1", (*PAID, stayed, undone), "awaiting_inventory")
    assert found.steps == (*STEPS, here)
    found = trail_of(OrderSaga.table, "o-1", (*PAID, stayed, undone, later), "failed")
    end = Step("awaiting_inventory", "OrderCancelled", "fail", "failed")
    assert found.steps == (*STEPS, here, end)


def test_a_timeout_and_an_event_of_a_subclass_are_on_the_trail() -> None:
    history = (
        entry("OrderPlacedAbroad", "place", None, "awaiting_payment"),
        entry("timeout", "give_up", "awaiting_payment", "expired", HistoryKind.TIMEOUT),
    )
    trail = trail_of(OrderSaga.table, "o-1", history, "expired")
    assert [step.event for step in trail.steps] == ["OrderPlaced", "timeout"]
    diagram = diagram_of(OrderSaga.table, trail)
    assert edge(diagram, "awaiting_payment", "expired").passed
    assert edge(diagram, "start", "awaiting_payment").passed
