"""What docs/evolution.md and docs/security.md show can be run as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(
    ("page", "prints"),
    [
        ("evolution.md", ["19.99"]),
        (
            "security.md",
            [
                "Payment(card=<secret>, pins=<secret>)",
                "{'order_id': 'o-1', 'card': '<secret>'}",
            ],
        ),
    ],
)
def test_blocks_run_one_after_another(
    page: str,
    prints: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, page, "exec", dont_inherit=True), vars(module))  # noqa: S102
    assert capsys.readouterr().out.splitlines() == prints


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (DOCS / "security.md").read_text(encoding="utf-8"))
    assert named
    assert all((DOCS.parent / path).exists() for path in named)
