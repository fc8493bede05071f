from __future__ import annotations

from sagaflow.diagrams.layout import Box, Layout, Link, layout
from sagaflow.diagrams.order import crossings, ordered


def box(name: str, width: float = 40) -> Box:
    return Box(id=name, left=width / 2, right=width / 2, height=20, room=20)


def place(names: str, *pairs: str) -> Layout:
    links = [Link(source=pair[0], target=pair[1], width=30, height=15) for pair in pairs]
    return layout([box(name) for name in names], links)


def test_what_follows_stands_below() -> None:
    found = place("abc", "ab", "bc")
    assert found.boxes["a"][1] < found.boxes["b"][1] < found.boxes["c"][1]
    assert len({x for x, _ in found.boxes.values()}) == 1  # a straight line


def test_a_label_stands_between_its_boxes_next_to_its_source() -> None:
    found = place("abc", "ab", "bc", "ac")
    _, _, far = found.routes
    assert found.boxes["a"][1] < far.label[1] < found.boxes["b"][1]


def test_a_line_back_ends_at_the_bottom_of_its_target() -> None:
    found = place("ab", "ab", "ba")
    back = found.routes[1]
    assert back.points[0][1] > back.points[-1][1]
    assert back.points[-1][1] == found.boxes["a"][1] + 10
    assert back.points[0][1] == found.boxes["b"][1] - 10
    assert back.label[0] != found.routes[0].label[0]


def test_what_nothing_leads_to_stands_just_above_what_it_leads_to() -> None:
    found = place("abcz", "ab", "bc", "zc")
    assert found.boxes["z"][1] == found.boxes["b"][1]


def test_what_is_connected_with_nothing_has_a_place() -> None:
    found = place("ab")
    assert found.boxes["a"][0] != found.boxes["b"][0]


def test_lines_leave_a_box_side_by_side() -> None:
    found = place("abc", "ab", "ac")
    assert found.routes[0].points[0][0] != found.routes[1].points[0][0]


def test_lines_that_cross_are_uncrossed() -> None:
    below = {"a": ["y"], "b": ["x"], "x": [], "y": []}
    above = {"x": ["b"], "y": ["a"], "a": [], "b": []}
    layers = [["a", "b"], ["x", "y"]]
    assert crossings(layers, below.__getitem__) == 1
    found = ordered(layers, above=above.__getitem__, below=below.__getitem__)
    assert crossings(found, below.__getitem__) == 0
    assert layers == [["a", "b"], ["x", "y"]]


def test_lines_touch_a_box_that_needs_more_room_than_its_height() -> None:
    tall = Box(id="b", left=20, right=90, height=20, room=80)
    links = [Link(source="a", target="b", width=30, height=15)]
    found = layout([box("a"), tall], links)
    assert found.routes[0].points[-1][1] == found.boxes["b"][1] - 10
    assert found.height == found.boxes["b"][1] + 40
