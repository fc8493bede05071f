"""Add up what the test runs of the last `nox` reported.

``python tools/count_tests.py DIRECTORY [PACKAGE...]``: each package is one whose tests must have
run, such as ``tests.bus.nats``: a machine that lacks a server skips its tests.

The last line reads `N passed, N failed`. The exit status is 1 if a test failed, if none has run, or
if one of those packages was skipped, in part or as a whole: a test that one run skips has to
run in another.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def outcomes_of(report: Path) -> list[tuple[str, str, str]]:
    """Return the module and the name of each test of this run, and how it ended."""
    return [
        (case.get("classname", ""), case.get("name", ""), _outcome(case))
        for case in ET.parse(report).iter("testcase")
    ]


def _outcome(case: ET.Element) -> str:
    tags = {child.tag for child in case}
    if tags & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in tags else "passed"


def main(directory: Path, packages: list[str]) -> int:
    """Print a line for each run, for each package that was skipped, and for all runs."""
    found: list[tuple[str, str, str]] = []
    for report in sorted(directory.glob("*.xml")):
        outcomes = outcomes_of(report)
        found += outcomes
        told = Counter(outcome for *_, outcome in outcomes)
        numbers = ", ".join(f"{name} {told[name]}" for name in ("passed", "failed", "skipped"))
        print(f"{report.stem}: {numbers}")
    left_out = False
    for package in packages:
        of_it = [one for one in found if one[0].startswith(f"{package}.")]
        ran = {(module, name) for module, name, outcome in of_it if outcome != "skipped"}
        skipped = {(module, name) for module, name, _ in of_it} - ran
        if skipped or not ran:
            left_out = True
            print(f"{package}: {len(skipped)} tests were skipped, {len(ran)} ran")
    told = Counter(outcome for *_, outcome in found)
    print(f"{told['passed']} passed, {told['failed']} failed")
    return 0 if told["passed"] and not told["failed"] and not left_out else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
