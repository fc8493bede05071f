from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import new_class
from typing import TYPE_CHECKING, Any

import pytest
from attrs import field, frozen

import tests.codec.commands
from sagaflow import (
    Context,
    MemoryRepository,
    Orchestrator,
    Saga,
    SagaDefinitionError,
    SerializationError,
    State,
    StoredMessage,
    compensates,
    during,
    initially,
)
from sagaflow._codec.messages import MessageTypes
from tests.codec import commands
from tests.codec.types import Line, SpecialLine
from tests.naming import named

if TYPE_CHECKING:
    from fractions import Fraction

PATH = "Shop 'o-1'"


@frozen
class Placed:
    order: str
    lines: list[Line] = field(factory=list[Line])


@frozen
class Cancelled:
    order: str


@frozen
class Announced:
    order: str


@dataclasses.dataclass(frozen=True)
class Noted:
    order: str
    amounts: dict[str, Decimal] = dataclasses.field(default_factory=dict[str, Decimal])


class Shop(Saga, correlate_by="order"):
    placed = State()
    closed = State(final=True)

    @initially.on(Placed).goto(placed)
    def place(self, event: Placed, ctx: Context) -> None:
        ctx.send(commands.Charge(event.order))
        ctx.send(tests.codec.commands.Stock.Reserve(event.order))
        ctx.publish(self.announcement(event.order))

    @compensates(place)
    def undo(self, event: Placed, ctx: Context) -> None:
        for command in (commands.Refund, commands.Stock.Release):
            ctx.send(command(event.order))

    @staticmethod
    def announcement(order: str) -> Announced:
        return Announced(order)

    @property
    def note(self) -> Noted:
        return Noted("x")

    cancel = during(placed).on(Cancelled).compensate().goto(closed)


def types(*sagas: type[Saga], messages: tuple[type, ...] | Mapping[str, type] = ()) -> MessageTypes:
    return MessageTypes(sagas or (Shop,), messages)


def message(of: str, **body: object) -> StoredMessage:
    return StoredMessage(type=of, body=body)


def local_saga(**messages: Any) -> type[Saga]:
    """Return a saga that mentions these classes through a closure."""
    command = messages["command"]

    class Local(Saga, correlate_by="order"):
        done = State(final=True)

        @initially.on(Placed).goto(done)
        def finish(self, event: Placed, ctx: Context) -> None:
            ctx.send(command(event.order))

    return Local


# Names


def test_message_is_stored_as_its_name_and_its_fields() -> None:
    stored = types().encode(Placed("o-1", [Line("tea")]), PATH)
    lines: list[object] = [{"product": "tea", "price": "9.90", "tags": []}]
    assert stored == message("Placed", order="o-1", lines=lines)
    assert types().decode(stored, PATH) == Placed("o-1", [Line("tea")])


def test_dataclass_is_a_message() -> None:
    note = Noted("o-1", {"$a": Decimal("1.10")})
    known = types()
    assert known.decode(known.encode(note, PATH), PATH) == note


@pytest.mark.parametrize(
    "mentioned",
    [
        Placed,
        Cancelled,
        commands.Charge,
        commands.Refund,
        commands.Stock.Reserve,
        commands.Stock.Release,
        Announced,
        Noted,
    ],
)
def test_classes_that_the_code_of_the_saga_mentions_are_known(mentioned: Any) -> None:
    """In a process that has sent none of them yet."""
    assert types().decode(message(mentioned.__name__, order="o-1"), PATH) == mentioned("o-1")


def test_classes_that_a_closure_holds_are_known() -> None:
    known = types(local_saga(command=commands.Unmentioned))
    assert known.decode(message("Unmentioned", order="o"), PATH) == commands.Unmentioned("o")


def test_classes_that_a_base_class_mentions_are_known() -> None:
    class Outlet(Shop):
        pass

    assert types(Outlet).find("Charge") is commands.Charge


def test_class_that_only_shares_its_module_is_not_known() -> None:
    with pytest.raises(SerializationError) as caught:
        types().decode(message("Unmentioned", order="o-1"), PATH)
    assert str(caught.value) == (
        "Shop 'o-1': the message class 'Unmentioned' is not known to this orchestrator: "
        "pass it with Orchestrator(..., messages=[Unmentioned])"
    )


def test_class_that_is_passed_is_known() -> None:
    known = types(messages=(commands.Unmentioned,))
    assert known.find("Unmentioned") is commands.Unmentioned


def test_class_is_known_once_it_was_sent() -> None:
    known = types()
    stored = known.encode(commands.Unmentioned("o-1"), PATH)
    assert known.decode(stored, PATH) == commands.Unmentioned("o-1")


def test_class_is_stored_under_the_name_that_it_is_given_first_and_read_under_every_one() -> None:
    known = types(messages={"shop.charge.v2": commands.Charge, "charge": commands.Charge})
    assert known.name(commands.Charge) == "shop.charge.v2"
    assert known.encode(commands.Charge("o"), PATH).type == "shop.charge.v2"
    for name in ("shop.charge.v2", "charge"):
        assert known.decode(message(name, order="o"), PATH) == commands.Charge("o")


def test_event_may_be_stored_under_another_name() -> None:
    assert types(messages={"placed": Placed}).encode(Placed("o"), PATH).type == "placed"


def test_stored_name_never_names_a_module_to_import() -> None:
    for name in ("tests.codec.commands.Unmentioned", "os.system", "builtins.print"):
        with pytest.raises(SerializationError, match="is not known to this orchestrator"):
            types().decode(message(name), PATH)


# Collisions


def other(name: str) -> type:
    return frozen(type(name, (), {"__annotations__": {"order": str}}))


def test_declared_classes_of_one_name_are_refused_with_both_places() -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        types(messages=(other("Placed"),))
    assert "test_messages.Placed" in str(caught.value)
    assert "both called 'Placed'" in str(caught.value)
    assert "messages={" in str(caught.value)


def test_stored_name_that_a_declared_class_has_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match="both called 'Placed'"):
        types(messages={"Placed": commands.Unmentioned})


def test_two_classes_cannot_be_sent_under_one_name() -> None:
    known = types()
    with pytest.raises(SerializationError) as caught:
        known.encode(other("Charge")("o"), PATH)
    assert caught.value.path == PATH
    assert "commands.Charge" in str(caught.value)
    assert "both called 'Charge': give one another stored name" in str(caught.value)


def test_name_that_is_given_settles_which_class_is_meant() -> None:
    twin = other("Charge")
    known = types(messages={"bank.Charge": twin})
    assert known.encode(twin("o"), PATH).type == "bank.Charge"
    assert known.encode(commands.Charge("o"), PATH).type == "Charge"


def test_class_of_the_same_name_in_a_module_that_is_mentioned_does_not_collide() -> None:
    """The code says `commands.Charge` and `elsewhere.Refund`, and there is a Charge elsewhere."""
    elsewhere: Any = type("elsewhere", (), {"Charge": other("Charge"), "Refund": other("Refund")})

    class Local(Saga, correlate_by="order"):
        done = State(final=True)

        @initially.on(Placed).goto(done)
        def finish(self, event: Placed, ctx: Context) -> None:
            ctx.send(elsewhere.Refund(event.order))
            ctx.send(commands.Charge(event.order))

    known = types(Local)
    assert known.find("Charge") is commands.Charge
    assert known.find("Refund") is elsewhere.Refund


@pytest.mark.parametrize(
    "wrong", [(Placed("o"),), (str,), "Placed", (None,), {"a": int}, {5: Placed}, {"": Placed}]
)
def test_what_is_no_message_class_is_refused(wrong: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="messages= "):
        types(messages=wrong)


# What cannot be stored


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (Placed(5), "Placed.order"),  # type: ignore[arg-type]
        (Placed("o", [Line("tea"), SpecialLine("tea")]), "Placed.lines[1]"),
        (Placed("o", [Line("\ud800")]), "Placed.lines[0].product"),
        (Noted("o", {"a": 1.5}), "Noted.amounts['a']"),  # type: ignore[dict-item]
    ],
)
def test_field_that_cannot_be_stored_is_named(body: object, path: str) -> None:
    with pytest.raises(SerializationError, match="cannot be stored") as caught:
        types().encode(body, PATH)
    assert caught.value.path == f"{PATH}: {path}"


def test_field_whose_type_cannot_be_stored_is_named() -> None:
    @frozen
    class Wave:
        phase: complex = 0

    with pytest.raises(SerializationError, match=r"the field Wave\.phase: <class 'complex'>"):
        types().encode(Wave(), PATH)


@frozen
class Half:
    share: Fraction | None = None


def test_annotation_that_cannot_be_resolved_is_named() -> None:
    with pytest.raises(SerializationError, match=r"Half: cannot be stored: .*'Fraction'"):
        types().encode(Half(), PATH)


@pytest.mark.parametrize("body", ["Placed", 5, {"order": "o"}, datetime, object()], ids=named)
def test_what_is_no_message_is_refused(body: object) -> None:
    with pytest.raises(SerializationError, match="an attrs class or a dataclass"):
        types().encode(body, PATH)


# What cannot be read


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ({}, "Placed.order", "required field missing"),
        ({"order": 5}, "Placed.order", "expected str, found 5"),
        ({"order": "o", "lines": [{"product": 5}]}, "Placed.lines[0].product", "found 5"),
        ({"order": "o", "lines": 5}, "Placed.lines", "expected a stored list, found 5"),
    ],
)
def test_stored_message_that_does_not_fit_is_refused_with_its_path(
    body: dict[str, object], path: str, says: str
) -> None:
    with pytest.raises(SerializationError, match=says) as caught:
        types().decode(message("Placed", **body), PATH)
    assert caught.value.path == f"{PATH}: {path}"


def test_field_that_is_missing_has_its_default_and_a_foreign_one_is_passed_over() -> None:
    stored = message("Charge", order="o", currency="EUR")
    assert types().decode(stored, PATH) == commands.Charge("o", 0)


# The fields of a saga


def saga_with(annotation: str) -> type[Saga]:
    """Return a saga with a field of this type."""

    def body(namespace: dict[str, Any]) -> None:
        namespace["__module__"] = __name__
        namespace["__annotations__"] = {"shape": annotation}
        namespace["shape"] = None
        namespace["done"] = State(final=True)
        namespace["start"] = initially.on(Placed).goto(namespace["done"])

    return new_class("Shaped", (Saga,), {"correlate_by": "order"}, body)


@pytest.mark.parametrize("annotation", ["Missing", "list[Missing]", "dict[str, Missing] | None"])
def test_annotation_of_a_saga_that_cannot_be_resolved_is_refused(annotation: str) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        Orchestrator([saga_with(annotation)], MemoryRepository())
    assert "the annotation 'Missing' cannot be resolved" in str(caught.value)
    assert "module level" in str(caught.value)
    assert caught.value.saga == "Shaped"


def test_annotation_of_a_module_that_is_still_being_imported_is_left_for_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two modules may import each other; what the other one lacks when the class statement runs."""
    saga = saga_with("commands.Later | None")
    with pytest.raises(
        SagaDefinitionError, match=r"'Later' cannot be resolved \(in Shaped.shape\)"
    ):
        Orchestrator([saga], MemoryRepository())
    monkeypatch.setattr(commands, "Later", Line, raising=False)
    Orchestrator([saga], MemoryRepository())


@pytest.mark.parametrize("annotation", ["complex", "list[complex]", "int | complex", "type[int]"])
def test_field_of_a_saga_whose_type_cannot_be_stored_is_refused(annotation: str) -> None:
    with pytest.raises(SagaDefinitionError, match="cannot be stored") as caught:
        Orchestrator([saga_with(annotation)], MemoryRepository())
    assert (caught.value.saga, caught.value.method) == ("Shaped", "shape")
