"""How forms are found and kept: once for each type, both ways of one look, never incomplete."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, TypeVar

import pytest
from attrs import field, frozen

from sagaflow._forms.forms import form_of
from sagaflow._forms.values import UnfitValueError

T = TypeVar("T")


class Colour(str, Enum):  # noqa: UP042 - what it is made of counts
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Text(str):
    __slots__ = ()


class Count(int):
    pass


class Place(PurePosixPath):
    pass


@frozen
class Part:
    number: int


@frozen
class Whole:
    part: Part


@frozen
class Endless(Generic[T]):
    next: Endless[list[T]] | None


looks: list[str] = []


def looked_at() -> defaultdict[str, int]:
    """Make the value with which a field starts, at which a form looks once."""
    looks.append("Seen")
    return defaultdict(int)


@frozen
class Seen:
    counts: defaultdict[str, int] = field(factory=looked_at)


met: list[object] = []


def met_meanwhile() -> defaultdict[str, int]:
    """Let another thread ask for a part of what is being made in this one."""
    if not met:
        met.append(None)
        with ThreadPoolExecutor(1) as pool:
            met.append(pool.submit(lambda: form_of(list[Tree]).encode([])).result())
            met.append(pool.submit(lambda: form_of(list[Tree]).decode([TREE])).result())
    return defaultdict(int)


@frozen
class Tree:
    children: list[Tree]
    counts: defaultdict[str, int] = field(factory=met_meanwhile)


TREE: dict[str, Any] = {"children": [{"children": [], "counts": {}}], "counts": {}}


def test_form_that_is_known_is_found_again() -> None:
    for declared in (Part, list[Part], int, Part | None):
        first, second = form_of(declared), form_of(declared)
        assert first.encode is second.encode
        assert first.decode is second.decode


def test_part_of_what_is_known_is_known_and_serves_another_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form_of(Whole)
    known = form_of(Part)
    monkeypatch.setitem(Part.__annotations__, "number", complex)  # no longer looked at
    assert form_of(Part).encode is known.encode
    form_of(tuple[Whole, Part])
    monkeypatch.setitem(Whole.__annotations__, "part", complex)
    form_of(dict[str, Whole])


def test_both_ways_are_made_of_one_look() -> None:
    form = form_of(Seen)
    assert looks == ["Seen"]
    assert form.decode(form.encode(Seen())) == Seen()


def test_another_thread_never_finds_what_is_not_complete() -> None:
    form = form_of(Tree)
    assert met[1:] == [[], [form.decode(TREE)]]


@pytest.mark.parametrize(
    ("declared", "value", "stored"), [(Colour, Colour.RED, "red"), (Size, Size.SMALL, 1)]
)
def test_enum_made_of_a_builtin_is_an_enum(declared: Any, value: object, stored: object) -> None:
    form = form_of(declared)
    assert form.encode(value) == stored
    assert type(form.encode(value)) is type(stored)
    assert form.decode(stored) is value
    with pytest.raises(UnfitValueError, match=declared.__name__):
        form.encode(stored)


@pytest.mark.parametrize("declared", [Text, Count, Place, type(Path())])
def test_class_made_of_a_builtin_is_not_taken_for_it(declared: Any) -> None:
    with pytest.raises(TypeError, match="not among the types that can be stored"):
        form_of(declared)
    with pytest.raises(TypeError, match="not among the types that can be stored"):
        form_of(list[declared])


@pytest.mark.parametrize("around", range(0, 400, 23))
def test_endless_types_are_refused_however_deep_the_stack_is(around: int) -> None:
    def within(depth: int) -> None:
        if depth:
            within(depth - 1)
        else:
            form_of(Endless[int])

    with pytest.raises(TypeError, match="made of ever more types"):
        within(around)


def test_annotation_that_is_no_key_is_looked_through() -> None:
    form = form_of(list[Annotated[int, ["units"]]])
    assert form.decode(form.encode([1])) == [1]
