"""A RabbitMQ server of the tests' own, which may be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field


def _program() -> str | None:
    """Return the server's own script: the one on the path may want to change the user."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))
    return str(found[-1]) if found else shutil.which("rabbitmq-server")


NAMES: Final = shutil.which("epmd")
PROGRAM: Final = _program() if NAMES else None
MISSING: Final = "rabbitmq-server is not on this machine (Debian: apt-get install rabbitmq-server)"
_HOST: Final = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@define
class RabbitServer:
    """A node with a name, ports, a folder and an epmd of its own."""

    path: Path
    port: int = field(factory=free_port)
    _names_port: int = field(factory=free_port)
    _node_port: int = field(factory=free_port)
    _names: subprocess.Popen[bytes] | None = None
    _running: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"amqp://guest:guest@{_HOST}:{self.port}/"

    def start(self) -> None:
        assert PROGRAM is not None and NAMES is not None, MISSING
        self.path.mkdir(exist_ok=True)
        (self.path / "plugins").write_text("[].")
        settings = {
            "NODENAME": f"test{self.port}@localhost",
            "NODE_IP_ADDRESS": _HOST,
            "NODE_PORT": self.port,
            "DIST_PORT": self._node_port,
            "MNESIA_BASE": self.path / "data",
            "LOG_BASE": self.path / "log",
            "ENABLED_PLUGINS_FILE": self.path / "plugins",
            "CONFIG_FILE": self.path / "none",
            "CONF_ENV_FILE": self.path / "none",
        }
        env = {
            **os.environ,
            **{f"RABBITMQ_{name}": str(value) for name, value in settings.items()},
            "HOME": str(self.path),
            "ERL_EPMD_PORT": str(self._names_port),
        }
        with (self.path / "output.log").open("ab") as log:
            if self._names is None:
                self._names = subprocess.Popen(
                    [NAMES, "-address", _HOST, "-port", str(self._names_port)],
                    stdout=log,
                    stderr=log,
                )
                self._wait_for(self._names_port, self._names)
            self._running = subprocess.Popen(
                [PROGRAM],
                cwd=self.path,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,  # the script starts others, which are killed with it
            )
        self._wait_for(self.port, self._running)

    def kill(self) -> None:
        if self._running is not None:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
            self._running = None

    def close(self) -> None:
        self.kill()
        if self._names is not None:
            self._names.kill()
            self._names.wait()
            self._names = None

    def _wait_for(self, port: int, process: subprocess.Popen[bytes]) -> None:
        ends = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((_HOST, port), timeout=1).close()
            except OSError:
                assert process.poll() is None, (self.path / "output.log").read_text()
                assert time.monotonic() < ends, "rabbitmq-server does not answer"
                time.sleep(0.05)
            else:
                return


@contextmanager
def running(path: Path) -> Generator[RabbitServer]:
    server = RabbitServer(path)
    try:
        server.start()
        yield server
    finally:
        server.close()
