"""The command: ``python -m benchmarks run`` and ``python -m benchmarks report RESULTS``."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from attrs import asdict, evolve
from rich.console import Console

from benchmarks import chart, earlier, output
from benchmarks.buses.servers import SERVERS
from benchmarks.contests import FULL_SIZES, QUICK, Contest
from benchmarks.machine import machine, server_version, versions
from benchmarks.plan import SUITES, plan
from benchmarks.results import Results, load, save
from benchmarks.runner import hold
from benchmarks.targets import judged
from sagaflow.mongo import EmbeddedServer

_RUNS: Final = 5
_QUICK_RUNS: Final = 2
_RESULTS: Final = "results.json"
_CHART: Final = "benchmarks.svg"
_WIDTH: Final = 150


def _brokers(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, uri = one.partition("=")[::2]
        if name not in SERVERS or not uri:
            raise click.BadParameter(f"it is NAME=URI, with a name of {', '.join(SERVERS)}.")
        found[name] = uri
    return found


@click.group()
def main() -> None:
    """Measure sagaflow beside its peers, and show what came of it."""


@main.command()
@click.option(
    "--only", multiple=True, type=click.Choice(SUITES), help="Only this suite; repeatable."
)
@click.option("--quick", is_flag=True, help="A short look: less of everything.")
@click.option(
    "--runs", type=click.IntRange(1), help=f"Runs of each contestant, {_RUNS} by default."
)
@click.option("--idle", type=click.IntRange(1), help="Also with so many idle sagas stored.")
@click.option("--mongodb", metavar="URI", help="A server to use instead of the embedded one.")
@click.option("--postgres", metavar="URI", help="A PostgreSQL server, for DBOS.")
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="NAME=URI",
    callback=_brokers,
    help=f"A broker to use, for the suite `buses`; repeatable. Names: {', '.join(SERVERS)}. Others "
    "are started, or looked for at their usual place.",
)
@click.option(
    "--against",
    metavar="COMMIT",
    default=earlier.DEFAULT,
    show_default=True,
    help="The commit that the suites `work` and `buses` compare with.",
)
@click.option(
    "--results",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Where to write results.json and benchmarks.svg.",
)
def run(  # noqa: PLR0913 - one for each option
    *,
    only: tuple[str, ...],
    quick: bool,
    runs: int | None,
    idle: int | None,
    mongodb: str | None,
    postgres: str | None,
    brokers: Mapping[str, str],
    against: str,
    folder: Path,
) -> None:
    """Hold the contests. Exits 0 whether or not targets are met, 1 if something went wrong."""
    console = _console()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    sizes = evolve(QUICK if quick else FULL_SIZES, idle=idle)
    contests = [
        contest
        for contest in plan(sizes, postgres=postgres, against=against)
        if not only or contest.suite in only
    ]
    described, known = machine(), versions()
    if any(one.on_server for contest in contests for one in contest.contestants):
        known |= _server_version(mongodb)
    times = runs or (_QUICK_RUNS if quick else _RUNS)
    results = Results(
        started=started, quick=quick, runs=times, machine=described, versions=known, entries=()
    )
    with _earlier(contests, against) as environment:
        for contest in contests:
            entries, seen = hold(
                contest,
                runs=times,
                uri=mongodb,
                report=lambda line: print(line, file=sys.stderr),
                earlier=environment,
                brokers=brokers,
            )
            results = evolve(
                results,
                versions={**results.versions, **seen},
                entries=(*results.entries, *entries),
            )
            _write(results, folder)  # whoever interrupts a long run keeps what there is
    output.show(results, console)
    console.print(f"written: {folder / _RESULTS}, {folder / _CHART}", highlight=False)
    if any(entry.failure and not entry.missing for entry in results.entries):
        raise SystemExit(1)


@main.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--into",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Markdown file with a place for the tables; the chart is written beside it.",
)
def report(results: Path, into: Path | None) -> None:
    """Print the tables of RESULTS as Markdown, or put them and the chart into the docs.

    Places of the docs that RESULTS has nothing for are left as they are.
    """
    try:
        found = load(results)
        if into is None:
            click.echo(output.markdown(found))
            return
        for place, part in output.parts(found).items():
            drawn = f"![Time per event]({_CHART})\n\n" if place == output.PEERS else ""
            output.put_into(into, place, drawn + output.markdown(part))
            if drawn:
                (into.parent / _CHART).write_text(chart.draw(part), encoding="utf-8")
    except ValueError as exc:
        raise click.ClickException(str(exc)) from exc


@contextmanager
def _earlier(contests: list[Contest], commit: str) -> Generator[Mapping[str, str] | None]:
    """Have the earlier commit ready, if somebody runs it."""
    if not any(one.earlier for contest in contests for one in contest.contestants):
        yield None
        return
    try:
        with earlier.unpacked(commit) as environment:
            yield environment
    except earlier.NoSuchCommitError as exc:
        raise click.ClickException(str(exc)) from exc


def _write(results: Results, folder: Path) -> None:
    targets = [asdict(one) | {"met": one.met} for one in judged(results)]
    save(results, targets, folder / _RESULTS)
    (folder / _CHART).write_text(chart.draw(results), encoding="utf-8")


def _console() -> Console:
    """Return where tables go; into a file they are as wide as they need to be."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    return console


def _server_version(mongodb: str | None) -> dict[str, str]:
    if mongodb is not None:
        return {"MongoDB server": server_version(mongodb)}
    with EmbeddedServer() as server:
        return {"MongoDB that SecantusDB speaks": server_version(server.uri)}


if __name__ == "__main__":
    main()
