"""The tables, whatever they are shown on."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from benchmarks.metrics import METRICS, shown
from benchmarks.results import Entry, Figure, Results
from benchmarks.targets import BUS_TARGETS, LESS_WORK, TARGETS, Target, judged


@frozen
class Table:
    """A table with what is to be said below it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def tables(results: Results) -> list[Table]:
    """Return the targets of what was measured, and then a table for each contest."""
    contests = [_contest(suite, name, entries) for suite, name, entries in results.scenarios()]
    suites = {entry.suite for entry in results.entries}
    targets: list[Table] = []
    if suites - {"work", "buses"}:
        targets.append(_targets("targets", results, TARGETS))
    if "work" in suites:
        targets.append(_targets("targets: less work than before", results, LESS_WORK))
    if "buses" in suites:
        targets.append(_targets("targets: buses", results, BUS_TARGETS))
    return [*targets, *contests]


def foot(results: Results) -> list[str]:
    """Return what is to be said below all tables."""
    counts = {len(entry.runs) for entry in results.entries if entry.runs} or {results.runs}
    fewest, most = min(counts), max(counts)
    runs = (
        "1 run" if most == 1 else f"{most} runs" if fewest == most else f"{fewest} to {most} runs"
    )
    kind = "A quick look, whose figures mean little: each" if results.quick else "Each"
    described = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return [
        (
            f"{kind} figure is the median of {runs} (smallest – largest), each in a fresh "
            f"process, contestants taking turns. Started {results.started}."
        ),
        f"Machine: {described}.",
        f"Versions: {versions}.",
    ]


def _targets(title: str, results: Results, targets: Sequence[Target]) -> Table:
    return Table(
        title,
        ("target", "to reach", "measured", ""),
        tuple(
            (one.name, one.bound, one.written(one.measured), one.verdict)
            for one in judged(results, targets)
        ),
    )


def _contest(suite: str, scenario: str, entries: list[Entry]) -> Table:
    names = list(dict.fromkeys(metric for entry in entries for metric in entry.metrics))
    header = ("", *(_headed(name) for name in names))
    rows = tuple(
        (entry.contestant, *(_written(entry.figure(name)) for name in names))
        for entry in entries
        if entry.runs
    )
    notes = [f"{entry.contestant}: {entry.note}." for entry in entries if entry.runs and entry.note]
    notes += [
        f"{entry.contestant} was not measured: {entry.failure}."
        for entry in entries
        if entry.failure
    ]
    return Table(f"{suite}: {scenario}", header, rows, tuple(notes))


def _headed(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.title}, {metric.unit}" if metric.unit else metric.title


def _written(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    if figure.minimum == figure.maximum:
        return shown(figure.median)
    return f"{shown(figure.median)} ({shown(figure.minimum)} – {shown(figure.maximum)})"
