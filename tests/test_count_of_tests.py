"""What decides whether a test run was whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tools.count_tests import main

PASSED, FAILED = "", '<failure message="no"/>'
BROKEN, SKIPPED = '<error message="no"/>', '<skipped message="no server answers"/>'


def report(directory: Path, name: str, *cases: tuple[str, str]) -> None:
    """Write what a run of these tests reports; the first of a module has the name 0."""
    tests, numbers = "", Counter[str]()
    for module, told in cases:
        tests += f'<testcase classname="{module}" name="{numbers[module]}">{told}</testcase>'
        numbers[module] += 1
    (directory / f"{name}.xml").write_text(
        f"<testsuites><testsuite>{tests}</testsuite></testsuites>"
    )


@pytest.mark.parametrize(
    ("told", "line", "status"),
    [
        (PASSED, "2 passed, 0 failed", 0),
        (FAILED, "1 passed, 1 failed", 1),
        (BROKEN, "1 passed, 1 failed", 1),
        (SKIPPED, "1 passed, 0 failed", 0),
    ],
)
def test_one_that_failed_is_enough(
    told: str, line: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(tmp_path, "newest", ("tests.a", PASSED))
    report(tmp_path, "oldest", ("tests.b", told))
    assert main(tmp_path, []) == status
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_no_test_at_all_is_a_failure(tmp_path: Path) -> None:
    assert main(tmp_path, []) == 1


@pytest.mark.parametrize("cases", [[], [SKIPPED], [PASSED, SKIPPED]])
def test_package_that_was_skipped_in_part_or_as_a_whole_is_a_failure(
    cases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [("tests.a", PASSED), ("tests.bus.natsy.test_a", SKIPPED)]
    report(tmp_path, "newest", *others, *(("tests.bus.nats.test_a", told) for told in cases))
    assert main(tmp_path, ["tests.bus.nats"]) == 1
    skipped, passed = cases.count(SKIPPED), cases.count(PASSED)
    line = f"tests.bus.nats: {skipped} tests were skipped, {passed} ran"
    assert line in capsys.readouterr().out.splitlines()


def test_package_that_ran_as_a_whole_is_none(tmp_path: Path) -> None:
    report(tmp_path, "newest", *[("tests.bus.nats.test_a", PASSED)] * 2)
    report(tmp_path, "oldest", ("tests.bus.nats.test_a", SKIPPED))
    assert main(tmp_path, ["tests.bus.nats"]) == 0
