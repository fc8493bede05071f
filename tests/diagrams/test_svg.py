"""The picture: well-formed, nothing on top of anything else, and the same every time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest

from examples.orders import OrderSaga
from examples.travel import TravelSaga
from sagaflow import Saga
from sagaflow.diagrams import Diagram, Step, Trail, diagram_of, to_svg
from sagaflow.diagrams.model import Edge, Label, Node, Shape
from sagaflow.diagrams.text import width_of, wrapped, xml
from tests.diagrams.sagas import Hard

SVG = "{http://www.w3.org/2000/svg}"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
SAGAS: list[type[Saga]] = [OrderSaga, TravelSaga, Hard]
Rectangle = tuple[float, float, float, float]


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - it is our own


def rectangles(root: ET.Element) -> list[Rectangle]:
    """Return the boxes and the labels of lines."""
    found: list[Rectangle] = []
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("class") in {"box", "label"}:
            x, y, width, height = (float(rect.get(k, "")) for k in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("saga", SAGAS)
def test_nothing_lies_on_anything_else(saga: type[Saga]) -> None:
    root = parsed(to_svg(diagram_of(saga.table)))
    found = rectangles(root)
    diagram = diagram_of(saga.table)
    lines = [edge for edge in diagram.edges if edge.source != edge.target]
    assert len(found) == len(diagram.nodes) - 1 + len(lines)
    assert [pair for pair in combinations(found, 2) if overlap(*pair)] == []


@pytest.mark.parametrize("saga", SAGAS)
def test_everything_is_within_the_picture(saga: type[Saga]) -> None:
    root = parsed(to_svg(diagram_of(saga.table)))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    moved = root.find(f"{SVG}g")
    assert moved is not None
    dx, dy = map(float, re.findall(r"[\d.]+", moved.get("transform", "")))
    for left, top, right, bottom in rectangles(root):
        assert left + dx >= 0
        assert top + dy >= 0
        assert right + dx <= width
        assert bottom + dy <= height


@pytest.mark.parametrize("saga", SAGAS)
def test_the_same_saga_is_the_same_picture(saga: type[Saga]) -> None:
    assert to_svg(diagram_of(saga.table)) == to_svg(diagram_of(saga.table))


def test_every_name_is_in_the_picture() -> None:
    root = parsed(to_svg(diagram_of(OrderSaga.table)))
    said = {text.text for text in root.iter(f"{SVG}text")}
    assert {"OrderSaga", "awaiting_payment", "after 30 min", "any state"} <= said
    assert {"PaymentProcessed", "reserve, undone by refund", "PaymentProcessed / ignored"} <= said
    assert {"after undoing the steps", "OrderCancelled", "withdraw"} <= said


def test_text_of_users_is_text() -> None:
    root = parsed(to_svg(diagram_of(Hard.table)))
    said = " ".join(text.text or "" for text in root.iter(f"{SVG}text"))
    assert 'a <b> & "c" \\ [state]: with; #odd % characters' in said
    assert xml('<a href="x">&\x00\x1b') == "&lt;a href=&quot;x&quot;&gt;&amp;\ufffd\ufffd"


def test_a_line_leads_from_box_to_box() -> None:
    """Forwards from the bottom of one to the top of another, and back the other way."""
    root = parsed(to_svg(diagram_of(Hard.table)))
    boxes = rectangles(root)
    (start,) = root.iter(f"{SVG}circle")
    x, y, radius = (float(start.get(name, "")) for name in ("cx", "cy", "r"))
    circle = (x, y + radius)
    for path in root.iter(f"{SVG}path"):
        if path.get("class") is None:
            continue
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]
        for x, y in (numbers[:2], numbers[-2:]):
            near = [b for b in boxes if b[0] - 1 <= x <= b[2] + 1 and b[1] - 1 <= y <= b[3] + 1]
            assert near or (x, y) == circle, path.get("d")


def test_the_path_of_a_saga_is_blue_and_explained() -> None:
    trail = Trail(
        "OrderSaga <o-1>",
        (Step(None, "OrderPlaced", "place", "awaiting_payment"),),
        "awaiting_payment",
    )
    text = to_svg(diagram_of(OrderSaga.table, trail))
    root = parsed(text)
    groups = [g.get("class") for g in root.iter(f"{SVG}g")]
    assert groups.count("current") == 1
    assert "url(#passed-head)" in text
    legends = [t.text for t in root.iter(f"{SVG}text") if t.get("class") == "legend"]
    assert legends[-1] == "blue: the path of OrderSaga <o-1>; filled: where it is"
    assert 'class="passed"' not in to_svg(diagram_of(OrderSaga.table))


def test_no_style_is_about_more_than_it_says() -> None:
    (style,) = parsed(to_svg(diagram_of(Hard.table))).iter(f"{SVG}style")
    rules = [rule.partition("{")[0] for rule in (style.text or "").splitlines()]
    assert len(rules) == len(set(rules))
    assert rules.count(".box") == 1


def test_a_saga_with_nothing_special_has_no_legend() -> None:
    nodes = (
        Node(id="start", text="", shape=Shape.START),
        Node(id="s0", text="only", shape=Shape.FINAL),
    )
    line = Edge(
        source="start",
        target="s0",
        labels=(Label(trigger="Begun", step="begin"),),
        compensates=False,
    )
    text = to_svg(Diagram(title="Small", nodes=nodes, edges=(line,)))
    assert 'class="legend"' not in text


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("short", ["short"]),
        ("", []),
        ("one two three four", ["one two", "three four"]),
        ("ALongNameOfAnEvent", ["ALongName", "OfAnEvent"]),
        ("a_step_with_a_name", ["a_step_", "with_a_", "name"]),
        ("x" * 25, ["x" * 10, "x" * 10, "x" * 5]),
    ],
)
def test_long_text_is_broken_between_words(text: str, lines: list[str]) -> None:
    assert wrapped(text, 10) == lines


def test_wide_characters_are_wide() -> None:
    assert width_of("注文", 10) > width_of("ab", 10) > width_of("il", 10)


@pytest.mark.parametrize(("name", "saga"), [("orders", OrderSaga), ("travel", TravelSaga)])
def test_the_pictures_in_the_documentation_are_those_of_today(name: str, saga: type[Saga]) -> None:
    """If it fails: ``sagaflow graph examples.orders:OrderSaga --output docs/images/orders.svg``."""
    assert (IMAGES / f"{name}.svg").read_text(encoding="utf-8") == to_svg(diagram_of(saga.table))
