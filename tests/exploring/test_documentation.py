"""The Python in docs/exploring.md runs as it stands there, and says what it is said to say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "exploring.md"


def test_guide_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 4
    for block in blocks:
        code = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        exec(compile(code, str(GUIDE), "exec", dont_inherit=True), vars(module))  # noqa: S102
    said = capsys.readouterr().out
    assert "Order: 0 findings in " in said
    shown = re.search(r"^```text\n(stuck: .*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    # How many paths there are depends on how often the library writes.
    assert re.sub(r"of \d+ that", "of N that", shown[1]) in re.sub(
        r"of \d+ that", "of N that", said
    )
    with pytest.raises(AssertionError, match="Order waits in paid"):
        module.test_reservation_may_come_first()
