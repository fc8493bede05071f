"""An earlier commit of sagaflow, which runs beside what is measured."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

DEFAULT: Final = "a6ee031"
"""Before the work for an event was made less."""

_PACKAGE: Final = "sagaflow"
_HERE: Final = Path(__file__).resolve().parents[1]


class NoSuchCommitError(Exception):
    """The commit cannot be had; says why."""


@contextmanager
def unpacked(commit: str, *, repository: Path | None = None) -> Generator[Mapping[str, str]]:
    """Yield the environment of processes that import sagaflow as it was in a commit.

    All else they import is what this process has, so that both are measured with the same.

    :param repository: a clone that has the commit; the current directory, if it is None.
    :raises NoSuchCommitError: if it has not, or git is not installed.
    """
    with TemporaryDirectory(prefix="sagaflow-earlier-") as folder:
        packed = _archive(commit, repository or Path.cwd())
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([folder, str(_HERE), os.environ.get("PYTHONPATH", "")]),
            "PYTHONSAFEPATH": "1",  # or the current directory would come first
        }
        _check(folder, environment)
        yield environment


def _archive(commit: str, repository: Path) -> bytes:
    command = ["git", "-C", str(repository), "archive", "--format=tar", commit, _PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - git
    except OSError as exc:
        raise NoSuchCommitError(f"git is needed for the earlier commit: {exc}") from exc
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise NoSuchCommitError(
            f"{repository} has no commit {commit} to compare with: {said}. "
            "Run it in a clone with the whole history, or name another commit with --against"
        )
    return done.stdout


def _check(folder: str, environment: Mapping[str, str]) -> None:
    """Make sure that what is measured as the earlier commit is that."""
    asked = [sys.executable, "-c", f"import {_PACKAGE}; print({_PACKAGE}.__file__)"]
    done = subprocess.run(  # noqa: S603 - this interpreter
        asked, capture_output=True, text=True, env=environment, check=False
    )
    if not done.stdout.startswith(folder):
        raise NoSuchCommitError(f"the earlier commit is not what is imported: {done}")
