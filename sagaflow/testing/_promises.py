"""Makes plain test methods of the promises of a contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, TypeVar

import anyio


class OnRuntime(Protocol):
    """Tests that run on one of the two runtimes."""

    @property
    def runtime(self) -> Literal["asyncio", "trio"]:
        """On which library the tests run."""
        ...


TestsT = TypeVar("TestsT", bound=OnRuntime)


def test_method_of(
    check: Callable[..., Any], run: Callable[[TestsT], Awaitable[None]]
) -> Callable[[TestsT], None]:
    """Return a test method that needs neither fixtures nor plugins.

    :param check: the promise, whose name and description the method has.
    :param run: what the method does, on the runtime of its class.
    """

    def test(self: TestsT) -> None:
        anyio.run(run, self, backend=self.runtime)

    # Not functools.wraps: pytest would follow it to the signature of the check.
    test.__name__ = check.__name__
    test.__qualname__ = check.__qualname__
    test.__doc__ = check.__doc__
    test.__module__ = check.__module__
    return test
