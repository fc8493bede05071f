"""The chaos runner: ``python -m tests.chaos --help``."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import click
from attrs import define, field

from tests.chaos.mistakes import MISTAKES
from tests.chaos.plan import plan_for
from tests.chaos.process import Job
from tests.chaos.run import KILLS, Result, Run, directory
from tests.reliability.fleet import Fleet

ALL: Final = "all"
_SHOWN: Final = 20
"""How many violations of a run are printed."""


def seeds_of(said: str) -> tuple[int, ...]:
    """Return the seeds that *said* names, such as ``7``, ``0-9`` or ``1,4,20-30``.

    :raises ValueError: if it names none.
    """
    seeds: list[int] = []
    for part in said.split(","):
        first, dash, last = part.partition("-")
        seeds.extend(range(int(first), int(last if dash else first) + 1))
    return tuple(seeds)


@define(kw_only=True)
class Totals:
    """What has come of the runs so far."""

    seconds: float = 0
    runs: int = 0
    failed: list[int] = field(factory=list[int])
    faults: Counter[str] = field(factory=Counter[str])
    figures: Counter[str] = field(factory=Counter[str])

    def add(self, result: Result) -> None:
        """Add a run."""
        self.runs += 1
        self.seconds += result.seconds
        self.faults.update({kind.value: number for kind, number in result.faults.items()})
        self.figures.update(result.figures)
        if result.broken:
            self.failed.append(result.seed)

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(self.faults[kind.value] for kind in KILLS)

    def table(self) -> str:
        """Return the figures as a table of Markdown."""
        rows = [
            ("runs (seeds)", self.runs),
            ("violations in runs", len(self.failed)),
            ("minutes", f"{self.seconds / 60:.1f}"),
            ("processes killed", self.kills),
            *sorted(self.faults.items(), key=lambda row: -row[1]),
            *sorted(self.figures.items()),
        ]
        lines = [
            f"| {name} | {value if isinstance(value, str) else f'{value:,}'} |"
            for name, value in rows
        ]
        return "\n".join(["| What | How often |", "| --- | ---: |", *lines])


@click.command()
@click.option("--seeds", default="0-4", show_default=True, help="Which, such as 7 or 0-9 or 1,5.")
@click.option("--minutes", type=float, help="Go on with further seeds for so long.")
@click.option("--kills", type=int, help="Go on with further seeds until so many were killed.")
@click.option(
    "--planted",
    type=click.Choice([*MISTAKES, ALL]),
    help="Plant a mistake in the library, which must be found; all: one after another.",
)
@click.option("--errands", default=40, show_default=True, help="How many sagas a run has.")
@click.option("--faults", default=40, show_default=True, help="How many faults it has.")
@click.option(
    "--evidence",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where what is left of a failing run is kept; a temporary directory by default.",
)
def main(
    seeds: str,
    minutes: float | None,
    kills: int | None,
    planted: str | None,
    errands: int,
    faults: int,
    evidence: Path | None,
) -> None:
    """Run sagas while processes are killed, paused and cut off; then check the books."""
    try:
        chosen = seeds_of(seeds)
    except ValueError:
        raise click.BadParameter(
            "seeds are such as 7, 0-9 or 1,5,20-30", param_hint="--seeds"
        ) from None
    if evidence is not None:
        evidence.mkdir(parents=True, exist_ok=True)
    with Fleet[Job]("tests.chaos.process") as fleet:
        runner = Runner(fleet=fleet, errands=errands, faults=faults, evidence=evidence)
        if planted is not None:
            mistakes = tuple(MISTAKES) if planted == ALL else (planted,)
            found = [runner.find(mistake, chosen) for mistake in mistakes]
            sys.exit(0 if all(found) else 1)
        totals = runner.go_on(chosen, minutes, kills)
    click.echo(f"\n{totals.table()}")
    sys.exit(1 if totals.failed else 0)


@define(kw_only=True)
class Runner:
    """Makes runs and tells of them."""

    fleet: Fleet[Job]
    errands: int
    faults: int
    evidence: Path | None

    def go_on(self, seeds: tuple[int, ...], minutes: float | None, kills: int | None) -> Totals:
        """Make a run for each seed, and for those that follow, for as long as is said."""
        began, totals = time.monotonic(), Totals()
        for seed in _endless(seeds):
            done = totals.runs >= len(seeds)
            late = minutes is not None and time.monotonic() - began >= minutes * 60
            enough = kills is not None and totals.kills >= kills
            if late or enough or (done and minutes is None and kills is None):
                break
            totals.add(self.run(seed, None))
            if totals.runs % 10 == 0:
                spent = time.monotonic() - began
                click.echo(
                    f"  {totals.kills} kills in {spent / 60:.1f} min, "
                    f"{len(totals.failed)} runs with violations"
                )
        return totals

    def find(self, mistake: str, seeds: tuple[int, ...]) -> bool:
        """Tell whether the books find a mistake that is planted, with one of these seeds."""
        for seed in seeds:
            result = self.run(seed, mistake)
            if result.broken:
                click.echo(f"FOUND {mistake} with seed {seed}: {result.broken[0]}")
                return True
        click.echo(f"NOT FOUND: {mistake}")
        return False

    def run(self, seed: int, planted: str | None) -> Result:
        """Make one run, and tell of it in a line; of violations, in more."""
        plan = plan_for(seed, errands=self.errands, faults=self.faults)
        path = directory(seed)
        result = Run(plan=plan, fleet=self.fleet, path=path, planted=planted).do()
        faults = ", ".join(
            f"{number} x {kind.value}" for kind, number in sorted(result.faults.items(), key=str)
        )
        click.echo(
            f"seed {seed}: {'ok' if not result.broken else 'VIOLATED'} in {result.seconds:.1f} s; "
            f"{result.figures['sagas']} sagas, {result.figures['deliveries']} deliveries; {faults}"
        )
        if planted is not None or not result.broken:
            shutil.rmtree(path)
        else:
            self.report(result, path if self.evidence is None else self.kept(path, self.evidence))
        return result

    def kept(self, path: Path, where: Path) -> Path:
        """Move the files of a run to where they are kept, and return that."""
        evidence = where / path.name
        shutil.move(path, evidence)
        return evidence

    def report(self, result: Result, evidence: Path) -> None:
        """Print what was violated, and how to run it again."""
        for problem in result.broken[:_SHOWN]:
            click.echo(f"  {problem}")
        if len(result.broken) > _SHOWN:
            click.echo(f"  and {len(result.broken) - _SHOWN} more")
        options = f"--seeds {result.seed} --errands {self.errands} --faults {self.faults}"
        click.echo(f"  evidence: {evidence}")
        click.echo(f"  again: nox -s chaos -- {options}")
        click.echo(f"     or: python -m tests.chaos {options}")


def _endless(seeds: tuple[int, ...]) -> Iterator[int]:
    yield from seeds
    yield from count(seeds[-1] + 1)


if __name__ == "__main__":
    main()
