from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from examples.orders import OrderSaga
from sagaflow import HistoryEntry
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


def entry(event: str, step: str, source: str | None, target: str) -> HistoryEntry:
    given: dict[str, Any] = {
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "message_id": "m",
        "token": "t",
    }
    return HistoryEntry(event=event, step=step, source=source, target=target, version=1, **given)


PAID = (
    entry("OrderPlaced", "place", None, "awaiting_payment"),
    entry("PaymentProcessed", "reserve", "awaiting_payment", "awaiting_inventory"),
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
            (*PAID, TURNED, entry("compensation", "reserve", "awaiting_inventory", "failed")),
            None,
            (*STEPS, Step("awaiting_inventory", "InventoryFailed", "fail", "failed")),
        ),
        (
            (*PAID, entry("operator", "cancel", "awaiting_inventory", "awaiting_inventory")),
            None,
            STEPS,
        ),
        (
            (*PAID, entry("compensation", "reserve", "awaiting_inventory", "failed")),
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


def test_a_timeout_and_an_event_of_a_subclass_are_on_the_trail() -> None:
    history = (
        entry("OrderPlacedAbroad", "place", None, "awaiting_payment"),
        entry("timeout", "give_up", "awaiting_payment", "expired"),
    )
    trail = trail_of(OrderSaga.table, "o-1", history, "expired")
    assert [step.event for step in trail.steps] == ["OrderPlaced", "timeout"]
    diagram = diagram_of(OrderSaga.table, trail)
    assert edge(diagram, "awaiting_payment", "expired").passed
    assert edge(diagram, "start", "awaiting_payment").passed
