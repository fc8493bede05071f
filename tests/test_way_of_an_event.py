"""The picture of an event's way is the way that an event takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import sagaflow

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "the-way-of-an-event.md"
SCRIPT = "import sys; sys.path.insert(0, sys.argv[1]); import way_of_an_event as way; "


def test_picture_is_made_from_the_code() -> None:
    """If it fails: ``python tools/way_of_an_event.py``, and see whether the page still holds."""
    printed = subprocess.run(
        [sys.executable, "-c", SCRIPT + "print(way.picture(), end='')", str(ROOT / "tools")],
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    kept = ROOT / "docs" / "images" / "way-of-an-event.svg"
    assert printed.stdout == kept.read_text(encoding="utf-8")


def test_page_names_modules_that_are_there() -> None:
    root = Path(sagaflow.__file__).parent
    package = {f"sagaflow/{path.relative_to(root).as_posix()}" for path in root.rglob("*.py")}
    named = set(re.findall(r"`(sagaflow/[a-z_/]+\.py)`", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert named <= package
