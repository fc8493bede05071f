"""What a handler leaves in a field is what the next one finds there."""

from __future__ import annotations

from collections import defaultdict, deque
from decimal import Decimal
from typing import Any

import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    Orchestrator,
    Saga,
    SagaRepository,
    SerializationError,
    State,
    during,
    initially,
)

pytestmark = pytest.mark.anyio


@frozen
class Put:
    shop: str
    value: Any


@frozen
class Left:
    shop: str


class Shop(Saga, correlate_by="shop"):
    open = State()
    closed = State(final=True)

    value: Any = None
    ratio: float = 0.0
    within: dict[str, Any] = field(factory=dict[str, Any])
    last: deque[Any] = field(factory=lambda: deque[Any](maxlen=2))
    left: defaultdict[str, int] = field(factory=lambda: defaultdict[str, int](lambda: 42))
    answers: defaultdict[str, int | None] = field(
        factory=lambda: defaultdict[str, int | None](lambda: None)
    )
    counted: defaultdict[str, int] | None = None

    @initially.on(Put).goto(open)
    @during(open).on(Put).stay()
    def put(self, event: Put, ctx: Context) -> None:
        self.value = event.value
        self.within = {"list": [event.value]}
        self.last.append(event.value)
        if isinstance(event.value, float):
            self.ratio = event.value
        key = str(event.value)
        self.left[key] -= 1
        assert self.answers[key] is None
        self.counted = self.counted or defaultdict(int)
        self.counted[key] += 1

    leave = during(open).on(Left).goto(closed)


async def shop(repository: SagaRepository, *values: Any) -> Shop:
    """Return the saga after these values, each handled by an orchestrator of its own."""
    for value in values:
        await Orchestrator([Shop], repository).handle(Put("s", value))
    found = await Orchestrator([Shop], repository).find(Shop, "s")
    assert found is not None
    return found.saga


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, True),
        (False, 0),
        (1, 1.0),
        (0.0, -0.0),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([{"a": (1,)}], [{"a": (True,)}]),
        (Decimal(1), Decimal("1.00")),
    ],
)
async def test_value_takes_the_place_of_one_that_python_calls_equal(
    before: object, after: object, repository: SagaRepository
) -> None:
    found = await shop(repository, before, after)
    assert repr(found.value) == repr(found.within["list"][0]) == repr(after)
    if isinstance(after, float):
        assert repr(found.ratio) == repr(after)


async def test_collections_keep_how_they_were_made(repository: SagaRepository) -> None:
    found = await shop(repository, "a", "b", "a", "c")
    assert found.last == deque(["a", "c"], maxlen=2)
    assert found.last.maxlen == 2
    assert found.left == {"a": 40, "b": 41, "c": 41}
    assert found.answers == {"a": None, "b": None, "c": None}
    assert found.counted == {"a": 2, "b": 1, "c": 1}


async def test_defaultdict_that_begins_otherwise_is_refused(repository: SagaRepository) -> None:
    class Odd(Saga, correlate_by="shop"):
        done = State(final=True)
        left: defaultdict[str, int] = field(factory=lambda: defaultdict[str, int](int))

        @initially.on(Left).goto(done)
        def leave(self, event: Left, ctx: Context) -> None:
            self.left = defaultdict(lambda: 7)

    with pytest.raises(SerializationError, match=r"Odd\.left.*begins with") as caught:
        await Orchestrator([Odd], repository).handle(Left("s"))
    assert caught.value.path == "Odd.left"
