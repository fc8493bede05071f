"""What README.md and the pages in docs show can be run as it stands there.

A Python block whose first line is a comment with the name of a file, ``# booking.py``, is a part of
that file; the test files among them are run by pytest. The other blocks of a page run one after
another in one namespace, and then the tests that they define. A block after the comment
``<!-- not run: reason -->`` is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from attrs import frozen

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PRINTS = {
    "README.md": ["refunded t-1", "['sold out']"],
    "docs/evolution.md": ["19.99"],
    "docs/security.md": [
        "Payment(card=<secret>, pins=<secret>)",
        "{'order_id': 'o-1', 'card': '<secret>'}",
    ],
}
FILE = re.compile(r"# (\w+\.py)\n")
OPTIONS = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider", "--assert=plain")
BLOCK = re.compile(
    r"^(?P<skip><!-- not run: .+ -->\n+)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@frozen
class Block:
    """A block of Python, on the lines that it has on its page."""

    code: str
    file: str | None


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        if match["skip"] is None:
            code, file = match["code"], FILE.match(match["code"])
            lines = "\n" * text.count("\n", 0, match.start("code"))
            found.append(Block(code if file else lines + code, file[1] if file else None))
    return found


def run(page: Path, found: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks that belong to no file, and the tests that they define."""
    module = ModuleType(f"page_{page.stem}")  # classes are looked up by the name of their module
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in found:
        exec(compile(block.code, str(page), "exec", dont_inherit=True), vars(module))  # noqa: S102
    for name, value in [*vars(module).items()]:
        if name.startswith("test_"):
            test: Callable[[], None] = value
            test()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_a_page_run(
    page: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    found = blocks(page.read_text(encoding="utf-8"))
    run(page, [block for block in found if block.file is None], monkeypatch)
    files: dict[str, str] = {}
    for block in found:
        if block.file is not None:
            files[block.file] = files.get(block.file, "") + block.code
    if any("mongodb_repository" in code for code in files.values()):
        monkeypatch.setenv("SAGAFLOW_TEST_MONGODB_URI", request.getfixturevalue("mongodb_uri"))
    for name, code in files.items():
        (pytester.path / name).write_text(code, encoding="utf-8")
    if files:
        pytester.syspathinsert()
        pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
        result = pytester.runpytest_inprocess(*OPTIONS)
        outcomes = result.parseoutcomes()
        assert outcomes.keys() <= {"passed", "skipped"}, outcomes
        assert outcomes["passed"] >= sum(code.count("def test_") for code in files.values())


@pytest.mark.parametrize("page", PRINTS)
def test_page_shows_what_its_blocks_print(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(ROOT / page, blocks((ROOT / page).read_text(encoding="utf-8")), monkeypatch)
    assert capsys.readouterr().out.splitlines() == PRINTS[page]


def test_every_test_that_is_named_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named: list[str] = re.findall(r"`(tests/[\w/.]+)`", text)
    assert named
    assert all((ROOT / path).exists() for path in named)


def test_index_of_decisions_has_each_with_its_title_and_status() -> None:
    rows: list[str] = []
    for page in sorted((ROOT / "docs" / "adr").glob("0*.md")):
        heading, _, status, *_ = page.read_text(encoding="utf-8").splitlines()
        number, _, title = heading.removeprefix("# ").partition(". ")
        assert int(page.name[:4]) == int(number), page.name
        assert status.startswith("Status: "), page.name
        rows.append(f"| {number} | [{title}]({page.name}) | {status.removeprefix('Status: ')} |")
    index = (ROOT / "docs" / "adr" / "index.md").read_text(encoding="utf-8")
    assert [line for line in index.splitlines() if re.match(r"\| \d", line)] == rows


def test_blocks_are_told_apart() -> None:
    found = blocks(
        "```python\na = 1\n```\n\n<!-- not run: needs a server -->\n```python\nb = 2\n```\n"
        "```text\nc\n```\n\n```python\n# d.py\nd = 4\n```\n"
    )
    assert [(block.code.strip(), block.file) for block in found] == [
        ("a = 1", None),
        ("# d.py\nd = 4", "d.py"),
    ]


def test_block_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("1 / 0", "def test_it():\n    1 / 0"):
        with pytest.raises(ZeroDivisionError):
            run(Path("page.md"), blocks(f"```python\n{wrong}\n```\n"), monkeypatch)
