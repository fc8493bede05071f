"""A diagram as Mermaid: a ``stateDiagram-v2``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sagaflow.diagrams.model import Diagram, Edge, Label, Node, Shape

_PLAIN: Final = frozenset(" _.,/()[]-")
_PASSED: Final = "✓ "
_STYLES: Final = {
    "passed": "fill:#dbeafe,stroke:#1d4ed8",
    "current": "fill:#1d4ed8,stroke:#1e3a8a,color:#ffffff",
    "anywhere": "stroke-dasharray:4 3",
}


def to_mermaid(diagram: Diagram) -> str:
    """Return the text of a Mermaid state diagram."""
    return "\n".join(_lines(diagram)) + "\n"


def _lines(diagram: Diagram) -> Iterator[str]:
    yield "stateDiagram-v2"
    for node in diagram.nodes:
        if node.shape is not Shape.START:
            yield f'    state "{_escaped(node.text)}" as {node.id}'
            for label in node.within:
                yield f"    {node.id} : {_said(label)}"
    for edge in diagram.edges:
        for label in edge.labels:
            yield f"    {_source(edge)} --> {edge.target} : {_said(label, edge)}"
    for node in diagram.nodes:
        if node.shape is Shape.FINAL:
            yield f"    {node.id} --> [*]"
    for name, nodes in _classes(diagram.nodes).items():
        if nodes:
            yield f"    classDef {name} {_STYLES[name]}"
            yield f"    class {','.join(nodes)} {name}"


def _source(edge: Edge) -> str:
    return "[*]" if edge.source == "start" else edge.source


def _said(label: Label, edge: Edge | None = None) -> str:
    parts = (label.trigger, label.guards, f"/ {label.step}")
    text = _escaped(" ".join(part for part in parts if part))
    undoing = " (after undoing the steps)" if edge is not None and edge.compensates else ""
    return f"{_PASSED if label.passed else ''}{text}{undoing}"


def _classes(nodes: Iterable[Node]) -> dict[str, list[str]]:
    states = [node for node in nodes if node.shape is not Shape.START]
    return {
        "passed": [node.id for node in states if node.passed and not node.current],
        "current": [node.id for node in states if node.current],
        "anywhere": [node.id for node in states if node.shape is Shape.ANY],
    }


def _escaped(text: str) -> str:
    """Return *text* with all that Mermaid could read as syntax as entities."""
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in text)
