"""The order within layers: few crossings, by the barycentre of the neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, TypeVar

T = TypeVar("T")

_SWEEPS: Final = 24


def ordered(
    layers: Sequence[Sequence[T]],
    *,
    above: Callable[[T], Sequence[T]],
    below: Callable[[T], Sequence[T]],
) -> list[list[T]]:
    """Return *layers* in an order in which few of the lines between neighbouring layers cross.

    :param above: what each is connected with in the layer above.
    :param below: what each is connected with in the layer below.
    """
    current = [list(layer) for layer in layers]
    best, fewest = [list(layer) for layer in current], crossings(current, below)
    for sweep in range(_SWEEPS):
        if sweep % 2 == 0:
            for fixed, layer in pairwise(current):
                _sort(layer, fixed, above)
        else:
            for fixed, layer in pairwise(reversed(current)):
                _sort(layer, fixed, below)
        found = crossings(current, below)
        if found < fewest:
            best, fewest = [list(layer) for layer in current], found
    return best


def crossings(layers: Sequence[Sequence[T]], below: Callable[[T], Sequence[T]]) -> int:
    """Return how many pairs of lines cross."""
    total = 0
    for upper, lower in pairwise(layers):
        place = {id(one): number for number, one in enumerate(lower)}
        lines = [(number, place[id(o)]) for number, one in enumerate(upper) for o in below(one)]
        total += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(lines) for c, d in lines[:i])
    return total


def _sort(layer: list[T], fixed: Sequence[T], near: Callable[[T], Sequence[T]]) -> None:
    """Sort a layer by the places of its neighbours; a vertex without neighbours keeps its place."""
    place = {id(one): float(number) for number, one in enumerate(fixed)}
    wanted: dict[int, float] = {}
    for number, one in enumerate(layer):
        found = [place[id(other)] for other in near(one)]
        wanted[id(one)] = sum(found) / len(found) if found else float(number)
    layer.sort(key=lambda one: wanted[id(one)])
