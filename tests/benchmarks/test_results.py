from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plan import ASYNC, ENGINE, FLOOR, FULL, ONE, TRANSITIONS
from benchmarks.results import Figure, load, save
from benchmarks.targets import judged
from tests.benchmarks.support import entry, results


def test_a_figure_is_the_median_with_the_smallest_and_the_largest() -> None:
    assert Figure.of([3.0, 1.0, 2.0, 10.0, 2.5]) == Figure(2.5, 1.0, 10.0, 5)


def test_results_survive_a_file(tmp_path: Path) -> None:
    before = results()
    save(before, [{"name": "a target"}], tmp_path / "deep" / "results.json")
    assert load(tmp_path / "deep" / "results.json") == before


@pytest.mark.parametrize("content", ["", "{}", '{"results": {"entries": []}}'])
def test_another_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.json holds no results"):
        load(path)


def test_a_metric_that_was_not_measured_has_no_median() -> None:
    assert results().median(ENGINE, FULL, "wall") == 61.0
    assert results().median(ENGINE, FULL, "round_trips") is None
    assert results().median(ENGINE, TRANSITIONS, "wall") is None
    assert results().median("no contest", FULL, "wall") is None


def test_each_target_is_met_or_not_or_was_not_measured() -> None:
    found = {one.name: one for one in judged(results())}
    rate = next(one for name, one in found.items() if name.startswith("events per second"))
    # A third of 1/30 µs is less than 100,000 per second.
    assert rate.limit == pytest.approx(11_111, abs=1)
    assert rate.measured == pytest.approx(16_393, abs=1)
    assert rate.verdict == "met"
    floor = found["MongoDB, 1 in flight: wall time over the floor's"]
    assert (floor.measured, floor.verdict) == (1.5, "not met")
    assert found["in memory, as many times as fast as transitions"].verdict == "not measured"


def test_own_cpu_time_is_what_the_driver_does_not_take() -> None:
    (own,) = [one for one in judged(results()) if "own CPU time" in one.name]
    # 1.5 round trips at 200 µs each are the driver's; 200 µs of 500 are left.
    assert own.measured == pytest.approx(200 / 300)


def test_equal_to_the_limit_is_met_unless_it_must_be_less() -> None:
    exact = results(
        entry("durable", ONE, FLOOR, wall=(100.0,), round_trips=(2.0,)),
        entry("durable", ONE, ASYNC, wall=(125.0,), round_trips=(2.0,)),
    )
    found = {one.name: one.verdict for one in judged(exact)}
    assert found["MongoDB, 1 in flight: wall time over the floor's"] == "met"
    assert found["MongoDB, 1 in flight: round trips per event"] == "not met"
