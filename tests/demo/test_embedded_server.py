"""The embedded server: it leaves nothing behind, and Ctrl-C does not take it from its user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest

from sagaflow.exceptions import SagaflowError
from sagaflow.mongo import EmbeddedServer
from sagaflow.mongo.embedded import PROGRAM

pytestmark = pytest.mark.skipif(
    "SAGAFLOW_TEST_MONGODB_URI" in os.environ, reason="another server is tested"
)


def server_of(
    program: str, path: Path | None = None, *, timeout: timedelta = timedelta(seconds=10)
) -> EmbeddedServer:
    """A server whose process runs this program, and has so much time to start."""

    class Server(EmbeddedServer):
        _program = program
        _start_timeout = timeout

    return Server(path)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_server_that_does_not_start_says_why_and_leaves_no_directory(
    temporary: Path,
) -> None:
    with pytest.raises(SagaflowError, match="did not start: the disk is full"):
        server_of("raise SystemExit('the disk is full')").start()
    assert list(temporary.iterdir()) == []


def test_a_server_that_says_nothing_is_given_up(temporary: Path) -> None:
    silent = server_of("import sys; sys.stdin.read()", timeout=timedelta(milliseconds=50))
    with pytest.raises(SagaflowError, match="did not start: it said nothing"):
        silent.start()
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_while_it_starts_ends_it_and_leaves_no_directory(temporary: Path) -> None:
    program = "import os, signal, sys; os.kill(os.getppid(), signal.SIGINT); sys.stdin.read()"
    server = server_of(program)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert list(temporary.iterdir()) == []
    with pytest.raises(SagaflowError, match="not running"):
        _ = server.uri


def test_an_interrupt_as_soon_as_its_directory_exists_leaves_none(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkdir

    def make_and_be_interrupted(path: str, mode: int = 0o777) -> None:
        make(path, mode)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", make_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            EmbeddedServer().start()
    assert list(temporary.iterdir()) == []


def test_a_process_that_an_interrupt_has_cut_off_makes_no_directory(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process runs already, but Ctrl-C came before anybody had got hold of it."""
    cut_off: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen[str]):
        def __init__(self, command: list[str], **options: Any) -> None:
            super().__init__(command, **options)
            cut_off.append(self)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            EmbeddedServer().start()
    (process,) = cut_off
    process.communicate(timeout=30)  # closes its input, as the collector does
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []


def test_a_directory_of_the_user_stays_when_the_server_does_not_start(
    tmp_path: Path,
) -> None:
    with pytest.raises(SagaflowError):
        server_of("raise SystemExit('no')", tmp_path).start()
    assert tmp_path.is_dir()


def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(SagaflowError, match="port=65536 cannot be"):
        EmbeddedServer(port=65536)


def test_a_talkative_server_is_not_held_up_and_leaves_no_file(temporary: Path) -> None:
    """What it says fits in no pipe, and nobody reads it."""
    program = "import sys; sys.stderr.write('x' * 10**6); print(1, flush=True); sys.stdin.read()"
    with server_of(program) as server:
        assert server.uri.startswith("mongodb://127.0.0.1:1/")
        with pytest.raises(SagaflowError, match=r"running already, at mongodb://127.0.0.1:1/"):
            server.start()
        assert [path.is_dir() for path in temporary.iterdir()] == [True]
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_of_the_terminal_does_not_end_it() -> None:
    interrupt = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
    program = PROGRAM.replace("sys.stdin.read()", interrupt + "sys.stdin.read()")
    assert interrupt in program
    with server_of(program) as server:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            server.uri, serverSelectionTimeoutMS=2000
        )
        try:
            assert client.admin.command("ping")["ok"] == 1
        finally:
            client.close()
