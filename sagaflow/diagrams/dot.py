"""A diagram as DOT, the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from sagaflow.diagrams.model import Diagram, Edge, Label, Node, Shape

_PATH: Final = "#1d4ed8"
_UNDOING: Final = "#b91c1c"
_SHAPES: Final[Mapping[Shape, str]] = {
    Shape.START: 'shape=circle, style=filled, fillcolor=black, width=0.2, fixedsize=true, label=""',
    Shape.STATE: 'shape=box, style="rounded,filled"',
    Shape.FINAL: 'shape=box, style="rounded,filled", peripheries=2',
    Shape.ANY: 'shape=box, style="rounded,dashed"',
}


def to_dot(diagram: Diagram) -> str:
    """Return the text of a directed graph."""
    return "\n".join(_lines(diagram)) + "\n"


def _lines(diagram: Diagram) -> Iterator[str]:
    yield f"digraph {_quoted(diagram.title)} {{"
    yield '    graph [fontname="Helvetica", rankdir=TB, nodesep=0.5]'
    yield '    node [fontname="Helvetica", fontsize=12, fillcolor="#f8fafc"]'
    yield '    edge [fontname="Helvetica", fontsize=10]'
    for node in diagram.nodes:
        yield f"    {node.id} [{_node(node)}]"
    for edge in diagram.edges:
        yield f"    {edge.source} -> {edge.target} [{_edge(edge)}]"
    yield "}"


def _node(node: Node) -> str:
    if node.shape is Shape.START:
        return _SHAPES[node.shape]
    lines = (node.text, *(_said(label) for label in node.within))
    said = f"label={_quoted(chr(10).join(lines))}, {_SHAPES[node.shape]}"
    if node.current:
        return f'{said}, color="{_PATH}", fillcolor="{_PATH}", fontcolor=white'
    return f'{said}, color="{_PATH}", fillcolor="#dbeafe"' if node.passed else said


def _edge(edge: Edge) -> str:
    lines = [_said(label) for label in edge.labels]
    if edge.compensates:
        lines.append("(after undoing the steps)")
    said = f"label={_quoted(chr(10).join(lines))}"
    if edge.compensates:
        said += ", style=dashed"
    if edge.passed:
        return f'{said}, color="{_PATH}", fontcolor="{_PATH}", penwidth=2.5'
    return f'{said}, color="{_UNDOING}"' if edge.compensates else said


def _said(label: Label) -> str:
    parts = (label.trigger, label.guards, f"/ {label.step}")
    return " ".join(part for part in parts if part)


def _quoted(text: str) -> str:
    """Return *text* as a string of DOT: nothing in it is markup or an escape."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
