"""Has the factory of an application set up a worker."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from typing import Any

from sagaflow._model.errors import SagaflowError
from sagaflow._model.shown import shown
from sagaflow._model.texts import line_of
from sagaflow.worker import Worker


async def apply(
    factory: Callable[..., object], worker: Worker, stack: AsyncExitStack, target: str
) -> None:
    """Call the factory with the worker, and enter what it returns, if that can be entered.

    :param stack: what is entered is left when this is closed.
    :param target: the factory's name, for errors.
    :raises SagaflowError: if it raises, or returns something else.
    """
    try:
        result: Any = factory(worker)
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, AbstractAsyncContextManager):
            await stack.enter_async_context(result)  # pyright: ignore[reportUnknownArgumentType]
            return
        if isinstance(result, AbstractContextManager):
            stack.enter_context(result)  # pyright: ignore[reportUnknownArgumentType]
            return
    except SagaflowError:
        raise
    except Exception as exc:
        place = traceback.extract_tb(exc.__traceback__)[-1]
        raise SagaflowError(
            f'{target} failed: {line_of(exc)} (File "{place.filename}", line {place.lineno})'
        ) from exc
    if result is None:
        return
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise SagaflowError(
            f"{target} yields: decorate it with contextlib.asynccontextmanager, so that what is "
            "behind the yield runs at the end"
        )
    raise SagaflowError(
        f"{target} returned {shown(result)}: a factory sets up the worker that it is given, and "
        "returns nothing or a context manager"
    )
