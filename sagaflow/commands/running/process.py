"""A process that runs one worker: its log, its signals, and who asks how it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager

import anyio

from sagaflow._concurrency.groups import cause_of
from sagaflow.bus.turns import MakeTurns
from sagaflow.commands.running.logs import logging_to
from sagaflow.commands.running.serving import Application, Serving
from sagaflow.commands.running.settings import Settings
from sagaflow.commands.running.stopping import end_now, stop_on_signal
from sagaflow.commands.secrets import hide, redactor

Beside = Callable[[Serving], AbstractAsyncContextManager[None]]
"""What goes on while a worker runs: it is told how the worker is."""


@contextmanager
def logged(settings: Settings, owner: str) -> Generator[None]:
    """Write what is logged within the block to standard error, as the settings say."""
    for uri in (settings.mongodb, settings.bus):
        hide(uri)
    with logging_to(
        sys.stderr,
        level=settings.log_level,
        in_json=settings.log_json,
        fields={"service": settings.service, "process": owner},
        redacted=redactor(),
    ):
        yield


def run_worker(
    settings: Settings, owner: str, beside: Beside, make_turns: MakeTurns | None = None
) -> None:
    """Run a worker in this process until a signal ends it.

    :param owner: the name of this process.
    :param make_turns: gives the turns of handlers with limits; None if it is the only process.
    :raises SagaflowError: if the worker cannot be set up.
    :raises BaseExceptionGroup: if it fails for a reason that nobody foresaw.
    """
    application = Application.of(settings)

    async def main() -> None:
        serving = Serving(settings, owner, application, make_turns)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_on_signal, serving.stop, end_now)
            async with beside(serving):
                await serving.run()
            tasks.cancel_scope.cancel()

    try:
        anyio.run(main, backend=settings.runtime)
    except BaseExceptionGroup as group:
        cause = cause_of(group)
        if cause is group:
            raise
        raise cause from None
