"""NATS servers for tests: one that is started here, and one that answers already."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from attrs import define

URI = os.environ.get("SAGAFLOW_TEST_NATS_URI", "nats://127.0.0.1:4222")


def program() -> str | None:
    """Return the path of a server's program, beside this interpreter or on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as found:
            found.settimeout(1)
            return found.recv(4) == b"INFO"
    except OSError:
        return False


def running_port() -> int | None:
    """Return the port of a server that is there already; None if there is none."""
    port = urlsplit(URI).port or 4222
    return port if answers(port) else None


@define
class Server:
    """A server that stores on disk before it confirms, and can be killed and started again."""

    path: Path
    port: int
    monitoring: int | None = None
    sync: str = "sync_interval: always"
    settings: str = ""
    running: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        found = program()
        assert found is not None
        self.path.mkdir(parents=True, exist_ok=True)
        config = self.path / "nats.conf"
        config.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            + (f"http: 127.0.0.1:{self.monitoring}\n" if self.monitoring else "")
            + f'jetstream {{ store_dir: "{self.path}/store"\n{self.sync}\n}}\n{self.settings}\n'
        )
        with (self.path / "nats.log").open("a") as log:
            self.running = subprocess.Popen([found, "-c", str(config)], stdout=log, stderr=log)
        ends = time.monotonic() + 20
        while not answers(self.port):
            assert time.monotonic() < ends, (self.path / "nats.log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()
            self.running = None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def started(path: Path) -> Generator[Server]:
    server = Server(path, free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()
