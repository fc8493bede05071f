from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.metadata import metadata, requires, version
from importlib.resources import files
from pathlib import Path
from pkgutil import walk_packages

import pytest

import sagaflow
from sagaflow.__main__ import main
from tests.counting import counted


def test_package_says_that_it_is_typed() -> None:
    assert files("sagaflow").joinpath("py.typed").is_file()


def test_version_is_that_of_the_distribution() -> None:
    assert sagaflow.__version__ == version("sagaflow")


def test_every_dependency_has_a_lower_bound() -> None:
    needed = [line.partition(";")[0] for line in requires("sagaflow") or ()]
    assert needed
    assert [line for line in needed if ">=" not in line] == []


def test_server_under_the_gpl_is_never_needed() -> None:
    assert metadata("sagaflow")["License-Expression"] == "MIT"
    servers = [line for line in requires("sagaflow") or () if line.lower().startswith("secantus")]
    assert servers
    assert [line for line in servers if "extra == 'embedded'" not in line] == []


def test_package_runs_as_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sagaflow", "--help"])
    with pytest.raises(SystemExit) as ended:
        # By its path: the loader of rewritten assertions has no code to give to run_module().
        path = Path(sagaflow.__file__).with_name("__main__.py")
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_command_line_without_its_extra_says_what_to_install(missing: str) -> None:
    """In a process of its own: in this one, the modules are imported already."""
    code = f"""
import sys
sys.modules[{missing!r}] = None  # what cannot be imported
sys.argv = ["sagaflow", "demo", "--help"]
from sagaflow.__main__ import main
main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=counted()
    )
    assert ran.returncode == 2
    assert f"needs {missing}: pip install 'sagaflow[cli]'" in ran.stderr


def test_other_module_that_is_missing_is_not_taken_for_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sagaflow.cli", None)
    with pytest.raises(ModuleNotFoundError, match=r"sagaflow\.cli"):
        main()


FRAMEWORKS = ("aiohttp", "fastapi", "flask", "pyramid", "starlette")


def test_import_needs_no_web_framework_that_happens_to_be_installed(tmp_path: Path) -> None:
    for name in FRAMEWORKS:  # as one that warns when it is imported, which is an error here
        tmp_path.joinpath(f"{name}.py").write_text("raise DeprecationWarning(__name__)\n")
    modules = sorted(
        module.name
        for module in walk_packages(sagaflow.__path__, "sagaflow.")
        # The client of NATS imports aiohttp where it finds it; it is imported for a NatsBus only.
        if not module.name.startswith(("sagaflow.examples", "sagaflow.__main__", "sagaflow.nats."))
    )
    assert "sagaflow.testing._exploring.explore" in modules
    code = f"""
import sys
from importlib import import_module
sys.path.insert(0, {str(tmp_path)!r})
for name in {modules}:
    import_module(name)
print(sorted(sys.modules.keys() & {{"svcs", *{FRAMEWORKS}}}))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("[]\n", "")
