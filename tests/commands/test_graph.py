"""``sagaflow graph``."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagaflow.diagrams import Diagram, Step, Trail, diagram_of, to_dot, to_mermaid, to_svg
from tests.commands.sagas import Loan
from tests.commands.support import LOAN, Stored, good, invoke, loan, refused

DIAGRAM = diagram_of(Loan.table)
TEXTS = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}


def path(name: str) -> Diagram:
    steps = (Step(None, "Asked", "ask", "open"), Step("open", "Granted", "hold", "held"))
    return diagram_of(Loan.table, Trail(name, steps, "held"))


@pytest.mark.parametrize("form", list(TEXTS))
def test_a_saga_is_drawn_to_standard_output(form: str) -> None:
    result = invoke("graph", LOAN, "--format", form)
    good(result)
    assert result.output == TEXTS[form](DIAGRAM)


def test_mermaid_is_the_default() -> None:
    assert invoke("graph", LOAN).output == to_mermaid(DIAGRAM)


@pytest.mark.parametrize(
    ("name", "options", "form"),
    [
        ("loan.svg", (), "svg"),
        ("loan.dot", (), "dot"),
        ("loan.gv", (), "dot"),
        ("loan.mmd", (), "mermaid"),
        ("loan.mermaid", (), "mermaid"),
        ("loan.SVG", (), "svg"),
        ("loan.Dot", (), "dot"),
        ("loan.MMD", (), "mermaid"),
        ("loan.txt", ("--format", "svg"), "svg"),
    ],
)
def test_a_saga_is_drawn_to_a_file(
    name: str, options: tuple[str, ...], form: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    result = invoke("graph", LOAN, "--output", str(file), *options)
    assert good(result) == []
    assert result.stderr == f"{file}: Loan as {form}\n"
    assert file.read_text(encoding="utf-8") == TEXTS[form](DIAGRAM)


@pytest.mark.parametrize("name", ["loan.txt", "loan.png", "loan", ".svg", "loan.svg.bak"])
def test_a_name_that_does_not_tell_what_to_draw_in_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    line = refused(invoke("graph", LOAN, "--output", str(file)))
    assert f"the name {name!r} does not tell what to draw in" in line
    assert ".svg, .dot, .gv, .mmd, .mermaid" in line
    assert not file.exists()


def test_the_path_of_a_stored_saga_is_drawn(stored: Stored) -> None:
    stored.put(loan(7))
    result = stored.run("graph", LOAN, "--saga", "int:7", "--format", "svg")
    good(result)
    assert result.output == to_svg(path("Loan int:7"))
    assert stored.run("graph", LOAN, "--saga", "7", "--id-type", "int").output == to_mermaid(
        path("Loan int:7")
    )


@pytest.mark.parametrize("given", [(), ("--mongodb", "mongodb://h"), ("--database", "d")])
def test_a_path_needs_a_database(given: tuple[str, ...]) -> None:
    line = refused(invoke("graph", LOAN, "--saga", "l-1", *given))
    assert "--saga needs --mongodb and --database" in line


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "no" / "such" / "loan.svg"
    assert str(file) in refused(invoke("graph", LOAN, "--output", str(file)))
