"""Mermaid and DOT: pinned as a whole, and user text that looks like syntax."""

from __future__ import annotations

import re

from examples.orders import OrderSaga
from sagaflow.diagrams import Diagram, Step, Trail, diagram_of, to_dot, to_mermaid
from tests.diagrams.sagas import Hard

PATH = Trail(
    "o-1",
    (
        Step(None, "OrderPlaced", "place", "awaiting_payment"),
        Step("awaiting_payment", "OrderCancelled", "withdraw", "failed"),
    ),
    "failed",
)

MERMAID = """\
stateDiagram-v2
    state "awaiting_payment" as s0
    state "awaiting_inventory" as s1
    state "awaiting_shipment" as s2
    state "completed" as s3
    state "failed" as s4
    s4 : PaymentProcessed / ignored
    state "expired" as s5
    s5 : PaymentProcessed / ignored
    state "any state" as any
    [*] --> s0 : ✓ OrderPlaced / place
    s0 --> s1 : PaymentProcessed / reserve, undone by refund
    s1 --> s2 : InventoryReserved / ship, undone by release
    s2 --> s3 : OrderShipped / finish
    s0 --> s4 : PaymentDeclined / fail
    s0 --> s4 : ✓ OrderCancelled / withdraw
    s1 --> s4 : InventoryFailed / fail (after undoing the steps)
    s2 --> s4 : ShipmentFailed / fail (after undoing the steps)
    any --> s4 : OrderCancelled / fail (after undoing the steps)
    s0 --> s5 : after 30 min / give_up
    s3 --> [*]
    s4 --> [*]
    s5 --> [*]
    classDef passed fill:#dbeafe,stroke:#1d4ed8
    class s0 passed
    classDef current fill:#1d4ed8,stroke:#1e3a8a,color:#ffffff
    class s4 current
    classDef anywhere stroke-dasharray:4 3
    class any anywhere
"""

# What a line of Mermaid's state diagrams may be, with text that has no syntax in it.
TEXT = r"(?:[^\W_]|[ _.,/()\[\]✓-]|#\d+;)+"
NODE = r"(?:\[\*\]|\w+)"
LINE = re.compile(
    rf'stateDiagram-v2|    (?:state "{TEXT}" as \w+|\w+ : {TEXT}|{NODE} --> {NODE}(?: : {TEXT})?'
    r"|classDef \w+ [\w#:,; -]+|class \w+(?:,\w+)* \w+)"
)


def every() -> list[Diagram]:
    return [diagram_of(OrderSaga.table), diagram_of(OrderSaga.table, PATH), diagram_of(Hard.table)]


def test_mermaid_is_as_it_was_shown_to_a_parser() -> None:
    assert to_mermaid(diagram_of(OrderSaga.table, PATH)) == MERMAID


def test_every_line_of_mermaid_is_one_of_its_statements() -> None:
    for diagram in every():
        lines = to_mermaid(diagram).splitlines()
        assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_text_in_mermaid_is_no_syntax() -> None:
    assert (
        'state "a #60;b#62; #38; #34;c#34; #92; [state]#58; with#59; #35;odd #37; characters" as s0'
    ) in to_mermaid(diagram_of(Hard.table))


def test_nothing_is_marked_without_a_path() -> None:
    text = to_mermaid(diagram_of(OrderSaga.table))
    assert "✓" not in text
    assert "classDef passed" not in text
    assert "penwidth" not in to_dot(diagram_of(OrderSaga.table))


DOT = """\
digraph "OrderSaga" {
    graph [fontname="Helvetica", rankdir=TB, nodesep=0.5]
    node [fontname="Helvetica", fontsize=12, fillcolor="#f8fafc"]
    edge [fontname="Helvetica", fontsize=10]
    start [shape=circle, style=filled, fillcolor=black, width=0.2, fixedsize=true, label=""]
    s0 [label="awaiting_payment", shape=box, style="rounded,filled", color="#1d4ed8", \
fillcolor="#dbeafe"]
    s1 [label="awaiting_inventory", shape=box, style="rounded,filled"]
    s2 [label="awaiting_shipment", shape=box, style="rounded,filled"]
    s3 [label="completed", shape=box, style="rounded,filled", peripheries=2]
    s4 [label="failed\\nPaymentProcessed / ignored", shape=box, style="rounded,filled", \
peripheries=2, color="#1d4ed8", fillcolor="#1d4ed8", fontcolor=white]
    s5 [label="expired\\nPaymentProcessed / ignored", shape=box, style="rounded,filled", \
peripheries=2]
    any [label="any state", shape=box, style="rounded,dashed"]
    start -> s0 [label="OrderPlaced / place", color="#1d4ed8", fontcolor="#1d4ed8", penwidth=2.5]
    s0 -> s1 [label="PaymentProcessed / reserve, undone by refund"]
    s1 -> s2 [label="InventoryReserved / ship, undone by release"]
    s2 -> s3 [label="OrderShipped / finish"]
    s0 -> s4 [label="PaymentDeclined / fail\\nOrderCancelled / withdraw", color="#1d4ed8", \
fontcolor="#1d4ed8", penwidth=2.5]
    s1 -> s4 [label="InventoryFailed / fail\\n(after undoing the steps)", style=dashed, \
color="#b91c1c"]
    s2 -> s4 [label="ShipmentFailed / fail\\n(after undoing the steps)", style=dashed, \
color="#b91c1c"]
    any -> s4 [label="OrderCancelled / fail\\n(after undoing the steps)", style=dashed, \
color="#b91c1c"]
    s0 -> s5 [label="after 30 min / give_up"]
}
"""


def test_dot_is_as_graphviz_took_it() -> None:
    assert to_dot(diagram_of(OrderSaga.table, PATH)) == DOT


def test_text_in_dot_is_quoted() -> None:
    assert r's0 [label="a <b> & \"c\" \\ [state]: with; #odd % characters"' in to_dot(
        diagram_of(Hard.table)
    )
