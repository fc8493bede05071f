"""Whatever a saga may declare is stored and read back as it was; all else is refused at once.

Types and values come from a grammar, the same ones in each run; `nox -s soak` looks at many more.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import new_class
from typing import Any, cast

import anyio
import attrs
import pytest
from attrs import field, make_class
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sagaflow import (
    Context,
    MemoryRepository,
    Orchestrator,
    Saga,
    SagaDefinitionError,
    SagaRepository,
    State,
    during,
    initially,
)
from sagaflow._codec.data import decode_saga, encode_saga
from sagaflow._codec.messages import MessageTypes
from tests.codec.grammar import KINDS, Kind
from tests.codec.test_values import through_bson

QUICK = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
)
SOAK = settings(QUICK, max_examples=3_000, derandomize=False, phases=tuple(Phase))


@attrs.frozen
class Put:
    order: str
    value: Any


def assert_same(found: Any, wanted: Any) -> None:
    """Compare what ``==`` does not: the types, all the way down, and how collections were made."""
    cls = cast("Any", type(wanted))
    assert type(found) is cls
    if issubclass(cls, float):
        assert repr(found) == repr(wanted)
    elif issubclass(cls, Mapping):
        assert len(found) == len(wanted)
        for mine, yours in zip(found.items(), wanted.items(), strict=True):
            assert_same(mine, yours)
        if issubclass(cls, defaultdict):
            assert found.default_factory is wanted.default_factory
    elif issubclass(cls, list | tuple | deque):
        assert len(found) == len(wanted)
        for mine, yours in zip(found, wanted, strict=True):
            assert_same(mine, yours)
        if issubclass(cls, deque):
            assert found.maxlen == wanted.maxlen
    elif issubclass(cls, AbstractSet):
        assert found == wanted
        assert {*map(type, found)} == {*map(type, wanted)}
    elif attrs.has(cls) or hasattr(cls, "__dataclass_fields__"):
        fields: Any = attrs.fields if attrs.has(cls) else dataclasses.fields
        for one in fields(cls):
            assert_same(getattr(found, one.name), getattr(wanted, one.name))
    else:
        assert found == wanted
        assert repr(found) == repr(wanted)


def saga_with(declared: Any, event: type = Put) -> type[Saga]:
    """Return a saga with one field of this type, which its events set."""

    def put(self: Any, event: Any, ctx: Context) -> None:
        self.value = event.value

    def body(namespace: dict[str, Any]) -> None:
        kept, closed = State(), State(final=True)
        namespace.update(__module__=__name__, kept=kept, closed=closed, value=None)
        namespace["__annotations__"] = {"value": declared}
        namespace["put"] = initially.on(event).goto(kept)(during(kept).on(event).stay()(put))
        namespace["close"] = during(kept).on(Close).goto(closed)

    return new_class("Keeping", (Saga,), {"correlate_by": "order"}, body)


@attrs.frozen
class Close:
    order: str


def event_with(declared: Any) -> Any:
    return make_class("Given", {"order": field(type=str), "value": field(type=declared)})


def saga_or_refusal(kind: Kind) -> type[Saga] | None:
    """Return a saga with a field of this type, unless the class statement refuses it as it has to.

    A name that is not defined is found out when the orchestrator is made.
    """
    try:
        saga_type = saga_with(kind.declared)
        MessageTypes([saga_type], [event_with(kind.declared)])
        Orchestrator([saga_type], MemoryRepository())
    except SagaDefinitionError as exc:
        error = exc
    else:
        assert kind.fits is not False, kind.declared
        return saga_type
    assert kind.fits is not True, error
    assert "cannot be stored" in str(error) or "cannot be resolved" in str(error)
    return None


def check_kind(kind: Kind, data: st.DataObject) -> None:
    saga_type = saga_or_refusal(kind)
    if saga_type is None:
        return
    value = data.draw(kind.values)
    make: Any = saga_type
    saga = make(value=value)
    stored = encode_saga(saga)
    for form in (stored, through_bson(stored)):
        read: Any = decode_saga(saga_type, form)
        assert_same(read.value, value)
    event_type = event_with(kind.declared)
    known = MessageTypes([saga_type], [event_type])
    message = known.encode(event_type("o", value), "test")
    assert_same(known.decode(message, "test").value, value)


@QUICK
@given(KINDS, st.data())
def test_type_is_refused_at_once_or_its_values_are_read_back(
    kind: Kind, data: st.DataObject
) -> None:
    check_kind(kind, data)


@pytest.mark.soak
@SOAK
@given(KINDS, st.data())
def test_any_type_is_refused_at_once_or_its_values_are_read_back(
    kind: Kind, data: st.DataObject
) -> None:
    check_kind(kind, data)


@settings(QUICK, max_examples=40)
@given(KINDS, st.data())
def test_value_takes_the_place_of_one_before_it(kind: Kind, data: st.DataObject) -> None:
    """Whatever both are, also where Python calls them equal."""
    saga_type = saga_or_refusal(kind)
    if saga_type is None:
        return
    before, after = data.draw(kind.values), data.draw(kind.values)

    async def scenario() -> None:
        repository = MemoryRepository()
        for value in (before, after):
            await Orchestrator([saga_type], repository).handle(Put("o", value))
        found: Any = await Orchestrator([saga_type], repository).find(saga_type, "o")
        assert_same(found.saga.value, after)

    anyio.run(scenario)


def examples(count: int) -> list[tuple[Kind, Any]]:
    """Return some types that may be declared, each with a value."""
    found: list[tuple[Kind, Any]] = []

    @settings(QUICK, max_examples=count)
    @given(KINDS.filter(lambda kind: kind.fits is True), st.data())
    def collect(kind: Kind, data: st.DataObject) -> None:
        found.append((kind, data.draw(kind.values)))

    collect()
    return found


@pytest.mark.anyio
async def test_values_are_read_back_from_every_store(repository: SagaRepository) -> None:
    kinds = examples(25)
    declared = {f"value{number}": kind.declared for number, (kind, _) in enumerate(kinds)}
    values = {f"value{number}": value for number, (_, value) in enumerate(kinds)}

    def put(self: Any, event: Put, ctx: Context) -> None:
        for name in event.value:
            setattr(self, name, values[name])

    def body(namespace: dict[str, Any]) -> None:
        done = State(final=True)
        namespace.update(__module__=__name__, done=done, **dict.fromkeys(declared))
        namespace["__annotations__"] = declared
        namespace["put"] = initially.on(Put).goto(done)(put)

    saga_type: Any = new_class("Keeping", (Saga,), {"correlate_by": "order"}, body)
    await Orchestrator([saga_type], repository).handle(Put("o", list(values)))
    found = await Orchestrator([saga_type], repository).find(saga_type, "o")
    assert found is not None
    for name, value in values.items():
        assert_same(getattr(found.saga, name), value)
