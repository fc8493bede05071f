"""A chart of the times per event, as SVG: bars on a logarithmic scale, with the range of the runs.

What is drawn are rectangles, lines and words; a library for that would be larger than this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.metrics import shown
from benchmarks.plan import ENGINE, HUNDRED, ONE
from benchmarks.results import Entry, Figure, Results

_Scale = Callable[[float], float]

_SCENARIOS: Final = (ENGINE, ONE, HUNDRED)
_WIDTH: Final = 960
_LEFT: Final = 330
_RIGHT: Final = 90
_ROW: Final = 26
_BAR: Final = 16
_TOP: Final = 64
_HEAD: Final = 50
_GAP: Final = 18
_OWN: Final = "#2f6f9f"
_OTHERS: Final = "#b9c0c7"
_STYLE: Final = """\
text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif }
text { font-size: 13px; fill: #24292f }
.title { font-size: 19px; font-weight: 600 }
.head { font-size: 15px; font-weight: 600 }
.own { font-weight: 600 }
.quiet { font-size: 11px; fill: #6e7781 }
.grid { stroke: #e3e6e9; stroke-width: 1 }
.range { stroke: #24292f; stroke-width: 1.2 }
"""


def draw(results: Results) -> str:
    """Return the chart; a contest in which nobody was measured has no part in it."""
    parts: list[str] = []
    y = _TOP
    for scenario in _SCENARIOS:
        measured = [
            (entry, figure)
            for entry in results.contestants(scenario)
            if (figure := entry.figure("wall")) is not None
        ]
        if measured:
            parts += _panel(scenario, sorted(measured, key=lambda one: one[1].median), y)
            y += _HEAD + _ROW * len(measured) + _GAP
    kind = "one quick look" if results.quick else f"median of {results.runs} runs"
    foot = f"{kind}, smallest and largest as a line; {results.machine.get('processor', '')}"
    height = y + 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"',
            f' width="{_WIDTH}" height="{height}" aria-label="Time per event">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            _text(
                24,
                36,
                "Time per event: shorter is faster, each grid line ten times the last",
                "title",
            ),
            *parts,
            _text(24, y + 4, foot, "quiet"),
            "</svg>\n",
        ]
    )


def _panel(title: str, rows: list[tuple[Entry, Figure]], top: int) -> list[str]:
    low = math.floor(math.log10(min(figure.minimum for _, figure in rows)))
    high = math.ceil(math.log10(max(figure.maximum for _, figure in rows)))
    scale = (_WIDTH - _LEFT - _RIGHT) / max(high - low, 1)

    def x(value: float) -> float:
        return _LEFT + (math.log10(value) - low) * scale

    bottom = top + _HEAD + _ROW * len(rows) - 6
    parts = [_text(24, top + 20, title[0].upper() + title[1:], "head")]
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(_line(at, top + _HEAD - 8, at, bottom, "grid"))
        parts.append(_text(at, top + _HEAD - 14, _time(10.0**power), "quiet", "middle"))
    for index, (entry, figure) in enumerate(rows):
        parts += _bar(entry, figure, top + _HEAD + _ROW * index, x)
    return parts


def _bar(entry: Entry, figure: Figure, y: int, x: _Scale) -> list[str]:
    own = entry.contestant.startswith("sagaflow")
    colour = _OWN if own else _OTHERS
    end, middle = x(figure.median), y + _BAR / 2
    width = max(end - _LEFT, 1.0)
    return [
        _text(_LEFT - 10, middle + 4.5, entry.contestant, "own" if own else "", "end"),
        f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
        _line(x(figure.minimum), middle, x(figure.maximum), middle, "range"),
        _text(max(end, x(figure.maximum)) + 8, middle + 4.5, _time(figure.median)),
    ]


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def _time(microseconds: float) -> str:
    """Return a time with the unit that keeps its number short."""
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1.0)):
        if microseconds >= size:
            return f"{shown(microseconds / size)} {unit}"
    return f"{shown(microseconds * 1e3)} ns"
