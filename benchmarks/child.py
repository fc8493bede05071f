"""One run of one contestant, in a process of its own: no garbage of the others slows it down.

``python -m benchmarks.child MODULE FUNCTION OPTIONS`` prints what came of it as a line of JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from typing import Final

from benchmarks.measuring import Measurement

MARK: Final = "benchmark: "
"""Begins the line that counts: a peer may print what it likes."""


_OWN: Final = {"benchmarks", "examples", "sagaflow"}


def run(module: str, function: str, options: Mapping[str, object]) -> dict[str, object]:
    """Run a contestant; say so if it needs something that is not installed."""
    try:
        measure = getattr(importlib.import_module(module), function)
        measured: Measurement = measure(**options)
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] in _OWN:
            raise
        hint = "`nox -s bench` installs all that takes part"
        return {"missing": f"needs {exc.name}, which is not installed here: {hint}"}
    return {"metrics": dict(measured.metrics), "versions": dict(measured.versions)}


if __name__ == "__main__":
    print(f"\n{MARK}{json.dumps(run(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))}")
