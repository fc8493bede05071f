"""The contestants that need nothing but sagaflow, on very little."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pymongo
import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import contention, durable, engine, growth, straight, work
from benchmarks.child import run
from benchmarks.contests import FULL_SIZES, QUICK, Contest, Contestant, Sizes
from benchmarks.metrics import METRICS
from benchmarks.orders import check_completed
from benchmarks.plan import SUITES, plan
from benchmarks.runner import hold
from benchmarks.server import Commands, fresh_database

DISPATCH = Contestant("dispatch", "engine", "dispatch", options={"number": 5})
ABSENT = Contestant("absent", "engine", "dispatch", absent="nobody asked for it")


@pytest.mark.parametrize("name", ["bare", "dispatch", "dispatch_with_copy", "in_memory_example"])
def test_the_flow_without_a_store(name: str) -> None:
    measured = getattr(engine, name)(number=3)
    assert measured.metrics["wall"] > 0
    assert measured.metrics["cpu"] > 0


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_the_flow_in_memory(runtime: str) -> None:
    assert work.in_memory(number=3, runtime=runtime).metrics["wall"] > 0


def test_the_flow_in_straight_lines() -> None:
    assert straight.run(number=3).metrics["cpu"] > 0


def test_calls_are_counted_beside_the_time() -> None:
    found = work.counted(number=3).metrics
    assert found.keys() == {"wall", "cpu", "calls", "python_calls"}
    assert 0 < found["python_calls"] < found["calls"]


def test_a_look_for_due_work() -> None:
    assert work.look(stored=20).metrics["look"] > 0


def test_the_same_writes_by_the_driver_alone(mongodb_uri: str) -> None:
    assert durable.replay(number=2, uri=mongodb_uri).metrics["round_trips"] >= 1


def test_new_instances() -> None:
    assert engine.instances(number=10).metrics["new"] > 0
    assert engine.plain_instances(number=10).metrics["new"] > 0


def test_an_order_that_is_not_completed_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="o-1 was not completed: new"):
        check_completed("o-1", "new")


@pytest.mark.parametrize(
    ("driver", "runtime"),
    [("motor", "asyncio"), ("pymongo-async", "asyncio"), ("pymongo-threads", "trio")],
)
def test_the_flow_on_a_server_counts_its_round_trips(
    mongodb_uri: str, driver: str, runtime: str
) -> None:
    measured = durable.saga(driver=driver, runtime=runtime, number=5, tasks=1, uri=mongodb_uri)
    assert measured.metrics["wall"] > 0
    assert measured.metrics["round_trips"] >= 1  # one after another, none can share


def test_the_floor(mongodb_uri: str) -> None:
    assert durable.floor(number=3, tasks=2, uri=mongodb_uri).metrics["round_trips"] == 2


def test_contention_counts_writes(mongodb_uri: str) -> None:
    in_memory = contention.in_memory(number=20, tasks=5).metrics
    on_server = contention.on_server(
        driver="pymongo-async", runtime="asyncio", number=20, tasks=5, uri=mongodb_uri
    ).metrics
    for metrics in (in_memory, on_server):
        assert 1 <= metrics["attempted"] <= metrics["writes"]
        assert 0 <= metrics["lost"] < metrics["attempted"]


def test_lost_writes_are_seen(mongodb_uri: str) -> None:
    commands = Commands()
    with (
        fresh_database(mongodb_uri) as database,
        pymongo.MongoClient[dict[str, object]](mongodb_uri, event_listeners=[commands]) as client,
    ):
        collection = client[database]["sagas"]
        collection.insert_one({"_id": 1, "token": "a", "version": 1})
        for _ in range(2):
            change = {"$set": {"token": "b", "version": 2}}
            collection.update_one({"_id": 1, "version": 1}, change)
        collection.update_one({"_id": 1}, {"$pull": {"outbox": {"id": "m"}}})
    assert (commands.writes, commands.attempted, commands.lost) == (4, 3, 1)
    assert commands.round_trips == 4


def test_growth_in_memory() -> None:
    idle = growth.idle_in_memory(stored=20, number=5).metrics
    timers = growth.timers_in_memory(stored=20, number=5).metrics
    assert idle.keys() == {"wall", "cpu", "sweep", "process", "memory"}
    assert timers.keys() == {"wall", "cpu", "sweep", "process", "fire"}


def test_growth_on_a_server_stores_the_others_once(mongodb_uri: str) -> None:
    with fresh_database(mongodb_uri) as database:
        for _ in range(2):
            growth.timers_on_server(stored=20, number=2, uri=mongodb_uri, database=database)
        with pymongo.MongoClient[dict[str, object]](mongodb_uri) as client:
            stored = client[database]["BenchmarkQuestion"].count_documents({})
    assert stored == 20 + 2 * (2 + 1 + 2)


def planned(contest: Contest) -> Callable[..., list[Contest]]:
    def plan(sizes: Sizes, *, postgres: str | None, against: str) -> list[Contest]:
        return [contest]

    return plan


def test_a_peer_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_contestant.py").write_text("import a_peer_that_nobody_has\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = run("a_contestant", "run", {})
    assert "a_peer_that_nobody_has, which is not installed" in str(found["missing"])


def test_a_module_of_this_repository_that_is_not_found_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        run("benchmarks.no_such_module", "run", {})


def test_contestants_take_turns_in_processes_of_their_own() -> None:
    said: list[str] = []
    broken = Contestant("broken", "engine", "dispatch", options={"number": "many"})
    contest = Contest("engine", "a contest", (DISPATCH, broken, ABSENT))
    entries, _ = hold(contest, runs=2, uri=None, report=said.append)
    assert [line.partition(": ")[2] for line in said] == ["dispatch", "broken", "dispatch"]
    assert [len(entry.runs) for entry in entries] == [2, 0, 0]
    assert [entry.missing for entry in entries] == [False, False, True]
    assert "TypeError" in entries[1].failure
    assert entries[2].failure == "nobody asked for it"


def test_the_command_reports_and_does_not_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contest = Contest("engine", "a contest", (DISPATCH, ABSENT))
    monkeypatch.setattr(command, "plan", planned(contest))
    arguments = ["run", "--runs=1", f"--results={tmp_path}"]
    done = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "results.json").read_text())
    assert {target["met"] for target in content["targets"]} == {None}
    assert (tmp_path / "benchmarks.svg").exists()


def test_the_command_fails_if_a_contestant_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Contestant("broken", "engine", "dispatch", options={"nothing": 1})
    monkeypatch.setattr(command, "plan", planned(Contest("engine", "a contest", (broken,))))
    done = CliRunner().invoke(command.main, ["run", "--runs=1", f"--results={tmp_path}"])
    assert done.exit_code == 1
    assert "broken was not measured" in done.output


@pytest.mark.parametrize("sizes", [QUICK, FULL_SIZES])
def test_the_plan_has_every_suite_and_known_contestants(sizes: Sizes) -> None:
    contests = plan(sizes, postgres="postgresql://")
    assert {contest.suite for contest in contests} == set(SUITES)
    for contest in contests:
        names = [contestant.name for contestant in contest.contestants]
        assert len(names) == len(set(names))
        for contestant in contest.contestants:
            module = contestant.module.replace(".", "/")
            source = (Path(engine.__file__).parent / f"{module}.py").read_text()
            assert f"def {contestant.function}(" in source
    assert all(metric.title for metric in METRICS.values())
