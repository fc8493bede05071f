"""What a process that a worker forks does not get. That it does so is in `test_run.py`."""

from __future__ import annotations

import os

import pytest

from sagaflow.commands.running import forks
from sagaflow.commands.running.forks import kept_from_forks

# The process that runs tests has threads, and does not fork.
# pyright: reportPrivateUsage=false


def test_files_are_closed_that_are_kept_from_forks_now() -> None:
    kept, closed, given_back, other = *os.pipe(), *os.pipe()
    with kept_from_forks(given_back):
        pass
    with kept_from_forks(kept, closed):
        os.close(closed)  # which is no fault
        forks._close_files()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)
    os.close(given_back)
    os.close(other)
