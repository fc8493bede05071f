"""docs/commands.md shows every command, and what those print that need no database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sagaflow.cli import COMMANDS
from tests.commands.support import invoke

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```console\n\$ sagaflow (.*)\n((?:.*\n)*?)```", TEXT))


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"demo"}))
def test_every_command_is_described(name: str) -> None:
    assert f"### {name}\n" in TEXT or f"- `{name}`: " in TEXT
    assert any(block.startswith(f"{name} ") for block in BLOCKS) or name in {"retry", "skip"}


@pytest.mark.parametrize(
    "command", ["check examples.orders:OrderSaga", "graph examples.orders:OrderSaga"]
)
def test_what_is_shown_is_what_is_printed_now(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert invoke(*command.split()).output == BLOCKS[command]
