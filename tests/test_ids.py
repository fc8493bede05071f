"""Ids that are made up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sagaflow._model import ids
from sagaflow._model.ids import Unique

FORKS = """
import os
from sagaflow._model.ids import Unique

make = Unique()
make()
if child := os.fork():
    os.waitpid(child, 0)
print(make(), flush=True)
"""


def test_made_up_ids_differ() -> None:
    first, second = Unique(), Unique()
    made = [one() for _ in range(100) for one in (first, second)]
    assert len(set(made)) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_process_and_its_fork_make_up_different_ids() -> None:
    """Both go on with the same random part, and with the same number."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    child, parent = done.stdout.split()
    assert child != parent
    assert child.split("-")[::2] == parent.split("-")[::2]


def test_id_names_the_process_also_if_that_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Unique()
    before = make()
    monkeypatch.setattr(ids, "_process", ids._process)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(os, "getpid", lambda: 0xABC)
    ids._note_process()  # pyright: ignore[reportPrivateUsage]
    after = make()
    assert before.split("-")[0] == after.split("-")[0]
    assert after.split("-")[1] == "abc"
    assert Unique()().split("-")[1] == "abc"
