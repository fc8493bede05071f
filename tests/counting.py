"""Whether the lines that the tests' child processes run are counted."""

from __future__ import annotations

import os

_CONFIG = "COVERAGE_PROCESS_CONFIG"
"""By this variable coverage has a child process count its lines."""
_kept: dict[str, str] = {}


def leave_children_uncounted() -> None:
    """Have child processes not count their lines, which takes its time; but those of `counted`."""
    found = os.environ.pop(_CONFIG, None)
    if found is not None:
        _kept[_CONFIG] = found


def counted() -> dict[str, str]:
    """Return the environment of a child process whose lines are counted, if any are."""
    return {**os.environ, **_kept}
