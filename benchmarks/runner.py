"""Holds the contests: contestants take turns, each run in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from attrs import define, field

from benchmarks.buses.servers import SERVERS, AbsentError
from benchmarks.child import MARK
from benchmarks.contests import Contest, Contestant
from benchmarks.results import Entry
from benchmarks.server import fresh_database
from sagaflow.mongo import EmbeddedServer

_TIME_LIMIT: Final = 3_600
_REPORTED: Final = 15

Report = Callable[[str], None]


@define
class _Turns:
    """What one contestant has come to so far."""

    suite: str
    scenario: str
    contestant: Contestant
    runs: list[dict[str, float]] = field(factory=list)
    failure: str = ""
    missing: bool = False
    database: str | None = None
    broker: str | None = None

    def __attrs_post_init__(self) -> None:
        self.failure, self.missing = self.contestant.absent, bool(self.contestant.absent)

    def entry(self) -> Entry:
        return Entry(
            suite=self.suite,
            scenario=self.scenario,
            contestant=self.contestant.name,
            note=self.contestant.note,
            failure=self.failure,
            missing=self.missing,
            runs=tuple(self.runs),
        )


def hold(
    contest: Contest,
    *,
    runs: int,
    uri: str | None,
    report: Report,
    earlier: Mapping[str, str] | None = None,
    brokers: Mapping[str, str] | None = None,
) -> tuple[list[Entry], dict[str, str]]:
    """Measure everybody *runs* times; return what came of it, and versions that were seen.

    :param uri: a MongoDB-protocol server to use; an embedded one, started for this, if missing.
    :param report: is told what happens.
    :param earlier: the environment of processes that run an earlier commit.
    :param brokers: by their names, the URIs of brokers to use; others are started, or looked for.
    """
    runs = runs if contest.most_runs is None else min(runs, contest.most_runs)
    versions: dict[str, str] = {}
    found = [_Turns(contest.suite, contest.scenario, one) for one in contest.contestants]
    with _server(contest, uri) as server, ExitStack() as opened:
        _have_brokers_ready(found, dict(brokers or {}), opened)
        for turns in found:
            if turns.contestant.keeps_database:
                turns.database = opened.enter_context(fresh_database(server))
        for number in range(runs):
            for turns in found:
                if turns.failure:
                    continue
                report(f"{contest.scenario}, run {number + 1}: {turns.contestant.name}")
                environment = earlier if turns.contestant.earlier else None
                _take_turn(turns, server, versions, environment)
    return [turns.entry() for turns in found], versions


@contextmanager
def _server(contest: Contest, uri: str | None) -> Generator[str, None, None]:
    if uri is not None or not any(one.on_server for one in contest.contestants):
        yield uri or ""
        return
    with EmbeddedServer() as server:
        yield server.uri


def _have_brokers_ready(found: list[_Turns], uris: dict[str, str], opened: ExitStack) -> None:
    """Give each contestant the URI of its broker, or say that it does not take part."""
    absent: dict[str, str] = {}
    for turns in found:
        name = turns.contestant.broker
        if not name:
            continue
        if name not in uris and name not in absent:
            try:
                uris[name] = opened.enter_context(SERVERS[name].ready())
            except AbsentError as exc:
                absent[name] = str(exc)
        turns.broker = uris.get(name)
        if name in absent:
            turns.failure, turns.missing = absent[name], True


def _take_turn(
    turns: _Turns, uri: str, versions: dict[str, str], environment: Mapping[str, str] | None
) -> None:
    options = dict(turns.contestant.options)
    if turns.contestant.on_server:
        options["uri"] = uri
    if turns.broker is not None:
        options["broker"] = turns.broker
    if turns.database is not None:
        options["database"] = turns.database
    found = run_child(turns.contestant.module, turns.contestant.function, options, environment)
    if "missing" in found:
        turns.failure, turns.missing = found["missing"], True
    elif "failure" in found:
        turns.failure = found["failure"]
    else:
        turns.runs.append(found["metrics"])
        versions |= found["versions"]


def run_child(
    module: str,
    function: str,
    options: dict[str, object],
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run a contestant once, in a process of its own, and return what it says."""
    command = [
        *(sys.executable, "-m", "benchmarks.child"),
        *(f"benchmarks.{module}", function, json.dumps(options)),
    ]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, a planned contestant
            command,
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"took longer than {_TIME_LIMIT} seconds"}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(MARK):
            found: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return found
    said = "\n".join(done.stderr.strip().splitlines()[-_REPORTED:])
    return {"failure": said or f"ended with status {done.returncode}"}
