"""The one error that tells what happened, out of a group of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from sagaflow._model.errors import SagaflowError


def cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception that tells what happened.

    Several tasks fail for the same reason. An error that nobody foresaw keeps its whole group.
    """
    leaves = list(_leaves(group))
    interrupts = [leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)]
    unforeseen = [leaf for leaf in leaves if not isinstance(leaf, SagaflowError)]
    return next(iter(interrupts or (unforeseen and [group]) or leaves))


def _leaves(exception: BaseException) -> Iterator[BaseException]:
    if isinstance(exception, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", exception).exceptions:
            yield from _leaves(inner)
    else:
        yield exception
