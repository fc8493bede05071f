"""Add up what the test runs of the last `nox` reported: ``python tools/count_tests.py DIRECTORY``.

The last line reads `N passed, N failed`. The exit status is 1 if a test failed or none has run.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def count(report: Path) -> tuple[int, int, int]:
    """Return how many tests of this run passed, failed and were skipped."""
    passed = failed = skipped = 0
    for case in ET.parse(report).iter("testcase"):
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed += 1
        elif "skipped" in outcomes:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main(directory: Path) -> int:
    """Print a line for each run and one for all of them."""
    total_passed = total_failed = 0
    for report in sorted(directory.glob("*.xml")):
        passed, failed, skipped = count(report)
        print(f"{report.stem}: passed {passed}, failed {failed}, skipped {skipped}")
        total_passed += passed
        total_failed += failed
    print(f"{total_passed} passed, {total_failed} failed")
    return 0 if total_passed and not total_failed else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
