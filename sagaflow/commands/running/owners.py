"""The names of worker processes: the same after a restart, and of one process at a time."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final

import anyio

from sagaflow._model.errors import SagaflowError
from sagaflow.commands.running.forks import kept_from_forks

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")
_PAUSE: Final = 0.05


def default_owner(service: str) -> str:
    """Return a name made of the service and this machine."""
    return f"{service}-{_OTHER.sub('_', socket.gethostname())}"[:128]


def check_owner(owner: str) -> None:
    """Refuse what no broker would take as a part of a name.

    :raises SagaflowError: if it has other characters than letters, digits, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(owner):
        raise SagaflowError(
            f"--owner is a name of letters, digits, _ and -, at most 128 of them, not {owner!r}"
        )


@asynccontextmanager
async def owning(owner: str, database: str | None, *, within: float = 2) -> AsyncGenerator[None]:
    """Keep a name for this process, within the block.

    Two processes of one name would take what the other is at work on for their own. On Linux the
    kernel keeps them apart: it lends each name once, and takes it back however a process ends.
    Processes on other machines, and on other systems, are not seen.

    :param owner: the name.
    :param database: names are kept apart by database.
    :param within: how many seconds to wait for a process of that name that is just ending.
    :raises SagaflowError: if another process of this machine has it.
    """
    if sys.platform != "linux":
        yield
        return
    # A name in the abstract namespace of sockets is no file: nothing is left behind.
    name = b"\0sagaflow-" + sha256(f"{database}\n{owner}".encode()).hexdigest().encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        ends = anyio.current_time() + within
        while not _bound(held, name):
            if anyio.current_time() >= ends:
                raise SagaflowError(
                    f"a worker of the name {owner!r} runs on this machine already: give each its "
                    "own --owner, or run several with --processes"
                )
            await anyio.sleep(_PAUSE)
        with kept_from_forks(held.fileno()):
            yield


def _bound(held: socket.socket, name: bytes) -> bool:
    try:
        held.bind(name)
    except OSError:
        return False
    return True
