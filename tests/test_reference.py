"""The reference in docs has every public name, and every page has a place in the navigation."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sagaflow
import sagaflow.abc
import sagaflow.bus
import sagaflow.bus.wire
import sagaflow.diagrams
import sagaflow.exceptions
import sagaflow.kafka
import sagaflow.mongo
import sagaflow.nats
import sagaflow.observing
import sagaflow.otel
import sagaflow.rabbitmq
import sagaflow.redis
import sagaflow.testing
import sagaflow.worker
from sagaflow.diagrams import diagram_of, to_svg

DOCS = Path(__file__).parent.parent / "docs"
MODULES = [
    sagaflow,
    sagaflow.abc,
    sagaflow.bus,
    sagaflow.bus.wire,
    sagaflow.diagrams,
    sagaflow.kafka,
    sagaflow.mongo,
    sagaflow.nats,
    sagaflow.observing,
    sagaflow.otel,
    sagaflow.rabbitmq,
    sagaflow.redis,
    sagaflow.testing,
    sagaflow.worker,
]


def documented() -> set[str]:
    """Return what the reference has a directive for."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("reference/*.md"))
    names = set(
        re.findall(r"^\.\. (?:auto(?:class|function|data)|py:data):: ([\w.]+)$", text, re.MULTILINE)
    )
    # Of these, everything.
    for module, path in ((sagaflow.exceptions, "sagaflow"), (sagaflow.testing, "sagaflow.testing")):
        assert f".. automodule:: {module.__name__}\n" in text
        names |= {f"{path}.{name}" for name in module.__all__}
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_reference_has_every_public_name(module: ModuleType) -> None:
    names: list[str] = module.__all__
    known = {name.rpartition(".")[2] for name in documented()}
    assert [name for name in names if name not in known and not name.startswith("__")] == []


def test_reference_names_nothing_that_is_not_there() -> None:
    missing: list[str] = []
    for name in documented():
        path, _, attribute = name.rpartition(".")
        modules = [module for module in MODULES if module.__name__ == path]
        if not modules or not hasattr(modules[0], attribute):
            missing.append(name)
    assert missing == []


def test_picture_of_the_tutorial_is_that_of_its_saga(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it fails, write what is expected here into the file."""
    text = (DOCS / "tutorial" / "index.md").read_text(encoding="utf-8")
    module = ModuleType("tutorial")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[:2]:
        exec(compile(code, "tutorial", "exec", dont_inherit=True), vars(module))  # noqa: S102
    expected = to_svg(diagram_of(module.OrderSaga.table))
    assert (DOCS / "images" / "tutorial.svg").read_text(encoding="utf-8") == expected


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {DOCS / "index.md"}
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            for entry in tree.splitlines():
                if entry and not entry.startswith(":"):
                    listed.update(page.parent.glob(f"{entry}.md"))
    assert sorted(set(DOCS.rglob("*.md")) - listed) == []
