"""A short run of the chaos runner, and of one with a mistake planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.__main__ import Runner, Totals
from tests.chaos.plan import Kind, plan_for
from tests.chaos.process import Job
from tests.chaos.run import Result, Run
from tests.reliability.fleet import Fleet


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet[Job]]:
    """Where the processes come from."""
    with Fleet[Job]("tests.chaos.process") as fleet:
        yield fleet


@pytest.fixture
def path() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets."""
    with TemporaryDirectory(prefix="chaos-") as path:
        yield Path(path)


def test_a_short_run_breaks_no_promise(fleet: Fleet[Job], path: Path) -> None:
    result = Run(plan=plan_for(1, errands=10, faults=8), fleet=fleet, path=path).do()
    assert result.broken == ()
    assert result.kills > 0
    assert result.figures["sagas"] == 10


def test_a_planted_mistake_is_found(fleet: Fleet[Job], capsys: pytest.CaptureFixture[str]) -> None:
    runner = Runner(fleet=fleet, errands=4, faults=0, evidence=None)
    assert runner.find("messages-in-the-wrong-order", (1, 2))
    assert "FOUND messages-in-the-wrong-order with seed" in capsys.readouterr().out


def _result(seed: int, *broken: str) -> Result:
    return Result(
        seed=seed,
        seconds=90,
        broken=broken,
        faults=Counter({Kind.KILL_WORKER: 3, Kind.CUT: 1, Kind.KILL_SERVER: 1}),
        figures=Counter({"sagas": 1_000}),
    )


def test_a_violation_says_how_to_run_it_again(
    fleet: Fleet[Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _result(17, *(f"e{number} was lost" for number in range(22)))
    Runner(fleet=fleet, errands=40, faults=8, evidence=None).report(result, tmp_path)
    said = capsys.readouterr().out
    assert "e0 was lost" in said
    assert "and 2 more" in said
    assert f"evidence: {tmp_path}" in said
    assert "nox -s chaos -- --seeds 17 --errands 40 --faults 8" in said


def test_totals_add_up() -> None:
    totals = Totals()
    totals.add(_result(1))
    totals.add(_result(2, "it was lost"))
    assert (totals.kills, totals.failed) == (8, [2])
    for row in ("| minutes | 3.0 |", "| processes killed | 8 |", "| sagas | 2,000 |"):
        assert row in totals.table()
