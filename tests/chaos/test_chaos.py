"""A short run of the chaos runner, and of one with a mistake planted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from attrs import evolve

from tests.chaos.plan import plan_for
from tests.chaos.process import Job
from tests.chaos.run import Run
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
    plan = evolve(plan_for(1, errands=10, faults=8), rolls_at=0)
    result = Run(plan=plan, fleet=fleet, path=path).do()
    assert result.broken == ()
    assert result.kills > 0
    assert result.figures["sagas"] == 10


def test_a_planted_mistake_is_found(fleet: Fleet[Job], path: Path) -> None:
    plan = plan_for(1, errands=10, faults=0)
    planted = "messages-in-the-wrong-order"
    result = Run(plan=plan, fleet=fleet, path=path, planted=planted).do()
    assert any("out of order" in problem for problem in result.broken)
