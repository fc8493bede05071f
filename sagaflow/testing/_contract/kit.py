"""What a promise of the contract is: a plain test method that opens a repository of its own."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Literal, TypeVar

import anyio
from attrs import define

from sagaflow.abc import SagaRepository
from sagaflow.testing._clock import ManualClock
from sagaflow.testing._promises import test_method_of

ContractT = TypeVar("ContractT", bound="Contract")

_LONGEST: Final = 120.0
"""Seconds after which a repository is said to hang."""


class Contract(ABC):
    """A part of the contract; see `RepositoryContract`.

    :ivar runtime: on which library the tests run.
    :ivar clock: the clock of the repository; each test has its own.
    """

    runtime: Literal["asyncio", "trio"] = "asyncio"
    clock: ManualClock

    @abstractmethod
    def open(self, clock: ManualClock) -> AbstractAsyncContextManager[SagaRepository]:
        """Return an asynchronous context manager that opens an empty repository.

        It is entered on the runtime of the test.

        :param clock: the clock of the repository.
        """


def promise(
    check: Callable[[ContractT, SagaRepository], Awaitable[None]],
) -> Callable[[ContractT], None]:
    """Make a test method of a check of a repository; it needs neither fixtures nor plugins."""

    async def run(self: ContractT) -> None:
        self.clock = ManualClock()
        with anyio.fail_after(_LONGEST):
            async with self.open(self.clock) as repository:
                await check(self, repository)

    return test_method_of(check, run)


@define
class Raised:
    """The error that was raised within a block of `raises`."""

    error: Any = None


@contextmanager
def raises(kind: type[Exception], *, match: str = "") -> Generator[Raised]:
    """Expect an error of this kind, whose text has a match for the pattern *match*."""
    raised = Raised()
    try:
        yield raised
    except kind as exc:
        raised.error = exc
    assert raised.error is not None, f"{kind.__name__} was not raised"
    assert re.search(match, str(raised.error)), f"{raised.error!s} does not say {match!r}"
