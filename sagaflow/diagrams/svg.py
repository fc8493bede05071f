"""A diagram as SVG, with a layout of its own: no other program is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import fsum
from typing import Final

from attrs import frozen

from sagaflow.diagrams.layout import Box, Link, Point, Route, layout
from sagaflow.diagrams.model import Diagram, Edge, Label, Node, Shape
from sagaflow.diagrams.text import width_of, wrapped, xml

_MARGIN: Final = 24.0
_TITLE: Final = 40.0
_LONGEST: Final = 34
_LINE: Final = 1.3
_START: Final = 9.0
_LOOP: Final = 30.0
_STYLE: Final = """\
text{font-family:Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif;fill:#0f172a}
.title{font-size:17px;font-weight:700}
.name{font-size:13px;font-weight:700;text-anchor:middle}
.trigger{font-size:12px;font-weight:600;text-anchor:middle}
.step{font-size:11px;fill:#475569;text-anchor:middle}
.guards{font-size:11px;font-style:italic;fill:#475569;text-anchor:middle}
.undoing{font-size:11px;fill:#b91c1c;text-anchor:middle}
.legend{font-size:11px;fill:#475569}
.beside text{text-anchor:start}
.box{fill:#f8fafc;stroke:#334155;stroke-width:1.4}
.inner{fill:none;stroke:#334155}
.any .box{fill:#ffffff;stroke-dasharray:5 3}
.line{fill:none;stroke:#64748b;stroke-width:1.4}
.back{stroke-dasharray:6 3;stroke:#b91c1c}
.label{fill:#ffffff}
.passed .box{fill:#dbeafe;stroke:#1d4ed8;stroke-width:2}
.passed .line{stroke:#1d4ed8;stroke-width:2.8}
.took{fill:#1d4ed8}
.current .box{fill:#1d4ed8;stroke:#1e3a8a;stroke-width:2.4}
.current text{fill:#ffffff}
.current .inner{stroke:#ffffff}"""
_HEADS: Final = (("head", "#64748b"), ("back-head", "#b91c1c"), ("passed-head", "#1d4ed8"))


@frozen(kw_only=True)
class _Line:
    """A line of text."""

    text: str
    kind: str
    size: float
    took: bool = False

    @property
    def width(self) -> float:
        return width_of(self.text, self.size)


@frozen
class _Text:
    """Lines of text, one below the other."""

    lines: tuple[_Line, ...]

    @property
    def width(self) -> float:
        return max((line.width for line in self.lines), default=0.0)

    @property
    def height(self) -> float:
        return fsum(line.size * _LINE for line in self.lines)


def to_svg(diagram: Diagram) -> str:
    """Return the text of an SVG picture."""
    texts = {node.id: _node_text(node) for node in diagram.nodes}
    loops = [edge for edge in diagram.edges if edge.source == edge.target]
    edges = [edge for edge in diagram.edges if edge.source != edge.target]
    labels = [_edge_text(edge) for edge in edges]
    boxes = [_box(node, texts[node.id], _loop_text(loops, node)) for node in diagram.nodes]
    links = [
        Link(source=edge.source, target=edge.target, width=text.width + 8, height=text.height + 4)
        for edge, text in zip(edges, labels, strict=True)
    ]
    placed = layout(boxes, links)
    legend = list(_legend(diagram))
    width = max(
        placed.width,
        width_of(diagram.title, 19),
        max((width_of(line, 11) for line in legend), default=0),
    )
    height = placed.height + _TITLE + 18 * len(legend) + 2 * _MARGIN
    shift = (width - placed.width) / 2
    wide, high = _number(width + 2 * _MARGIN), _number(height)
    size = f'viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    left, middle = _number(_MARGIN), _number(_MARGIN + shift)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{xml(diagram.title)}</title>",
        f"<style>{_STYLE}</style>",
        "<defs>",
        *(_head(name, colour) for name, colour in _HEADS),
        "</defs>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text class="title" x="{left}" y="38">{xml(diagram.title)}</text>',
        f'<g transform="translate({middle} {_number(_MARGIN + _TITLE)})">',
    ]
    drawn = sorted(zip(edges, placed.routes, labels, strict=True), key=lambda d: d[0].passed)
    for edge, route, _ in drawn:
        lines += _drawn_line(edge, _path(route))
    for _, route, text in drawn:
        lines += _drawn_label(route.label, text)
    for node in diagram.nodes:
        own = [edge for edge in loops if edge.source == node.id]
        lines += _drawn_node(node, placed.boxes[node.id], texts[node.id], own)
    lines.append("</g>")
    lines += (
        f'<text class="legend" x="{_number(_MARGIN)}" '
        f'y="{_number(height - _MARGIN / 2 - 18 * (len(legend) - 1 - number))}">{xml(said)}</text>'
        for number, said in enumerate(legend)
    )
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def _legend(diagram: Diagram) -> Iterator[str]:
    if any(node.shape is Shape.ANY for node in diagram.nodes):
        yield "any state: every state that is not final, unless it says otherwise itself"
    if any(edge.compensates for edge in diagram.edges):
        yield "dashed: the completed steps are undone on the way, the last one first"
    if diagram.trail is not None:
        yield f"blue: the path of {diagram.trail.name}; filled: where it is"


def _node_text(node: Node) -> _Text:
    if node.shape is Shape.START:
        return _Text(())
    name = [_Line(text=part, kind="name", size=13) for part in wrapped(node.text, _LONGEST)]
    within = [
        _Line(text=part, kind="step", size=11, took=label.passed and not node.current)
        for label in node.within
        for part in wrapped(_in_one(label), _LONGEST + 6)
    ]
    return _Text((*name, *within))


def _in_one(label: Label) -> str:
    return " ".join(part for part in (label.trigger, label.guards, f"/ {label.step}") if part)


def _edge_text(edge: Edge) -> _Text:
    lines: list[_Line] = []
    for label in edge.labels:
        for text, kind, size in (
            (label.trigger, "trigger", 12),
            (label.guards, "guards", 11),
            (label.step, "step", 11),
        ):
            lines += (
                _Line(text=part, kind=kind, size=size, took=label.passed)
                for part in wrapped(text, _LONGEST)
            )
    if edge.compensates:
        lines.append(_Line(text="after undoing the steps", kind="undoing", size=11))
    return _Text(tuple(lines))


def _loop_text(loops: Sequence[Edge], node: Node) -> _Text:
    """Return the labels of all lines that lead from a node to itself."""
    own = [line for e in loops if e.source == node.id for line in _edge_text(e).lines]
    return _Text(tuple(own))


def _box(node: Node, text: _Text, loop: _Text) -> Box:
    half = _half(node, text)
    return Box(
        id=node.id,
        left=half,
        right=half + (_LOOP + loop.width + 8 if loop.lines else 0),
        height=_height(node, text),
        room=max(_height(node, text), loop.height),
    )


def _half(node: Node, text: _Text) -> float:
    return _START if node.shape is Shape.START else text.width / 2 + 16


def _height(node: Node, text: _Text) -> float:
    return 2 * _START if node.shape is Shape.START else text.height + 18


def _path(route: Route) -> str:
    """Return a line through the points: straight within each pair, a curve between two."""
    (x, y), *others = route.points
    said = [f"M{_number(x)} {_number(y)}"]
    for number, ((x1, y1), (x2, y2)) in enumerate(pairwise(((x, y), *others))):
        if number % 2 == 0 or x1 == x2:
            said.append(f"L{_number(x2)} {_number(y2)}")
        else:
            middle = _number((y1 + y2) / 2)
            said.append(
                f"C{_number(x1)} {middle} {_number(x2)} {middle} {_number(x2)} {_number(y2)}"
            )
    return " ".join(said)


def _drawn_line(edge: Edge, path: str) -> Iterator[str]:
    head = "passed-head" if edge.passed else "back-head" if edge.compensates else "head"
    kind = "line back" if edge.compensates else "line"
    group = ' class="passed"' if edge.passed else ""
    yield f'<g{group}><path class="{kind}" d="{path}" marker-end="url(#{head})"/></g>'


def _drawn_label(middle: Point, text: _Text) -> Iterator[str]:
    x, y = middle
    yield (
        f'<rect class="label" x="{_number(x - text.width / 2 - 3)}" '
        f'y="{_number(y - text.height / 2 - 1)}" width="{_number(text.width + 6)}" '
        f'height="{_number(text.height + 2)}"/>'
    )
    yield from _drawn_text(middle, text)


def _drawn_text(middle: Point, text: _Text) -> Iterator[str]:
    x, y = middle
    y -= text.height / 2
    for line in text.lines:
        y += line.size * _LINE
        style = f"{line.kind} took" if line.took else line.kind
        yield (
            f'<text class="{style}" x="{_number(x)}" y="{_number(y - line.size * 0.32)}">'
            f"{xml(line.text)}</text>"
        )


def _drawn_node(node: Node, middle: Point, text: _Text, loops: Sequence[Edge]) -> Iterator[str]:
    x, y = middle
    half, height = _half(node, text), _height(node, text)
    kinds = [node.shape.value] if node.shape is Shape.ANY else []
    kinds += ["current"] if node.current else ["passed"] if node.passed else []
    yield f'<g class="{" ".join(kinds)}">' if kinds else "<g>"
    if node.shape is Shape.START:
        yield f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(_START)}" fill="#0f172a"/>'
    else:
        yield _rectangle("box", x, y, half, height)
        if node.shape is Shape.FINAL:
            yield _rectangle("inner", x, y, half - 3, height - 6)
        yield from _drawn_text(middle, text)
    yield "</g>"
    if loops:
        path = (
            f"M{_number(x + half)} {_number(y - 8)} "
            f"C{_number(x + half + _LOOP)} {_number(y - 16)} "
            f"{_number(x + half + _LOOP)} {_number(y + 16)} {_number(x + half)} {_number(y + 8)}"
        )
        label = _loop_text(loops, node)
        yield from _drawn_line(loops[0], path)
        yield '<g class="beside">'
        yield from _drawn_text((x + half + _LOOP, y), label)
        yield "</g>"


def _rectangle(kind: str, x: float, y: float, half: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{_number(x - half)}" y="{_number(y - height / 2)}" '
        f'width="{_number(2 * half)}" height="{_number(height)}" rx="9"/>'
    )


def _head(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" '
        f'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
