"""Runs the command line in a child process of the demo, which ends with its parent."""

from __future__ import annotations

import os
import runpy
from threading import Thread


def _end_with_parent() -> None:
    # Not through `sys.stdin`: a thread that waits within it would keep the process from ending.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("sagaflow", run_name="__main__", alter_sys=True)
