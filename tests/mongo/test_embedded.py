from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pymongo
import pytest

from sagaflow import SagaflowError, ServerUnavailableError, UnknownOutcomeError
from sagaflow.mongo import EmbeddedServer, MongoRepository
from sagaflow.mongo.embedded import PROGRAM
from tests.contract.records import PARCEL, document, load, record, store

pytestmark = pytest.mark.skipif(
    "SAGAFLOW_TEST_MONGODB_URI" in os.environ, reason="another server is tested"
)

Client = pymongo.MongoClient[dict[str, Any]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that is not started yet, with a path of its own."""
    made = EmbeddedServer(tmp_path / "data")
    yield made
    made.kill()


def address(server: EmbeddedServer) -> tuple[str, int]:
    host, _, port = server.uri.partition("://")[2].partition("/")[0].partition(":")
    return host, int(port)


def is_open(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, timeout=1):
            return True
    except OSError:
        return False


def test_acknowledged_documents_survive_stop_and_kill(server: EmbeddedServer) -> None:
    """Those that were acknowledged by a majority and journaled, as the repository asks for."""

    async def check() -> None:
        server.start()
        uri, place = server.uri, address(server)
        client: Client = pymongo.MongoClient(uri)
        repository = MongoRepository(client["shop"])
        await store(repository, *(document(number) for number in range(100)))
        server.kill()
        server.start()
        assert server.uri == uri  # so that who was connected finds it again
        assert await repository.count_states(PARCEL) == {"moving": 100}
        await store(repository, document(100))
        server.stop()
        assert not is_open(place)
        server.start()
        assert await load(repository, 100) == record(100)
        assert await repository.count_states(PARCEL) == {"moving": 101}
        client.close()

    anyio.run(check)


def test_server_stands_alone(server: EmbeddedServer) -> None:
    """It writes no log for replicas, which would take a fifth of each change's time."""
    with server, pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        assert "setName" not in client.admin.command("hello")


def test_server_that_dies_is_told_as_such(server: EmbeddedServer) -> None:
    """A read has found nobody; a write may have taken place."""

    async def check() -> None:
        server.start()
        client: Client = pymongo.MongoClient(server.uri, serverSelectionTimeoutMS=100)
        repository = MongoRepository(client["shop"])
        await store(repository, document())
        server.kill()
        with pytest.raises((UnknownOutcomeError, ServerUnavailableError)):
            await repository.insert_document(PARCEL, document("p-2"))
        with pytest.raises(ServerUnavailableError):
            await load(repository)
        client.close()

    anyio.run(check)


def test_temporary_directory_is_removed_and_the_port_closed() -> None:
    with EmbeddedServer() as server:
        place = address(server)
        assert is_open(place)
        directory = directory_of(server)
        assert directory.is_dir()
    assert not directory.exists()
    assert not is_open(place)
    with pytest.raises(SagaflowError, match="is not running: use it in a `with` block"):
        _ = server.uri


def directory_of(server: EmbeddedServer) -> Path:
    """Return where the server keeps its data; a user has no need to know."""
    path = server._path  # pyright: ignore[reportPrivateUsage]
    assert path is not None
    return path


def test_there_is_no_uri_before_the_start() -> None:
    with pytest.raises(SagaflowError, match="is not running: use it in a `with` block"):
        _ = EmbeddedServer().uri


def test_stop_and_kill_of_a_server_that_does_not_run_do_nothing(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.stop()
    server.kill()
    server.stop()
    assert tmp_path.is_dir()


def test_running_server_is_not_started_again(server: EmbeddedServer) -> None:
    server.start()
    with pytest.raises(SagaflowError, match=r"running already, at mongodb://127\.0\.0\.1:\d+/"):
        server.start()
    assert is_open(address(server))


def test_port_that_is_in_use_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SagaflowError, match=r"did not start: .*[Aa]ddress already in use"):
            EmbeddedServer(tmp_path, port=port).start()


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(SagaflowError, match=rf"port={port} cannot be: .* up to 65535"):
        EmbeddedServer(port=port)


def test_path_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(SagaflowError, match=r"did not start: .*file") as caught:
        EmbeddedServer(file).start()
    assert "\n" not in str(caught.value)
    assert file.read_text() == "not a directory"


def test_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "secantus", None)  # as if it were not installed
    with pytest.raises(SagaflowError, match=r"pip install 'sagaflow\[embedded\]'"):
        EmbeddedServer().start()


def test_package_that_is_missing_is_not_missed_before_the_start() -> None:
    """In a process that cannot import it at all."""
    program = """\
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("secantus", "secantusdb"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import sagaflow.mongo
sagaflow.mongo.EmbeddedServer()
assert not any(name.startswith("secantus") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_server_that_talks_much_starts_all_the_same(tmp_path: Path) -> None:
    """What it says on its standard error fills no pipe that nobody reads."""
    talk = "import sys; sys.stderr.write('x' * 1_000_000)\n"

    class Talkative(EmbeddedServer):
        _program = talk + PROGRAM

    with Talkative(tmp_path / "data") as server:
        assert is_open(address(server))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_server_ends_with_its_parent_however_that_ends() -> None:
    program = """\
import sys
from sagaflow.mongo import EmbeddedServer
server = EmbeddedServer()
server.start()
print(server.uri, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        uri = parent.stdout.readline()
        place = ("127.0.0.1", int(uri.rpartition(":")[2].partition("/")[0]))
        assert is_open(place)
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(300):
        if not is_open(place):
            break
        time.sleep(0.05)  # it stops in good order, in a process that nobody here can wait for
    assert not is_open(place)
