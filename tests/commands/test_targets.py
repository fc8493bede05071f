"""How a saga class is named on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sagaflow.commands.targets import load_saga, load_sagas
from tests.commands.sagas import Loan
from tests.commands.support import invoke, refused

SAGAS = "tests.commands.sagas"

SAGA = """\
from attrs import frozen
from sagaflow import Saga, State, initially

@frozen
class Begun:
    number: str

class Mine(Saga):
    done = State(final=True)
    begin = initially.on(Begun).goto(done)
"""


def test_a_class_is_named_by_its_module() -> None:
    assert load_saga(f"{SAGAS}:Loan").__qualname__ == Loan.__qualname__
    assert [saga.__name__ for saga in load_sagas(SAGAS)] == ["Loan", "Renewed", "Other"]
    assert load_saga("sagaflow.demo.example:orders.OrderSaga").__name__ == "OrderSaga"


def test_the_current_directory_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_sagas", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_sagas.py").write_text(SAGA, encoding="utf-8")
    assert load_saga("my_sagas").__name__ == "Mine"
    assert load_saga("my_sagas:Mine").__name__ == "Mine"
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[-1] == str(tmp_path)  # behind what is installed, which it must not replace


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_module:Saga", "there is no module 'no_such_module': call sagaflow from the dir"),
        ("tests.commands.gone:Saga", "there is no module 'tests.commands.gone'"),
        (f"{SAGAS}:Gone", f"{SAGAS} has no 'Gone'"),
        (f"{SAGAS}:Asked", f"{SAGAS}:Asked is no saga class with transitions"),
        (f"{SAGAS}:MESSAGES", "is no saga class"),
        ("sagaflow:Saga", "sagaflow:Saga is no saga class with transitions"),
        ("tests.commands.support", "tests.commands.support has no saga class"),
        (SAGAS, f"{SAGAS} has several sagas: say {SAGAS}:Loan or {SAGAS}:Renewed or {SAGAS}:Other"),
        (
            "tests/commands/sagas.py:Loan",
            "is a file: name its module, such as tests.commands.sagas",
        ),
        ("sagas.py", "'sagas.py' is a file: name its module, such as sagas"),
        (
            "tests.commands.broken:Loan",
            "cannot be imported: RuntimeError: the settings are missing",
        ),
        (":Loan", "cannot be imported: ValueError"),
    ],
)
def test_what_is_no_saga_is_told(target: str, said: str) -> None:
    assert said in refused(invoke("graph", target))


def test_a_module_that_is_missing_within_a_users_module_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "needy.py").write_text("import no_such_thing\n", encoding="utf-8")
    line = refused(invoke("graph", "needy"))
    assert "needy cannot be imported: ModuleNotFoundError: No module named 'no_such_th" in line
    assert 'needy.py", line 1)' in line


def test_a_saga_that_is_wrongly_defined_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    wrong = SAGA.replace("State(final=True)", "State()").replace("Mine", "Wrong")
    (tmp_path / "wrongly.py").write_text(wrong, encoding="utf-8")
    line = refused(invoke("check", "wrongly"))
    assert line.startswith("error: Wrong.done: the state 'done' has no way out and is not final")
