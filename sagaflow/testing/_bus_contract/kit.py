"""What a promise of the contract for buses is: a test that opens buses on a broker of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, Literal, Protocol, TypeVar

import anyio
from attrs import define, field, frozen

from sagaflow._model.policy import RetryPolicy
from sagaflow.bus.broker import BrokerBus
from sagaflow.testing._promises import test_method_of

ContractT = TypeVar("ContractT", bound="BusTests")


@frozen
class Noted:
    """An event of a saga, with its place among those of the saga."""

    saga: str
    number: int
    amount: Decimal = Decimal(0)


@frozen
class NotedTwice(Noted):
    """An event that is of two classes."""


@frozen
class Remarked:
    """Another event of a saga."""

    saga: str
    number: int


@frozen
class Charge:
    """A command."""

    saga: str
    amount: Decimal


@frozen
class Charged:
    """What answers a command."""

    saga: str


@frozen
class Refused:
    """What nobody subscribes to."""

    saga: str


def foreign_noted() -> type:
    """Return a class of the same name whose messages others cannot read."""
    return frozen(type("Noted", (), {"__annotations__": {"other": "list[int]"}}))


MESSAGES: Final = (Noted, NotedTwice, Remarked, Charge, Charged, Refused)
QUICK: Final = RetryPolicy(
    initial_delay=timedelta(milliseconds=20),
    max_delay=timedelta(milliseconds=40),
    max_age=timedelta(milliseconds=400),
)
"""How the buses of most tests try again."""
PATIENT: Final = RetryPolicy(
    initial_delay=timedelta(milliseconds=20), max_delay=timedelta(milliseconds=40)
)


class OpenBus(Protocol):
    """Makes a bus that is not entered yet. Two of one service are two of its processes."""

    def __call__(self, service: str, **settings: Any) -> BrokerBus:
        """Return a bus of a service on the broker of this test.

        :param settings: what `BrokerBus` takes; the contract passes ``messages`` and ``retry``
            always, the others where a promise is about them.
        """
        ...


class BusTests(ABC):
    """A part of the contract; see `BusContract`.

    :ivar runtime: on which library the tests run.
    :ivar longest: seconds after which a bus is said to hang.
    """

    runtime: Literal["asyncio", "trio"] = "asyncio"
    longest: float = 60.0

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[OpenBus]:
        """Return an asynchronous context manager that opens an empty broker.

        It is entered on the runtime of the test, and gives the function that makes a bus of a
        service on that broker.
        """

    def silence(self) -> AbstractAsyncContextManager[None] | None:
        """Return a context manager within which the broker of this test accepts, and says, nothing.

        None where there is no way to do that: then that promise is not tested.
        """
        return None


def promise(
    check: Callable[[ContractT, OpenBus], Awaitable[None]],
) -> Callable[[ContractT], None]:
    """Make a test method of a check of buses; it needs neither fixtures nor plugins."""

    async def run(self: ContractT) -> None:
        with anyio.fail_after(self.longest):
            async with self.open() as open_bus:
                await check(self, _with_defaults(open_bus))

    return test_method_of(check, run)


def _with_defaults(open_bus: OpenBus) -> OpenBus:
    def opened(service: str, **settings: Any) -> BrokerBus:
        return open_bus(service, **{"messages": MESSAGES, "retry": PATIENT, **settings})

    return opened


@define
class Seen:
    """What handlers have seen, in order; tests wait for it."""

    items: list[Any] = field(factory=list[Any])
    _added: anyio.Event = field(factory=anyio.Event, init=False)

    def add(self, item: Any) -> None:
        """Note one more."""
        self.items.append(item)
        self._added.set()

    async def wait_for(self, count: int) -> list[Any]:
        """Return all of them as soon as there are so many."""
        while len(self.items) < count:
            self._added = anyio.Event()
            await self._added.wait()
        return self.items

    async def stays_at(self, count: int) -> None:
        """Give a bus the time to deliver what it should not; then there are still so many."""
        await self.wait_for(count)
        with anyio.move_on_after(0.5):
            await self.wait_for(count + 1)
        assert len(self.items) == count, f"{len(self.items)} came, not {count}: {self.items}"
