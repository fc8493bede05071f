"""One of several worker processes: ``python -m sagaflow.commands.running.child FILE``.

Its parent writes the name of the process and the settings to its standard input, reads how the
process is from its standard output, and lends it its own output as another file. On the same way
the process asks for turns of handlers with limits. When the parent ends, for whatever reason, the
input is closed, and so the process ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import Thread
from typing import Final

import anyio
from anyio.from_thread import BlockingPortal
from attrs import define

from sagaflow._model.errors import SagaflowError
from sagaflow._model.log import about, get_logger
from sagaflow.commands.running.forks import kept_from_forks
from sagaflow.commands.running.process import logged, run_worker
from sagaflow.commands.running.serving import Serving
from sagaflow.commands.running.settings import Settings
from sagaflow.commands.running.shared_turns import Caller
from sagaflow.commands.running.stopping import end_now
from sagaflow.commands.secrets import keeping_secrets

logger = get_logger("sagaflow.worker")

WRONG: Final = 2
"""The exit status of a process that cannot be set up."""
_EVERY: Final = 1.0
"""How often the parent is told, in seconds."""


def main(output: int) -> int:
    """Do what the parent says; return the exit status.

    :param output: the file that is the output of the parent.
    """
    orders, reports = os.dup(0), os.dup(1)  # which programs that the application starts do not get
    os.dup2(output, 1)
    os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    owner, line = _line(orders), _line(orders)
    if not line.endswith(b"\n"):
        return 1  # the parent has ended while it wrote
    caller = Caller(partial(os.write, reports))
    heard = _Heard(caller.hear)
    Thread(target=_listen, args=(orders, heard), daemon=True).start()
    settings = Settings.of_json(line)

    @asynccontextmanager
    async def telling(serving: Serving) -> AsyncGenerator[None]:
        async with BlockingPortal() as heard.portal, anyio.create_task_group() as tasks:
            tasks.start_soon(_tell, serving, reports)
            yield
            tasks.cancel_scope.cancel()

    name = owner.decode().strip()
    # By the end of these pipes the parent knows that this process has ended.
    with kept_from_forks(orders, reports), keeping_secrets(), logged(settings, name):
        try:
            run_worker(settings, name, telling, caller.turns)
        except SagaflowError as exc:
            logger.error("%s", exc, extra=about())  # noqa: TRY400 - it is one line
            return WRONG
        except Exception:
            logger.exception("%s has failed", name, extra=about())
            return 1
    return 0


async def _tell(serving: Serving, reports: int) -> None:
    """Tell the parent how the worker is, every second, and soon when it begins or ends."""
    while True:
        said = await serving.progress.report()
        os.write(reports, said.to_json().encode() + b"\n")
        with anyio.move_on_after(_EVERY):
            await serving.progress.wait_for_change()


def _line(orders: int) -> bytes:
    """Return a line of what the parent says, and read nothing beyond: that is for the thread."""
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(orders, 1)
        if not more:
            break
        line += more
    return line


@define
class _Heard:
    """What the parent says.

    :ivar portal: the way to the event loop, from when anything can have been asked.
    """

    hear: Callable[[bytes], object]
    portal: BlockingPortal | None = None


def _listen(orders: int, heard: _Heard) -> None:
    """Hand on what the parent says, and end this process with the parent."""
    while line := _line(orders):
        with suppress(RuntimeError):  # the worker is ending, and nobody waits for a turn
            if heard.portal is not None:
                heard.portal.start_task_soon(heard.hear, line)
    end_now(1)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
