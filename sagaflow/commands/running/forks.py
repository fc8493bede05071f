"""What processes that an application forks are not to have of its worker.

A fork has all that is open, and may outlive the worker: a pipe by whose end the worker's death is
known would stay open, and a name would stay taken.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

_files: set[int] = set()


def _close_files() -> None:
    for file in _files:
        with suppress(OSError):
            os.close(file)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_files)


@contextmanager
def kept_from_forks(*files: int) -> Generator[None]:
    """Have open files closed in whatever this process forks within the block."""
    _files.update(files)
    try:
        yield
    finally:
        _files.difference_update(files)
