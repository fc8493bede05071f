"""Check the installed package: ``python tools/check_installed.py VERSION``.

It must be what is in site-packages, of that version, with all of its files and no others. To be run
outside of the checkout.
"""

from __future__ import annotations

import importlib.metadata
import sys
import sysconfig
from pathlib import Path, PurePath

import sagaflow


def faults(version: str) -> list[str]:
    """Return what is wrong with the installed package."""
    found = Path(sagaflow.__file__).resolve()
    distribution = importlib.metadata.distribution("sagaflow")
    files = {PurePath(file).as_posix() for file in distribution.files or ()}
    top = {name.split("/")[0] for name in files if not name.startswith("..")}
    expected = {"sagaflow", "_sagaflow_pytest", f"sagaflow-{version}.dist-info"}
    print(f"Python {sys.version.split()[0]}, sagaflow {sagaflow.__version__}, {found}")
    checks = {
        "it is not the installed one": found.is_relative_to(
            Path(sysconfig.get_path("purelib")).resolve()
        ),
        f"its version is not {version}": sagaflow.__version__ == distribution.version == version,
        "it has no py.typed": "sagaflow/py.typed" in files,
        "it has no example": "sagaflow/examples/orders.py" in files,
        f"it installs {sorted(top - expected)}": top == expected,
    }
    return [fault for fault, right in checks.items() if not right]


if __name__ == "__main__":
    found_faults = faults(sys.argv[1])
    sys.exit("; ".join(found_faults) if found_faults else 0)
