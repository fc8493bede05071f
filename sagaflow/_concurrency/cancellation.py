"""Tells failures of handlers and other users' code from cancellations of the present task.

A cancellation that comes out of a handler may be that of the present task: the orchestrator is
being closed, or its caller has given up waiting. Then the cancellation has to go on. Or it is a
stray one: the handler waited for a future or a task, and somebody has cancelled that. Once they are
raised, both look the same, and a stray cancellation that went on would end the orchestrator and the
program around it.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import cast

import anyio

from sagaflow._model.errors import StrayCancellationError


def failure(error: BaseException) -> Exception:
    """Return *error* as a failure of the code that raised it; raise it if it is no failure.

    To be called where *error* was caught, in the task in which that code ran.

    :raises BaseException: *error* itself, if this task is being cancelled, or if it is neither an
        exception nor a cancellation, such as `KeyboardInterrupt`.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    if not _is_failure(error) or is_cancelled():
        raise error
    stray = StrayCancellationError()
    stray.__cause__ = error
    return stray


def is_cancelled() -> bool:
    """Tell whether anybody has asked for the present task to be cancelled.

    A task is cancelled by a cancel scope around it. On asyncio it may also be cancelled by
    `asyncio.Task.cancel`, which `asyncio.timeout` and `asyncio.TaskGroup` call and anyio does not
    know of.
    """
    if anyio.current_effective_deadline() == -inf:
        return True
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_failure(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(_is_failure(part) for part in group.exceptions)
    # On trio, a cancellation of asyncio comes from a thread in which an event loop of its own runs.
    kinds = (Exception, asyncio.CancelledError, anyio.get_cancelled_exc_class())
    return isinstance(error, kinds)


def raise_all(message: str, errors: list[Exception]) -> None:
    """Raise what there is to raise: one error as it is, several as a group.

    :raises ExceptionGroup: if there are several.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup(message, errors)
