"""Results without measuring anything."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.plan import ASYNC, COPIES, ENGINE, FLOOR, FULL, ONE, REPLAY, TRANSITIONS
from benchmarks.results import Entry, Results


def entry(suite: str, scenario: str, contestant: str, **metrics: tuple[float, ...]) -> Entry:
    """Return an entry with so many runs as there are values."""
    runs: list[Mapping[str, float]] = [
        dict(zip(metrics, values, strict=True)) for values in zip(*metrics.values(), strict=True)
    ]
    return Entry(suite=suite, scenario=scenario, contestant=contestant, runs=tuple(runs))


def results(*entries: Entry, quick: bool = False) -> Results:
    """Return results with these entries, or with some of each kind."""
    return Results(
        started="2026-01-02T03:04:05+00:00",
        quick=quick,
        runs=3,
        machine={"processor": "Z80 <8 bit>", "cores": "1"},
        versions={"sagaflow": "0.1.0"},
        entries=entries or DEFAULT,
    )


DEFAULT = (
    entry("engine", ENGINE, COPIES, wall=(30.0, 20.0, 40.0), cpu=(20.0, 20.0, 20.0)),
    entry("engine", ENGINE, FULL, wall=(60.0, 61.0, 62.0), cpu=(60.0, 60.0, 60.0)),
    Entry(
        suite="engine",
        scenario=ENGINE,
        contestant=TRANSITIONS,
        failure="needs transitions",
        missing=True,
    ),
    entry("durable", ONE, FLOOR, wall=(1000.0,) * 3, cpu=(400.0,) * 3, round_trips=(2.0,) * 3),
    entry("durable", ONE, REPLAY, wall=(900.0,) * 3, cpu=(300.0,) * 3, round_trips=(1.0,) * 3),
    entry("durable", ONE, ASYNC, wall=(1500.0,) * 3, cpu=(500.0,) * 3, round_trips=(1.5,) * 3),
)
