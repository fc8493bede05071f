"""What README.md shows can be run as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

README = Path(__file__).parent.parent / "README.md"
NAME = "readme"


def blocks() -> list[str]:
    """Return the Python of README.md, each block on the lines that it has there."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text.count("\n", 0, block.start(1)) + block[1] for block in found]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module to run the blocks in: classes are looked up by the name of theirs."""
    module = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)
    return module


def test_blocks_run_one_after_another(
    module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    found = blocks()
    for block in found:
        code = compile(block, str(README), "exec", dont_inherit=True)
        exec(code, vars(module))  # noqa: S102 - it is our own
    assert len(found) == 2
    assert "anyio.run(main)" in found[-1]
    assert capsys.readouterr().out.splitlines() == ["refunded t-1", "['sold out']"]
