from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks.chart import draw
from benchmarks.metrics import shown
from benchmarks.output import BUSES, PEERS, WORK, markdown, marks, put_into, show
from benchmarks.plan import COPIES, FULL, TRANSITIONS
from benchmarks.results import save
from tests.benchmarks.support import DEFAULT, entry, results

SVG = "{http://www.w3.org/2000/svg}"
BEGIN, END = marks(PEERS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (1.5, "1.5"),
        (10.0, "10"),
        (99.4, "99.4"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_are_short(value: float, expected: str) -> None:
    assert shown(value) == expected


def test_the_tables_hold_every_figure_and_say_who_is_missing() -> None:
    text = markdown(results())
    assert f"| {COPIES} | 30 (20 \N{EN DASH} 40) | 20 |" in text
    assert f"- {TRANSITIONS} was not measured: needs transitions." in text
    assert "median of 3 runs" in text
    assert "Z80 <8 bit>" in text
    assert "sagaflow 0.1.0" in text
    assert "quick" not in text
    assert "A quick look" in markdown(results(quick=True))


def test_the_terminal_shows_the_same_tables() -> None:
    out = io.StringIO()
    show(results(), Console(file=out, width=150))
    assert "30 (20 \N{EN DASH} 40)" in out.getvalue()
    assert "not met" in out.getvalue()


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("first", "second"):
        put_into(page, PEERS, text)
    assert page.read_text() == f"before\n{BEGIN}\n\nsecond\n{END}\nafter\n"


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN} only")
    with pytest.raises(ValueError, match=r"page\.md has no place"):
        put_into(page, PEERS, "text")
    assert page.read_text() == f"{BEGIN} only"


def test_the_chart_has_a_bar_for_each_contestant_longer_the_slower() -> None:
    root = ET.fromstring(draw(results()))  # noqa: S314 - it was written just now
    bars = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect") if "rx" in bar.attrib]
    labels = [text.text for text in root.iter(f"{SVG}text")]
    assert len(bars) == 5
    assert bars[0] < bars[1]  # each contest has the fastest first
    assert labels.index(COPIES) < labels.index(FULL)
    assert TRANSITIONS not in labels


def test_report_puts_tables_and_chart_into_the_docs(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    save(results(), [], tmp_path / "results.json")
    done = CliRunner().invoke(
        command.main, ["report", str(tmp_path / "results.json"), "--into", str(page)]
    )
    assert done.exit_code == 0, done.output
    assert "30 (20 \N{EN DASH} 40)" in page.read_text()
    assert "(benchmarks.svg)" in page.read_text()
    ET.fromstring((tmp_path / "benchmarks.svg").read_text())  # noqa: S314 - likewise


@pytest.mark.parametrize("is_all", [True, False], ids=["all", "work"])
def test_report_replaces_only_what_was_measured(tmp_path: Path, is_all: bool) -> None:
    begin, end = marks(WORK)
    page = tmp_path / "performance.md"
    page.write_text(f"{BEGIN}\nof peers\n{END}\n{begin}\nof work\n{end}\n")
    work = entry("work", "a contest", "somebody", cpu=(7.0,) * 3)
    measured = results(*(DEFAULT if is_all else ()), work)
    save(measured, [], tmp_path / "results.json")
    arguments = ["report", str(tmp_path / "results.json"), "--into", str(page)]
    assert CliRunner().invoke(command.main, arguments).exit_code == 0
    peers, _, mine = page.read_text().partition(begin)
    assert ("of peers" in peers, COPIES in peers, "somebody" in peers) == (
        not is_all,
        is_all,
        False,
    )
    assert ("of work" in mine, COPIES in mine, "somebody" in mine) == (False, False, True)
    assert (tmp_path / "benchmarks.svg").exists() is is_all


def test_report_prints_what_it_is_not_told_to_put_anywhere(tmp_path: Path) -> None:
    save(results(), [], tmp_path / "results.json")
    done = CliRunner().invoke(command.main, ["report", str(tmp_path / "results.json")])
    assert done.output.startswith("## Targets")


def test_report_refuses_another_file(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    done = CliRunner().invoke(command.main, ["report", str(tmp_path / "other.json")])
    assert done.exit_code == 1
    assert "holds no results" in done.output


def test_the_docs_have_a_place_for_the_tables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    for place in (PEERS, WORK, BUSES):
        begin, end = marks(place)
        assert page.index(begin) < page.index(end)
