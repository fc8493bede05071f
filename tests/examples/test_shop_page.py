"""docs/how-to/shop.md is typed as it stands there: three programs over NATS, each is killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands.workers import AT_WORK, free_port
from tests.examples.shop_processes import ROOT

PAGE = (ROOT / "docs" / "how-to" / "shop.md").read_text(encoding="utf-8")
TYPED, SHOWN = (
    "".join(re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    for kind in ("sh", "text")
)
NEEDED = ("bash", "curl", "nats-server", "pgrep", "secantusd-py")
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
MISSING = [name for name in NEEDED if shutil.which(name, path=PATH) is None]


def elsewhere(typed: str, data: Path) -> str:
    """Return what is typed with other ports and another directory."""
    for port in ("27017", "4222", "8000"):
        assert port in typed
        typed = typed.replace(port, str(free_port()))
    # A machine with much to do takes its time to start a server.
    return typed.replace("data/", f"{data}/").replace(
        "?retryWrites=false", "?retryWrites=false&serverSelectionTimeoutMS=30000"
    )


@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}")
def test_what_the_page_says_to_type_ends_with_books_that_balance(tmp_path: Path) -> None:
    shell = shutil.which("bash", path=PATH)
    assert shell is not None
    program = subprocess.Popen(
        [shell, "-e", "-c", elsewhere(TYPED, tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PATH": PATH},
        start_new_session=True,
    )
    try:
        printed, _ = program.communicate(timeout=150)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    logs = {log.name: log.read_text() for log in tmp_path.glob("*.log")}
    assert program.returncode == 0, (printed, logs)
    missing = set(SHOWN.splitlines()) - set(printed.splitlines())
    assert missing == set(), (printed, logs)
    assert "ended by itself (SIGKILL), and is started again" in logs["orders.log"]
    assert logs["payments.log"].count(AT_WORK) == 2
    assert logs["web.log"].count("Uvicorn running") == 2
