from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, IntEnum
from itertools import combinations
from typing import Any

import attrs
import pytest
import svcs
from attrs import frozen
from attrs.exceptions import FrozenInstanceError
from bson import ObjectId

from sagaflow import Context, State
from sagaflow._definition.context import AddedCompensation, Effects, Outgoing
from sagaflow._model.envelope import COMMAND, EVENT
from sagaflow._model.ids import MessageId, SagaId
from sagaflow.exceptions import SagaflowError, SerializationError

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@frozen
class Ship:
    key: str = "o-1"


@dataclass
class Note:
    text: str = ""


class Untold:
    pass


def context(
    correlation_id: SagaId = "o-1",
    message_id: MessageId = "m-1",
    *,
    saga: str = "Order",
    cause: str = "",
    services: svcs.Container | None = None,
    effects: Effects | None = None,
) -> Context:
    return Context(
        correlation_id=correlation_id,
        message_id=message_id,
        version=3,
        state=State("waiting"),
        now=NOW,
        saga=saga,
        cause=cause,
        services=services,
        effects=Effects() if effects is None else effects,
    )


def test_facts_can_be_read() -> None:
    ctx = context()
    assert (ctx.correlation_id, ctx.message_id, ctx.version) == ("o-1", "m-1", 3)
    assert (ctx.state, ctx.now) == (State("waiting"), NOW)


@pytest.mark.parametrize("name", ["correlation_id", "state", "version", "now", "services", "new"])
def test_nothing_can_be_written(name: str) -> None:
    ctx = context()
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(ctx, name, None)


def test_messages_are_collected_in_order() -> None:
    effects = Effects()
    ctx = context(effects=effects)
    ctx.send(Ship("o-1"))
    ctx.publish(Note("hello"))
    ctx.send(Note("again"))
    assert effects.outgoing == [
        Outgoing(COMMAND, Ship("o-1")),
        Outgoing(EVENT, Note("hello")),
        Outgoing(COMMAND, Note("again")),
    ]


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ({"key": 1}, "a dict"),
        ("ship", "a str"),
        (None, "a NoneType"),
        (Untold(), "a Untold"),
        ([Ship()], "a list"),
    ],
)
@pytest.mark.parametrize("verb", ["send", "publish"])
def test_message_that_is_no_attrs_class_and_no_dataclass_is_refused(
    verb: str, message: object, given: str
) -> None:
    effects = Effects()
    with pytest.raises(SerializationError) as caught:
        getattr(context(effects=effects), verb)(message)
    assert str(caught.value) == (
        f"Order: ctx.{verb}() was given {given}: a message is an instance of an attrs class or a "
        "dataclass: declare an attrs class for it"
    )
    assert caught.value.path == f"Order: ctx.{verb}() was given {given}"
    assert effects.outgoing == []


@pytest.mark.parametrize("message", [Ship, Note, Untold, dict])
@pytest.mark.parametrize("verb", ["send", "publish"])
def test_class_instead_of_a_message_is_refused(verb: str, message: type[object]) -> None:
    with pytest.raises(SerializationError) as caught:
        getattr(context(), verb)(message)
    assert f"ctx.{verb}() was given the class {message.__qualname__}" in str(caught.value)
    assert str(caught.value).endswith("send an instance of it")


def test_compensation_is_asked_for() -> None:
    effects = Effects()
    ctx = context(effects=effects)
    assert not effects.compensate
    ctx.compensate()
    assert effects.compensate


def release(*_: object) -> None: ...


def test_compensations_are_added_in_order() -> None:
    effects = Effects()
    ctx = context(effects=effects)
    ctx.add_compensation(release, "room", 7)
    ctx.add_compensation(release)
    assert effects.compensations == [
        AddedCompensation("release", ("room", 7)),
        AddedCompensation("release", ()),
    ]


def test_compensation_is_put_into_stored_form_where_it_is_added() -> None:
    def check(method: Callable[..., object], arguments: tuple[object, ...]) -> AddedCompensation:
        if method is not release:
            raise ValueError
        return AddedCompensation("stored", tuple(map(str, arguments)))

    effects = Effects(check=check)
    ctx = context(effects=effects)
    ctx.add_compensation(release, 7)
    with pytest.raises(ValueError):
        ctx.add_compensation(print)
    assert effects.compensations == [AddedCompensation("stored", ("7",))]


def test_every_context_has_effects_of_its_own() -> None:
    first = Context(
        correlation_id="o-1", message_id="m-1", version=0, state=None, now=NOW, saga="Order"
    )
    second = attrs.evolve(first, effects=Effects())
    second.compensate()
    assert first != second


def test_services_are_those_that_were_given() -> None:
    registry: Any = svcs.Registry()
    registry.register_value(Note, Note("service"))
    container = svcs.Container(registry)
    assert context(services=container).services is container
    assert context(services=container).services.get(Note) == Note("service")


def test_services_without_a_registry_say_how_to_pass_one() -> None:
    with pytest.raises(SagaflowError, match=r"pass Orchestrator\(\.\.\., services=registry\)"):
        context().services  # noqa: B018


def test_representation_does_not_show_what_is_internal() -> None:
    shown = repr(context(services=svcs.Container(svcs.Registry())))
    assert "correlation_id='o-1'" in shown
    assert "Container" not in shown
    assert "Effects" not in shown


def test_idempotency_key_is_the_same_on_every_retry() -> None:
    later: Any = attrs.evolve(context(), now=datetime(2031, 1, 1, tzinfo=UTC), version=9)
    assert context().idempotency_key() == later.idempotency_key()
    assert context().idempotency_key("charge") == later.idempotency_key("charge")


def test_idempotency_key_does_not_change_between_releases() -> None:
    """A retry may come after an upgrade."""
    assert context().idempotency_key() == "0738fb19-db06-5f2d-8cbc-cfaf344ce1dc"
    assert (
        context(7, uuid.UUID(int=1)).idempotency_key("charge")
        == "d312d073-5bdd-5ccf-ba4b-44ee761df712"
    )


def test_idempotency_key_has_36_characters_and_tells_nothing() -> None:
    key = context("secret").idempotency_key("secret")
    assert str(uuid.UUID(key)) == key
    assert "secret" not in key


def test_idempotency_key_differs_for_every_saga_message_cause_and_name() -> None:
    hexadecimal = "0" * 23 + "7"
    contexts = [
        context(),
        context(saga="Parcel"),
        context("o-2"),
        context("o-1", "m-2"),
        context("m-1", "o-1"),
        context(cause="refund"),
        context(7),
        context("7"),
        context("o-1", 7),
        context("o-1", "7"),
        context(ObjectId(hexadecimal)),
        context(hexadecimal),
        context(uuid.UUID(int=7)),
        context(str(uuid.UUID(int=7))),
        context("0"),
        context(0),
    ]
    keys = [ctx.idempotency_key(name) for ctx in contexts for name in ("", "charge", "mail")]
    assert len(set(keys)) == len(keys)


def test_idempotency_keys_do_not_collide_whatever_the_ids_contain() -> None:
    pieces = ["a", "b", "a\0str\0b", "b\0str\0a", "\0", "'", "', '", "a', 'str', 'b"]
    for one, other in combinations([(c, m) for c in pieces for m in pieces], 2):
        assert context(*one).idempotency_key() != context(*other).idempotency_key()
    assert context(cause="x").idempotency_key("y") != context().idempotency_key("x\0y")
    assert context(cause="x").idempotency_key("") != context(cause="").idempotency_key("x")


def test_idempotency_key_is_the_same_for_a_member_of_an_enum_and_for_its_stored_value() -> None:
    """A retry after a restart has read the id from the database."""

    class Name(str, Enum):  # noqa: UP042
        ORDER = "o-1"

    class Number(IntEnum):
        SEVEN = 7

    assert context(Name.ORDER).idempotency_key() == context("o-1").idempotency_key()
    assert context("x", Number.SEVEN).idempotency_key() == context("x", 7).idempotency_key()
