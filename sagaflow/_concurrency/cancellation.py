"""Tells what has failed in other people's code from what ends this task or the program.

A cancellation that comes out of a handler may be this task's own: whoever closes the orchestrator
or gives up waiting wants it to go on. Or it may be a stray one, since the future or the task that
the handler waited for was cancelled by somebody else. A runtime cannot tell them apart once they
are raised, and a stray one that goes on would end the orchestrator and the program around it.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import cast

import anyio

from sagaflow._model.errors import StrayCancellationError


def failure(error: BaseException) -> Exception:
    """Return *error* as a failure of the code that raised it; raise what is none.

    To be called where it was caught, in the task in which that code ran.

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

    That is a scope around it, or on asyncio its own `asyncio.Task.cancel`, which `asyncio.timeout`
    and `asyncio.TaskGroup` use as well and of which anyio knows nothing.
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
    # That of asyncio on trio as well: it comes from a thread in which a loop of its own runs.
    kinds = (Exception, asyncio.CancelledError, anyio.get_cancelled_exc_class())
    return isinstance(error, kinds)
