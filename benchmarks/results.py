"""What was measured, as it is kept in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from attrs import asdict, frozen


@frozen
class Figure:
    """One metric of one contestant: the median of its runs, the smallest and the largest."""

    median: float
    minimum: float
    maximum: float
    runs: int

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Sum up *values*, of which there is at least one."""
        return cls(median(values), min(values), max(values), len(values))


@frozen(kw_only=True)
class Entry:
    """A contestant in a contest.

    :ivar note: what to know about its figures.
    :ivar failure: why there are none.
    :ivar missing: whether that is because it is not installed or was not asked for.
    :ivar runs: the metrics of each run.
    """

    suite: str
    scenario: str
    contestant: str
    note: str = ""
    failure: str = ""
    missing: bool = False
    runs: tuple[Mapping[str, float], ...] = ()

    @property
    def metrics(self) -> list[str]:
        """What was measured."""
        return list(self.runs[0]) if self.runs else []

    def figure(self, metric: str) -> Figure | None:
        """Return one metric, if it was measured."""
        values = [run[metric] for run in self.runs if metric in run]
        return Figure.of(values) if values else None


@frozen(kw_only=True)
class Results:
    """All that one run of the command came to.

    :ivar started: when, in ISO format.
    :ivar quick: whether it was a short look, with figures that mean little.
    :ivar runs: how often everything was measured.
    :ivar machine: what it ran on.
    :ivar versions: of what took part.
    """

    started: str
    quick: bool
    runs: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    entries: tuple[Entry, ...]

    def scenarios(self) -> Iterator[tuple[str, str, list[Entry]]]:
        """Yield suite, scenario and contestants, in the order in which they were planned."""
        groups: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault((entry.suite, entry.scenario), []).append(entry)
        for (suite, scenario), entries in groups.items():
            yield suite, scenario, entries

    def median(self, scenario: str, contestant: str, metric: str) -> float | None:
        """Return a median, if it was measured."""
        for entry in self.entries:
            if (entry.scenario, entry.contestant) == (scenario, contestant):
                found = entry.figure(metric)
                return None if found is None else found.median
        return None

    def contestants(self, scenario: str) -> list[Entry]:
        """Return who took part."""
        return [entry for entry in self.entries if entry.scenario == scenario]


def save(results: Results, targets: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write a file of results, with what they say about the targets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"results": asdict(results), "targets": targets}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> Results:
    """Read a file that `save` has written.

    :raises ValueError: if it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["results"]
        entries = tuple(
            Entry(**entry | {"runs": tuple(entry["runs"])}) for entry in content["entries"]
        )
        return Results(**content | {"entries": entries})
    except (KeyError, TypeError, json.JSONDecodeError) as exc:
        raise ValueError(f"{path} holds no results of `python -m benchmarks run`: {exc}") from exc
