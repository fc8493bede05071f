"""An earlier commit beside the present one, from a small repository with two of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.contests import EARLIER, NOW, Contest, Contestant
from benchmarks.earlier import NoSuchCommitError, unpacked
from benchmarks.output import markdown
from benchmarks.plan import (
    COPIES,
    FEW,
    MANY,
    REPLAY,
    STRAIGHT,
    WORK,
    WORK_HUNDRED,
    WORK_IDLE,
    WORK_LOOK,
    WORK_ONE,
)
from benchmarks.runner import hold
from benchmarks.targets import LESS_WORK, judged
from tests.benchmarks.support import entry, results


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository whose package has an attribute since its second commit."""
    folder = tmp_path / "repository"
    (folder / "sagaflow").mkdir(parents=True)
    module = folder / "sagaflow" / "__init__.py"
    _git(folder, "init", "--quiet")
    for number in (1, 2):
        module.write_text(f"number = {number}\n")
        _git(folder, "add", ".")
        _git(folder, "commit", "--quiet", f"--message=commit {number}")
    return folder


def _git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True)  # noqa: S607


@pytest.mark.parametrize(("commit", "number"), [("HEAD~1", "1"), ("HEAD", "2")])
def test_processes_import_what_was_in_the_commit(
    repository: Path, commit: str, number: str
) -> None:
    asked = "import benchmarks, sagaflow; print(sagaflow.number)"
    with unpacked(commit, repository=repository) as environment:
        done = subprocess.run(
            [sys.executable, "-c", asked],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
    assert done.stdout.strip() == number


def test_commit_that_is_not_there_is_named(repository: Path) -> None:
    with (
        pytest.raises(NoSuchCommitError, match=r"no commit abc1234 .* --against"),
        unpacked("abc1234", repository=repository),
    ):
        raise AssertionError


def test_only_the_earlier_contestant_runs_the_earlier_commit(tmp_path: Path) -> None:
    package = tmp_path / "sagaflow"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('the earlier one')\n")
    path = os.pathsep.join([str(tmp_path), str(Path(command.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    options = {"number": 5}
    contest = Contest(
        "work",
        "a contest",
        (
            Contestant("now", "engine", "dispatch", options=options),
            Contestant(
                EARLIER, "engine", "dispatch", options=options, note="commit x", earlier=True
            ),
        ),
    )
    entries, _ = hold(contest, runs=1, uri=None, report=lambda _: None, earlier=environment)
    assert len(entries[0].runs) == 1
    assert "the earlier one" in entries[1].failure


def test_the_command_needs_the_commit_only_for_who_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no repository
    arguments = ["run", "--quick", "--runs=1", f"--results={tmp_path}"]
    done = CliRunner().invoke(command.main, [*arguments, "--only=work"])
    assert done.exit_code == 1
    assert "has no commit a6ee031 to compare with" in done.output


def test_targets_are_judged_by_what_was_measured_in_the_same_run() -> None:
    measured = results(
        entry("work", WORK, STRAIGHT, cpu=(10.0,)),
        entry("work", WORK, COPIES, cpu=(20.0,)),
        entry("work", WORK, NOW, cpu=(50.0,), calls=(200.0,)),
        entry("work", WORK, EARLIER, cpu=(100.0,)),
        entry("work", WORK_ONE, REPLAY, cpu=(100.0,)),
        entry("work", WORK_ONE, NOW, cpu=(250.0,)),
        entry("work", WORK_HUNDRED, NOW, cpu=(75.0,)),
        entry("work", WORK_HUNDRED, EARLIER, cpu=(100.0,)),
        entry("work", WORK_IDLE, NOW, memory=(4.0,)),
        entry("work", WORK_IDLE, EARLIER, memory=(4.0,)),
        entry("work", WORK_LOOK, FEW, look=(7.0,)),
        entry("work", WORK_LOOK, MANY, look=(7.0,)),
    )
    found = [(one.measured, one.met) for one in judged(measured, LESS_WORK)]
    assert found == [
        (200, True),
        (5, False),
        (0.5, True),
        (2.5, True),
        (1.5, False),
        (0.75, True),
        (4, True),
        (1, True),
    ]
    text = markdown(measured)
    assert text.startswith("## Targets: less work than before")
    assert text.count("| not met |") == 2
    assert "## Targets\n" not in text
