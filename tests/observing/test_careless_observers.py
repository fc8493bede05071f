"""Whatever an observer does wrong, wherever it is asked: no saga and no background notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from sagaflow import (
    MemoryRepository,
    Observer,
    Orchestrator,
    RetryPolicy,
    SagaRepository,
    SuspensionReason,
)
from sagaflow._runtime.backlogs import Backlogs
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.store import Store
from sagaflow.observing import (
    Activity,
    ActivityKind,
    Backlog,
    BusCondition,
    Ended,
    Fact,
    Observers,
    Retrying,
    StoreFails,
    StoreIsBack,
    Suspended,
    observers_of,
)
from sagaflow.testing import ManualClock
from tests.conftest import RUNTIMES
from tests.naming import named
from tests.observing.shop import Order, Placed, Told, shop
from tests.processes import process_at
from tests.semantics.support import stored
from tests.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.anyio


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError

    __repr__ = __str__


RAISED: list[Callable[[], BaseException]] = [
    ValueError,
    lambda: ExceptionGroup("several", [ValueError()]),
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
    lambda: BaseException("of no kind"),
    Unprintable,
]
NO_HEADERS: list[Any] = [
    None,
    5,
    "ab",
    ["a"],
    {1: "x"},
    {"a": object()},
    {"a": {1, object()}},
    {"a": "\ud800"},
    {"a": "x" * 9_000},
    {"a": 2**70},
    {f"header {number}": "x" * 100 for number in range(100)},
]
NO_CONTEXTS: list[Any] = [None, 5, object(), lambda: None, Observer]


class Watching(Observer):
    """Does something else in one place, which is what a test says."""

    place = ""
    act: Callable[[], Any] = lambda: None

    def done(self, place: str, otherwise: Any) -> Any:
        return self.act() if place == self.place else otherwise

    def observe(self, activity: Activity) -> AbstractContextManager[object]:
        found: AbstractContextManager[object] = self.done("observe", _Context(self))
        return found

    def note(self, fact: Fact) -> None:
        self.done("note", None)

    def headers(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.done("headers", {"trace": "t"})
        return found

    def __repr__(self) -> str:
        text: str = self.done("repr", "Watching()")
        return text


class _Context(nullcontext[object]):
    def __init__(self, observer: Watching) -> None:
        super().__init__(None)
        self.observer = observer

    def __enter__(self) -> object:
        return self.observer.done("enter", None)

    def __exit__(self, *exctype: object) -> None:
        self.observer.done("exit", None)


def watching(place: str, act: Callable[[], Any]) -> Watching:
    observer = Watching()
    observer.place, observer.act = place, act
    return observer


def raising(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def act() -> Any:
        raise error()

    return act


async def life(repository: SagaRepository, clock: ManualClock, observer: Observer) -> list[str]:
    """Have an order go wrong, be undone and told of; return what another observer was told."""
    told = Told()
    async with Orchestrator(
        [Order],
        repository,
        clock=clock,
        bus=shop(),
        observers=[observer, told],
        retry=RetryPolicy(max_age=timedelta(milliseconds=1)),
    ) as orders:
        await orders.handle(Placed("o"))
    document = await stored(repository, Order, "o")
    assert document is not None
    assert (document["state"], document["data"]["refunds"]) == ("failed", 1)
    assert document["outbox"] == []
    return told.lines


@pytest.mark.parametrize("place", ["observe", "enter", "exit", "note", "headers"])
@pytest.mark.parametrize("error", RAISED, ids=lambda error: error.__name__)
async def test_observer_that_raises_anywhere_ends_nothing(
    anyio_backend: str,
    clock: ManualClock,
    place: str,
    error: Callable[[], BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = await life(MemoryRepository(clock=clock), clock, Observer())
    caplog.clear()
    careless = watching(place, raising(error))
    assert await life(MemoryRepository(clock=clock), clock, careless) == expected
    assert [line.levelname for line in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("headers", NO_HEADERS, ids=lambda headers: named(headers)[:20])
async def test_headers_that_cannot_be_stored_are_left_out(
    repository: SagaRepository, clock: ManualClock, headers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await life(repository, clock, watching("headers", lambda: headers))
    assert [line.levelname for line in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("context", NO_CONTEXTS, ids=lambda context: named(context)[:20])
async def test_observation_that_is_no_context_is_left_out(
    anyio_backend: str, clock: ManualClock, context: Any
) -> None:
    await life(MemoryRepository(clock=clock), clock, watching("observe", lambda: context))


async def test_observer_without_a_readable_repr_ends_nothing(
    anyio_backend: str, clock: ManualClock
) -> None:
    class Nameless(Watching):
        def __repr__(self) -> str:
            raise ValueError

        def note(self, fact: Fact) -> None:
            raise ValueError

    await life(MemoryRepository(clock=clock), clock, Nameless())


async def test_ctrl_c_within_an_observer_is_no_mistake_of_its(
    anyio_backend: str, clock: ManualClock
) -> None:
    orders = Orchestrator(
        [Order], MemoryRepository(), observers=watching("observe", raising(KeyboardInterrupt))
    )
    with pytest.raises(KeyboardInterrupt):
        await orders.handle(Placed("o"))


FACTS: list[Fact] = [
    Retrying(saga="Order", correlation_id="o", attempts=1, due=ManualClock().now()),
    Suspended(saga="Order", correlation_id="o", reason=SuspensionReason.HANDLER),
    Ended(saga="Order", correlation_id="o", state="failed", took=timedelta(1)),
    StoreFails(error=None),  # type: ignore[arg-type]
    StoreIsBack(),
    Backlog(saga="Order", due=1, late=timedelta(1), outbox_age=timedelta(1)),
    BusCondition(bus="orders", down_for=timedelta(1), silent_for=timedelta(1)),
]


@pytest.mark.parametrize("method", [name for name in vars(Observer) if not name.startswith("_")])
def test_every_method_of_an_observer_is_asked_in_safety(method: str) -> None:
    """Of those that there are, also of one that comes later: it has to be added to this list."""
    others = observers_of([watching(method, raising(ValueError)), Observer()])
    assert isinstance(others, Observers)
    match method:
        case "observe":
            for kind in ActivityKind:
                activity = Activity(kind=kind, saga="Order", correlation_id="o", name="x")
                with others.observe(activity) as observed:
                    assert observed is activity
        case "note":
            for fact in FACTS:
                others.note(fact)
        case "headers":
            assert others.carried({"a": "b"}) == {"a": "b"}
        case _:
            pytest.fail(f"nothing is known of {method}")


@pytest.mark.parametrize("odd", [None, 5, "text", [1], {"@type": "nothing", "value": 5}])
def test_headers_of_a_stranger_are_carried_as_they_are(odd: Any) -> None:
    observers = observers_of(watching("", lambda: None))
    assert observers is not None
    assert observers.carried(odd) == odd


# The look at what is due, which is told every now and then


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_telling_goes_on_whatever_a_look_comes_upon(runtime: str) -> None:
    class Odd(MemoryRepository):
        looks = 0

        def summaries(self, saga_type: Any, selection: Any) -> Any:
            self.looks += 1
            if self.looks == 3:
                raise Over
            raise TypeError

    class Over(BaseException):
        pass

    repository = Odd()
    process = process_at()
    looking = Backlogs(
        process=process,
        store=Store(process=process, repository=repository),
        outages=Outages(clock=process.clock),
        sagas=(Order,),
    )
    observers = observers_of(Observer())
    assert observers is not None
    with pytest.raises(Over):
        run_in_virtual_time(runtime, partial(looking.tell, observers, None))
    assert repository.looks == 3
