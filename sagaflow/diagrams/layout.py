"""Places boxes and the labels of the lines between them, in layers from top to bottom.

The steps are those of Sugiyama, Tagawa and Toda (1981): break cycles, assign layers, order each
layer so that few lines cross, then give coordinates. A label is a vertex of the line that it
belongs to, so that no label lies on another one. The coordinates of a layer are the least-squares
solution under its order, by pooling adjacent violators.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import fsum
from typing import Final

from attrs import define, field, frozen

from sagaflow.diagrams.order import ordered

_GAP: Final = 28.0
_LAYER_GAP: Final = 26.0
_ROUNDS: Final = 60
_STRAIGHT: Final = 4.0

Point = tuple[float, float]


@frozen(kw_only=True)
class Box:
    """A box to be placed.

    :ivar left: how far it extends to the left of its anchor, where lines arrive.
    :ivar right: how far it extends to the right of it.
    :ivar height: the distance from where lines arrive above to where they leave below.
    :ivar room: the height that the box needs, together with the labels beside it.
    """

    id: str
    left: float
    right: float
    height: float
    room: float


@frozen(kw_only=True)
class Link:
    """A line between two boxes, with a label."""

    source: str
    target: str
    width: float
    height: float


@frozen(kw_only=True)
class Route:
    """Where a line goes.

    :ivar points: from its source to its target; it passes vertically between the points of each
        pair, and swings from one pair to the next.
    :ivar label: the middle of its label.
    """

    points: tuple[Point, ...]
    label: Point


@frozen(kw_only=True)
class Layout:
    """Where everything is; the top left corner is (0, 0).

    :ivar boxes: the middle of each box's height, at its anchor.
    :ivar routes: one for each link, in their order.
    """

    width: float
    height: float
    boxes: Mapping[str, Point]
    routes: tuple[Route, ...]


@define(eq=False)
class _Vertex:
    left: float
    right: float
    height: float
    room: float
    layer: int
    through: bool = False
    x: float = 0.0
    above: list[_Vertex] = field(factory=list["_Vertex"])
    below: list[_Vertex] = field(factory=list["_Vertex"])


def layout(boxes: Sequence[Box], links: Sequence[Link]) -> Layout:
    """Place *boxes* and the labels of *links*, none of which leads from a box to itself.

    :param boxes: the first is where reading begins.
    """
    reversed_links = _backwards(boxes, links)
    forwards = [
        (link.target, link.source) if index in reversed_links else (link.source, link.target)
        for index, link in enumerate(links)
    ]
    layers_of = _layers([box.id for box in boxes], forwards)
    vertices = {
        box.id: _Vertex(box.left, box.right, box.height, box.room, layers_of[box.id])
        for box in boxes
    }
    chains = [
        _chain(vertices[upper], vertices[lower], link, flipped=index in reversed_links)
        for index, (link, (upper, lower)) in enumerate(zip(links, forwards, strict=True))
    ]
    layers: dict[int, list[_Vertex]] = defaultdict(list)
    for vertex in (*vertices.values(), *(v for chain in chains for v in chain[1:-1])):
        layers[vertex.layer].append(vertex)
    sequence = ordered(
        [layers[number] for number in range(max(layers) + 1)],
        above=lambda vertex: vertex.above,
        below=lambda vertex: vertex.below,
    )
    _spread(sequence)
    return _finished(vertices, chains, reversed_links, sequence)


def _backwards(boxes: Sequence[Box], links: Sequence[Link]) -> set[int]:
    """Return the links to turn round, so that none leads back: those to a box being visited."""
    leaving: dict[str, list[int]] = defaultdict(list)
    for index, link in enumerate(links):
        leaving[link.source].append(index)
    done, visiting, found = set[str](), set[str](), set[int]()

    def visit(name: str) -> None:
        visiting.add(name)
        for index in leaving[name]:
            target = links[index].target
            if target in visiting:
                found.add(index)
            elif target not in done:
                visit(target)
        visiting.discard(name)
        done.add(name)

    for box in boxes:
        if box.id not in done:
            visit(box.id)
    return found


def _layers(names: Sequence[str], links: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return even layers: each box two below the lowest that leads to it; labels go between."""
    arriving: dict[str, list[str]] = defaultdict(list)
    leaving: dict[str, list[str]] = defaultdict(list)
    for upper, lower in links:
        arriving[lower].append(upper)
        leaving[upper].append(lower)
    found: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in found:
            found[name] = max((depth(upper) + 2 for upper in arriving[name]), default=0)
        return found[name]

    for name in names:
        depth(name)
    for name in names[
        1:
    ]:  # a box to which nothing leads stands just above the first box to which it leads
        if not arriving[name] and leaving[name]:
            found[name] = min(found[lower] for lower in leaving[name]) - 2
    return found


def _chain(upper: _Vertex, lower: _Vertex, link: Link, *, flipped: bool) -> list[_Vertex]:
    """Return the vertices of a line from top to bottom; its label stands next to its source."""
    half = link.width / 2
    place = lower.layer - 1 if flipped else upper.layer + 1
    chain = [upper]
    for number in range(upper.layer + 1, lower.layer):
        if number == place:
            chain.append(_Vertex(half, half, link.height, link.height, number))
        else:
            chain.append(_Vertex(0, 0, 0, 0, number, through=True))
    chain.append(lower)
    for one, other in pairwise(chain):
        one.below.append(other)
        other.above.append(one)
    return chain


def _spread(layers: Sequence[Sequence[_Vertex]]) -> None:
    """Give every vertex its x: near those that it is connected with, and none on another."""
    for layer in layers:
        _place(layer, [0.0] * len(layer), [1.0] * len(layer))
    for number in range(_ROUNDS):
        downwards = number % 2 == 0
        settled = number >= _ROUNDS // 2
        for layer in layers if downwards else reversed(layers):
            wanted, weights = list[float](), list[float]()
            for vertex in layer:
                near = (
                    vertex.above + vertex.below
                    if settled
                    else (vertex.above if downwards else vertex.below)
                )
                pulls = [(v.x, _pull(vertex, v)) for v in near]
                total = fsum(pull for _, pull in pulls)
                wanted.append(fsum(x * pull for x, pull in pulls) / total if pulls else vertex.x)
                weights.append(total if pulls else 0.1)
            _place(layer, wanted, weights)


def _pull(one: _Vertex, other: _Vertex) -> float:
    """Return how much a piece of a line wants to be straight: most where nothing stands on it."""
    return _STRAIGHT ** (one.through + other.through)


def _place(layer: Sequence[_Vertex], wanted: Sequence[float], weights: Sequence[float]) -> None:
    """Set the x of a layer as near to *wanted* as its order and the gaps allow."""
    offsets = [0.0]
    for one, other in pairwise(layer):
        offsets.append(offsets[-1] + one.right + _GAP + other.left)
    blocks: list[tuple[float, float, int]] = []  # the mean, its weight, of how many
    for x, offset, weight in zip(wanted, offsets, weights, strict=True):
        mean, total, count = x - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, more, others = blocks.pop()
            mean = (mean * total + before * more) / (total + more)
            total, count = total + more, count + others
        blocks.append((mean, total, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    for vertex, mean, offset in zip(layer, means, offsets, strict=True):
        vertex.x = mean + offset


def _finished(
    vertices: Mapping[str, _Vertex],
    chains: Sequence[Sequence[_Vertex]],
    reversed_links: set[int],
    layers: Sequence[Sequence[_Vertex]],
) -> Layout:
    left = min(vertex.x - vertex.left for layer in layers for vertex in layer)
    right = max(vertex.x + vertex.right for layer in layers for vertex in layer)
    tops, middles, y = list[float](), list[float](), 0.0
    heights = [max((vertex.room for vertex in layer), default=0) for layer in layers]
    for height in heights:
        tops.append(y)
        middles.append(y + height / 2)
        y += height + _LAYER_GAP
    for vertex in (vertex for layer in layers for vertex in layer):
        vertex.x -= left
    leaving, arriving = _ports(vertices.values(), chains)
    routes: list[Route] = []
    for index, chain in enumerate(chains):
        first, last = chain[0], chain[-1]
        points = [
            (leaving[id(chain)], middles[first.layer] + first.height / 2),
            (leaving[id(chain)], tops[first.layer] + heights[first.layer]),
        ]
        for vertex in chain[1:-1]:
            points.append((vertex.x, tops[vertex.layer]))
            points.append((vertex.x, tops[vertex.layer] + heights[vertex.layer]))
        points.append((arriving[id(chain)], tops[last.layer]))
        points.append((arriving[id(chain)], middles[last.layer] - last.height / 2))
        flipped = index in reversed_links
        label = chain[-2] if flipped else chain[1]
        routes.append(
            Route(
                points=tuple(points[::-1] if flipped else points),
                label=(label.x, middles[label.layer]),
            )
        )
    return Layout(
        width=right - left,
        height=y - _LAYER_GAP,
        boxes={name: (vertex.x, middles[vertex.layer]) for name, vertex in vertices.items()},
        routes=tuple(routes),
    )


def _ports(
    vertices: Iterable[_Vertex], chains: Sequence[Sequence[_Vertex]]
) -> tuple[dict[int, float], dict[int, float]]:
    """Return where each line leaves its upper and reaches its lower box, side by side."""
    leaving, arriving = dict[int, float](), dict[int, float]()
    for vertex in vertices:
        below = sorted((c for c in chains if c[0] is vertex), key=lambda c: c[1].x)
        above = sorted((c for c in chains if c[-1] is vertex), key=lambda c: c[-2].x)
        for found, ports in ((below, leaving), (above, arriving)):
            room = min(28.0, 1.6 * vertex.left / max(len(found), 1))
            for number, chain in enumerate(found):
                ports[id(chain)] = vertex.x + (number - (len(found) - 1) / 2) * room
    return leaving, arriving
