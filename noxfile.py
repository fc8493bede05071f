"""The sessions that decide whether this checkout is good: `nox` runs them all, `nox -l` lists them.

The tests run against the built wheel, in a copy of the checkout without the package, so that what
is tested is what a user installs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2026.10.20"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
# A machine with one supported interpreter is enough; the report names those that were skipped.
nox.options.error_on_missing_interpreters = False
# The tests start hundreds of interpreters: what these import is compiled once, in .nox, whatever
# the shell says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if len(sys.argv) == 1:
    # Plain `nox`: what needs one core runs beside others of its kind, and says what it has to say
    # when it ends. Tests have all cores; a session that was asked for is watched while it runs.
    nox.options.parallel = os.cpu_count()

ROOT = Path(__file__).parent.resolve()
DIST = ROOT / "dist"
RESULTS = ROOT / ".nox" / "results"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PROJECT: dict[str, Any] = PYPROJECT["project"]
SUPPORTED = nox.project.python_versions(PYPROJECT)
EXTRAS = ("cli", "embedded", "kafka", "nats", "otel", "rabbitmq", "redis", "trio")
PACKAGES = ("sagaflow", "_sagaflow_pytest")
LOWEST_COVERAGE = 95
# What takes most of the time and differs least from version to version runs on the newest one:
# child processes that are killed, terminals, thousands of simulated seeds and explored histories,
# planted mistakes, and what waits for the intervals of the workers.
PROOFS = (
    "tests/benchmarks",
    "tests/bus/killing",
    "tests/bus/mongo/test_wrong_buses.py",
    "tests/bus/redis/test_mistakes.py",
    "tests/chaos",
    "tests/demo",
    "tests/examples/test_shop_page.py",
    "tests/exploring",
    "tests/proofs",
    "tests/reliability",
    "tests/semantics/test_workers.py",
    "tests/simulation",
)
PROGRAMS = ("tests/commands", "tests/examples", "tests/mongo/test_embedded.py")
# The newest Python has the newest clients, the oldest one the oldest.
BROKERS = tuple(f"tests/bus/{bus}" for bus in ("kafka", "mongo", "nats", "rabbitmq", "redis"))
# The newest Python runs with every store, the others with two: each driver has two Pythons.
STORES = "trio-memory,asyncio-pymongo-async"
OLDEST_STORES = "asyncio-motor,trio-pymongo-threads"

_VERSION_OF = "import sys; print('%d.%d' % sys.version_info[:2])"


def _version_of(interpreter: str | Path) -> str | None:
    """Ask an interpreter; one that does not start (a shim of pyenv may not) has no version."""
    try:
        asked = subprocess.run(
            [interpreter, "-c", _VERSION_OF], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()


def _pyenv_interpreters(version: str) -> list[Path]:
    """Return what pyenv has of this version, the newest first."""
    given = os.environ.get("PYENV_ROOT")
    roots = [Path(given)] if given else []
    roots.append(Path.home() / ".pyenv")
    found = {
        path.resolve()
        for root in roots
        for path in root.glob(f"versions/{version}.*/bin/python{version}")
    }
    return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))])[::-1]


def _find_interpreters() -> list[str]:
    """Return the supported versions that this machine has, and let nox see those of pyenv."""
    found: list[str] = []
    for version in SUPPORTED:
        on_path = shutil.which(f"python{version}")
        visible = [sys.executable, *([on_path] if on_path else [])]
        if any(_version_of(interpreter) == version for interpreter in visible):
            found.append(version)
            continue
        for interpreter in _pyenv_interpreters(version):
            if _version_of(interpreter) == version:
                os.environ["PATH"] = f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}"
                found.append(version)
                break
    return found


FOUND = _find_interpreters()
OLDEST = SUPPORTED[0]
NEWEST = FOUND[-1] if FOUND else None


def _requirements(*extras: str) -> list[Requirement]:
    """Return what the package needs, with these extras."""
    optional = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    needed = [Requirement(line) for line in lines]
    return [one for one in needed if one.name != PROJECT["name"]]  # an extra that names another


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def _lower_bounds() -> list[str]:
    """Return a pin to the oldest version that the package says it works with, for each one."""
    pins: list[str] = []
    for requirement in _requirements(*EXTRAS):
        (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
        marker = f"; {requirement.marker}" if requirement.marker else ""
        pins.append(f"{requirement.name}=={bound}{marker}")
    return pins


def _install_wheel(session: nox.Session, *others: str, extras: tuple[str, ...] = EXTRAS) -> None:
    (wheel,) = DIST.glob("*.whl")
    chosen = f"[{','.join(extras)}]" if extras else ""
    session.install(f"sagaflow{chosen} @ {wheel.as_uri()}", *others)
    # Of the same version as the one in an environment that is used again, but not the same.
    session.install("--force-reinstall", "--no-deps", str(wheel))


def _checkout_without_package(session: nox.Session) -> Path:
    """Unpack the source distribution without the package, which could shadow the installed one."""
    parent = Path(session.create_tmp()) / "checkout"
    shutil.rmtree(parent, ignore_errors=True)
    (archive,) = DIST.glob("*.tar.gz")
    shutil.unpack_archive(archive, parent)
    (checkout,) = parent.iterdir()
    for package in PACKAGES:
        shutil.rmtree(checkout / package)
    return checkout


def _without(*paths: str) -> list[str]:
    return [f"--ignore={path}" for path in paths]


def _run_tests(
    session: nox.Session, name: str, *options: str, stores: str = "", measured: bool = False
) -> None:
    """Run tests beside the installed wheel.

    :param measured: note which lines they run, which takes its time.
    """
    checkout = _checkout_without_package(session)
    data = RESULTS / f".coverage.{name}"
    for stale in RESULTS.glob(f".coverage.{name}*"):
        stale.unlink()
    env = {
        "COVERAGE_FILE": str(data),
        "PYTHONPATH": str(checkout),
        "SAGAFLOW_TEST_STORES": stores,
    }
    with session.chdir(checkout):
        session.run("python", "tools/check_installed.py", PROJECT["version"], env=env)
        session.run(
            *(("coverage", "run") if measured else ("python",)),
            "-m",
            "pytest",
            # A worker for each core has a server of its own; more than a few would not pay.
            "--numprocesses=auto",
            "--maxprocesses=4",
            "--dist=worksteal",
            "--durations=10",
            f"--junit-xml={RESULTS / f'{name}.xml'}",
            *(session.posargs or options),
            env=env,
        )


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution, and the wheel from it; results belong to one build."""
    session.install("build", *PYPROJECT["build-system"]["requires"])
    for stale in (DIST, RESULTS):
        shutil.rmtree(stale, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(DIST))


@nox.session(requires=["build"], allow_parallel=True)
def package(session: nox.Session) -> None:
    """Install the wheel without extras, and look at what is there."""
    _install_wheel(session, extras=())
    with session.chdir(_checkout_without_package(session)):
        session.run("python", "tools/check_installed.py", PROJECT["version"])
        # The command line is an extra: without it, one line says so.
        session.run("sagaflow", "--help", success_codes=[2])


@nox.session(allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check the format, the rules and the spelling."""
    session.install(*_group("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("codespell")


@nox.session(allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, and that both reject the wrong usages."""
    needed = [str(requirement) for requirement in _requirements(*EXTRAS)]
    session.install(*needed, *_group("tests"), *_group("types"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "-p", "tests/typing")


@nox.session(python=SUPPORTED, requires=["build"])
def tests(session: nox.Session) -> None:
    """Run the tests against the wheel: memory and MongoDB, asyncio and trio."""
    if session.python == OLDEST != NEWEST:
        session.skip("the session `lowest` runs on it")
    _install_wheel(session, *_group("tests"))
    name = f"tests-{session.python}"
    if session.python == NEWEST and session.posargs:
        _run_tests(session, name, measured=True)
    elif session.python == NEWEST:
        # To note which lines run takes twice the time: not where others run the same lines.
        _run_tests(session, name, "-m", "not soak and not uncounted", measured=True)
        _run_tests(session, f"{name}-uncounted", "-m", "not soak and uncounted")
    else:
        _run_tests(session, name, *_without(*PROOFS, *PROGRAMS, *BROKERS), stores=STORES)


@nox.session(python=OLDEST, requires=["build"])
def lowest(session: nox.Session) -> None:
    """Run the tests on the oldest Python with the oldest versions of the dependencies."""
    _install_wheel(session, *_group("tests"), *_lower_bounds())
    _run_tests(session, "lowest", *_without(*PROOFS), stores=OLDEST_STORES)


@nox.session(python=SUPPORTED, requires=["build"], default=False)
def soak(session: nox.Session) -> None:
    """Run the long proofs: hundreds of kills, thousands of seeds. On the newest Python found."""
    if session.python != NEWEST:
        session.skip("they run on the newest Python")
    _install_wheel(session, *_group("tests"))
    _run_tests(session, f"soak-{session.python}", "-m", "soak", "--timeout=3600")


@nox.session(python=NEWEST, requires=["build"], default=False)
def chaos(session: nox.Session) -> None:
    """Kill, pause and cut off processes, and check the books; `-- --help` lists the options."""
    _install_wheel(session, *_group("tests"))
    # What is run is the wheel, and not the package beside this file.
    checkout = _checkout_without_package(session).resolve()
    env = {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    session.run("python", "tools/check_installed.py", PROJECT["version"], env=env)
    evidence = f"--evidence={ROOT / '.nox' / 'chaos-evidence'}"
    session.run("python", "-m", "tests.chaos", evidence, *session.posargs, env=env)


@nox.session(requires=["build"], allow_parallel=True)
def examples(session: nox.Session) -> None:
    """Run the examples and the demo as a user would."""
    _install_wheel(session, *_group("tests"))
    with session.chdir(_checkout_without_package(session)):
        session.run("python", "-m", "pytest", "-q", "examples")
        # Some lines of its file are bad; it says so in its exit status.
        session.run("python", "examples/travel.py", success_codes=[1])
        for runtime in ("asyncio", "trio"):
            session.run("sagaflow", "demo", "--orders=40", "--seed=1", f"--runtime={runtime}")


@nox.session(python=NEWEST, requires=["build"], default=False)
def bench(session: nox.Session) -> None:
    """Measure sagaflow beside its peers; `nox -s bench -- --help` lists the options."""
    _install_wheel(session, *_group("bench"))
    # What is measured is the wheel, and not the package beside this file.
    env = {"PYTHONPATH": str(_checkout_without_package(session)), "PYTHONSAFEPATH": "1"}
    session.run("python", "tools/check_installed.py", PROJECT["version"], env=env)
    session.run("python", "-m", "benchmarks", "run", *session.posargs, env=env)


@nox.session(requires=["build"], allow_parallel=True)
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error. The site is in .nox/site."""
    _install_wheel(session, *_group("docs"), extras=("otel",))
    site = ROOT / ".nox" / "site"
    shutil.rmtree(site, ignore_errors=True)
    checkout = _checkout_without_package(session)
    options = ["--fail-on-warning", "--keep-going", "--jobs=auto", "--quiet"]
    session.run("sphinx-build", *options, "--builder=html", str(checkout / "docs"), str(site))
    session.log(f"the documentation is in {site / 'index.html'}")


@nox.session
def coverage(session: nox.Session) -> None:
    """Refuse a file that the tests cover too little, as measured on the newest Python."""
    if not FOUND:
        session.error(f"nothing was tested: no Python {', '.join(SUPPORTED)} was found")
    session.install(*_group("coverage"))
    env = {"COVERAGE_FILE": str(RESULTS / ".coverage")}
    report = RESULTS / "coverage.json"
    session.run("coverage", "combine", "--keep", "--quiet", str(RESULTS), env=env)
    session.run("coverage", "report", env=env)
    session.run("coverage", "json", "--quiet", f"-o{report}", env=env)
    files = json.loads(report.read_text())["files"]
    covered = {name: file["summary"]["percent_covered"] for name, file in files.items()}
    low = [f"{name}: {share:.1f} %" for name, share in covered.items() if share < LOWEST_COVERAGE]
    if low:
        session.error(f"covered less than {LOWEST_COVERAGE} %: {', '.join(low)}")
