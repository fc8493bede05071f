"""What carries the messages of ``sagaflow demo --bus``: a broker of its own, or one that runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from attrs import define, field, frozen

from sagaflow._model.errors import SagaflowError
from sagaflow.demo.server import Server
from sagaflow.mongo.uris import hosts

MEMORY: Final = "memory"
MONGODB: Final = "mongodb"
KAFKA: Final = "kafka"
BUSES: Final[Mapping[str, str]] = {
    MEMORY: MEMORY,
    MONGODB: MONGODB,
    KAFKA: "kafka://in-memory",
    "nats": "nats://127.0.0.1:4222",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672/",
    "redis": "redis://127.0.0.1:6379/0",
}
"""Where each bus is looked for that is named by one word; other than that, by a URL."""

# The program beside a server: it kills the server once its own input is closed, by whatever.
_BESIDE: Final = """\
import subprocess
import sys

server = subprocess.Popen(sys.argv[1:])
sys.stdin.read()
server.kill()
server.wait()
"""
_PATIENCE: Final = 30.0


@frozen(kw_only=True)
class Broker:
    """A broker that runs.

    :ivar name: what people are told; never with credentials.
    :ivar url: for ``--bus`` of ``sagaflow run``; may hold credentials.
    :ivar restart: kills it and starts it again; None if it is not this demo's to kill.
    """

    name: str
    url: str = field(repr=False)
    restart: Callable[[], None] | None = None


@contextmanager
def brokering(bus: str, server: Server) -> Generator[Broker]:
    """Yield the broker of a bus; one that was started here is stopped at the end.

    :param bus: one of `BUSES`, or a URL.
    :param server: where the sagas are.
    :raises SagaflowError: if a broker does not start.
    :raises BusError: if it is the one in the client of Kafka, which is not installed.
    """
    if bus == MONGODB:
        yield Broker(name=f"messages through {server.name}", url=MONGODB, restart=server.restart)
        return
    if bus == KAFKA:
        from sagaflow.kafka.in_memory import cluster_in_memory  # noqa: PLC0415 - for this bus only

        with cluster_in_memory() as url:
            yield Broker(name="messages through Kafka in memory, started for this run", url=url)
        return
    program = _nats_program() if bus == "nats" else None
    if program is None:
        url = BUSES.get(bus, bus)
        yield Broker(name=f"messages through {url.partition(':')[0]}://{hosts(url)}", url=url)
        return
    with tempfile.TemporaryDirectory(prefix="sagaflow-nats-") as path:
        nats = _Nats(program, Path(path))
        try:
            nats.start()
            name = f"messages through NATS at 127.0.0.1:{nats.port}, started for this run"
            yield Broker(name=name, url=f"nats://127.0.0.1:{nats.port}", restart=nats.restart)
        finally:
            nats.kill()


def _nats_program() -> str | None:
    """Return the path of nats-server, beside this interpreter or on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@define
class _Nats:
    """A server of NATS, which writes to disk before it confirms."""

    program: str
    path: Path
    port: int = field(factory=_free_port, init=False)
    _running: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it and wait until it answers.

        :raises SagaflowError: if it does not.
        """
        config, log = self.path / "nats.conf", self.path / "nats.log"
        config.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            f'jetstream {{ store_dir: "{self.path}/store", sync_interval: always }}\n',
            encoding="utf-8",
        )
        with log.open("ab") as output:
            self._running = subprocess.Popen(  # noqa: S603 - this interpreter, and a server found
                [sys.executable, "-c", _BESIDE, self.program, "-c", str(config)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
            )
        ends = monotonic() + _PATIENCE
        while not self._answers():
            if monotonic() > ends:
                said = log.read_text(errors="replace").strip().rpartition("\n")[2]
                raise SagaflowError(f"nats-server does not start: {said or 'it said nothing'}")
            sleep(0.02)

    def kill(self) -> None:
        """Kill it, as a power cut would; what it has confirmed is on its disk."""
        if self._running is not None:
            self._running.communicate()
            self._running = None

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as found:
                return found.recv(4) == b"INFO"
        except OSError:
            return False
