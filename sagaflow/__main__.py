"""``sagaflow``, and ``python -m sagaflow``: the command line, which the extra ``cli`` brings."""

from __future__ import annotations

import sys
from typing import Final

_OF_THE_EXTRA: Final = ("click", "rich")


def main() -> None:
    """Run the command line.

    :raises SystemExit: with the command's status; with 2 and one line if the extra is missing.
    """
    try:
        from sagaflow.cli import main as run  # noqa: PLC0415 - what it needs may be missing

        run()
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in _OF_THE_EXTRA:
            raise
        print(  # noqa: T201 - there is nothing else to say it with
            f"error: the command line needs {package}: pip install 'sagaflow[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
